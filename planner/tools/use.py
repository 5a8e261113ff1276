"""Installations of the user's own, in the place of ours: an interpreter, or a folder of programs."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import msgspec

from catalog.errors import BadInput, Unsupported
from catalog.tools import Tool
from planner.settings import Settings
from planner.tools import contents, places
from planner.tools.places import Use, Uses
from planner.tools.running import clean
from probes import world

ASK_S = 60.0
"""How long an interpreter may take to list its packages: assumed."""
LIST = (
    "import json; from importlib.metadata import distributions; "
    "print(json.dumps({d.metadata['Name']: d.version for d in distributions() if d.metadata['Name']}))"
)
CONTAINER = re.compile(r"^(docker|podman|oci|container|docker-daemon|containerd|apptainer|singularity):", re.IGNORECASE)


def record(tool: Tool, named: str, settings: Settings) -> Use:
    """Use what is at a path from now on. Raises BadInput where it is not the tool."""
    refuse_container(named)
    path = Path(os.path.abspath(Path(named).expanduser()))
    inside = path / "bin" / "python"
    if path.is_dir() and not inside.is_file():
        use = _folder(tool, path)
    elif (inside if path.is_dir() else path).is_file():
        use = _interpreter(tool, inside if path.is_dir() else path)
    else:
        raise BadInput("expected a folder of programs, an environment or its interpreter; nothing is there", str(path))
    kept = places.uses(settings)
    places.write(places.root(settings) / places.USED, Uses(tools=kept | {tool.id: use}))
    return use


def forget(tool: Tool, settings: Settings) -> bool:
    """Whether one was recorded; what is at its path stays as it is."""
    kept = places.uses(settings)
    left = {key: use for key, use in kept.items() if key != tool.id}
    if len(left) < len(kept):
        places.write(places.root(settings) / places.USED, Uses(tools=left))
    return len(left) < len(kept)


def refuse_container(named: str) -> None:
    """Containers are refused for good reason, by name."""
    image = re.fullmatch(r"[\w.-]+(/[\w.-]+)+:[\w.-]+", named) and not Path(named).exists()
    if CONTAINER.match(named) or image or "://" in named:
        raise Unsupported(
            "containers are not used as tools: a run gives programs files of this machine by their paths and ends them "
            "as its own processes, and a container has other paths and another parent; install the tool, or name a "
            "folder or an interpreter",
            named,
        )


def _folder(tool: Tool, path: Path) -> Use:
    missing = [program.name for program in tool.programs if shutil.which(program.name, path=str(path)) is None]
    if missing or not tool.programs:
        raise BadInput(f"expected the programs of {tool.id} in the folder; {', '.join(missing)} are missing", str(path))
    return Use(path=str(path), python=False, versions={})


def _interpreter(tool: Tool, path: Path) -> Use:
    ran = world.run((str(path), "-c", LIST), ASK_S, clean(os.environ))
    try:
        listed = msgspec.json.decode(ran.out.strip() or "null", type=dict[str, str])
    except msgspec.DecodeError:
        raise BadInput("expected a Python interpreter, and it does not list its packages", str(path)) from None
    there = {contents.spelled(name): version for name, version in listed.items()}
    if contents.spelled(tool.distribution) not in there:
        raise BadInput(f"expected an interpreter with {tool.distribution}, which this one does not have", str(path))
    absent = [each.name for each in tool.programs if not (path.parent / each.name).is_file()]
    if absent:
        raise BadInput(f"{', '.join(absent)} are missing beside this interpreter", str(path))
    return Use(path=str(path), python=True, versions=there)
