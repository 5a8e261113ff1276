"""Near twins: one field flips the answer, and a named rule says why."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from planner import search
from planner.plan import Plan
from tests.plan.asking import catalog, planned
from tests.plan.speaking import asked

TWINS = tomllib.loads((Path(__file__).parents[1] / "cases" / "twins.toml").read_text())["twin"]
SIDES = [(twin, side) for twin in TWINS for side in ("first", "second")]


def flags(twin: dict[str, Any], side: str) -> str:
    return f"{twin['common']} {twin[side]['add']}"


def answers(plan: Plan) -> dict[str, Any]:
    """What a scenario may expect of a plan."""
    choice = plan.choice
    if choice is None:
        return {"feasible": False}
    return {
        "feasible": True,
        "lanes": choice.lane,
        "engine": choice.engine,
        "image": choice.image,
        "devices": choice.pools[0].count,
        "accelerator": choice.pools[0].accelerator,
        "artifact": choice.artifact.repo if choice.artifact else None,
        "make": choice.make.tool if choice.make else None,
    }


@pytest.mark.parametrize(("twin", "side"), SIDES, ids=lambda value: value if isinstance(value, str) else value["field"])
def test_a_scenario_is_decided_as_argued(twin: dict[str, Any], side: str) -> None:
    found = answers(planned(asked(flags(twin, side))))
    for name, expected in ({"feasible": True} | twin[side]["expect"]).items():
        assert found[name] in expected if isinstance(expected, list) else found[name] == expected, (name, found)


def spoken(flags: str, lane: str) -> set[str]:
    """Rules that speak of a lane: where it was refused, where it is shown, or of layouts that were left out."""
    found = search.search(asked(flags), catalog())
    plan = search.answer(found, catalog())
    shown = [each for each in (plan.choice, *plan.alternatives) if each is not None and each.lane == lane]
    said = [entry.finding for entry in plan.refused if entry.lane == lane]
    said += [finding for candidate in shown for finding in candidate.findings]
    said += [finding for pairing, finding in found.unplaced if pairing.lane.id == lane]
    return {finding.rule for finding in said}


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin["field"])
def test_the_named_rule_makes_the_difference(twin: dict[str, Any]) -> None:
    choice = planned(asked(flags(twin, "first"))).choice
    assert choice is not None
    assert twin["rule"] not in spoken(flags(twin, "first"), choice.lane)
    assert twin["rule"] in spoken(flags(twin, "second"), choice.lane)
    assert twin["why"]
    assert twin["cites"]


def test_there_are_forty_scenarios() -> None:
    assert len(SIDES) >= 40
