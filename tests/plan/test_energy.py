"""What a deployment draws lies between waiting and working, and nothing is said where no power is known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from planner import energy, hardware
from planner.plan import Candidate
from tests.plan.asking import ask, catalog, device, planned

MODEL = "Qwen/Qwen3-8B"
L40S_W = 350.0
IDLE_DRAW = 0.2


def chosen(name: str = "l40s", count: int = 8, more: dict[str, Any] | None = None, **fields: Any) -> Candidate:
    plan = planned(ask(MODEL, device(name, count, **(more or {})), lanes=["fp8"], **fields))
    assert plan.choice is not None, plan.refused
    return plan.choice


@pytest.mark.parametrize("qps", [0.01, 0.5, 4.0, 20.0])
def test_watts_lie_between_waiting_and_working(qps: float) -> None:
    choice = chosen(workload={"qps": qps})
    watts, full = choice.estimates["watts"], choice.pools[0].count * L40S_W
    assert (watts.low, watts.high) == pytest.approx((IDLE_DRAW * full, full))
    assert watts.low <= watts.value <= watts.high
    assert watts.basis == "assumed"


def test_a_busier_replica_draws_more_and_makes_more_of_it() -> None:
    made = [chosen(count=1, workload={"qps": qps}).estimates for qps in (0.001, 0.01, 0.1, 1.0)]
    for one, other in pairwise(made):
        assert one["watts"].value < other["watts"].value
        assert one["tokens_per_joule"].value < other["tokens_per_joule"].value


def test_tokens_per_joule_are_output_tokens_over_watts() -> None:
    choice = chosen(workload={"qps": 3.0, "output_tokens": {"mean": 100}})
    made = choice.estimates
    assert made["tokens_per_joule"].value == pytest.approx(3.0 * 100 / made["watts"].value, rel=1e-3)
    assert made["tokens_per_joule"].high == pytest.approx(3.0 * 100 / made["watts"].low, rel=1e-3)


@pytest.mark.parametrize("workload", [{"users": 4}, {"batch": {"requests": 1000, "deadline_s": 3600}}])
def test_users_who_always_wait_and_work_that_lies_there_keep_devices_busy(workload: dict[str, Any]) -> None:
    watts = chosen(workload=workload).estimates["watts"]
    assert watts.value == watts.high


@pytest.mark.parametrize("name", ["apple-m2-ultra", "a10g"])
def test_nothing_is_said_where_no_trusted_power_is_known(name: str) -> None:
    accelerator = catalog().accelerator(name)
    assert accelerator.tdp is None or accelerator.confidence_of("tdp") == "C"
    asked = ask(MODEL, device(name, 8, memory_gib=192 if name.startswith("apple") else None), workload={"qps": 0.01})
    plan = planned(asked)
    assert plan.choice is not None, plan.refused
    assert {"watts", "tokens_per_joule"}.isdisjoint(plan.choice.estimates)
    assert "tokens_per_joule" not in {step.name for step in plan.derivation}


def test_a_slice_of_a_device_has_no_power_of_its_own() -> None:
    request = ask(MODEL, device("h100-sxm5-80"))
    (whole,) = hardware.devices(request, catalog())
    assert energy.device_watts(whole) == (700.0, whole.accelerator.source_of("tdp"))
    assert energy.device_watts(replace(whole, slice="1g.10gb")) is None


def test_own_watts_count() -> None:
    owned = {"capital_usd": 0, "usd_per_kwh": 0, "watts": 500}
    choice = chosen(count=1, more={"owned": owned})
    assert choice.estimates["watts"].high == 500


def test_the_derivation_ends_in_what_is_shown_and_ranked() -> None:
    plan = planned(ask(MODEL, device("l40s", 4), device("h100-sxm5-80", 4), objective="energy"))
    assert plan.choice is not None
    steps, made = {step.name: step for step in plan.derivation}, plan.choice.estimates
    assert steps["watts"].value == pytest.approx(made["watts"].value, rel=1e-5)
    assert steps["tokens_per_joule"].value == pytest.approx(made["tokens_per_joule"].value, rel=1e-5)
    best = made["tokens_per_joule"].value
    assert all(each.estimates["tokens_per_joule"].value <= best * 1.03 for each in plan.alternatives)
