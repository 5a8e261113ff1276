"""What a review says: it repeats its plan, and what it adds can be planned again."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
from msgspec.structs import replace

from catalog.errors import BadInput
from planner import search
from planner.plan import Plan
from planner.request import Budget, Slo
from planner.review import Review, review, sections
from planner.review.blocks import Items, Notes, Paragraph, Section, Table
from planner.review.growth import at_month
from planner.review.replan import asked, rented, scaled
from planner.review.spare import spare
from planner.wording import amount, interval, spoken
from tests.plan.asking import catalog, cost
from tests.review.reviewed import ASKED, FEASIBLE, NAMES, plan, request, reviewed

TITLES = (
    "Decision", "Tie", "Cost", "Memory per device", "Speed", "Quality", "What would prove it", "Alternatives",
    "Refusals", "Growth", "One replica more (N+1)", "Sensitivity", "Assumptions and sources", "Sign-off",
)  # fmt: skip


def section(name: str, title: str) -> Section:
    return next(each for each in sections(reviewed(name)) if each.title == title)


def cells(part: Section) -> list[tuple[str, ...]]:
    return [row for block in part.blocks if isinstance(block, Table) for row in block.rows]


def texts(part: Section) -> str:
    """Everything a section says, in one string."""
    said = [cell for row in cells(part) for cell in row]
    for block in part.blocks:
        if isinstance(block, Paragraph):
            said.append(block.text)
        if isinstance(block, Items):
            said += block.texts
        if isinstance(block, Notes):
            said += [word for note in block.notes for word in note]
    return "\n".join(said)


@pytest.mark.parametrize("name", [*NAMES, "unpriced"])
def test_every_review_has_the_same_sections_in_the_same_order(name: str) -> None:
    made = sections(reviewed(name))
    assert tuple(each.title for each in made) == TITLES
    assert all(each.blocks for each in made)
    assert all(len(row) == len(block.head) for each in made for block in each.blocks if isinstance(block, Table)
               for row in block.rows)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_refusal_is_counted_under_its_rule(name: str) -> None:
    said, refused = texts(section(name, "Refusals")), plan(name).refused
    groups = {group.rule: group for group in reviewed(name).refusals}
    assert groups.keys() == {family.finding.rule for family in refused}
    assert sum(group.candidates for group in groups.values()) == sum(family.candidates for family in refused)
    assert sum(group.families for group in groups.values()) == len(refused)
    assert [code for code, group in groups.items() if code not in said or group.page not in said] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_assumption_and_source_is_shown(name: str) -> None:
    part = section(name, "Assumptions and sources")
    said = texts(part)
    assert [each.path for each in reviewed(name).assumptions if (each.path, each.because) not in
            [(row[0], row[2]) for row in cells(part) if len(row) == 3]] == []  # fmt: skip
    assert [source for source in plan(name).sources if source not in said] == []
    assert reviewed(name).assumptions[-1].path == "growth"


PLACES = {
    "weight_bytes": "Memory per device",
    "activation_bytes": "Memory per device",
    "kv_needed_bytes": "Memory per device",
    "kv_pool_bytes": "Memory per device",
    **{f"{kind}_{part}_s": "Speed" for kind in ("ttft", "tpot", "e2e") for part in ("p50", "p95", "p99")},
    "requests_per_s": "Speed",
    "requests_per_s_max": "Speed",
    "running_sequences": "Speed",
    "ready_s": "Speed",
    "ready_cold_s": "Speed",
}
"""Estimates that are shown with value, interval and basis, and where."""


@pytest.mark.parametrize("name", FEASIBLE)
def test_estimates_are_the_plans_own(name: str) -> None:
    choice = plan(name).choice
    assert choice is not None
    drawn = {"watts", "tokens_per_joule", "job_s", "usd_per_job"} & choice.estimates.keys()
    for estimate, place in (PLACES | dict.fromkeys(drawn, "Cost")).items():
        own = choice.estimates[estimate]
        shown = {row[1:4] for row in cells(section(name, place))}
        assert (amount(own.value, own.unit), interval(own), own.basis) in shown, estimate
    assert set(choice.estimates) - PLACES.keys() - drawn - {"idle_share"} == {
        "loss_pct", "price_usd_per_hour", "price_usd_per_month", "price_usd_per_month_at_mean",
        "usd_per_million_output_tokens", "usd_per_million_input_tokens", "usd_per_million_output_tokens_beside_input",
    }  # fmt: skip
    prices = {row[1] for row in cells(section(name, "Cost")) if len(row) == 3}
    assert {
        amount(choice.estimates[each].value, "USD") for each in choice.estimates if "usd" in each and each not in drawn
    } == prices
    assert {row[0] for row in cells(section(name, "Quality"))} == choice.quality.keys()


@pytest.mark.parametrize("name", FEASIBLE)
def test_every_gate_of_the_plan_is_listed_in_its_order(name: str) -> None:
    choice, made = plan(name).choice, section(name, "What would prove it")
    assert choice is not None
    gates = () if choice.verification is None else choice.verification.gates
    assert [row[0] for row in cells(made)] == [gate.id for gate in gates]
    assert ("nothing to prove" in repr(made.blocks)) == (gates == ())


@pytest.mark.parametrize("name", FEASIBLE)
def test_a_devices_memory_adds_up(name: str) -> None:
    held = reviewed(name).memory[0]
    assert held.device_bytes is not None
    assert sum(held.parts.values()) == pytest.approx(held.device_bytes, rel=1e-4)
    assert min(held.parts.values()) >= 0


@pytest.mark.parametrize("name", FEASIBLE)
def test_an_alternative_wins_and_loses_what_the_numbers_say(name: str) -> None:
    made = reviewed(name)
    assert [contrast.candidate for contrast in made.alternatives] == list(plan(name).alternatives)
    choice = plan(name).choice
    assert choice is not None
    for contrast in made.alternatives:
        dearer = (
            contrast.candidate.estimates["price_usd_per_month"].value - choice.estimates["price_usd_per_month"].value
        )
        assert any(text.startswith("cost ") for text in contrast.loses) == (dearer > 0)
        assert any(text.startswith("cost ") for text in contrast.wins) == (dearer < 0)


def test_the_tie_names_every_candidate_and_what_decided() -> None:
    tied, part = plan("example").tie, section("example", "Tie")
    assert [(row[0], row[1]) for row in cells(part)] == [(line.lane, line.engine) for line in tied]
    assert "it loses less quality" in texts(part)


def test_idle_time_is_what_the_mean_rate_leaves_of_the_peak() -> None:
    assert "70 % of what is paid, 434 $ a month, is capacity that waits for the peak" in texts(
        section("example", "Cost")
    )
    assert "Idle time is not priced" in texts(section("fleet", "Cost"))


def test_an_unknown_price_is_said() -> None:
    assert plan("unpriced").choice is not None
    assert "The price is unknown" in texts(section("unpriced", "Cost"))
    extra = reviewed("unpriced").spare
    assert extra is not None
    assert (extra.usd_per_month, extra.extra_usd_per_month) == (None, None)


def test_an_objective_without_an_estimate_is_still_an_objective() -> None:
    asked_for = replace(request("plain"), slo=Slo(ttft_ms={"p90": 3000.0}))
    made = sections(review(search.plan(asked_for, catalog()), catalog()))
    assert "It meets every objective (TTFT p90 within 3 s)" in texts(made[0])
    assert "TTFT p90 within 3 s" in texts(made[4])


def test_an_infeasible_plan_gets_reasons_and_ways_out() -> None:
    made, said = plan("infeasible"), texts(section("infeasible", "Decision"))
    assert "Nothing that was asked about can serve" in said
    assert made.ways_out
    assert [way.change for way in made.ways_out if way.change not in said] == []
    assert [group.because for group in reviewed("infeasible").refusals if group.because not in said] == []


# Growth


@pytest.mark.parametrize("name", FEASIBLE)
def test_growth_starts_at_the_plan_and_never_needs_fewer_devices(name: str) -> None:
    grown, choice = reviewed(name).growth, plan(name).choice
    assert grown is not None
    assert choice is not None
    needed = [month.devices for month in grown.months if month.devices is not None]
    assert len(needed) == len(grown.months) == 25
    assert needed == sorted(needed)
    assert needed[0] == choice.pools[0].count
    assert grown.months[0].usd_per_month == choice.estimates["price_usd_per_month"].value
    assert grown.quarters[0].choice == choice
    assert [step.number for step in grown.steps] == [
        after.number for before, after in pairwise(grown.months) if after.devices != before.devices
    ]


@pytest.mark.parametrize("name", ["example", "fleet", "tight", "any"])
def test_months_follow_from_the_rate_of_one_replica(name: str) -> None:
    grown, choice = reviewed(name).growth, plan(name).choice
    assert grown is not None
    assert choice is not None
    pool, objectives = choice.pools[0], bool(reviewed(name).objectives)
    usable = choice.estimates["requests_per_s_max"].value / pool.replicas * (1.0 if objectives else 0.85)
    each = pool.count // pool.replicas
    assert [month.devices for month in grown.months] == [each * math.ceil(m.load / usable) for m in grown.months]


@pytest.mark.parametrize("name", FEASIBLE)
def test_quarters_are_plans_of_the_grown_request(name: str) -> None:
    grown = reviewed(name).growth
    assert grown is not None
    for quarter in grown.quarters[::4]:
        asked_then = at_month(request(name), 3 * quarter.number, grown.pct_per_quarter)
        assert quarter.choice == search.plan(asked_then, catalog()).choice
        assert quarter.load == grown.months[3 * quarter.number].load


@pytest.mark.parametrize("name", ["example", "fleet", "users", "plain", "any"])
def test_deciding_anew_costs_no_more_than_keeping_the_choice(name: str) -> None:
    grown = reviewed(name).growth
    assert grown is not None
    for quarter in grown.quarters:
        month = grown.months[3 * quarter.number]
        assert quarter.choice is not None
        assert month.usd_per_month is not None
        assert quarter.choice.estimates["price_usd_per_month"].value <= 1.03 * month.usd_per_month


def test_the_months_in_which_limits_are_reached_are_exact() -> None:
    grown = reviewed("tight").growth
    assert grown is not None
    assert grown.choice_limit is not None
    assert grown.request_limit is not None
    assert grown.choice_limit.month <= grown.request_limit.month
    assert (grown.months[grown.choice_limit.month].devices or 0) > 2 >= (grown.months[grown.choice_limit.month - 1].devices or 9)  # fmt: skip  # noqa: E501
    last = at_month(request("tight"), grown.request_limit.month - 1, 20.0)
    assert search.plan(last, catalog()).feasible
    assert not search.plan(at_month(request("tight"), grown.request_limit.month, 20.0), catalog()).feasible
    said = texts(section("tight", "Growth"))
    assert f"In month {grown.choice_limit.month} the choice reaches" in said
    assert f"From month {grown.request_limit.month} on nothing" in said


def test_the_budget_is_a_limit_too() -> None:
    poor = replace(request("example"), budget=Budget(usd_per_month=700.0))
    grown = review(search.plan(poor, catalog()), catalog()).growth
    assert grown is not None
    assert grown.choice_limit is not None
    assert "budget" in grown.choice_limit.because
    assert grown.choice_limit.month == grown.steps[0].number


def test_without_growth_nothing_changes() -> None:
    grown = reviewed("fleet", 0.0).growth
    assert grown is not None
    assert grown.steps == ()
    assert len({month.load for month in grown.months}) == 1


@pytest.mark.parametrize("pct", [-1.0, 201.0, math.nan, math.inf])
def test_growth_that_makes_no_sense_is_refused(pct: float) -> None:
    with pytest.raises(BadInput, match="percent a quarter"):
        review(plan("plain"), catalog(), pct)


@pytest.mark.parametrize("name", ["fleet", "users", "batch"])
def test_a_scaled_load_scales_and_nothing_else_does(name: str) -> None:
    once, twice = request(name), scaled(request(name), 2.0)
    assert scaled(twice, 0.5) == once
    assert replace(twice, workload=once.workload) == once


# N+1


@pytest.mark.parametrize("name", FEASIBLE)
def test_one_replica_more_costs_at_least_as_much(name: str) -> None:
    extra, choice = reviewed(name).spare, plan(name).choice
    assert extra is not None
    assert choice is not None
    assert extra.extra_usd_per_month is not None
    assert extra.extra_usd_per_month >= 0
    assert extra.devices == choice.pools[0].count // choice.pools[0].replicas * (extra.replicas + 1)
    assert 0 <= extra.share_left_at_bad_end <= extra.share_left <= 1
    assert extra.share_left > 0 or extra.replicas == 1


def test_what_is_left_is_the_others_share_of_the_highest_rate() -> None:
    extra, choice = reviewed("users").spare, plan("users").choice
    assert extra is not None
    assert choice is not None
    highest, planned = (choice.estimates[name].value for name in ("requests_per_s_max", "requests_per_s"))
    assert extra.share_left == pytest.approx(highest / 2 / planned)
    assert extra.replicas == 2


def test_an_instance_is_rented_whole_for_the_spare_too() -> None:
    choice, facts = plan("any").choice, catalog()
    assert choice is not None
    offer = rented(facts, choice)
    assert offer is not None
    wide = replace(offer, count=8, usd_per_hour=8 * offer.usd_per_accelerator_hour)
    others = tuple(wide if each == offer else each for each in facts.offers)
    extra = spare(request("any"), dataclasses.replace(facts, offers=others), choice)
    assert extra.usd_per_month == pytest.approx(8 * choice.estimates["price_usd_per_hour"].value * 730)


# Sensitivity


def test_every_kind_of_change_is_tried() -> None:
    tried = {flip.change for flip in reviewed("example").flips}
    assert tried == {"share of code", "share of reasoning", "requests/s", "longest context, tokens", "tolerated loss",
                     "price of l40s", "confidence"}  # fmt: skip


def test_a_changed_rate_is_decided_as_if_it_had_been_asked() -> None:
    flips = {flip.after: flip for flip in reviewed("example").flips if flip.change == "requests/s"}
    for after, factor in (("8", 2.0), ("2", 0.5)):
        assert flips[after].choice == search.plan(scaled(request("example"), factor), catalog()).choice


def test_a_dearer_device_costs_more_or_is_not_chosen() -> None:
    flips = {flip.after: flip for flip in reviewed("example").flips if flip.change == "price of l40s"}
    dearer, choice = flips["+30 %"], plan("example").choice
    assert choice is not None
    assert dearer.choice is not None
    assert dearer.choice.estimates["price_usd_per_month"].value == pytest.approx(1.3 * cost(plan("example")))


@pytest.mark.parametrize("name", NAMES)
def test_verdicts_say_what_differs(name: str) -> None:
    was = plan(name).choice
    for flip in reviewed(name).flips:
        assert (flip.choice is None) == bool(flip.because)
        assert (flip.verdict == "nothing fits") == (flip.choice is None and was is not None)
        same = [spoken(each) if each else "nothing" for each in (was, flip.choice)]
        assert flip.verdict != "same" or same[0] == same[1]


# Another day's catalogue


def aged(made: Plan) -> Plan:
    return replace(made, catalog_digest="0" * 64)


def test_a_plan_of_another_catalogue_keeps_its_decision_and_says_so() -> None:
    old: Review = review(aged(plan("example")), catalog())
    first = sections(old)[0]
    assert any(isinstance(block, Paragraph) and block.tone == "caution" and "catalogue has changed" in block.text
               for block in first.blocks)  # fmt: skip
    assert "catalogue has changed" not in texts(section("example", "Decision"))
    dearer = tuple(replace(offer, usd_per_hour=2 * offer.usd_per_hour) for offer in catalog().offers)
    late = review(aged(plan("example")), dataclasses.replace(catalog(), offers=dearer))
    assert late.plan.choice == plan("example").choice
    assert late.growth is not None
    assert late.growth.months[0].usd_per_month == pytest.approx(2 * cost(plan("example")))


def test_a_configuration_that_is_no_longer_planned_is_said() -> None:
    made = plan("example")
    assert made.choice is not None
    gone = replace(made, choice=replace(made.choice, kv_cache_dtype="int3"))
    grown = review(gone, catalog()).growth
    assert grown is not None
    assert {month.devices for month in grown.months} == {None}
    assert grown.choice_limit is not None
    assert "no longer plans" in grown.choice_limit.because


def test_a_plan_repeats_its_request() -> None:
    assert all(search.plan(asked(plan(name)), catalog()).id == plan(name).id for name in ("example", *ASKED))
