"""Programs of an installation: run under a guard, everything they print in a log, a fault as one sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from catalog.errors import LanewiseError
from planner.running.processes import GUARD

TICK_S = 0.5
"""Between two reports of progress."""
TAIL = 64_000
"""Bytes of the end of a log that are looked through."""
Tell = Callable[[str, float, str], None]
"""(stage, seconds since it began, what the program printed last)."""

FAULTS = (
    (
        r"No space left on device|Errno 28\b|Disk quota exceeded",
        "the disk is full; free some, or let LANEWISE_TOOLS_DIR name another",
    ),
    (
        r"name resolution|Name or service not known|NewConnectionError|ConnectTimeout|Read timed out|ProxyError"
        r"|Connection refused|Network is unreachable|Connection broken|IncompleteRead|ReadTimeoutError|SSLError"
        r"|CERTIFICATE_VERIFY_FAILED",
        "the package index cannot be reached; `pip config list` shows which one pip asks",
    ),
    (
        r"No matching distribution found for (\S+)",
        "no package index of your pip configuration has {0} for this Python and system",
    ),
    (r"ResolutionImpossible|conflicting dependencies", "its pins contradict each other on this Python and system"),
    (r"DO NOT MATCH THE HASHES", "a package is not the one that its index promises"),
    (r"Permission denied:? '?([^'\n]*)", "no permission to write {0}"),
    (r"Killed signal|signal 9|Cannot allocate memory|out of memory", "memory ran out"),
    (r"No CMAKE_(\w+)_COMPILER could be found", "no {0} compiler was found"),
    (r"(?m)^(?:.*: )?(?:fatal )?error: (.+)$", "{0}"),
    (r"(?m)^ERROR: (.+)$", "{0}"),
)  # fmt: skip
"""What the end of a log says, and what that means; the first that is found speaks."""


@dataclass(frozen=True)
class Runner:
    """Where programs of one installation log, and who is told how far they are."""

    log: Path
    lock: int
    """Descriptor that guards keep open, so that nobody else begins before the last program has ended."""
    tell: Tell
    environ: Mapping[str, str] = field(default_factory=lambda: clean(os.environ))

    def run(self, stage: str, command: Sequence[object], **env: str) -> None:
        """Raises LanewiseError with the reason and the log's place. Interrupted, it leaves no process behind."""
        words = [str(word) for word in command]
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(words)}\n".encode())
            log.flush()
            begin = log.tell()
            code = self._wait(stage, _guarded(words, {**self.environ, **env}, log.fileno(), self.lock))
        if code != 0:
            said = self.log.read_bytes()[begin:][-TAIL:].decode(errors="replace")
            raise LanewiseError(f"{stage}: {reason(said, code)}; the log is {self.log}")

    def _wait(self, stage: str, guard: subprocess.Popen[bytes]) -> int:
        began = time.monotonic()
        try:
            while True:
                try:
                    return guard.wait(TICK_S)
                except subprocess.TimeoutExpired:
                    self.tell(stage, time.monotonic() - began, last_line(self.log))
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait()


def _guarded(words: list[str], env: Mapping[str, str], out: int, lock: int) -> subprocess.Popen[bytes]:
    """In a session of its own: an interrupt from the terminal reaches us alone, and we end the guard."""
    return subprocess.Popen(
        [sys.executable, "-I", str(GUARD), *words],
        stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, env=dict(env),
        start_new_session=True, pass_fds=(lock,),
    )  # fmt: skip


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what would lead an environment's interpreter to packages of another one."""
    led = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV"}
    kept = {name: value for name, value in environ.items() if name not in led}
    return kept | {"PYTHONNOUSERSITE": "1", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def reason(said: str, code: int) -> str:
    """What went wrong, from what a program printed last."""
    for pattern, meaning in FAULTS:
        found = re.search(pattern, said, re.IGNORECASE)
        if found:
            return meaning.format(*(group.strip() for group in found.groups()))
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"exit code {code}{': ' + lines[-1] if lines else ''}"


def last_line(log: Path) -> str:
    """The newest whole line of a log."""
    with log.open("rb") as read:
        read.seek(max(0, read.seek(0, os.SEEK_END) - 2000))
        lines = [line.strip() for line in read.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
