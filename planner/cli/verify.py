"""`lanewise verify` and `lanewise receipts`: a plan's claims measured, and what that came to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from catalog.errors import BadInput
from planner.cli.common import Commands, number, write_document
from planner.cli.verify_answers import add_answers, asking
from planner.cli.verify_serving import add_serving, wish

if TYPE_CHECKING:
    from planner.proving.receipt import Receipt
    from planner.proving.steps import Program
    from planner.running.verify import Choice
    from planner.settings import Settings

EXAMPLES = """examples:
  lanewise verify plan.json --dry-run                     the steps and what they cost; nothing is run
  lanewise verify plan.json --text tickets.jsonl          run them here; a second run goes on where it ended
  lanewise verify plan.json --all-lanes --text tickets.jsonl --calibration chats.jsonl     the table of lanes
  lanewise verify request.toml --lane gguf:Q4_K_M --text notes.md --calibration chats.jsonl --budget 60
  lanewise verify plan.json --text tickets.jsonl --task questions.jsonl      tasks on items of your own as well
  lanewise verify plan.json --text tickets.jsonl --serve  serve it as well, under the planned load"""
GATE_FAILED, CANCELLED = 3, 130


def add_to(commands: Commands) -> None:
    """Declare `verify` and `receipts`."""
    verify = commands.add_parser(
        "verify",
        help="get the original, make the lane, measure its gates; ends with a receipt",
        description="Prove a plan's candidate: get the original, get or make the quantized model, compare the two. "
        "Statistics of tokens and a smoke test are always measured, tasks on items of your own (--task). Finished "
        "steps are kept, so that a second run goes on. Exit codes: 0 every step ended well, 1 one did not, "
        "3 a gate failed, 130 cancelled.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument(
        "source",
        metavar="PLAN|REQUEST",
        help="plan file (of `lanewise plan --json`), request file (.toml, .json), id of a stored plan, or - for stdin",
    )
    verify.add_argument("--lane", metavar="LANE", help="an alternative of the plan instead of its choice")
    verify.add_argument(
        "--all-lanes",
        nargs="?",
        const="",
        metavar="LANE,...",
        help="prove every lane that the request can be planned in, or these, one after the other, and compare them",
    )
    verify.add_argument(
        "--recipe", metavar="NAME", help="make it here by this recipe of the lane, for example fp8-dynamic, autoround"
    )
    verify.add_argument("--dry-run", action="store_true", help="print the steps with their costs and run nothing")
    verify.add_argument("--here", action="store_true", help="costs of a dry run on this machine, not the planned one")
    verify.add_argument(
        "--budget", type=number, metavar="MINUTES", help="the cheapest decisive gates that fit into it, until one fails"
    )
    verify.add_argument(
        "--run", dest="folder", type=Path, metavar="FOLDER", help="where it runs (default: lanewise-runs/PLAN/LANE)"
    )
    verify.add_argument(
        "--reuse",
        action="append",
        type=Path,
        metavar="FOLDER",
        help="take finished steps from other runs below it where all is the same (default: lanewise-runs)",
    )
    _add_text(verify.add_argument_group("model and text"))
    add_answers(verify.add_argument_group("answers"))
    add_serving(verify.add_argument_group("serving"))
    verify.add_argument("--json", action="store_true", help="print the program, or the receipt, as one JSON document")
    verify.add_argument("--db", metavar="URL", help="plan store that the id is looked up in")
    verify.set_defaults(run=run)
    _add_receipts(commands)


def _add_receipts(commands: Commands) -> None:
    receipts = commands.add_parser(
        "receipts",
        help="what runs of `verify` came to",
        description="List the receipts below a folder, the newest last.",
    )
    receipts.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="where to look (default: lanewise-runs)"
    )
    receipts.add_argument("--json", action="store_true", help="print them as one JSON document")
    receipts.add_argument(
        "--share", type=Path, metavar="OUT", help="write each into this folder without the paths of this machine"
    )
    receipts.set_defaults(run=list_receipts)


def _add_text(group: argparse._ArgumentGroup) -> None:
    many: dict[str, Any] = {"type": Path, "action": "append", "default": [], "metavar": "FILE"}
    group.add_argument("--text", **many, help="text of your own that both sides are scored on; may be repeated")
    group.add_argument("--neutral", **many, help="the neutral text of the plan, wikitext-2, as a file")
    group.add_argument("--calibration", **many, help="text that the lane is calibrated on: none of the scored text")
    group.add_argument("--original", metavar="MODEL", help="the 16-bit original: a folder, a .gguf file, or a hub id")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of sampled windows and calibration rows")


def run(arguments: argparse.Namespace) -> int:
    """Make the program; print it, or run it and print its receipt."""
    from planner import service, settings
    from planner.cli.review import plan_of
    from planner.running import verify

    own = settings.from_environment()
    own = msgspec.structs.replace(own, database_url=arguments.db or own.database_url)
    choice = _choice(arguments)
    plan = plan_of(arguments.source, own)
    here = service.probe(own) if arguments.here or not arguments.dry_run else None
    if arguments.all_lanes is not None:
        from planner.cli import compare

        return compare.run(arguments, plan, choice, own, here)
    question, served, program = verify.prepared(plan, choice, own, here)
    if here is None or arguments.dry_run:
        return _shown(program, as_json=arguments.json)
    from planner.running.commands import Installed
    from planner.running.verify_report import Screen, show_receipt

    folder = (arguments.folder or verify.default_folder(plan, question.candidate, choice)).resolve()
    about = verify.Run(
        question=question, inventory=here, reproduce=("lanewise", *sys.argv[1:]), budget_s=choice.budget_s,
        reuse=tuple(arguments.reuse or (verify.RUNS,)),
        served=served,
    )  # fmt: skip
    made = verify.run(program, about, folder, Installed(own), Screen())
    learn(arguments, made, own, folder)
    if arguments.json:
        write_document(service.encode(made))
    else:
        show_receipt(made, folder)
    ended = {"cancelled": CANCELLED, "failed": 1}.get(made.ended, 0)
    return ended or (GATE_FAILED if made.verdict == "fail" else 0)


def learn(arguments: argparse.Namespace, made: Receipt, own: Settings, folder: Path) -> None:
    """Keep what serving measured for later plans, unless that is not wanted."""
    from planner.observe import keeping
    from planner.running.verify import RECEIPT

    said = "" if arguments.no_store else keeping.keep(made, own, str(folder / RECEIPT))
    if said:
        print(said, file=sys.stderr)


def _choice(arguments: argparse.Namespace) -> Choice:
    from planner.running.verify import Choice

    if arguments.budget is not None and not 0 < arguments.budget < float("inf"):
        raise BadInput(f"expected minutes above 0, got {arguments.budget}", "--budget")
    return Choice(
        lane=arguments.lane,
        recipe=arguments.recipe,
        original=arguments.original,
        texts=tuple(arguments.text),
        neutral=tuple(arguments.neutral),
        calibration=tuple(arguments.calibration),
        budget_s=None if arguments.budget is None else 60.0 * arguments.budget,
        seed=arguments.seed,
        tasks=tuple(arguments.task),
        questions=asking(arguments),
        serve=wish(arguments),
    )


def _shown(program: Program, *, as_json: bool) -> int:
    from planner import service
    from planner.running import verify_report

    if as_json:
        write_document(service.encode(program))
    else:
        verify_report.show(program)
    return 0


def list_receipts(arguments: argparse.Namespace) -> int:
    """The receipts below a folder."""
    from planner import service
    from planner.running import verify, verify_report

    found = verify.receipts(arguments.folder or verify.RUNS)
    if arguments.share is not None:
        from planner import settings
        from planner.running import sharing

        for path in sharing.share(found, arguments.share, settings.from_environment()):
            sys.stdout.write(f"{path}\n")
        return 0
    if arguments.json:
        write_document(service.encode([{"path": str(path), "receipt": made} for path, made in found]))
    else:
        verify_report.show_receipts(found)
    return 0
