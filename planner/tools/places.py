"""Where an environment is, what is written in it about itself, and the lock that only one process holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from catalog.errors import LanewiseError
from catalog.tools import Tool
from planner.settings import Settings

READY, STAGES, LOG, USED = "ready", "stages.json", "install.log", "used.json"
Note = TypeVar("Note", bound=Struct)


class Ready(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole environment: written last, so that half of one is never found."""

    tool: str
    definition: str
    """Hash of what was asked for (catalog/tools.py)."""
    versions: dict[str, str]
    content: str
    """Hash of what is there: packages' own hashes of their files, built programs and libraries."""
    backend: str = ""
    seconds: dict[str, float] = {}
    """Of every stage."""


class Stages(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an installation has behind it."""

    definition: str
    backend: str = ""
    seconds: dict[str, float] = {}


class Use(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An installation of somebody else's: an interpreter, or a folder of programs."""

    path: str
    python: bool
    versions: dict[str, str]
    """When it was recorded."""
    image: str = ""
    """RUNTIME:IMAGE where these are files that start a container."""


class Uses(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Those of all tools, by id."""

    tools: dict[str, Use] = {}


def root(settings: Settings) -> Path:
    """The folder of all tools."""
    if settings.tools_dir is None:
        raise LanewiseError("there is no folder for tools; LANEWISE_TOOLS_DIR names one")
    return settings.tools_dir


def folder(tool: Tool, settings: Settings) -> Path:
    """Of one environment, there or not."""
    return root(settings) / tool.folder


def python(place: Path) -> Path:
    """The interpreter of an environment."""
    return place / "venv" / "bin" / "python"


def programs(place: Path) -> tuple[Path, ...]:
    """Folders of an environment's programs; what was built comes first."""
    return (place / "build" / "bin", place / "venv" / "bin")


def packages(place: Path) -> Path:
    """The folder of its Python packages."""
    return next((place / "venv" / "lib").glob("python3*/site-packages"), place / "venv" / "lib")


def ready(place: Path) -> Ready | None:
    """What the environment says of itself; None for one that is absent, half made, or was made by others."""
    return read(place / READY, Ready)


def uses(settings: Settings) -> dict[str, Use]:
    """Installations that are used instead of our own."""
    kept = read(root(settings) / USED, Uses)
    return kept.tools if kept else {}


def read(path: Path, kind: type[Note]) -> Note | None:
    """A note in JSON; None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def write(path: Path, note: Struct) -> None:
    """At once, and on the disk before anybody may find it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(note), indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


@contextmanager
def locked(tool: Tool, settings: Settings, waits: Callable[[], None]) -> Iterator[int]:
    """Alone with an environment; `waits` is called once where another process is at it. The descriptor of the lock.

    The kernel gives it back when the last process that has it open ends, however it ends.
    """
    path = root(settings) / ".locks" / tool.folder
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def busy(tool: Tool, settings: Settings) -> bool:
    """Whether some process is installing or removing it."""
    path = root(settings) / ".locks" / tool.folder
    if not path.is_file():
        return False
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
