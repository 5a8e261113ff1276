"""Every rule's page gives two requests: in the first the rule speaks, in the second it does not."""

from __future__ import annotations

import pytest

from planner.rules import BY_CODE, RULES, Rule
from planner.rules.rule import HEADINGS
from tests.plan.speaking import said

ROSTER = [
    "C101",
    "C103",
    "C105",
    "C201",
    "C202",
    "C203",
    "H101",
    "H103",
    "H104",
    "H105",
    "H106",
    "H107",
    "H108",
    "H109",
    "H110",
    "H111",
    "H112",
    "H113",
    "H114",
    "H115",
    "H116",
    "H117",
    "H118",
    "H119",
    "H120",
    "H124",
    "H125",
    "H126",
    "H127",
    "H130",
    "H131",
    "H132",
    "H133",
    "H134",
    "H140",
    "H201",
    "H202",
    "H203",
    "H301",
    "H302",
    "H303",
    "H305",
    "H306",
    "H307",
    "H308",
    "H309",
    "H310",
    "H311",
    "H312",
    "H313",
    "L101",
    "L102",
    "L103",
    "L104",
    "L105",
    "L120",
    "L121",
    "L201",
    "L202",
    "L203",
    "L301",
    "L302",
    "L303",
    "L401",
    "L402",
    "L403",
    "Q101",
    "Q102",
    "Q103",
    "Q104",
    "Q105",
    "Q106",
    "Q107",
    "Q110",
    "Q111",
    "Q112",
    "Q113",
    "Q114",
    "Q201",
    "Q202",
    "Q203",
    "Q204",
    "Q205",
    "Q206",
    "Q301",
    "Q303",
    "Q304",
    "Q305",
    "Q401",
    "Q501",
    "Q502",
    "Q601",
    "Q602",
    "Q603",
    "Q701",
    "Q702",
]
"""Every rule there is: one that disappears is missed by name."""


@pytest.mark.parametrize("code", ROSTER)
def test_a_rule_speaks_in_one_example_and_not_in_the_other(code: str) -> None:
    page = BY_CODE[code].sections
    assert code in said(page["Fires"])
    assert code not in said(page["Silent"])


def test_every_rule_is_on_the_roster() -> None:
    assert sorted(BY_CODE) == ROSTER


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_page_has_its_headings_in_order(rule: Rule[object]) -> None:
    order = [heading for heading in ("", *HEADINGS) if heading in rule.sections]
    assert list(rule.sections) == order
    assert {"", "Why", "Source", "Fires", "Silent"} <= set(order)
    assert all(rule.sections.values())


def test_there_are_sixty_rules() -> None:
    assert len(RULES) >= 60
