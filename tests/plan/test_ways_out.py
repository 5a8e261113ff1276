"""When nothing fits, single changes that help are offered with their price."""

from __future__ import annotations

import pytest

from tests.plan.asking import ask, device, planned
from tests.plan.speaking import asked


def test_ways_out_are_sorted_by_price_and_name_what_then_runs() -> None:
    plan = planned(ask("meta-llama/Llama-3.1-70B-Instruct", device("a10g")))
    deltas = [way.price_usd_per_month_delta for way in plan.ways_out if way.price_usd_per_month_delta is not None]
    assert not plan.feasible
    assert len(plan.ways_out) >= 2
    assert deltas == sorted(deltas)
    assert any("a10g" in way.change for way in plan.ways_out)
    assert all(" on " in way.then for way in plan.ways_out)


def test_an_objective_that_cannot_be_met_is_named() -> None:
    plan = planned(ask("meta-llama/Llama-3.1-70B-Instruct", device("a100-sxm4-80", 8), slo={"tpot_ms": {"p95": 1.0}}))
    assert not plan.feasible
    assert "L101" in {entry.finding.rule for entry in plan.refused}
    assert any("latency" in way.change for way in plan.ways_out)


def test_too_little_budget_offers_the_price_that_would_do() -> None:
    plan = planned(ask("Qwen/Qwen3-8B", device("h100-sxm5-80"), budget={"usd_per_month": 100}))
    raised = [way for way in plan.ways_out if way.change == "raise the budget"]
    assert raised
    assert (raised[0].price_usd_per_month_delta or 0) > 0


def test_a_feasible_plan_offers_none() -> None:
    assert planned(ask("Qwen/Qwen3-8B", device("h100-sxm5-80"))).ways_out == ()


@pytest.mark.parametrize(
    ("flags", "change"),
    [
        (
            "--model mistralai/Ministral-3-8B-Instruct-2512 --on l40s --qps 0.5 --set workload.lora=true",
            "merge the adapter first",
        ),
        ("--model Qwen/Qwen3-8B --on v100-sxm2-32 --qps 0.2 --engines vllm", "consider every engine"),
        (
            "--model Qwen/Qwen3-8B --on mi300x --qps 1 --engine-version vllm=0.19 --lanes bf16",
            "plan for the newest engine versions",
        ),
        (
            "--model Qwen/Qwen3-32B --on h100-sxm5-80 --qps 0.1 --lanes bf16 --set hardware.reserved.memory_gib=30",
            "reserve no memory",
        ),
        (
            "--model Qwen/Qwen3-14B --inventory examples/inventories/4090s-one-busy.json --qps 0.1 --lanes bf16",
            "stop the other processes",
        ),
    ],
)
def test_what_stands_in_the_way_is_offered_to_be_moved(flags: str, change: str) -> None:
    plan = planned(asked(flags))
    assert not plan.feasible
    assert change in {way.change for way in plan.ways_out}
