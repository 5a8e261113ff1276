"""Words and numbers for people, shared by the terminal and the review."""

from __future__ import annotations

from collections.abc import Callable

from catalog.units import GIB
from planner.plan import Candidate, Estimate, Gate, Threshold, Tie, Verification


def short(value: float) -> str:
    """Three digits are more than an estimate knows."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def tie_breaker(first: Tie, second: Tie) -> str:
    """Why the first of two candidates within the margin goes before the second."""
    for name, says in TIE_BREAKERS.items():
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours != theirs:
            return says(ours, theirs)
    return "equal in everything, so the order of the names decides"


TIE_BREAKERS: dict[str, Callable[[float, float], str]] = {
    "slo_met_at_bad_end": lambda _ours, _theirs: "it meets the objectives at the bad end of its interval too",
    "loss_pct": lambda ours, theirs: f"it loses less quality ({short(ours)} % against {short(theirs)} %)",
    "published": lambda _ours, _theirs: "its weights are published",
    "recorded": lambda _ours, _theirs: "its publisher has measured checkpoints",
    "headroom": lambda ours, theirs: f"it has more headroom ({ours:.0%} against {theirs:.0%})",
    "devices": lambda ours, theirs: f"it is simpler ({ours:g} devices against {theirs:g})",
}
SCALES: dict[str, tuple[float, str]] = {
    "B": (1 / GIB, "GiB"),
    "USD/h": (1.0, "$/h"),
    "USD/month": (1.0, "$/month"),
    "USD": (1.0, "$"),
    "1/s": (1.0, ""),
    "1/J": (1.0, ""),
    "1": (1.0, ""),
}
"""Unit of an estimate: the factor to the unit shown, and that unit."""


def shown_in(value: float, unit: str) -> tuple[float, str]:
    """The factor and the unit in which people read a value: GiB, and milliseconds below two seconds."""
    if unit == "s":
        return (1e3, "ms") if abs(value) < 2 else (1.0, "s")
    return SCALES.get(unit, (1.0, unit))


def amount(value: float, unit: str) -> str:
    """A value in the unit that people read."""
    scale, name = shown_in(value, unit)
    return f"{short(value * scale)} {name}".rstrip()


def interval(estimate: Estimate) -> str:
    """The 80 % interval in the unit of the value; a dash for a number that has none."""
    if estimate.low == estimate.high:
        return "–"
    scale, name = shown_in(estimate.value, estimate.unit)
    return f"{short(estimate.low * scale)} to {short(estimate.high * scale)} {name}".rstrip()


def percent(share: float) -> str:
    """A share of one as whole percent."""
    return f"{100 * share:.0f} %"


def spoken(candidate: Candidate) -> str:
    """A candidate in half a line: lane, cache format where it is not the default, devices, engine."""
    pool = candidate.pools[0]
    cache = "" if candidate.kv_cache_dtype == "auto" else f", KV cache {candidate.kv_cache_dtype},"
    return f"{candidate.lane}{cache} on {pool.count} x {pool.accelerator} with {candidate.engine}"


GATE_COLUMNS = ("gate", "on", "must hold at 95 %", "samples", "time", "so far")
"""Headers of `gate_line`."""


def gate_line(gate: Gate) -> tuple[str, ...]:
    """One gate as a row: its id, on what, the thresholds, samples per side, its time and the time so far."""
    return (
        gate.id,
        _ground(gate),
        "; ".join(map(_held, gate.thresholds)),
        _samples(gate),
        "–" if gate.shares else duration(gate.expected_s.value),
        duration(gate.total_s),
    )


def _held(each: Threshold) -> str:
    """A threshold beside the bound that keeps it; what is counted has no bounds."""
    if each.bound == "value":
        return f"{each.statistic} {each.relation} {each.value:g}"
    return f"{each.bound} {each.relation} {each.value:.4g} {each.unit}".removesuffix(" 1")


def _ground(gate: Gate) -> str:
    """The texts, the tests or the answers that a gate is taken on."""
    if gate.shares:
        return f"with {gate.shares}"
    if gate.texts:
        seen = f"{sum(each.windows for each in gate.texts)} windows of {gate.context_tokens:,} tokens"
        return seen if gate.compares[1] == "baseline" else f"{seen}, {' and '.join(gate.compares)}"
    tests = [each.name + ("" if each.conclusive else " (inconclusive by design)") for each in gate.benchmarks]
    return " or ".join(tests) or gate.samples_of


def _samples(gate: Gate) -> str:
    """Samples of one side; answers to each item where there are too few items."""
    run = gate.benchmarks[0] if gate.benchmarks else None
    if run is not None and run.items is not None and (run.repeats or 1) > 1:
        return f"{run.items:,} x {run.repeats} {gate.samples_of}"
    return f"{gate.samples:,} {gate.samples_of}"


def against(proof: Verification) -> str:
    """What everything is compared with, and what no gate may see."""
    texts = dict.fromkeys(text.name for gate in proof.gates for text in gate.texts)
    return (
        f"against {proof.baseline} on the same token ids and prompts; texts are {' and '.join(texts)}, "
        f"without {', '.join(proof.excluded)}; {duration(proof.expected_s.value)} on one replica for both"
    )


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for least, scale, unit in ((5400.0, 3600.0, "h"), (90.0, 60.0, "min"), (0.0, 1.0, "s")):
        if seconds >= least:
            return f"{short(seconds / scale)} {unit}"
    return f"{seconds} s"
