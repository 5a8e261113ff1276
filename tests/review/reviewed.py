"""Plans and their reviews, made once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from planner import decode, search
from planner.plan import Plan
from planner.request import Request
from planner.review import Review, review
from tests.plan.asking import ask, catalog, device

ROOT = Path(__file__).parents[2]
LLAMA, LARGE = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
ASKED: dict[str, dict[str, Any]] = {
    "fleet": {"workload": {"qps": 30.0}, "slo": {"tpot_ms": {"p95": 50}}},
    "users": {"workload": {"users": 80}, "slo": {"tpot_ms": {"p95": 60}}},
    "batch": {"workload": {"batch": {"requests": 200_000, "deadline_s": 36_000}}},
    "plain": {"workload": {"qps": 2.0}},
    "latency": {"workload": {"qps": 2.0}, "objective": "latency"},
}
"""Kinds of load on the same hardware."""


def example() -> Request:
    """examples/support-chat.toml."""
    return decode.decode((ROOT / "examples" / "support-chat.toml").read_bytes(), "toml")


@cache
def request(name: str) -> Request:
    """A request by its name: the example, what nothing can serve, a tight fleet, any hardware, or one of ASKED."""
    if name in ("example", "as the command asks"):
        return replace(example(), simulate=None if name == "example" else True)
    if name == "infeasible":
        return ask(LARGE, device("a10g", 1), workload={"qps": 1.0}, engines=["vllm"])
    if name == "tight":
        return ask(LLAMA, device("l4", 2, usd_per_hour=0.5), workload={"qps": 2.0}, slo={"tpot_ms": {"p95": 100}})
    if name == "unpriced":
        return ask(LLAMA, device("mi325x", 2), workload={"qps": 2.0})
    if name == "any":
        return ask(LARGE, workload={"qps": 3.0}, hardware={"any": {"max_accelerators": 16}})
    return ask(LLAMA, device("l4", 64), device("h100-sxm5-80", 16), **ASKED[name])


@cache
def plan(name: str) -> Plan:
    return search.plan(request(name), catalog())


@cache
def reviewed(name: str, growth_pct: float | None = None) -> Review:
    return review(plan(name), catalog(), growth_pct)


NAMES = ("example", "infeasible", "tight", "any", *ASKED)
FEASIBLE = tuple(name for name in NAMES if name != "infeasible")
