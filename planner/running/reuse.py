"""Steps of other runs: what ended well there with the same key is linked here, not run again.

A key holds everything that a result depends on and nothing of the folder, so that lanes of one model share the
original, its tokens, its log-probabilities and its importance. What is taken is checked by its contents first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from planner.proving.steps import Step
from planner.running.runstate import MARKER, STATE, Done, Folder, Known, State


class Shelf:
    """Finished steps of the runs below some folders, the own one left out; their states are read once."""

    def __init__(self, places: tuple[Path, ...], folder: Folder) -> None:
        self._folder = folder
        self._runs = tuple(each for each in runs(places) if each[0] != folder.path.resolve())
        for path, state in self._runs:
            for name, looks in state.known.items():
                if not Path(name).is_relative_to(path):  # the user's own files: a large original is hashed once
                    folder.state.known.setdefault(name, looks)

    def take(self, step: Step, key: str) -> tuple[Done, Path] | None:
        """The step as it ended in another run, its files now here, and where it was; None where nobody has it."""
        for path, state in self._runs:
            done = state.done.get(step.id)
            if done is not None and done.key == key and _linked(self._folder, step, (path, state.known), done):
                return done, path
        return None


def runs(places: tuple[Path, ...]) -> Iterator[tuple[Path, State]]:
    """Run folders below these, at most as deep as PLAN/LANE, that have a state which can be read."""
    seen = set[Path]()
    for place in places:
        for pattern in (MARKER, f"*/{MARKER}", f"*/*/{MARKER}"):
            for marker in sorted(place.glob(pattern)):
                path = marker.parent.resolve()
                with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
                    if path not in seen:
                        yield path, msgspec.json.decode((path / STATE).read_bytes(), type=State)
                seen.add(path)


def _linked(folder: Folder, step: Step, source: tuple[Path, Known], done: Done) -> bool:
    """The step's folder as links to the other's files, moved to its place where the contents are those of its key."""
    path, known = source
    try:
        out = folder.begin(step)
        shutil.copytree(path / step.id, out, symlinks=True, copy_function=link, dirs_exist_ok=True)
        _remember(folder, (path / step.id, out), known)
        within = folder.unfinished
        if done.made.keys() != set(step.makes) or any(
            folder.content(within / name) != made for name, made in done.made.items()
        ):
            return False
        folder.moved(step)
        _remember(folder, (path / step.id, folder.path / step.id), known)
        for own, other in zip(folder.logs(step), (f"{step.id}.out", f"{step.id}.log"), strict=True):
            own.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                link(path / "logs" / other, own)
    except (OSError, shutil.Error):
        return False
    return True


def link(source: str | Path, target: str | Path) -> str:
    """A second name of a file, a copy on another disk; a link to elsewhere stays one."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return str(target)


def _remember(folder: Folder, places: tuple[Path, Path], known: Known) -> None:
    """Hashes of files that are one file under two names: none is read again."""
    source, target = places
    for each in source.rglob("*"):
        looks = known.get(str(each))
        if looks is not None:
            folder.state.known[str(target / each.relative_to(source))] = looks
