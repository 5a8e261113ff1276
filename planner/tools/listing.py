"""What there is of every tool, and tables of it for people."""

from __future__ import annotations

from msgspec import Struct
from rich.markup import escape
from rich.table import Table

from catalog import tools
from planner.report import console
from planner.settings import Settings
from planner.tools import contents, environment, places
from planner.tools.doctor import Finding
from planner.tools.environment import State
from planner.wording import short


class Entry(Struct, frozen=True, kw_only=True):
    """One tool of the list."""

    tool: str
    does: str
    state: State
    place: str
    """The folder, or what is used instead."""
    packages: tuple[str, ...]
    """What is asked for by name; `versions` has all."""
    versions: dict[str, str] = {}
    backend: str = ""
    expected_s: float
    disk_bytes: float
    source: str


def entries(settings: Settings) -> list[Entry]:
    """Every tool, in the order of the list."""
    return [_entry(tool, settings) for tool in tools.load(settings.overlay).values()]


def _entry(tool: tools.Tool, settings: Settings) -> Entry:
    place, used = places.folder(tool, settings), places.uses(settings).get(tool.id)
    there = None if used else places.ready(place)
    return Entry(
        tool=tool.id, does=tool.does, state=environment.of(tool, settings),
        place=(used.image or used.path) if used else str(place),
        packages=(*tool.packages, *((tool.build.package,) if tool.build else ())),
        versions=used.versions if used else there.versions if there else {}, backend=there.backend if there else "",
        expected_s=tool.expected_s, disk_bytes=float(tool.disk), source=tool.source,
    )  # fmt: skip


def show(found: list[Entry]) -> None:
    """A row per tool."""
    out, table = console(), Table(box=None, padding=(0, 2, 0, 0))
    for title in ("tool", "for", "version", "state", "install"):
        table.add_column(title)
    for each in found:
        table.add_row(each.tool, each.does, _version(each), _state(each), _price(each))
    out.print(table)
    for each in found:
        if each.state == "used":
            out.print(f"{each.tool} is used from {escape(each.place)}")


def _version(each: Entry) -> str:
    asked = each.packages[-1] if each.backend or each.tool == "llama.cpp" else each.packages[0]
    name = tools.name_of(asked)
    return each.versions.get(contents.spelled(name), "" if each.state == "used" else asked.split("==")[1])


def _state(each: Entry) -> str:
    words = environment.STATES[each.state]
    return f"{words}, {each.backend}" if each.backend and each.state == "ready" else words


def _price(each: Entry) -> str:
    if each.state in {"ready", "used"}:
        return ""
    return f"about {short(each.expected_s)} s, {short(each.disk_bytes / 1e9)} GB"


def report(found: list[Finding]) -> None:
    """What works, what does not, and how to mend it."""
    out = console()
    for each in found:
        words = environment.STATES[each.state]
        if each.problems:
            out.print(f"[red]{each.tool}: broken[/]")
        elif each.state in {"ready", "used"}:
            out.print(f"[green]{each.tool}: works[/]{escape(f' ({each.tried})' if each.tried else '')}")
        else:
            out.print(f"{each.tool}: {words}")
        for name, version in each.versions.items():
            out.print(f"  {name} {escape(version)}")
        for problem in each.problems:
            out.print(f"  {escape(problem)}", style="red")
        if each.mend:
            out.print(f"  mend: {each.mend}")
