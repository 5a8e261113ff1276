"""What is paid, for what: the peak and the mean, busy and idle time, prompts and answers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import cost
from planner.plan import Candidate
from tests.plan.asking import ask, device, planned

MODEL = "Qwen/Qwen3-8B"
SPREAD = {"prompt_tokens": {"mean": 800}, "output_tokens": {"mean": 200}}


def chosen(workload: dict[str, Any], count: int = 16, **more: Any) -> Candidate:
    plan = planned(
        ask(MODEL, device("l40s", count, usd_per_hour=1.0), lanes=["fp8"], workload={**SPREAD, **workload}, **more)
    )
    assert plan.choice is not None, plan.refused
    return plan.choice


def value(candidate: Candidate, name: str) -> float:
    return candidate.estimates[name].value


@pytest.mark.parametrize("mean", [0.05, 1.0, 30.0, 60.0])
def test_the_mean_never_costs_more_than_the_peak_and_as_much_at_the_peak(mean: float) -> None:
    choice = chosen({"qps": 60.0, "qps_mean": mean})
    peak, least = value(choice, "price_usd_per_month"), value(choice, "price_usd_per_month_at_mean")
    assert least <= peak
    assert least == peak or mean < 60.0
    assert least >= cost.HOURS_PER_MONTH * choice.pools[0].tensor_parallel


def test_scaling_with_the_load_saves_whole_replicas_but_no_spares() -> None:
    def fewest(spares: int) -> Candidate:
        return chosen({"qps": 60.0, "qps_mean": 0.1}, availability={"spares": spares})

    assert fewest(0).pools[0].replicas > 1
    assert value(fewest(0), "price_usd_per_month_at_mean") == pytest.approx(cost.HOURS_PER_MONTH)
    assert value(fewest(2), "price_usd_per_month_at_mean") == pytest.approx(3 * cost.HOURS_PER_MONTH)


def test_a_lower_mean_leaves_more_of_the_paid_time_idle() -> None:
    shares = [value(chosen({"qps": 4.0, "qps_mean": mean}), "idle_share") for mean in (0.001, 0.01, 0.1, 1.0, 4.0)]
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= share < 1 for share in shares)
    assert shares[0] > 0.98


def test_hardly_any_load_is_busy_for_its_own_answers() -> None:
    made = chosen({"qps": 1.0, "qps_mean": 0.001}, count=1)
    assert 1 - value(made, "idle_share") == pytest.approx(0.001 * value(made, "e2e_p50_s"), rel=0.5)


def test_the_idle_share_at_the_peak_is_that_of_its_running_sequences() -> None:
    made = chosen({"qps": 0.05}, count=1)
    assert value(made, "idle_share") == pytest.approx(math.exp(-value(made, "running_sequences")), rel=1e-4)


def test_users_who_always_ask_leave_nothing_idle_and_batches_say_nothing() -> None:
    assert value(chosen({"users": 8}), "idle_share") == 0
    assert "idle_share" not in chosen({"batch": {"requests": 1000, "deadline_s": 3600}}).estimates


@given(st.integers(1, 64), st.integers(1, 16), st.floats(0, 1))
def test_devices_that_no_replica_uses_are_idle(devices: int, size: int, busy: float) -> None:
    paid = cost.paid_devices(float(devices), float(size))
    share = cost.paid_idle_share(float(devices), paid, busy)
    assert 1 - devices / paid <= share + 1e-12
    assert share <= 1
    assert share >= 1 - busy - 1e-12


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 8.0), st.integers(20, 4000), st.integers(2, 800))
def test_prompts_and_answers_together_pay_the_bill(qps: float, prompt: int, output: int) -> None:
    lengths = {"prompt_tokens": {"mean": prompt}, "output_tokens": {"mean": output}}
    made = chosen({"qps": qps, **lengths})
    read, written = (value(made, f"usd_per_million_{name}") for name in ("input_tokens", "output_tokens_beside_input"))
    whole = value(made, "usd_per_million_output_tokens")
    assert read * prompt + written * output == pytest.approx(whole * output, rel=1e-4)
    assert 0 < written < whole
    assert read > 0


def test_an_input_token_is_cheaper_than_an_output_token() -> None:
    made = chosen({"qps": 4.0})
    assert value(made, "usd_per_million_input_tokens") < value(made, "usd_per_million_output_tokens_beside_input")
