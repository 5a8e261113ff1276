"""The outside of a probe as one value: programs, files, memory, clock. A test gives a recorded one."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from msgspec import Struct

NOT_FOUND = 127
"""Exit code of a program that is not there, as shells have it."""
GRACE_S = 2.0
"""How long to wait for what a killed program still had to say: assumed."""


class Ran(Struct, frozen=True, kw_only=True):
    """What a program printed, as far as it came. `code` is None where it did not end in time."""

    out: str = ""
    err: str = ""
    code: int | None = 0


class Ram(Struct, frozen=True, kw_only=True):
    """Memory of the whole machine, bytes."""

    total: float
    available: float


class Owner(Struct, frozen=True, kw_only=True):
    """What is known of a process. `name` is None for one that cannot be seen from here."""

    name: str | None = None
    ours: bool = False


Run = Callable[[Sequence[str], float], Ran]
"""(command, most seconds) -> what it printed."""


def run(command: Sequence[str], timeout_s: float, environ: Mapping[str, str] | None = None) -> Ran:
    """Run a program without a shell, in our environment or that one; after `timeout_s` end it and what it started."""
    alone: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(list(command), env=environ, **pipes, **alone)
    except OSError as error:
        return Ran(err=error.strerror or str(error), code=NOT_FOUND)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return _ended(process)
    return Ran(out=_text(out), err=_text(err), code=process.returncode)


def _ended(process: subprocess.Popen[bytes]) -> Ran:
    """End a program. One that hangs inside the kernel dies only when the kernel lets it: nobody waits for that."""
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    try:
        out, err = process.communicate(timeout=GRACE_S)
    except subprocess.TimeoutExpired as late:
        return Ran(out=_text(late.output), err=_text(late.stderr), code=None)
    return Ran(out=_text(out), err=_text(err), code=None)


def _text(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace")


def ram() -> Ram:
    """The machine's memory, without regard to containers."""
    import psutil

    memory = psutil.virtual_memory()
    return Ram(total=float(memory.total), available=float(memory.available))


def owner(pid: int) -> Owner:
    """Whose process that is."""
    import psutil

    try:
        process = psutil.Process(pid)
        return Owner(name=process.name(), ours=process.username() == psutil.Process().username())
    except psutil.Error:
        return Owner()


def affinity() -> int:
    """Logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def disk_free(folder: Path) -> float | None:
    """Bytes free where `folder` is or will be; None where that cannot be asked."""
    try:
        here = next(path for path in (folder, *folder.parents) if path.exists())
        return float(shutil.disk_usage(here).free)
    except (OSError, StopIteration):
        return None


def package(name: str) -> str | None:
    """Version of an installed Python distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def now() -> datetime:
    """UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class World:
    """This machine, unless a field says otherwise."""

    system: str = field(default_factory=lambda: platform.system().lower())
    machine: str = field(default_factory=platform.machine)
    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    run: Run = run
    ram: Callable[[], Ram] = ram
    owner: Callable[[int], Owner] = owner
    affinity: Callable[[], int] = affinity
    disk_free: Callable[[Path], float | None] = disk_free
    package: Callable[[str], str | None] = package
    which: Callable[[str], str | None] = shutil.which
    now: Callable[[], datetime] = now

    def read(self, path: str) -> str | None:
        """The text of a small file below the root, stripped; None where it cannot be read."""
        return _content(self.root / path.lstrip("/"))

    def texts(self, pattern: str) -> dict[Path, str]:
        """The texts of all readable files below the root that match."""
        found = {path: _content(path) for path in sorted(self.root.glob(pattern.lstrip("/")))}
        return {path: text for path, text in found.items() if text is not None}


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
