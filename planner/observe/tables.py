"""Observations for people: what was read beside what was predicted, and what nobody recognised. Layout only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from catalog.observation import Observation
from planner.observe.answer import Observed
from planner.observe.beside import Compared
from planner.observe.reading import Load, Reading, Seen, unit_of
from planner.report import console
from planner.wording import short

UNKNOWN = 12
"""Unrecognised places that are printed; the others stand in `--json`."""


def show(found: Observed, out: Console | None = None) -> None:
    """Readings, then the comparison, then what is unknown."""
    out = out or console()
    for reading in found.readings:
        _reading(out, reading)
    if found.compared:
        _comparison(out, found)
    for reading in found.readings:
        _unknown(out, reading)
    if found.missing:
        what = "compared in part" if found.compared else "not compared"
        out.print(f"{what}: {', '.join(found.missing)} would say whose numbers these are.", highlight=False)
    if found.added is not None:
        _added(out, found)


def listed(rows: Sequence[Observation], out: Console | None = None) -> None:
    """A line per kept number, by run."""
    out = out or console()
    if not rows:
        out.print("Nothing is kept: `lanewise observe FILE --add` keeps what a file says.")
        return
    for run in dict.fromkeys(row.run for row in rows):
        found = [row for row in rows if row.run == run]
        first = found[0]
        host = f" of {first.machine}" if first.machine else ""
        who = f"{first.model} {first.lane}, {first.engine} {first.engine_version}".strip()
        where = f"{first.accelerators} x {first.accelerator}{host}"
        out.print(f"[bold]{run}[/] {escape(f'{who} on {where}, from {first.source}')}", highlight=False)
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
        for row in found:
            table.add_row(f"  {row.id}", _name(row.metric, row.stat), _measured(row), escape(_load(_load_of(row))))
        out.print(table, highlight=False)


def _load_of(row: Observation) -> Load:
    return Load(
        kind=row.load, prompt=row.prompt, output=row.output, users=row.users, rate=row.rate, depth=row.depth
    )  # fmt: skip


def _reading(out: Console, reading: Reading) -> None:
    who = " ".join(part for part in (reading.engine, reading.version) if part)
    out.print(
        f"[bold]{escape(reading.source)}[/]: {escape(reading.format)}{f' of {escape(who)}' if who else ''}",
        highlight=False,
    )
    for what in dict.fromkeys(each.what for each in reading.chosen):
        names = [each.name for each in reading.chosen if each.what == what]
        out.print(f"  {what}: {escape(', '.join(names))}", highlight=False)
    if reading.settings:
        stated = ", ".join(f"{name} {value}" for name, value in sorted(reading.settings.items()))
        out.print(f"  settings: {escape(stated)}", highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    for load, numbers in _by_load(reading.numbers):
        if load:
            table.add_row(f"  {load}", "", "")
        for seen in numbers:
            of = f" ({seen.of})" if seen.of else ""
            table.add_row(f"    {_name(seen.metric, seen.stat)}{escape(of)}", _printed(seen), escape(f"{seen.place}"))
    out.print(table, highlight=False)


def _by_load(numbers: Iterable[Seen]) -> Iterator[tuple[str, list[Seen]]]:
    groups: dict[Load, list[Seen]] = {}
    for seen in numbers:
        groups.setdefault(seen.load, []).append(seen)
    for load, found in groups.items():
        yield _load(load), found


def _load(load: Load) -> str:
    """The load in words."""
    if not load.kind:
        return ""
    parts = [f"{load.prompt:.0f} tokens in, {load.output:.0f} out"]
    parts += [f"after {load.depth:.0f} in the cache"] if load.depth else []
    users = f"{load.users:.0f} in flight" if load.users else ""
    parts += [each for each in (users, f"{load.rate:g} requests/s" if load.rate else "") if each]
    return f"{load.kind}: {', '.join(parts)}"


def _printed(seen: Seen) -> str:
    if seen.low is not None and seen.high is not None:
        return f"{short(seen.low)} to {short(seen.high)} {seen.unit}"
    spread = f" ± {short(seen.sd)}" if seen.sd is not None else ""
    return f"{short(seen.value)}{spread} {'' if seen.unit == '1' else seen.unit}".rstrip()


def _comparison(out: Console, found: Observed) -> None:
    about = found.about
    where = f"{about.accelerators} x {about.accelerator}, {about.engine} {about.engine_version}"
    who = (
        f"{about.model} {about.lane} on {where}" if about.accelerator else f"{about.model} {about.lane}, {about.engine}"
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, title=escape(who.strip()), title_justify="left")
    for title in ("number", "measured", "predicted", "80 % interval", "measured/predicted", ""):
        table.add_column(title, justify="left" if title in ("number", "") else "right")
    for one in found.compared:
        table.add_row(*map(escape, _line(one)))
    out.print(table, highlight=False)
    out.print(_verdict(found.compared), highlight=False)


def _line(one: Compared) -> tuple[str, ...]:
    name, measured = _name(one.row.metric, one.row.stat), _measured(one.row)
    if one.predicted is None or one.low is None or one.high is None or one.ratio is None:
        return name, measured, "-", "-", "-", one.because
    verdict = "inside" if one.inside else "outside: the term that is off" if one.off else "outside"
    return name, measured, short(one.predicted), f"{short(one.low)} to {short(one.high)}", f"{one.ratio:.3f}", verdict


def _verdict(found: Sequence[Compared]) -> str:
    judged = [one for one in found if one.inside is not None]
    inside = sum(bool(one.inside) for one in judged)
    return f"{inside} of {len(judged)} within their intervals; {len(found) - len(judged)} without a prediction."


def _unknown(out: Console, reading: Reading) -> None:
    for each in reading.unknown[:UNKNOWN]:
        out.print(f"unknown: {escape(reading.source)}, {escape(each.place)}: {escape(each.text)}", highlight=False)
    if reading.unknown_count > UNKNOWN:
        out.print(
            f"unknown: {reading.unknown_count - UNKNOWN} more places of {escape(reading.source)}", highlight=False
        )


def _added(out: Console, found: Observed) -> None:
    assert found.added is not None
    runs = dict.fromkeys(one.row.run for one in found.compared)
    new, known = len(found.added.added), len(found.added.known)
    said = f"{new} kept as {', '.join(runs)}" if new else "nothing new"
    out.print(
        f"{said}{f', {known} kept already' if known else ''}; `lanewise observe --remove RUN` forgets them.",
        highlight=False,
    )


def _name(metric: str, stat: str) -> str:
    """`ttft p95`, without the unit that stands beside the number."""
    ends = ("_gib", "_mib", "_ms", "_tok_s", "_req_s", "_tokens", "_count", "_s")
    plain = next((metric[: -len(end)] for end in ends if metric.endswith(end)), metric).replace("_", " ")
    return f"{plain} {stat}".strip()


def _measured(row: Observation) -> str:
    spread = f" ± {short(row.sd)}" if row.sd else ""
    times = f" ({row.repeats} runs)" if row.repeats > 1 else ""
    unit = unit_of(row.metric)
    return f"{short(row.value)}{spread}{'' if unit in ('1', 'x') else f' {unit}'}{times}"
