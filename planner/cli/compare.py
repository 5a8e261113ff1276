"""`lanewise verify --all-lanes`: every lane of a request proved, and the table that compares them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import BadInput
from planner.cli.common import write_document

if TYPE_CHECKING:
    from catalog.inventory import Inventory
    from planner.plan import Plan
    from planner.proving.compared import Comparison
    from planner.proving.receipt import Receipt
    from planner.running.comparing import Prove
    from planner.running.verify import Choice
    from planner.settings import Settings

GATE_FAILED, CANCELLED = 3, 130


def run(arguments: argparse.Namespace, plan: Plan, choice: Choice, own: Settings, here: Inventory | None) -> int:
    """Plan and prove lane after lane. Exit code 3 where every lane failed, 1 where a run did not end well."""
    from planner import service
    from planner.running import compared_report, comparing, verify

    if choice.lane is not None or choice.recipe is not None:
        raise BadInput("either --all-lanes, or one lane with --lane and --recipe", "--all-lanes")
    folder = (arguments.folder or verify.RUNS / plan.id).resolve()
    found = comparing.planned(plan, comparing.lanes_of(arguments.all_lanes), own)
    if here is None or arguments.dry_run:
        made, where = comparing.foreseen(plan, found), ""
    else:
        made = comparing.run(plan, found, folder, _prover(arguments, choice, own, here))
        where = comparing.drawn(made, folder)
    if arguments.json:
        write_document(service.encode(made))
    else:
        compared_report.show(made, where)
    return _code(made)


def _prover(arguments: argparse.Namespace, choice: Choice, own: Settings, here: Inventory) -> Prove:
    from planner.cli.verify import learn
    from planner.running import verify
    from planner.running.commands import Installed
    from planner.running.verify_report import Screen

    def prove(plan: Plan, folder: Path) -> Receipt:
        question, served, program = verify.prepared(plan, choice, own, here)
        about = verify.Run(
            question=question, inventory=here, reproduce=("lanewise", *sys.argv[1:]), budget_s=choice.budget_s,
            reuse=(folder.parent, *(arguments.reuse or (verify.RUNS,))), served=served,
        )  # fmt: skip
        made = verify.run(program, about, folder, Installed(own), Screen())
        learn(arguments, made, own, folder)
        return made

    return prove


def _code(made: Comparison) -> int:
    ran = [lane for lane in made.lanes if lane.ended is not None]
    if any(lane.ended == "cancelled" for lane in ran):
        return CANCELLED
    if any(lane.ended == "failed" for lane in ran):
        return 1
    return GATE_FAILED if ran and all(lane.verdict == "fail" for lane in ran) else 0
