"""The real cases: expected lane, feasibility and deciding finding were written before the planner."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from planner import decode
from planner.plan import Plan
from planner.request import Request
from tests.plan.asking import ask, catalog, device, planned

DOCUMENT = tomllib.loads((Path(__file__).parents[1] / "cases" / "cases.toml").read_text())
CASES = {case["name"]: case for case in DOCUMENT["case"]}


def request_of(case: dict[str, Any]) -> Request:
    workload = {**DOCUMENT["defaults"]["workload"], **case.get("workload", {})}
    if "users" in workload:
        workload.pop("qps")
    body = {"model": case["model"], "workload": workload, "hardware": {"accelerators": case["accelerators"]}}
    body |= {name: case[name] for name in ("slo", "quality", "budget") if name in case}
    body |= {"lanes": case["lanes_asked"]} if "lanes_asked" in case else {}
    return decode.decode(msgspec.json.encode(body))


def refusals(plan: Plan, lane: str) -> set[str]:
    """Rules that sent this lane away (any lane for `*`)."""
    return {entry.finding.rule for entry in plan.refused if lane in ("*", entry.lane)}


@pytest.mark.parametrize("name", CASES)
def test_a_real_case_is_decided_as_argued(name: str) -> None:
    case = CASES[name]
    plan = planned(request_of(case))
    assert plan.feasible is case["feasible"]
    if plan.choice is not None:
        pool = plan.choice.pools[0]
        assert plan.choice.lane in case["lanes"]
        assert plan.choice.engine == case.get("engine", plan.choice.engine)
        assert pool.count == case.get("devices", pool.count)
        assert pool.count >= case.get("min_devices", 1)
    for lane, rule in case.get("refused", {}).items():
        assert rule in refusals(plan, lane), (lane, refusals(plan, lane))
    for lane, rule in case.get("not_refused_by", {}).items():
        assert rule not in refusals(plan, lane)
    said = {finding.rule for finding in plan.findings} | refusals(plan, "*")
    assert said >= set(case.get("decides", []))
    assert not case.get("ways_out") or plan.ways_out


def test_there_are_enough_real_cases_and_twins() -> None:
    assert len(CASES) >= 20
    assert sum("twin" in case for case in CASES.values()) >= 10


def test_every_twin_names_a_case_and_cites_something() -> None:
    for case in CASES.values():
        assert case["cites"]
        if "twin" in case:
            assert case["twin"].rsplit(":", 1)[0] in CASES


def test_at_least_110_of_the_drafted_models_plan_and_the_others_say_why() -> None:
    plans = {}
    for model in catalog().models.values():
        workload = {"qps": 0.2, "prompt_tokens": {"mean": 400}, "context_tokens_max": min(2048, model.max_position)}
        request = ask(model.id, device("h200-sxm5", 16), device("b300-sxm", 16), workload=workload)
        plans[model.id] = planned(request)
    refused = {name: refusals(plan, "*") for name, plan in plans.items() if not plan.feasible}
    assert len(plans) - len(refused) >= 110
    assert all(rules == {"H103"} for rules in refused.values()), refused
