"""Where a tool's interpreter and programs are: the user's own installation where one was recorded, else ours."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from catalog import tools
from catalog.errors import NotFound
from catalog.tools import Tool
from planner.settings import Settings
from planner.tools import places

State = Literal["ready", "used", "absent", "unfinished", "outdated", "busy"]


class Place(Struct, frozen=True, kw_only=True):
    """A whole environment, ours or somebody else's."""

    python: Path | None
    programs: tuple[Path, ...]
    """Folders, the first one that has a program wins."""
    versions: dict[str, str]


def python(tool_id: str, settings: Settings) -> Path:
    """The interpreter. Raises NotFound where the tool is not installed, or is a folder of programs alone."""
    found = find(tool_id, settings).python
    if found is None:
        raise NotFound(
            f"{tool_id} is used as a folder of programs, without an interpreter; "
            f"`lanewise tools use {tool_id} PATH` names one"
        )
    return found


def program(tool_id: str, name: str, settings: Settings) -> Path:
    """One program or script. Raises NotFound where the tool is not installed or does not have it."""
    places_of = find(tool_id, settings).programs
    found = next((folder / name for folder in places_of if (folder / name).is_file()), None)
    if found is None:
        raise NotFound(f"{tool_id} has no program {name} in {', '.join(map(str, places_of))}")
    return found


def versions(tool_id: str, settings: Settings) -> dict[str, str]:
    """Of its packages, as they were installed or recorded. Raises NotFound."""
    return find(tool_id, settings).versions


def find(tool_id: str, settings: Settings) -> Place:
    """Raises NotFound with what to do."""
    tool = tools.named(tools.load(settings.overlay), tool_id)
    state = of(tool, settings)
    if state == "used":
        return _used(places.uses(settings)[tool_id])
    place = places.folder(tool, settings)
    ready = places.ready(place)
    if state != "ready" or ready is None:
        raise NotFound(f"{tool_id} is {STATES[state]}: `lanewise tools install {tool_id}`")
    return whole(tool, place, ready.versions)


STATES = {
    "ready": "installed",
    "used": "used from elsewhere",
    "absent": "not installed",
    "unfinished": "installed in part",
    "outdated": "installed with other pins than the list has now",
    "busy": "being installed by another process",
}
"""In words."""


def of(tool: Tool, settings: Settings) -> State:
    """What there is of a tool now."""
    place = places.folder(tool, settings)
    if tool.id in places.uses(settings):
        return "used"
    found = places.ready(place)
    if found is not None:
        return "ready" if found.definition == tools.identity(tool) and found.tool == tool.id else "outdated"
    if places.busy(tool, settings):
        return "busy"
    return "unfinished" if place.is_dir() else "absent"


def whole(tool: Tool, place: Path, versions: dict[str, str]) -> Place:
    """Our own environment of a tool; scripts that its source carries count as programs."""
    source = (place / tool.build.unpacked / tool.build.source,) if tool.build else ()
    return Place(python=places.python(place), programs=(*places.programs(place), *source), versions=versions)


def _used(use: places.Use) -> Place:
    path = Path(use.path)
    if use.python:
        return Place(python=path, programs=(path.parent,), versions=use.versions)
    return Place(python=None, programs=(path,), versions=use.versions)
