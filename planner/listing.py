"""The catalogue for people, in the terminal: counts, lists, single entries. Layout only."""

from __future__ import annotations

import msgspec
from rich import box
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from planner.browse import Entry, Kind, Line
from planner.report import console
from planner.wording import short

WIDTH = 240
"""Columns of a list that goes to a file or a pipe: no line is folded, so that `grep` finds whole entries."""


def show_lines(kind: Kind, lines: tuple[Line, ...]) -> None:
    """A list of the catalogue, a row per entry."""
    out = console(WIDTH)
    if lines:
        names = type(lines[0]).__struct_fields__
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in names:
            table.add_column(_header(name), no_wrap=True)
        for line in lines:
            table.add_row(*(_cell(name, getattr(line, name)) for name in names))
        out.print(table)
    out.print(f"[dim]{len(lines)} {kind}[/]")


LONGEST = 80
"""Letters of a cell: a sentence goes on in `--json`."""
SCALED = {"bytes": (2.0**30, "GiB"), "bytes_per_s": (1e9, "GB/s"), "flop_per_s": (1e12, "TFLOP/s")}
"""Ending of a field's name: what to divide by, and the unit shown."""


def _scale(name: str) -> tuple[str, float, str]:
    for ending in sorted(SCALED, key=len, reverse=True):
        if name.endswith(f"_{ending}"):
            return name.removesuffix(f"_{ending}"), *SCALED[ending]
    return name, 1.0, ""


HEADERS = {
    "active_params": "active",
    "max_position": "context",
    "native_lane": "native",
    "confidence": "conf.",
    "usd_per_hour": "$/h",
    "usd_per_hour_from": "$/h from",
    "usd_per_accelerator_hour": "$/h each",
}


def _header(name: str) -> str:
    stem, _, unit = _scale(name)
    return HEADERS.get(name) or f"{stem} {unit}".replace("_", " ").strip()


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in {"params", "active_params"} and isinstance(value, float):
        return f"{value / 1e9:.3g}B"
    if isinstance(value, float):
        return short(value / _scale(name)[1])
    text = str(value)
    return escape(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def show_counts(counts: dict[str, int]) -> None:
    """How much the catalogue knows, a line per kind."""
    for kind, count in counts.items():
        print(f"{count:>6,}  {kind}")


def show_entry(entry: Entry) -> None:
    """One entry, a line per field that says something, each with the number of its source."""
    out = console()
    out.print(f"[bold]{escape(entry.id)}[/] ({entry.kind})")
    fields = [field for field in entry.fields if field.value not in (None, "", (), {})]
    sources = list(dict.fromkeys(field.source for field in fields))
    table = Table("field", "value", "confidence", "source", box=box.SIMPLE_HEAD, pad_edge=False)
    for field in fields:
        place = sources.index(field.source) + 1
        table.add_row(field.name, escape(_value(field.value)), field.confidence, f"\\[{place}]")
    out.print(table)
    for number, source in enumerate(sources, start=1):
        out.print(Padding(f"\\[{number}] {escape(source)}", (0, 0, 0, 1)))


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{float(value):,.6g}" if value < 1e6 else f"{float(value):.6g}"
    return str(msgspec.to_builtins(value, enc_hook=float))
