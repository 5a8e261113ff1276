"""Every rule has a page, says why, and decides alone."""

from __future__ import annotations

import re
from typing import Any

import pytest

from planner.rules import RULES, Rule
from tests.plan.asking import ask, device, planned


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_has_a_page_with_reason_and_source(rule: Rule[object]) -> None:
    assert re.fullmatch(r"[HQLC]\d{3}", rule.code)
    assert rule.effect in ("refuse", "warn", "prefer", "note")
    assert "Why:" in rule.page
    assert "Source:" in rule.page


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
