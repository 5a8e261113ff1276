"""`lanewise rule`: what a rule says and why, from the docstring of the function that applies it."""

from __future__ import annotations

import argparse
import textwrap

from catalog.errors import NotFound
from planner.cli.common import Commands

WIDTH = 110
"""Columns of a printed page."""


def add_to(commands: Commands) -> None:
    """Declare `rule`."""
    rule = commands.add_parser("rule", help="the rules and their reasons", description="List the rules, or print one.")
    rule.add_argument("code", nargs="?", metavar="CODE", help="code of one rule, as findings name it")
    rule.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """One line per rule, or one rule in full with a request in which it speaks and one in which it does not."""
    from planner import rules

    if arguments.code is None:
        for rule in sorted(rules.RULES, key=lambda rule: rule.code):
            print(f"{rule.code}  {rule.effect:<7} {rule.sections['']}")
        return 0
    found = rules.BY_CODE.get(arguments.code.upper())
    if found is None:
        raise NotFound(f"no rule has the code {arguments.code!r}; `lanewise rule` lists them")
    waivable = ", may be waived" if found.code in rules.WAIVABLE else ""
    sections = dict(found.sections)
    print(f"{found.code} ({found.effect}{waivable})\n")
    print(textwrap.fill(sections.pop(""), WIDTH))
    for heading, command in (("Fires", "Speaks in"), ("Silent", "Silent in")):
        sections[command] = f"lanewise plan {sections.pop(heading)}"
    for heading, text in sections.items():
        indented = text if text.startswith("lanewise ") else textwrap.fill(text, WIDTH - 2, break_on_hyphens=False)
        print(f"\n{heading}:\n{textwrap.indent(indented, '  ')}")
    return 0
