"""Installations of the user's own, in the place of ours: an interpreter, a folder of programs, or a container image."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from catalog.errors import BadInput
from catalog.tools import Tool
from planner.settings import Settings
from planner.tools import containers, contents, places
from planner.tools.places import Use, Uses
from planner.tools.running import clean
from probes import world

ASK_S = 60.0
"""How long an interpreter may take to list its packages: assumed."""
LIST = (
    "import json; from importlib.metadata import distributions; "
    "print(json.dumps({d.metadata['Name']: d.version for d in distributions() if d.metadata['Name']}))"
)


def record(tool: Tool, named: str, settings: Settings) -> Use:
    """Use what is at a path from now on. Raises BadInput where it is not the tool."""
    if (container := containers.named(named)) is not None:
        return _kept(tool, _container(tool, *container, settings), settings)
    path = Path(os.path.abspath(Path(named).expanduser()))
    inside = path / "bin" / "python"
    if path.is_dir() and not inside.is_file():
        use = _folder(tool, path)
    elif (inside if path.is_dir() else path).is_file():
        use = _interpreter(tool, inside if path.is_dir() else path)
    else:
        raise BadInput("expected a folder of programs, an environment or its interpreter; nothing is there", str(path))
    return _kept(tool, use, settings)


def _kept(tool: Tool, use: Use, settings: Settings) -> Use:
    kept = places.uses(settings)
    places.write(places.root(settings) / places.USED, Uses(tools=kept | {tool.id: use}))
    return use


def forget(tool: Tool, settings: Settings) -> bool:
    """Whether one was recorded; what is at its path stays as it is."""
    kept = places.uses(settings)
    left = {key: use for key, use in kept.items() if key != tool.id}
    if len(left) < len(kept):
        places.write(places.root(settings) / places.USED, Uses(tools=left))
        shutil.rmtree(containers.place(tool, settings), ignore_errors=True)
    return len(left) < len(kept)


def _container(tool: Tool, runtime: str, image: str, settings: Settings) -> Use:
    """Of the image that the name stands for now; a later one of that name is recorded by asking again."""
    which = containers.digest(runtime, image)
    if absent := containers.missing(tool, runtime, which):
        raise BadInput(f"{', '.join(absent)} are not on the image's search path", f"{runtime}:{image}")
    folder = containers.programs(tool, runtime, which, settings)
    there = _packages(folder / "python") or {}
    python = contents.spelled(tool.distribution) in there
    if not python and not tool.programs:
        raise BadInput(f"the image has no Python with {tool.distribution}", f"{runtime}:{image}")
    versions = {**(there if python else {}), containers.DIGEST: f"{runtime}:{image} {which}"}
    path = folder / "python" if python else folder
    return Use(path=str(path), python=python, versions=versions, image=f"{runtime}:{image}")


def _folder(tool: Tool, path: Path) -> Use:
    missing = [program.name for program in tool.programs if shutil.which(program.name, path=str(path)) is None]
    if missing or not tool.programs:
        raise BadInput(f"expected the programs of {tool.id} in the folder; {', '.join(missing)} are missing", str(path))
    return Use(path=str(path), python=False, versions={})


def _interpreter(tool: Tool, path: Path) -> Use:
    there = _packages(path)
    if there is None:
        raise BadInput("expected a Python interpreter, and it does not list its packages", str(path))
    if contents.spelled(tool.distribution) not in there:
        raise BadInput(f"expected an interpreter with {tool.distribution}, which this one does not have", str(path))
    absent = [each.name for each in tool.programs if not (path.parent / each.name).is_file()]
    if absent:
        raise BadInput(f"{', '.join(absent)} are missing beside this interpreter", str(path))
    return Use(path=str(path), python=True, versions=there)


def _packages(python: Path) -> dict[str, str] | None:
    """Versions by name in the index's spelling; None for what is no interpreter."""
    ran = world.run((str(python), "-c", LIST), ASK_S, clean(os.environ))
    try:
        listed = msgspec.json.decode(ran.out.strip() or "null", type=dict[str, str])
    except msgspec.DecodeError:
        return None
    return {contents.spelled(name): version for name, version in listed.items()}
