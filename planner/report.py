"""The answer for people, in the terminal. Layout only: every number comes from the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from planner.plan import Candidate, Estimate, Finding, Percentiles, Plan, Refused, WayOut
from planner.wording import GATE_COLUMNS, against, gate_line, short, tie_breaker

WIDTH = 110
"""Columns when the output is not a terminal, so that what is kept in files does not depend on a window."""
REFUSED = "[red]refused[/]"
EFFECTS = {"refuse": "red", "warn": "yellow", "prefer": "green", "note": "dim"}


def console(width: int = WIDTH) -> Console:
    """A console as wide as the terminal, or `width` where there is none."""
    own = Console(highlight=False)
    return own if own.is_terminal else Console(highlight=False, width=width)


def show(plan: Plan, *, explain: bool = False, written: Iterable[Path] = ()) -> None:
    """Decision, why, the table of candidates, what was refused, ways out, what was assumed."""
    out = console()
    _headline(out, plan)
    if plan.choice is not None:
        out.print(_candidates(plan))
    out.print(_findings(plan, every=explain))
    _ways_out(out, plan.ways_out)
    _assumptions(out, plan, every=explain)
    if explain:
        _quality(out, plan)
        _proof(out, plan.choice)
        _derivation(out, plan)
    _written(out, plan, list(written))


def _lines(rows: Iterable[tuple[str, ...]]) -> Table:
    """Labelled lines; long texts go on below themselves, not below their label."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row(*row)
    return grid


def _headline(out: Console, plan: Plan) -> None:
    model = escape(str(plan.request["model"]))
    if plan.choice is None:
        out.print(f"[bold red]Nothing fits[/] for {model}.\n")
        return
    out.print(f"Ship [bold green]{escape(plan.choice.lane)}[/]: {escape(_deployment(plan.choice))}.")
    rows = [("  weights", escape(_weights(plan.choice, plan.request["model"])))]
    for name, (label, scale, unit) in HEADLINE.items():
        if name in plan.choice.estimates:
            rows.append((f"  {label}", _interval(plan.choice.estimates[name], scale, unit)))
    out.print(_lines([*rows, *_simulated(plan.choice), *_why(plan)]))


def _quality(out: Console, plan: Plan) -> None:
    """Expected losses by family, and who measured them."""
    if plan.choice is None or not plan.choice.evidence:
        return
    lines = Table(box=None, padding=(0, 2, 0, 0), title="Quality", title_justify="left")
    for head in ("family", "loss %", "80 % interval", "3 in 4 below", "sources", "who measured"):
        lines.add_column(head, justify="right" if head in ("loss %", "3 in 4 below", "sources") else "left")
    for family, loss in plan.choice.quality.items():
        rests = plan.choice.evidence[family]
        stands = f"{family} (as {rests.proxy})" if rests.proxy else family
        between = f"{short(loss.low)} to {short(loss.high)}"
        who = "; ".join(rests.citations[:2]) or "assumed"
        lines.add_row(stands, short(loss.value), between, short(rests.likely_pct), str(rests.sources), escape(who))
    out.print(lines)


def _weights(choice: Candidate, model: str) -> str:
    if choice.artifact is not None:
        checked = f"seen {choice.artifact.checked}" if choice.artifact.checked else "not checked"
        return f"{choice.artifact.repo} ({choice.artifact.license or 'licence unknown'}, {checked})"
    if choice.recipe.online:
        return f"{model}, quantized by the engine while it loads"
    if choice.make is not None:
        return f"make them with {choice.make.tool}, scheme {choice.make.scheme}: {choice.make.because}"
    return f"{model} as published"


def _deployment(candidate: Candidate) -> str:
    pool = candidate.pools[0]
    layout = {
        "replicas": pool.replicas,
        "TP": pool.tensor_parallel,
        "PP": pool.pipeline_parallel,
        "DP": pool.data_parallel,
        "EP": pool.expert_parallel,
    }
    parts = [f"{name} {degree}" for name, degree in layout.items() if degree > 1]
    parts += [f"KV cache {candidate.kv_cache_dtype}"]
    where = f"{pool.count} x {pool.accelerator}"
    engine = f"{candidate.engine} {candidate.engine_version}"
    return f"{candidate.recipe.name} on {where} with {engine}, {', '.join(parts)}"


HEADLINE = {
    "price_usd_per_month": ("cost", 1.0, "$/month"),
    "ttft_p95_s": ("TTFT p95", 1e3, "ms"),
    "tpot_p95_s": ("TPOT p95", 1e3, "ms"),
    "e2e_p95_s": ("e2e p95", 1.0, "s"),
    "job_s": ("job", 1.0, "s"),
    "usd_per_job": ("job", 1.0, "$"),
    "tokens_per_step": ("a step", 1.0, "tokens"),
    "loss_pct": ("loss", 1.0, "%"),
    "ready_s": ("ready", 1.0, "s"),
    "ready_cold_s": ("ready cold", 1.0, "s"),
}
"""Estimates shown with their 80 % interval: label, factor from the plan's unit, unit shown."""


def _interval(estimate: Estimate, scale: float, unit: str) -> str:
    value, low, high = (short(part * scale) for part in (estimate.value, estimate.low, estimate.high))
    between = "" if low == high else f"{low} to {high}, "
    return f"{value} {unit} ({between}{estimate.basis})"


def _why(plan: Plan) -> list[tuple[str, str]]:
    """The tie that decided, if there was one."""
    if len(plan.tie) < 2:
        return []
    first, second = plan.tie[:2]
    loser = f"{second.lane} ({second.engine}, {second.accelerator})"
    objective = plan.request.get("objective", "cost")
    tied = f"{len(plan.tie)} families tie within 3 % on {objective}"
    return [("  why", escape(f"{tied}; {first.lane} wins over {loser}: {tie_breaker(first, second)}"))]


def _simulated(choice: Candidate) -> list[tuple[str, str]]:
    """Percentiles of single requests; what the formulas say where they differ."""
    said = choice.simulated
    if said is None:
        return []
    times = [_times(label, getattr(said, f"{name}_s"), scale, unit) for name, label, scale, unit in TIMES]
    counts = f"{said.running_sequences:.3g} running, {said.preemptions} preempted"
    made = "" if said.makespan_s is None else f"last answer after {short(said.makespan_s)} s; "
    parts = f"{made}p50/p95/p99 of {said.requests} requests: {', '.join(times)}; {counts}"
    rows = [("  simulated", parts)]
    if said.replaces:
        others = [
            f"{label} p95 {short(said.replaces[f'{name}_p95_s'] * scale)} {unit}"
            for name, label, scale, unit in TIMES
            if f"{name}_p95_s" in said.replaces
        ]
        rows.append(("  formulas", f"{', '.join(others)}: the simulation is shown above"))
    return rows


TIMES = (
    ("ttft", "TTFT", 1e3, "ms"),
    ("tpot", "TPOT", 1e3, "ms"),
    ("e2e", "e2e", 1.0, "s"),
    ("queue_wait", "wait", 1e3, "ms"),
)
"""Simulated latencies: field, label, factor from the plan's unit, unit shown."""


def _times(label: str, found: Percentiles, scale: float, unit: str) -> str:
    values = "/".join(short(each * scale) for each in (found.p50, found.p95, found.p99))
    return f"{label} {values} {unit}"


def _candidates(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("lane", "engine", "hardware", "KV\ncache"):
        table.add_column(name, no_wrap=name != "hardware")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for candidate in (plan.choice, *plan.alternatives):
        if candidate is not None:
            style = "bold" if candidate is plan.choice else ""
            table.add_row(*_cells(candidate), style=style)
    return table


COLUMNS: dict[str, tuple[str, float]] = {
    "$ a\nmonth": ("price_usd_per_month", 1.0),
    "TTFT\np95 ms": ("ttft_p95_s", 1e3),
    "TPOT\np95 ms": ("tpot_p95_s", 1e3),
    "loss\n%": ("loss_pct", 1.0),
    "weights\nGiB": ("weight_bytes", 2.0**-30),
    "cache\nGiB": ("kv_pool_bytes", 2.0**-30),
}
"""Header of a column: the estimate it shows, and the factor from the plan's unit. Bytes are those of one device."""


def _cells(candidate: Candidate) -> list[str]:
    pool = candidate.pools[0]
    hardware = f"{pool.count} x {pool.accelerator}"
    shown = [_estimate(candidate, name, scale) for name, scale in COLUMNS.values()]
    return [escape(candidate.lane), candidate.engine, escape(hardware), candidate.kv_cache_dtype, *shown]


def _estimate(candidate: Candidate, name: str, scale: float) -> str:
    estimate = candidate.estimates.get(name)
    return "-" if estimate is None else short(estimate.value * scale)


def _findings(plan: Plan, *, every: bool) -> Table:
    """What the rules said of the choice, and which lanes they refused."""
    of_choice = plan.choice.findings if plan.choice is not None else ()
    shown = [finding for finding in (*plan.findings, *of_choice) if every or finding.effect != "note"]
    refused = _refused_families(plan.refused) if every else _refused_rules(plan.refused)
    return _lines([*dict.fromkeys(_finding(finding) for finding in shown), *refused])


def _finding(finding: Finding) -> tuple[str, str, str]:
    style = EFFECTS[finding.effect]
    return f"[{style}]{finding.effect}[/]", finding.rule, escape(finding.because)


def _refused_families(refused: tuple[Refused, ...]) -> Iterator[tuple[str, str, str]]:
    for family in refused:
        place = f"{family.lane} / {family.engine} / {family.accelerator}"
        yield REFUSED, family.finding.rule, escape(f"{place}: {family.finding.because}")


def _refused_rules(refused: tuple[Refused, ...]) -> Iterator[tuple[str, str, str]]:
    """One line per rule that sent families away, with the reason it gave the first of them."""
    by_rule: dict[str, list[Refused]] = {}
    for family in refused:
        by_rule.setdefault(family.finding.rule, []).append(family)
    for rule, families in by_rule.items():
        reasons = {family.finding.because for family in families}
        first = families[0]
        example = f", for example {first.lane} on {first.accelerator}" if len(reasons) > 1 else ""
        yield REFUSED, rule, escape(f"{_names(families)}{example}: {first.finding.because}")


def _names(families: list[Refused]) -> str:
    lanes = list(dict.fromkeys(family.lane for family in families))
    more = f" and {len(lanes) - 4} more lanes" if len(lanes) > 4 else ""
    return ", ".join(lanes[:4]) + more


def _ways_out(out: Console, ways: tuple[WayOut, ...]) -> None:
    if ways:
        out.print("\n[bold]Ways out[/]")
    for way in ways:
        money = "" if way.price_usd_per_month_delta is None else f", {way.price_usd_per_month_delta:+,.0f} $/month"
        loss = "" if not way.quality_delta_pct else f", {way.quality_delta_pct:+.2g} % quality"
        out.print(f"  {escape(way.change)}: {escape(way.then)}{money}{loss}")


def _assumptions(out: Console, plan: Plan, *, every: bool) -> None:
    if not plan.assumptions:
        return
    if not every:
        paths = ", ".join(assumption.path for assumption in plan.assumptions)
        out.print(f"[dim]{len(plan.assumptions)} defaults assumed: {escape(paths)}[/]")
        return
    out.print("\n[bold]Assumed[/]")
    for assumption in plan.assumptions:
        out.print(f"  {assumption.path} = {escape(str(assumption.value))}: {escape(assumption.because)}")


def _proof(out: Console, choice: Candidate | None) -> None:
    """The gates in their order, with what each adds to the time."""
    proof = choice.verification if choice is not None else None
    if proof is None:
        return
    out.print("\n[bold]What would prove it[/]")
    out.print(f"  {escape(against(proof))}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in GATE_COLUMNS:
        table.add_column(name, justify="right" if name in GATE_COLUMNS[3:] else "left", no_wrap=name != "on")
    for gate in proof.gates:
        table.add_row(*map(escape, gate_line(gate)))
    out.print(table)


def _derivation(out: Console, plan: Plan) -> None:
    out.print("\n[bold]How every number was made[/]")
    for step in plan.derivation:
        out.print(f"  [bold]{escape(step.name)}[/] = {step.value:.6g} {escape(step.unit)}")
        for label, text in (("from", step.formula), ("why", step.why), ("source", step.source)):
            if text:
                out.print(Padding(f"[dim]{label}[/] {escape(text)}", (0, 0, 0, 6)))


def _written(out: Console, plan: Plan, written: list[Path]) -> None:
    for path in written:
        out.print(f"wrote {escape(str(path))}", soft_wrap=True)
    if plan.launch and not written:
        out.print(f"[dim]{len(plan.launch)} launch files: add --out DIR; every number's origin: --explain[/]")
