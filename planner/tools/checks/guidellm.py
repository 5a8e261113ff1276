"""Runs inside guidellm's environment: the package loads, and its command knows how to run a load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.pop(0)  # this file has the name of the package that it tries
os.environ |= {"HF_HUB_OFFLINE": "1"}


def main() -> None:
    import guidellm  # noqa: F401 - that it loads is tried

    program = Path(sys.executable).with_name("guidellm")
    said = subprocess.run(
        [str(program), "run", "--help"], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    for word in ("--data", "replay", "mooncake"):
        assert word in said, f"`guidellm run` does not know {word}"
    print("guidellm loads, and `guidellm run` replays traces")


if __name__ == "__main__":
    main()
