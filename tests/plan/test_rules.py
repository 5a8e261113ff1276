"""Every rule has a page, says why, and decides alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from msgspec.structs import replace

from catalog.errors import BadInput
from planner.plan import Candidate
from planner.request import Request
from planner.rules import (
    RULES,
    WAIVABLE,
    Rule,
    caches,
    checkpoints,
    cost,
    drafts,
    hardware,
    latency,
    layout,
    machine,
    proof,
    quality,
    recipes,
    simulated,
    sockets,
)
from planner.rules.rule import Pairing
from planner.search import search
from tests.plan.asking import ask, catalog, device, planned

TWINS: dict[str, tuple[Request, Request]] = {
    "H107": (
        ask("Qwen/Qwen3-8B", device("apple-m5", memory_gib=24)),
        ask("Qwen/Qwen3-8B", device("apple-m3", memory_gib=24)),
    ),
    "H120": (ask("Qwen/Qwen3-8B", device("t4")), ask("Qwen/Qwen3-8B", device("l4"))),
    "H302": (
        ask("Qwen/Qwen2.5-72B-Instruct", device("h100-sxm5-80", 8), lanes=["awq-int4"]),
        ask("Qwen/Qwen2.5-72B-Instruct", device("h100-sxm5-80", 8), lanes=["fp8"]),
    ),
    "H303": (
        ask("Qwen/Qwen3-32B", device("a100-sxm4-80", 8, per_node=2)),
        ask("Qwen/Qwen3-32B", device("a100-sxm4-80", 8, per_node=8)),
    ),
    "Q303": (
        ask("openai/gpt-oss-20b", device("rtx4090"), engines=["llama.cpp"]),
        ask("Qwen/Qwen3-8B", device("rtx4090"), engines=["llama.cpp"]),
    ),
}
"""Per rule that refuses before anything is estimated: a request in which it does, and its twin in which it does not."""


@pytest.mark.parametrize("code", TWINS)
def test_a_rule_refuses_one_of_the_twins(code: str) -> None:
    fires, silent = (search(request, catalog()) for request in TWINS[code])
    assert code in {said.rule for _, said in (*fires.options.refused, *fires.unplaced)}
    assert code not in {said.rule for _, said in (*silent.options.refused, *silent.unplaced)}


def one(model: str, *asked: dict[str, Any]) -> Pairing:
    """A pairing that rules can be asked about."""
    return search(ask(model, *asked), catalog()).options.kept[0].pairing


def test_an_unconfirmed_price_is_shown_where_there_is_no_other() -> None:
    pairing = one("Qwen/Qwen3-8B", device("l4"))
    unpriced = replace(pairing, device=replace(pairing.device, usd_per_hour=None, doubtful_usd_per_hour=3.0))
    assert cost.no_price(pairing) is None
    said = cost.no_price(unpriced)
    assert said is not None
    assert said.facts == {"usd_per_hour": 3.0}


def chosen(*asked: dict[str, Any], **fields: Any) -> Candidate:
    plan = planned(ask("meta-llama/Llama-3.1-8B-Instruct", *asked, quality={"max_loss_pct": 20.0}, **fields))
    assert plan.choice is not None
    return plan.choice


def codes(candidate: Candidate) -> set[str]:
    return {finding.rule for finding in candidate.findings}


def test_a_missing_price_is_said_and_stays_missing() -> None:
    unpriced, priced = chosen(device("mi325x")), chosen(device("mi325x", usd_per_hour=2.0))
    assert "C101" in codes(unpriced)
    assert "price_usd_per_month" not in unpriced.estimates
    assert "C101" not in codes(priced)


def test_fp8_on_ampere_says_that_it_saves_memory_alone() -> None:
    ampere, hopper = (chosen(device(name), lanes=["fp8"]) for name in ("a100-sxm4-80", "h100-sxm5-80"))
    notes = [[said.because for said in each.findings if said.rule == "H112"] for each in (ampere, hopper)]
    assert "no FP8 units" in notes[0][0]
    assert not any("no FP8 units" in note for note in notes[1])


def test_thin_evidence_and_stand_ins_are_said() -> None:
    def said(family: str) -> set[str]:
        return codes(chosen(device("h100-sxm5-80"), lanes=["w4a16"], workload={"qps": 1, "mix": {family: 1.0}}))

    assert {"Q501", "Q502"} <= said("rag")
    assert {"Q501", "Q502"}.isdisjoint(said("code"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_has_a_page_with_reason_and_source(rule: Rule[object]) -> None:
    assert re.fullmatch(r"[HQLC]\d{3}", rule.code)
    assert rule.effect in ("refuse", "warn", "prefer", "note")
    assert "Why:" in rule.page
    assert "Source:" in rule.page


MODULES = (
    caches, checkpoints, cost, drafts, hardware, latency, layout, machine, proof, quality, recipes, simulated, sockets,
)  # fmt: skip


def test_every_rule_that_is_written_is_asked() -> None:
    written = {rule for module in MODULES for rule in vars(module).values() if isinstance(rule, Rule)}  # fmt: skip
    assert {rule.code for rule in RULES} == {rule.code for rule in written}


def test_codes_are_unique() -> None:
    codes = [rule.code for rule in RULES]
    assert len(set(codes)) == len(codes)


def test_a_plan_asked_twice_says_the_same() -> None:
    request = ask("Qwen/Qwen3-8B", device("l4", 2))
    assert planned(request).refused == planned(request).refused


def test_a_context_beyond_the_model_is_refused() -> None:
    plan = planned(ask("Qwen/Qwen2.5-7B-Instruct", device("h100-sxm5-80"), workload={"qps": 1, "context_tokens_max": 131072}))  # fmt: skip  # noqa: E501
    assert not plan.feasible
    assert {entry.finding.rule for entry in plan.refused if entry.engine == "vllm"} >= {"H106"}


def test_a_host_must_state_its_memory() -> None:
    plan = planned(ask("Qwen/Qwen3-8B", device("epyc-9654")))
    assert "H105" in {entry.finding.rule for entry in plan.refused}


def test_an_unconfirmed_device_carries_no_choice() -> None:
    plan = planned(ask("Qwen/Qwen3-8B", device("b100", 2, usd_per_hour=3.0)))
    assert not plan.feasible
    assert "H104" in {entry.finding.rule for entry in plan.refused}


def test_prices_age_with_the_date_of_the_request() -> None:
    def aged(**asked: Any) -> bool:
        plan = planned(ask("Qwen/Qwen3-8B", device("a10g", 4), **asked))
        assert plan.choice is not None
        return any("days old" in said.because for said in plan.choice.findings if said.rule == "C103")

    assert aged(as_of="2030-01-01")
    assert not aged()


def test_a_weight_only_lane_is_warned_of_where_sixteen_bits_would_serve_more() -> None:
    def warned(users: int) -> bool:
        workload = {"users": users, "prompt_tokens": {"mean": 217}, "output_tokens": {"mean": 201}}
        a100 = device("a100-sxm4-80")
        plan = planned(ask("Qwen/Qwen3-8B", a100, workload=workload, lanes=["int8-w8a16"], quality={"max_loss_pct": 5.0}))  # fmt: skip  # noqa: E501
        assert plan.choice is not None
        return "L201" in {finding.rule for finding in plan.choice.findings}

    assert warned(128)
    assert not warned(1)


LONG_QA: dict[str, Any] = {
    "workload": {"qps": 0.3, "context_tokens_max": 24576, "prompt_tokens": {"mean": 4000}},
    "lanes": ["w4a16"],
    "quality": {"max_loss_pct": 4.0},
}  # fmt: skip
"""One source measured this; 3.5 % hold three times of four, the bad end of 4.5 % does not."""


def test_a_waived_rule_still_speaks_and_decides_nothing() -> None:
    h100s = device("h100-sxm5-80", 4)
    obeyed = planned(ask("meta-llama/Llama-3.1-70B-Instruct", h100s, **LONG_QA))
    over = planned(ask("meta-llama/Llama-3.1-70B-Instruct", h100s, **LONG_QA, overrides={"waive": ["Q301"]}))
    assert not obeyed.feasible
    assert "Q301" in {entry.finding.rule for entry in obeyed.refused}
    assert over.choice is not None
    spoken = {said.rule: said for said in over.choice.findings}
    assert spoken["Q301"].effect == "warn"
    assert spoken["Q301"].because.startswith("overridden: ")
    assert spoken["Q301"].facts["overridden"] == "refuse"
    assert over.id != obeyed.id
    assert over.request["overrides"] == {"waive": ["Q301"]}


def test_a_waiver_of_nothing_changes_nothing() -> None:
    plain, empty = ask("Qwen/Qwen3-8B", device("l4")), ask("Qwen/Qwen3-8B", device("l4"), overrides={})
    assert planned(plain) == planned(empty)


@pytest.mark.parametrize("code", [*sorted({rule.code for rule in RULES} - WAIVABLE), "Q999"])
def test_what_is_a_fact_cannot_be_waived(code: str) -> None:
    with pytest.raises(BadInput, match=code) as fault:
        planned(ask("Qwen/Qwen3-8B", device("l4"), overrides={"waive": [code]}))
    assert fault.value.path == "$.overrides.waive[0]"


def test_adapters_take_a_dynamic_checkpoint_where_one_exists() -> None:
    plain = planned(ask("Qwen/Qwen3-14B", device("l40s"), lanes=["fp8"]))
    loaded = planned(ask("Qwen/Qwen3-14B", device("l40s"), lanes=["fp8"], workload={"qps": 1.0, "lora": True}))
    assert plain.choice is not None
    assert loaded.choice is not None
    assert plain.choice.recipe.name == "fp8-static"
    assert loaded.choice.recipe.name in ("fp8-dynamic", "fp8-block", "fp8-online")
