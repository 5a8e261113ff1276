"""Numbers that the user knows better replace ours, say so, and stay when the plan is made again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from planner import decode
from planner.plan import Candidate
from planner.request import Request
from planner.search import search
from tests.plan.asking import ask, catalog, device, planned

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def chosen(*estimates: dict[str, Any], **fields: Any) -> Candidate:
    plan = planned(request(*estimates, **fields))
    assert plan.choice is not None, plan.refused
    return plan.choice


def request(*estimates: dict[str, Any], lanes: tuple[str, ...] = ("w4a16",), count: int = 8, **fields: Any) -> Request:
    own = {"overrides": {"estimates": list(estimates)}} if estimates else {}
    return ask(MODEL, device("l40s", count), lanes=list(lanes), **own, **fields)


def test_a_loss_of_ones_own_decides_and_is_printed_as_overridden() -> None:
    assert not planned(request()).feasible
    choice = chosen({"lane": "w4a16", "loss_pct": {"chat": 0.6}})
    loss = choice.quality["chat"]
    assert (loss.value, loss.low, loss.high, loss.basis) == (0.6, 0.6, 0.6, "overridden")
    assert choice.estimates["loss_pct"].basis == "overridden"
    assert "Q501" not in {finding.rule for finding in choice.findings}


def test_a_worse_loss_of_ones_own_refuses() -> None:
    plan = planned(request({"lane": "fp8", "loss_pct": {"chat": 7.0}}, lanes=("fp8",)))
    assert {entry.finding.rule for entry in plan.refused} == {"Q101"}


def test_it_speaks_of_what_it_names_alone() -> None:
    for elsewhere in ({"lane": "awq-int4"}, {"engine": "llama.cpp"}, {"accelerator": "h100-sxm5-80"}):
        assert not planned(request({**elsewhere, "loss_pct": {"chat": 0.6}})).feasible


def test_of_two_numbers_the_later_one_counts() -> None:
    choice = chosen({"loss_pct": {"chat": 0.2}}, {"lane": "w4a16", "loss_pct": {"chat": 0.9}})
    assert choice.quality["chat"].value == 0.9


def test_weights_of_ones_own_size_move_the_cache_by_what_they_add() -> None:
    plain, heavy = chosen(lanes=("fp8",)), chosen({"weight_bytes": 12e9}, lanes=("fp8",))
    assert heavy.estimates["weight_bytes"].basis == "overridden"
    assert heavy.estimates["weight_bytes"].value == pytest.approx(12e9, rel=1e-2)
    added = heavy.estimates["weight_bytes"].value - plain.estimates["weight_bytes"].value
    lost = plain.estimates["kv_pool_bytes"].value - heavy.estimates["kv_pool_bytes"].value
    assert lost == pytest.approx(added, rel=0.05)


def test_weights_that_cannot_fit_refuse() -> None:
    plan = planned(request({"weight_bytes": 9e11}, lanes=("fp8",)))
    assert {entry.finding.rule for entry in plan.refused} == {"H201"}


def test_a_rate_of_ones_own_decides_how_many_replicas() -> None:
    load: dict[str, Any] = {"workload": {"qps": 3.0}, "lanes": ("fp8",), "slo": {"e2e_ms": {"p95": 60000}}}
    choice = chosen({"requests_per_s": 1.0}, **load)
    assert choice.pools[0].replicas == 3
    most = choice.estimates["requests_per_s_max"]
    assert (most.value, most.low, most.high, most.basis) == (3.0, 3.0, 3.0, "overridden")
    assert chosen(**load).pools[0].replicas < 3


def test_what_is_overridden_stays_when_the_plan_is_made_again() -> None:
    plan = planned(request({"lane": "w4a16", "loss_pct": {"chat": 0.6}, "requests_per_s": 2.0}))
    again = planned(decode.decode(msgspec.json.encode(plan.request)))
    assert again == plan
    assert plan.request["overrides"]["estimates"][0]["loss_pct"] == {"chat": 0.6}


def test_planning_changes_neither_request_nor_catalogue() -> None:
    asked, digest = request({"lane": "w4a16", "loss_pct": {"chat": 0.6}}), catalog().digest
    before = msgspec.json.encode(asked)
    first, second = (msgspec.json.encode(planned(asked)) for _ in range(2))
    assert first == second
    assert msgspec.json.encode(asked) == before
    assert catalog().digest == digest


def test_asking_rules_twice_equals_asking_once() -> None:
    found = search(request(lanes=("fp8", "w4a16")), catalog())
    from planner.rules import CACHED, PAIRING
    from planner.rules.rule import ask as asking

    for pairing, _ in found.options.refused:
        assert asking(PAIRING, pairing) == asking(PAIRING, pairing)
    for option in found.options.kept:
        assert asking(CACHED, option.cached) == asking(CACHED, option.cached)
