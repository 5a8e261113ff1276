"""A runner in a process of its own, for tests that kill it: python run_chain.py FOLDER STEPS SECONDS BLOCK.

STEPS in a row, each of which adds its letter; the one that BLOCK names first starts a child, says so and sleeps unless
FOLDER/go is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.verify.worlds import Here, ran
from tests.verify.worlds import program as made
from tests.verify.worlds import step as one

CODE = """
import pathlib, subprocess, sys, time
out, before, letter, blocks, go = sys.argv[1:]
if blocks == "yes" and not pathlib.Path(go).exists():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    pathlib.Path(out).with_name("draft").write_text("half")
    pathlib.Path(go).with_name("blocked").write_text("yes")
    time.sleep(600)
text = pathlib.Path(before).read_text() if before != "-" else ""
pathlib.Path(out).write_text(text + letter)
"""


def steps(folder: Path, block: str) -> object:
    rows = []
    for place, name in enumerate("abc"):
        before = "-" if not place else f"{{run}}/{'abc'[place - 1]}/made"
        needs = () if not place else ("abc"[place - 1],)
        blocks = "yes" if name == block else "no"
        go = str(folder.parent / "go")
        rows.append(one(name, CODE, "{out}/made", before, name, blocks, go, needs=needs))
    return made(*rows)


def main(folder: Path, block: str) -> None:
    found, _ = ran(steps(folder, block), folder, environments=Here(folder))  # type: ignore[arg-type]
    print({each.id: each.state for each in found.results}, found.cancelled)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
