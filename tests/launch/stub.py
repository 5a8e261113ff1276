"""A stand-in for an engine: it starts nothing, and writes down the words and the environment it was given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

RECORDER = """#!{python}
import json, os, sys
with open(os.environ["STUB_RECORD"], "x") as record:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}, record)
"""


class Heard(Struct, frozen=True):
    """What the engine would have received."""

    argv: tuple[str, ...]
    env: dict[str, str]


def run(script: Path, scratch: Path, **env: str) -> Heard:
    """Run `script` with stub engines on PATH, in an empty folder that must stay empty: nothing else may run."""
    programs, room, record = scratch / "bin", scratch / "room", scratch / "record.json"
    room.mkdir()
    _install(programs)
    done = subprocess.run(
        [script],
        cwd=room,
        env={"PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin", "STUB_RECORD": str(record)} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(room.iterdir()) == [], "a string was executed"
    heard = json.loads(record.read_text())
    return Heard(argv=tuple(heard["argv"]), env=heard["env"])


def _install(programs: Path) -> None:
    programs.mkdir()
    for name in ("vllm", "llama-server"):
        (programs / name).write_text(RECORDER.format(python=sys.executable))
        (programs / name).chmod(0o755)
