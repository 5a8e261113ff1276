"""Every rule's page gives two requests: in the first the rule speaks, in the second it does not."""

from __future__ import annotations

import shlex
from functools import cache

import pytest

from planner import cli, decode, search
from planner.cli.plan import document
from planner.rules import RULES, Rule
from planner.rules.rule import HEADINGS
from tests.plan.asking import catalog


@cache
def said(flags: str) -> frozenset[str]:
    """Codes of all rules that speak anywhere in the plan of a command line."""
    data, kind = document(cli.parser().parse_args(["plan", *shlex.split(flags)]))
    found = search.search(decode.decode(data, kind), catalog())
    answer = search.answer(found, catalog())
    shown = [each for each in (answer.choice, *answer.alternatives) if each is not None]
    early = [finding for _, finding in (*found.options.refused, *found.unplaced)]
    early += [finding for option in found.options.kept for finding in option.findings]
    late = [entry.finding for entry in answer.refused]
    late += [finding for candidate in shown for finding in candidate.findings]
    return frozenset(finding.rule for finding in (*early, *late))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_speaks_in_one_example_and_not_in_the_other(rule: Rule[object]) -> None:
    assert rule.code in said(rule.sections["Fires"])
    assert rule.code not in said(rule.sections["Silent"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_page_has_its_headings_in_order(rule: Rule[object]) -> None:
    order = [heading for heading in ("", *HEADINGS) if heading in rule.sections]
    assert list(rule.sections) == order
    assert {"", "Why", "Source", "Fires", "Silent"} <= set(order)
    assert all(rule.sections.values())


def test_there_are_sixty_rules() -> None:
    assert len(RULES) >= 60
