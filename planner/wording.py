"""Words and numbers for people, shared by the terminal and the review."""

from __future__ import annotations

from collections.abc import Callable

from catalog.units import GIB
from planner.plan import Candidate, Estimate, Tie


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
