"""Whether it starts and what fits, for people, in the terminal. Layout only: every number comes from the answer."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from catalog.units import GIB
from planner.headroom.picture import Change, Headroom, Held, Oracle, Outcome, Picture
from planner.plan import Estimate, Finding
from planner.report import EFFECTS, console
from planner.wording import interval, percent, short

CELLS = 96
"""Columns of the bar."""
MEMORY = frozenset({"H106", "H124", "H201", "H202"})
"""Reasons that another number would remove; the others send a lane away for good."""
LOOKS = {
    "weights": ("█", "blue"),
    "adapters": ("▉", "cyan"),
    "activations": ("▓", "magenta"),
    "CUDA graphs": ("▒", "yellow"),
    "libraries": ("░", "yellow"),
    "left free on purpose": ("░", "dim"),
    "KV cache needed": ("■", "green"),
    "KV cache to spare": ("□", "green"),
    "missing": ("×", "bold red"),
    "not claimed": ("·", "dim"),
}
"""What a segment of the bar is drawn with: told apart without colour too."""


def show(found: Headroom) -> None:
    """One picture per device for one lane; a table for all lanes."""
    out = console()
    if "lane" in found.ask:
        for outcome in found.outcomes:
            _one(out, outcome)
    else:
        _all(out, found)
    for assumption in found.assumptions:
        value = assumption.value
        text = f"{value:,}" if isinstance(value, int) else str(value)
        out.print(f"[dim]assumed: {escape(assumption.path)} = {escape(text)} ({escape(assumption.because)})[/]")


def _one(out: Console, outcome: Outcome) -> None:
    out.print(_headline(outcome))
    for finding in (*outcome.reasons, *(each for each in outcome.findings if each.effect != "note")):
        out.print(_said(finding))
    seen = outcome.picture
    if seen is not None:
        out.print()
        out.print(_bar(seen))
        out.print(_legend(seen))
        if outcome.places:
            out.print(_places(outcome.places))
        out.print(_fits(outcome, seen))
    _changes(out, outcome)


def _headline(outcome: Outcome) -> str:
    where = escape(f"{outcome.lane} with {outcome.engine} {outcome.engine_version} on {_hardware(outcome)}")
    seen = outcome.picture
    if outcome.starts is None:
        return f"[bold yellow]Nobody can say[/] whether {where} starts."
    word = "[bold green]Starts[/]" if outcome.starts else "[bold red]Does not start[/]"
    if seen is None:
        return f"{word}: {where}."
    margin, missing = seen.margin.value / GIB, seen.first_missing
    if missing and margin >= 0:
        return f"{word}: {where}; first missing: {escape(missing)}."
    if missing:
        return f"{word}: {where}, {short(-margin)} GiB short; first missing: {escape(missing)}."
    if not outcome.starts:
        return f"{word}: {where}; its memory would suffice."
    doubt = "" if seen.margin.low > 0 else "; that is less than the estimate may be off by"
    return f"{word}: {where}, {short(margin)} GiB to spare ({interval(seen.margin)}){doubt}."


def _hardware(outcome: Outcome) -> str:
    flags = outcome.flags
    ways = {"TP": flags.tensor_parallel, "PP": flags.pipeline_parallel, "DP": flags.data_parallel}
    parts = [f"{outcome.devices} x {outcome.accelerator}", *(f"{way} {n}" for way, n in ways.items() if n > 1)]
    return ", ".join(parts + (["whole experts"] if flags.expert_parallel else []))


def _said(finding: Finding) -> str:
    style = EFFECTS[finding.effect]
    return f"  [{style}]{finding.effect}[/] {finding.rule}  {escape(finding.because)}"


def segments(seen: Picture) -> dict[str, float]:
    """Bytes by name, in the order in which they are drawn; what is missing stands where it would have to go."""
    pool = max(seen.parts[-1].bytes.value, 0.0)
    made = {part.name: part.bytes.value for part in seen.parts[:-1]}
    made["KV cache needed"] = min(pool, seen.needed_bytes)
    made["KV cache to spare"] = max(pool - seen.needed_bytes, 0.0)
    made["missing"] = max(-seen.margin.value, 0.0)
    made["not claimed"] = seen.unclaimed_bytes
    return {name: size for name, size in made.items() if size > 0}


def cells(sizes: dict[str, float], width: int) -> dict[str, int]:
    """Whole cells that add up to `width`: largest remainders get the cells that rounding down leaves."""
    total = sum(sizes.values())
    shares = {name: width * size / total for name, size in sizes.items()}
    made = {name: int(share) for name, share in shares.items()}
    left = sorted(shares, key=lambda name: made[name] - shares[name])[: width - sum(made.values())]
    return {name: count + (name in left) for name, count in made.items()}


def _bar(seen: Picture) -> Text:
    text = Text("  ")
    for name, count in cells(segments(seen), CELLS).items():
        letter, style = LOOKS[name]
        text.append(letter * count, style=style)
    return text


def _legend(seen: Picture) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "per device"):
        table.add_column(name)
    for name in ("GiB", "80 % interval", "share"):
        table.add_column(name, justify="right")
    estimates = {part.name: part.bytes for part in seen.parts}
    for name, size in segments(seen).items():
        letter, style = LOOKS[name]
        between = _between(estimates[name]) if name in estimates else "–"
        table.add_row(f"  [{style}]{letter}[/]", name, short(size / GIB), between, percent(size / seen.device_bytes))
    table.add_row("", "device", short(seen.device_bytes / GIB), "–", "")
    if seen.free_bytes is not None:
        table.add_row("", "free before the start", short(seen.free_bytes / GIB), "–", "")
    return table


def _places(places: tuple[Held, ...]) -> Table:
    """What llama.cpp keeps where."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  place")
    for name in ("weights GiB", "KV cache GiB", "graph GiB", "together GiB"):
        table.add_column(name, justify="right")
    for each in places:
        sizes = each.weight_bytes, each.cache_bytes, each.compute_bytes
        table.add_row(f"  {each.place}", *(short(size / GIB) for size in (*sizes, sum(sizes))))
    return table


def _between(estimate: Estimate) -> str:
    """The interval, and whether no log stands behind it."""
    return interval(estimate) + (", assumed" if estimate.basis == "assumed" else "")


def _fits(outcome: Outcome, seen: Picture) -> Table:
    grid, flags = Table.grid(padding=(0, 2, 0, 0)), outcome.flags
    slots = "slot" if flags.max_num_seqs == 1 else "slots"
    each = f"one sequence of {flags.max_model_len:,} takes {short(seen.sequence_bytes / GIB)} GiB per device"
    ranks = f" on each of {flags.data_parallel} ranks" if flags.data_parallel > 1 else ""
    rows = {
        "KV cache": f"{seen.kv_tokens:,} tokens in {flags.kv_cache_dtype}{ranks}; {each}",
        "maximum concurrency": f"{seen.max_concurrency:.2f} sequences of {flags.max_model_len:,} tokens "
        f"({flags.max_num_seqs:,} {slots}, {flags.max_num_batched_tokens:,} tokens a step{ranks})",
        "longest context": f"{seen.longest_context:,} tokens under these flags",
    }
    for seats in seen.seats:
        rows[f"at {seats.context:,} tokens"] = f"{seats.sequences:,} at once, with as many slots"
    if outcome.oracle is not None:
        rows["the engine's own planner"] = _oracle(outcome.oracle)
    for label, text in rows.items():
        grid.add_row(f"  {label}", escape(text))
    return grid


def _oracle(own: Oracle) -> str:
    if own.places:
        sizes = (f"{each.place} {_three(each)} GiB" for each in own.places)
        file = f"; tensors {short(own.file_bytes / GIB)} GiB (llama-quantize)" if own.file_bytes else ""
        return f"weights + cache + graph: {', '.join(sizes)} ({own.program}){file}"
    if not own.starts or own.kv_tokens is None:
        return f"refuses ({own.program}): {own.said}"
    return f"{own.kv_tokens:,} tokens, {own.max_concurrency:.2f} sequences ({own.program}) of the same cache"


def _three(each: Held) -> str:
    return " + ".join(short(size / GIB) for size in (each.weight_bytes, each.cache_bytes, each.compute_bytes))


def _changes(out: Console, outcome: Outcome) -> None:
    if not outcome.changes:
        return
    out.print("\n[bold]More room[/]" if outcome.starts else "\n[bold]What would make it start[/]")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("  change", "flags"):
        table.add_column(name)
    for name in ("to spare GiB", "longest context", "sequences"):
        table.add_column(name, justify="right")
    for each in outcome.changes:
        table.add_row(*_change(each))
    out.print(table)


def _change(each: Change) -> tuple[str, ...]:
    spare = short(each.margin.value / GIB) + ("" if each.margin.low > 0 else ", just")
    return f"  {escape(each.change)}", escape(each.flags), spare, f"{each.longest_context:,}", f"{each.sequences:,}"


def _all(out: Console, found: Headroom) -> None:
    rows = [each for each in found.outcomes if each.picture and not _gone(each)]
    count = sum(each.starts is True for each in rows)
    out.print(f"[bold]{count} of {len(rows)}[/] lanes start as asked; --lane LANE shows where the memory goes.")
    if rows:
        out.print(_table(rows))
    for line in _left(found):
        out.print(line)


def _gone(outcome: Outcome) -> bool:
    return any(reason.rule not in MEMORY for reason in outcome.reasons)


def _table(rows: list[Outcome]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("lane", "engine", "hardware"):
        table.add_column(name, no_wrap=True)
    seen = [each.picture for each in rows if each.picture]
    contexts = list(dict.fromkeys(each.context for each in seen[0].seats))
    for name in ("weights\nGiB", "cache\nGiB", "longest\ncontext", *(f"sequences\nat {n:,}" for n in contexts)):
        table.add_column(name, justify="right")
    table.add_column("starts", no_wrap=True)
    table.add_column("to spare\nGiB", justify="right")
    for outcome, picture in zip(rows, seen, strict=True):
        counted = [picture.seats_at(context) for context in contexts]
        table.add_row(
            escape(outcome.lane),
            outcome.engine,
            escape(_hardware(outcome)),
            short(picture.parts[0].bytes.value / GIB),
            short(picture.parts[-1].bytes.value / GIB),
            f"{picture.longest_context:,}",
            *("-" if n is None else f"{n:,}" for n in counted),
            _verdict(outcome, picture),
            short(picture.margin.value / GIB),
        )
    return table


def _verdict(outcome: Outcome, picture: Picture) -> str:
    if outcome.starts:
        return "[green]yes[/]" if picture.margin.low > 0 else "[yellow]just[/]"
    return f"[red]no[/] {' '.join(reason.rule for reason in outcome.reasons)}"


def _left(found: Headroom) -> Iterator[str]:
    """One line per rule that sends lanes away for good, with the reason it gave the first of them."""
    by_rule: dict[str, list[tuple[Outcome, Finding]]] = {}
    for outcome in found.outcomes:
        gone = next((reason for reason in outcome.reasons if reason.rule not in MEMORY), None)
        if gone is not None:
            by_rule.setdefault(gone.rule, []).append((outcome, gone))
    for rule, cases in by_rule.items():
        names = ", ".join(dict.fromkeys(outcome.lane for outcome, _ in cases))
        yield f"[red]refused[/] {rule}  {escape(names)}: {escape(cases[0][1].because)}"
