"""What an environment holds: versions, one hash over it, and what is damaged."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from importlib.metadata import Distribution, distributions
from pathlib import Path

from planner.tools import places


def versions(place: Path) -> dict[str, str]:
    """Of every Python package, by its name in the index's spelling."""
    return {_name(each): each.version for each in _packages(place)}


def content(place: Path) -> str:
    """Hash over the packages' own hashes of their files, and over what was built; the place does not matter."""
    lines = sorted(line for each in _packages(place) for line in _hashes(each))
    built = places.programs(place)[0]
    for path in sorted(built.iterdir()) if built.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            lines.append(f"{path.name} {_digest(path)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def damaged(place: Path) -> list[str]:
    """A sentence for every package of which files are missing or have another size than they were installed with."""
    lost = Counter(_name(each) for each in _packages(place) for file in each.files or () if _lost(file))
    return [f"{count} files of {name} are missing or were changed" for name, count in sorted(lost.items())]


def forget_damaged(place: Path) -> None:
    """Take away what says that a package is installed, where an interrupted pip left only part of its files."""
    for note in places.packages(place).glob("*.dist-info"):
        package = Distribution.at(note)
        if not (note / "RECORD").is_file() or any(_lost(file) for file in package.files or ()):
            shutil.rmtree(note)


def _lost(file: object) -> bool:
    path, size = Path(str(file.locate())), file.size  # type: ignore[attr-defined]
    if size is None or path.suffix == ".pyc":
        return False
    try:
        return bool(path.stat().st_size != size)
    except OSError:
        return True


def _packages(place: Path) -> list[Distribution]:
    return list(distributions(path=[str(places.packages(place))]))


def spelled(name: str) -> str:
    """A package's name in the one spelling that indexes compare."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _name(package: Distribution) -> str:
    return spelled(package.metadata["Name"])


def _hashes(package: Distribution) -> list[str]:
    """Of files beside the package alone: scripts name the interpreter's place."""
    own = [file for file in package.files or () if file.hash and ".." not in file.parts]
    return [f"{_name(package)}=={package.version}", *(f"{file} {file.hash.value}" for file in own if file.hash)]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
