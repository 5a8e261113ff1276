"""A rendered launch file with a fake engine on PATH, and the worker that serves and loads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from planner.render import files, write
from planner.running.commands import SCRIPTS
from tests.launch.candidates import CASES, facts

FAKE = Path(__file__).parents[1] / "tools" / "fake_openai.py"
LOAD = {
    "rate": 40, "prompt-mean": 20, "prompt-p95": 30, "output-mean": 5, "output-p95": 8, "context": 64,
    "vocabulary": 1000, "requests": 40, "repeats": 2, "warm-up": 2, "patience-s": 20, "timeout-s": 5,
}  # fmt: skip


def launched(folder: Path, case: str = "gguf-file") -> tuple[Path, Path]:
    """The folder of a rendered launch file, and the fake program that it starts."""
    candidate = CASES[case].candidate
    script = write(folder / "launch", files(candidate, facts(candidate), CASES[case].options))[0]
    program = folder / "bin" / ("llama-server" if candidate.engine == "llama.cpp" else "vllm")
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    program.chmod(0o755)
    return script.parent, program


def command(folder: Path, case: str = "gguf-file", **load: Any) -> list[str]:
    """The worker's words."""
    launch, program = launched(folder, case)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    given = {name.replace("_", "-"): value for name, value in load.items()}
    limits = [word for limit in given.pop("limits", ()) for word in ("--limit", limit)]
    numbers = [word for name, value in (LOAD | given).items() for word in (f"--{name}", str(value))]
    return [
        sys.executable, str(SCRIPTS / "serve.py"), "--launch", str(launch), "--out", str(out),
        "--program", str(program),
        "--model", "/weights here", "--served", "m", *numbers, *limits,
    ]  # fmt: skip


def environment(**fake: Any) -> dict[str, str]:
    return {**os.environ, "FAKE": json.dumps(fake)}


def served(folder: Path, fake: dict[str, Any], **load: Any) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The worker run to its end; the last line it printed as JSON."""
    done = subprocess.run(
        command(folder, **load), env=environment(**fake), capture_output=True, text=True, timeout=240, check=False
    )
    lines = done.stdout.splitlines()
    return done, json.loads(lines[-1]) if lines else {}


def measured(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "measured.json").read_text())
    return found
