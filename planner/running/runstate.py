"""A run's folder: who has it, what ended well in it, and the hashes by which that is known again.

lanewise-run   the mark of a folder that we may write and delete in
state.json     steps that ended well, replaced whole after each
logs/ID.*      what a step printed        unfinished/ID   what it writes until it ended well        ID/   afterwards
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from catalog.errors import BadInput, LanewiseError, Unsupported
from planner.proving.steps import Step

MARKER, STATE, LOCK = "lanewise-run", "state.json", "lock"
BLOCK = 2**24
Known = dict[str, tuple[int, int, int, str]]
"""File -> size, time of change in ns, inode, SHA-256: a file that looks the same is not read again."""


class Done(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step that ended well."""

    key: str
    seconds: float
    made: dict[str, str]
    read: dict[str, str]
    versions: dict[str, str]
    said: dict[str, Any] = {}
    command: tuple[str, ...] = ()


class State(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a folder knows of its steps."""

    done: dict[str, Done] = {}
    known: Known = {}


class Folder:
    """One run's folder, locked. `mark` is what its processes carry."""

    def __init__(self, path: Path, mark: str, state: State, broken: str = "") -> None:
        self.path, self.mark, self.state, self.broken = path, mark, state, broken

    @property
    def unfinished(self) -> Path:
        return self.path / "unfinished"

    def logs(self, step: Step) -> tuple[Path, Path]:
        """Of standard output and of standard error."""
        folder = self.path / "logs"
        folder.mkdir(exist_ok=True)
        return folder / f"{step.id}.out", folder / f"{step.id}.log"

    def content(self, path: Path) -> str:
        """SHA-256 of a file, or of a folder's names and files; links are followed. Raises OSError."""
        if path.is_dir():
            parts = [(str(each.relative_to(path)), each) for each in sorted(path.rglob("*")) if each.is_file()]
            listed = "\n".join(f"{self._file(each)}  {name}" for name, each in parts)
            return hashlib.sha256(listed.encode()).hexdigest()
        return self._file(path)

    def _file(self, path: Path) -> str:
        real = path.resolve(strict=True)
        found = real.stat()
        looks = (found.st_size, found.st_mtime_ns, found.st_ino)
        known = self.state.known.get(str(real))
        if known is not None and known[:3] == looks:
            return known[3]
        content = sha256(real)
        self.state.known[str(real)] = (*looks, content)
        return content

    def begin(self, step: Step) -> Path:
        """An empty folder for what a step writes; what an earlier run left of it is gone."""
        self.state.done.pop(step.id, None)
        out = self.unfinished / step.id
        for old in (out, self.path / step.id):
            shutil.rmtree(old, ignore_errors=True)
        out.mkdir(parents=True)
        return out

    def moved(self, step: Step) -> None:
        """The step's folder to its place: all of it or nothing."""
        (self.unfinished / step.id).rename(self.path / step.id)

    def save(self) -> None:
        """The state, whole or as it was. Raises LanewiseError where it cannot be written."""
        try:
            write(self.path / STATE, msgspec.json.format(msgspec.json.encode(self.state), indent=1))
        except OSError as fault:
            raise LanewiseError(f"the run's state cannot be written to {self.path}: {fault.strerror}") from fault


def write(path: Path, content: bytes) -> None:
    """A file that is replaced as a whole and on the disk when this returns."""
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def sha256(path: Path) -> str:
    """Of a file of any size."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            found.update(block)
    return found.hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[Folder]:
    """The folder, for one run at a time. Raises BadInput for a folder of somebody else's, LanewiseError while another
    run has it."""
    mark = _claimed(path)
    with _locked(path / LOCK):
        state, broken = _state(path / STATE)
        yield Folder(path, mark, state, broken)


def _claimed(path: Path) -> str:
    """The mark of a folder that is ours, or that is empty and becomes ours."""
    marker = path / MARKER
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            if any(path.iterdir()):
                raise BadInput("the folder holds other files; name an empty or a new one", f"--run {path}")
            write(marker, uuid.uuid4().hex.encode())
        mark = marker.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise BadInput(f"cannot be used for a run: {fault}", f"--run {path}") from fault
    if not re.fullmatch(r"[0-9a-f]{32}", mark):
        raise BadInput(f"{MARKER} in it is not a run's", f"--run {path}")
    return mark


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:
        raise Unsupported("programs are run on Linux and macOS", "verify") from None
    with path.open("a+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LanewiseError(f"another run is under way in {path.parent}") from None
        yield


def _state(path: Path) -> tuple[State, str]:
    """What the folder knows; nothing, and a sentence, where that cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State), ""
    except FileNotFoundError:
        return State(), ""
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as fault:
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".broken"))
        return State(), f"{path.name} cannot be read ({fault}): every step is run again"
