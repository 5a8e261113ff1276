"""Tool environments: made once, kept outside the checkout. LANEWISE_TOOLS_DIR says where."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from catalog import tools
from planner import service, settings
from planner.tools import environment as places_of
from planner.tools import install
from planner.tools.environment import Place

CUDA_BUILDS = ("torchvision", "torchaudio", "torchcodec")
"""Packages whose published builds expect CUDA and break transformers' imports beside a CPU torch."""


def environment(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of an environment, made when it is not there yet; `ready` is written last."""
    folder = Path(os.environ.get("LANEWISE_TOOLS_DIR", "~/.cache/lanewise/tools")).expanduser() / name
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        (folder / "ready").touch()
    return folder


def tool(tool_id: str) -> Place:
    """An environment of `lanewise tools`, installed when it is not there yet."""
    own = settings.from_environment()
    known = tools.load()[tool_id]
    install.install(known, own, lambda: service.probe(own), lambda *_: None)
    return places_of.find(tool_id, own)


def venv(folder: Path, *packages: str) -> Path:
    """A virtual environment in `folder`/venv with these packages; its interpreter."""
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", folder / "venv")
    run(python, "-m", "pip", "install", "--quiet", *packages)
    return python


def run(*command: object, timeout_s: float | None = None, **env: str) -> None:
    """Raises RuntimeError with the end of what a failing command wrote."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env=os.environ | env, capture_output=True, text=True, check=False, timeout=timeout_s)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stderr[-4000:]}")
