"""Which rules speak in the plan of a command line."""

from __future__ import annotations

import shlex
from functools import cache

from planner import cli, decode, search
from planner.cli.plan import document
from planner.request import Request
from tests.plan.asking import catalog


def asked(flags: str) -> Request:
    """The request that `lanewise plan FLAGS` decodes."""
    data, kind = document(cli.parser().parse_args(["plan", *shlex.split(flags)]))
    return decode.decode(data, kind)


@cache
def said(flags: str) -> frozenset[str]:
    """Codes of all rules that speak anywhere in the plan of a command line."""
    found = search.search(asked(flags), catalog())
    answer = search.answer(found, catalog())
    shown = [each for each in (answer.choice, *answer.alternatives) if each is not None]
    early = [finding for _, finding in (*found.options.refused, *found.unplaced)]
    early += [finding for option in found.options.kept for finding in option.findings]
    late = [entry.finding for entry in answer.refused]
    late += [finding for candidate in shown for finding in candidate.findings]
    return frozenset(finding.rule for finding in (*early, *late))
