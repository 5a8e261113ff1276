"""What a plan was made with: the request's own values, and the defaults that stand in its assumptions."""

from __future__ import annotations

from typing import Any

from planner.plan import Plan

TIMES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "e2e"}
"""Latencies as the request names them, and as people do."""


def settled_value(plan: Plan, path: str) -> Any:
    """The value of one request field as the plan used it; None where neither request nor defaults name it."""
    value: Any = plan.request
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is not None:
        return value
    return next((assumption.value for assumption in plan.assumptions if assumption.path == path), None)


def limits_s(plan: Plan) -> dict[str, float]:
    """{"ttft_p95_s": 1.0, …}: the latency objectives in seconds."""
    asked = plan.request.get("slo", {})
    return {
        f"{name}_{quantile}_s": limit / 1000
        for name in TIMES
        for quantile, limit in sorted(asked.get(f"{name}_ms", {}).items())
    }


def label(estimate: str) -> str:
    """`ttft_p95_s` as people say it."""
    name, quantile, _ = estimate.split("_")
    return f"{TIMES[name]} {quantile}"


def unprinted(plan: Plan) -> dict[str, float]:
    """Objectives at percentiles that a plan holds and prints no estimate of, seconds."""
    made = plan.choice.estimates if plan.choice else {}
    return {name: limit for name, limit in limits_s(plan).items() if name not in made}


def tolerated_pct(plan: Plan, family: str) -> float:
    """Tolerated loss of one task family, percent."""
    own = plan.request.get("quality", {}).get("per_family", {})
    return float(own.get(family, settled_value(plan, "quality.max_loss_pct")))


def mix(plan: Plan) -> dict[str, float]:
    """Shares of the task families that are asked."""
    return dict(settled_value(plan, "workload.mix"))
