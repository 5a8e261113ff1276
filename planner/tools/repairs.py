"""What is done to packages after pip has installed them. Each may be done twice without harm."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from pathlib import Path

from catalog.errors import LanewiseError
from catalog.tools import Alias, Patch, Tool
from planner.tools import contents, places
from planner.tools.running import Runner


def apply(tool: Tool, place: Path, runner: Runner) -> None:
    """Removals, then aliases, then patches. Raises LanewiseError for a patch of another file."""
    there = contents.versions(place)
    surplus = [name for name in tool.repairs.remove if contents.spelled(name) in there]
    if surplus:
        runner.run("repairs", (places.python(place), "-m", "pip", "uninstall", "--yes", *surplus))
    for alias in tool.repairs.aliases:
        _alias(alias, place, there)
    for patch in tool.repairs.patches:
        _patch(patch, place)


def _alias(alias: Alias, place: Path, there: dict[str, str]) -> None:
    if contents.spelled(alias.of) not in there:
        raise LanewiseError(f"repairs: {alias.of} is not installed, so nothing can be called {alias.name}")
    version = there[contents.spelled(alias.of)] + alias.suffix
    folder = places.packages(place) / f"{alias.name}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {alias.name}\nVersion: {version}\n")
    (folder / "INSTALLER").write_text("lanewise\n")
    (folder / "RECORD").write_text("")


def _patch(patch: Patch, place: Path) -> None:
    path = places.packages(place) / patch.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.count(patch.old) == 1:
        text = text.replace(patch.old, patch.new)
        path.write_text(text, encoding="utf-8")
        _forget_compiled(path)
    elif patch.new not in text:
        raise LanewiseError(f"repairs: {patch.file} is not the file that the repair was made for ({patch.because})")
    _recorded(patch.file, text.encode(), places.packages(place))


def _forget_compiled(path: Path) -> None:
    """Python takes a compiled file for fresh that was made in the same second of a text of the same length."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def _recorded(file: str, data: bytes, packages: Path) -> None:
    """The package's own list of files follows, so that pip and our checks still believe it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    for record in packages.glob("*.dist-info/RECORD"):
        rows = list(csv.reader(io.StringIO(record.read_text(encoding="utf-8"))))
        if any(row[:1] == [file] for row in rows):
            mended = [[file, f"sha256={digest}", str(len(data))] if row[:1] == [file] else row for row in rows]
            written = io.StringIO()
            csv.writer(written, lineterminator="\n").writerows(mended)
            record.write_text(written.getvalue(), encoding="utf-8")
