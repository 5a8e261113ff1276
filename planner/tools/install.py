"""Make an environment in stages: each is noted when it is done, `ready` is written last.

Whoever finds an installation that was interrupted goes on after its last whole stage; one of another definition is
made anew. A folder that was complete before environments described themselves is taken over and checked.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import structs

from catalog import tools
from catalog.errors import LanewiseError, Unsupported
from catalog.inventory import Inventory
from catalog.tools import Tool
from planner.settings import Settings
from planner.tools import building, contents, doctor, environment, places, repairs
from planner.tools.places import Ready, Stages
from planner.tools.running import Runner, Tell
from planner.wording import short
from probes import world

CONSTRAINTS = "pins.txt"
Probe = Callable[[], Inventory]
Stage = Callable[[Tool, Path, Runner], None]


def install(tool: Tool, settings: Settings, probe: Probe, tell: Tell, backend: str | None = None) -> Ready:
    """The environment, made where it is not ready. Raises LanewiseError with the reason and the log's place.

    `backend`: of the programs that are built; None takes what the machine has. Two at once: the second one waits.
    """
    if tool.id in places.uses(settings):
        raise LanewiseError(f"{tool.id} is used from elsewhere; `lanewise tools remove {tool.id}` forgets that")
    with places.locked(tool, settings, lambda: tell("waiting", 0.0, "another process is installing it")) as lock:
        there = _fit(tool, settings, backend)
        return there if there is not None else _make(tool, settings, probe(), (lock, tell), backend)


def remove(tool: Tool, settings: Settings, waits: Callable[[], None]) -> bool:
    """Whether there was an environment of ours; `ready` goes first, so that a half removed one is never found."""
    with places.locked(tool, settings, waits):
        place = places.folder(tool, settings)
        there = place.is_dir()
        (place / places.READY).unlink(missing_ok=True)
        if there:
            shutil.rmtree(place)
    return there


def _fit(tool: Tool, settings: Settings, backend: str | None) -> Ready | None:
    """What is there, if it is what is asked for."""
    found = places.ready(places.folder(tool, settings))
    same = environment.of(tool, settings) == "ready" and found is not None
    return found if same and found is not None and backend in {None, found.backend} else None


def _make(tool: Tool, settings: Settings, inventory: Inventory, alone: tuple[int, Tell], backend: str | None) -> Ready:
    lock, tell = alone
    chosen = _chosen(tool, inventory, backend)
    place = places.folder(tool, settings)
    stages = _begin(tool, place, chosen)
    _check_disk(tool, place)
    runner = Runner(log=place / places.LOG, lock=lock, tell=tell)
    for name, stage in _stages(tool, chosen):
        if name not in stages.seconds:
            tell(name, 0.0, "")
            stages = _timed(name, stage, tool, (place, runner), stages)
    ready = Ready(
        tool=tool.id, definition=stages.definition, versions=contents.versions(place), content=contents.content(place),
        backend=stages.backend, seconds=stages.seconds,
    )  # fmt: skip
    places.write(place / places.READY, ready)
    return ready


def _timed(name: str, stage: Stage, tool: Tool, where: tuple[Path, Runner], stages: Stages) -> Stages:
    """The stage done, and noted with the seconds it took."""
    place, runner = where
    began = time.monotonic()
    try:
        stage(tool, place, runner)
    except OSError as error:
        raise LanewiseError(f"{name}: {error.strerror or error}; the log is {runner.log}") from error
    noted = structs.replace(stages, seconds=stages.seconds | {name: round(time.monotonic() - began, 1)})
    places.write(place / places.STAGES, noted)
    return noted


def _chosen(tool: Tool, inventory: Inventory, backend: str | None) -> tools.Backend | None:
    """What is built for, once everything that it takes is there. Raises Unsupported, BadInput, LanewiseError."""
    refusal = tools.refusal(tool, inventory)
    if refusal:
        raise Unsupported(refusal, tool.id)
    if tool.build is None:
        if backend is not None:
            raise Unsupported(f"{tool.id} is not built here, so it has no backends", "--backend")
        return None
    chosen = tools.backend(tool.build, inventory, backend)
    for names in (*tool.build.needs, *chosen.needs):
        if not any(shutil.which(name) for name in names):
            wanted = f"{tool.id} with the backend {chosen.id} is built with {' or '.join(names)}"
            raise LanewiseError(f"{wanted}, which is not on the search path")
    return chosen


def _begin(tool: Tool, place: Path, chosen: tools.Backend | None) -> Stages:
    """What an earlier attempt left, if it was after the same thing; an empty folder otherwise."""
    wanted = Stages(definition=tools.identity(tool), backend=chosen.id if chosen else "")
    found = places.read(place / places.STAGES, Stages)
    if found is not None and (found.definition, found.backend) == (wanted.definition, wanted.backend):
        (place / places.READY).unlink(missing_ok=True)
        return found
    if found is None and _complete_without_notes(place):
        return structs.replace(wanted, seconds={"python": 0.0})
    (place / places.READY).unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    places.write(place / places.STAGES, wanted)
    return wanted


def _complete_without_notes(place: Path) -> bool:
    """An empty `ready`: made whole by an earlier version, with the same packages or fewer."""
    mark = place / places.READY
    return mark.is_file() and mark.stat().st_size == 0 and places.python(place).is_file()


def _check_disk(tool: Tool, place: Path) -> None:
    """Refuse before anything is fetched what cannot fit; what an earlier attempt left counts as there."""
    free = world.disk_free(place)
    there = sum(path.lstat().st_size for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    if free is not None and free + there < tool.disk:
        raise LanewiseError(
            f"{tool.id} takes {short(tool.disk / 1e9)} GB and {short(free / 1e9)} GB are free in {place.parent}; free "
            "some, or let LANEWISE_TOOLS_DIR name another place"
        )


def _stages(tool: Tool, chosen: tools.Backend | None) -> Sequence[tuple[str, Stage]]:
    """In their order."""
    built: list[tuple[str, Stage]] = []
    if chosen is not None:
        built = [
            ("source", building.unpack),
            ("build", lambda tool, place, runner: building.build(tool, chosen, place, runner)),
            ("binding", building.bind),
        ]
    mended: list[tuple[str, Stage]] = [("repairs", repairs.apply)] if tool.repairs != tools.Repairs() else []
    return [("python", _python), ("packages", _packages), *mended, *built, ("check", _check)]


def _python(tool: Tool, place: Path, runner: Runner) -> None:
    runner.run("python", (sys.executable, "-m", "venv", "--clear", place / "venv"))


def _packages(tool: Tool, place: Path, runner: Runner) -> None:
    """What an interrupted attempt left half unpacked is taken for absent, so that pip unpacks it again."""
    contents.forget_damaged(place)
    pins = place / CONSTRAINTS
    pins.write_text("\n".join(tool.pins) + "\n", encoding="utf-8")
    if tool.packages:
        runner.run("packages", (places.python(place), "-m", "pip", "install", "-c", pins, *tool.packages))


def _check(tool: Tool, place: Path, runner: Runner) -> None:
    """Nothing that does not run is called ready."""
    runner.tell("check", 0.0, "")
    found = doctor.attempt(tool, environment.whole(tool, place, contents.versions(place)))
    with runner.log.open("a", encoding="utf-8") as log:
        log.write(f"\ncheck: {found.versions} {found.tried} {'; '.join(found.problems)}{os.linesep}")
    if found.problems:
        raise LanewiseError(f"check: {'; '.join(found.problems)}; the log is {runner.log}")
