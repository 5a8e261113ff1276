"""Processes that leave nobody behind: each has a session of its own, a guard that ends it when we are gone, and a mark
in its environment by which whatever escaped both is found."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

MARK = "LANEWISE_RUN"
GUARD = Path(__file__).parents[1] / "workers" / "guard.py"
GRACE_S = 5.0
"""Between asking a process to end and ending it (assumed)."""
OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
"""Variables of this Python that another interpreter must not see."""


def start(command: list[str], env: Mapping[str, str], cwd: Path, logs: tuple[Path, Path]) -> subprocess.Popen[bytes]:
    """Start a command under the guard; `logs` take its standard output and error. Raises OSError."""
    with logs[0].open("wb") as out, logs[1].open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), *command],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
        )


def environment(own: Mapping[str, str], mark: str) -> dict[str, str]:
    """This process's variables without those of its Python, with a step's own and the mark."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return {**kept, "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", **own, MARK: mark}


def own_environment(own: Mapping[str, str], mark: str) -> dict[str, str]:
    """This process's variables for another one of this Python, with its own and the mark."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **own, MARK: mark}


def end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Ask the command to end; let go of the guard, which ends its group; end whatever else carries the mark."""
    _signal(process, signal.SIGTERM)
    _wait(process)
    close(process)
    _wait(process)
    sweep(mark)
    process.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)


def close(process: subprocess.Popen[bytes]) -> None:
    """Let go of the guard's pipe."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def sweep(mark: str) -> int:
    """End every process that carries the mark, however far it went; how many there were."""
    found = marked(mark)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=GRACE_S)
    return len(found)


def marked(mark: str) -> list[psutil.Process]:
    """Processes of ours that carry the mark, this one left out."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    return found
