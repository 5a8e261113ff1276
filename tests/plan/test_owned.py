"""A device that was bought: an hour costs its part of the capital, and its power."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.errors import BadInput
from planner.plan import Candidate, Plan
from planner.review.replan import repriced
from tests.plan.asking import ask, catalog, cost, device, planned

BOUGHT = {"capital_usd": 26280.0, "usd_per_kwh": 0.2, "months": 36, "pue": 1.5}
"""26,280 $ over 36 months of 730 hours are 1 $/h."""
L40S_W = 350.0


def plan_of(owned: dict[str, Any], name: str = "l40s", **more: Any) -> Plan:
    return planned(ask("Qwen/Qwen3-8B", device(name, 1, owned=owned, **more), lanes=["fp8"]))


def choice_of(owned: dict[str, Any]) -> Candidate:
    plan = plan_of(owned)
    assert plan.choice is not None, plan.refused
    return plan.choice


def hourly(owned: dict[str, Any]) -> float:
    return choice_of(owned).estimates["price_usd_per_hour"].value


def test_an_hour_costs_its_part_of_the_capital_and_its_power() -> None:
    assert hourly(BOUGHT) == pytest.approx(1.0 + L40S_W / 1000 * 1.5 * 0.2)


def test_capital_and_power_add_up() -> None:
    bought, powered = hourly({**BOUGHT, "usd_per_kwh": 0}), hourly({**BOUGHT, "capital_usd": 0})
    assert bought + powered == pytest.approx(hourly(BOUGHT))


@pytest.mark.parametrize(("name", "dearer"), [("capital_usd", 3e4), ("months", 24), ("usd_per_kwh", 0.3), ("pue", 2)])
def test_more_capital_less_time_dearer_power_and_a_worse_site_cost_more(name: str, dearer: float) -> None:
    assert hourly({**BOUGHT, name: dearer}) > hourly(BOUGHT)


def test_stated_watts_replace_the_board_power() -> None:
    assert hourly({**BOUGHT, "watts": 2 * L40S_W}) == pytest.approx(1.0 + 2 * L40S_W / 1000 * 1.5 * 0.2)


def test_what_is_left_out_is_named_and_makes_the_price_assumed() -> None:
    named = {name: value for name, value in BOUGHT.items() if name not in ("months", "pue")}
    plan = plan_of(named)
    said = {assumption.path for assumption in plan.assumptions}
    assert {"hardware.accelerators[0].owned.months", "hardware.accelerators[0].owned.pue"} <= said
    assert plan.choice is not None
    assert plan.choice.estimates["price_usd_per_hour"].basis == "assumed"
    assert choice_of(BOUGHT).estimates["price_usd_per_hour"].basis == "published"
    assert not [each for each in plan_of(BOUGHT).assumptions if "owned" in each.path]


def test_the_price_says_what_it_is_made_of() -> None:
    plan = plan_of(BOUGHT)
    assert plan.choice is not None
    assert isinstance(plan.choice.offer, dict)
    assert "26,280 $ over 36 months and 350 W x PUE 1.5 at 0.2 $/kWh" in plan.choice.offer["source"]
    steps = {step.name: step for step in plan.derivation}
    assert steps["usd_per_device_hour"].value == pytest.approx(plan.choice.estimates["price_usd_per_hour"].value)
    assert (steps["power_usd_per_hour"].unit, steps["watts"].unit) == ("USD/h", "W")
    assert steps["price_usd_per_month"].value == pytest.approx(cost(plan))
    assert not {finding.rule for finding in plan.choice.findings} & {"C101", "C103"}


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "two prices": (BOUGHT, {"usd_per_hour": 1.0}, ".owned"),
    "a negative price": ({**BOUGHT, "capital_usd": -1}, {}, ".owned.capital_usd"),
    "no time at all": ({**BOUGHT, "months": 0}, {}, ".owned.months"),
    "a site that makes power": ({**BOUGHT, "pue": 0.9}, {}, ".owned.pue"),
    "no price of power": ({"capital_usd": 1}, {}, ".owned"),
    "no power known": (BOUGHT, {"id": "apple-m2-ultra", "memory_gib": 192}, ".owned.watts"),
    "a doubtful power": (BOUGHT, {"id": "a10g"}, ".owned.watts"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_with_its_place(name: str) -> None:
    owned, more, path = FAULTS[name]
    with pytest.raises(BadInput) as caught:
        planned(ask("Qwen/Qwen3-8B", {**device("l40s", 1, owned=owned), **more}))
    assert caught.value.path == f"$.hardware.accelerators[0]{path}"


def test_stated_watts_serve_where_no_power_is_known() -> None:
    named = {**BOUGHT, "watts": 200}
    few = {"qps": 0.01, "output_tokens": {"mean": 50}}
    plan = planned(ask("Qwen/Qwen3-8B", device("apple-m2-ultra", 1, owned=named, memory_gib=192), workload=few))
    assert plan.choice is not None
    assert plan.choice.estimates["price_usd_per_hour"].value == pytest.approx(1.0 + 0.2 * 1.5 * 0.2)


def test_a_review_that_doubles_prices_doubles_what_was_bought() -> None:
    request = ask("Qwen/Qwen3-8B", device("l40s", 1, owned=BOUGHT), lanes=["fp8"])
    dearer, _ = repriced(request, catalog(), None, 2.0)
    assert cost(planned(dearer)) == pytest.approx(2 * cost(planned(request)))
