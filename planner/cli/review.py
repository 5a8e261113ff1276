"""`lanewise review`: a plan as a document that people discuss and sign."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from catalog.errors import BadInput
from planner.cli.common import Commands, number, write_document

if TYPE_CHECKING:
    from planner.plan import Plan
    from planner.settings import Settings

EXAMPLES = """examples:
  lanewise review examples/support-chat.toml --format html --out review.html
  lanewise review plan.json --growth 35 --out review.md
  lanewise review 5f0c2a91d7e84b36 --format html --out review.html     a plan of the store"""
UNDRAWN = "lanewise: charts are left out: they need matplotlib, pip install 'lanewise[review]'"


def add_to(commands: Commands) -> None:
    """Declare `review`."""
    review = commands.add_parser(
        "review",
        help="a plan as a document to discuss and sign: decision, cost, growth, N+1, sensitivity, sources",
        description="Write the capacity-planning review of a request or of a plan as one self-contained file. "
        "Exit code 3 says that the plan is infeasible; its review is written all the same.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    review.add_argument(
        "source",
        metavar="REQUEST|PLAN",
        help="request file (.toml, .json), plan file (of `lanewise plan --json`), id of a stored plan, or - for stdin",
    )
    review.add_argument("--format", choices=("md", "html"), help="default: by the ending of --out, else md")
    review.add_argument(
        "--growth", type=number, metavar="PCT", help="growth of the load per quarter (default: 20, assumed)"
    )
    review.add_argument("--out", type=Path, metavar="FILE", help="write into FILE instead of stdout")
    review.add_argument("--no-measurements", action="store_true", help="leave own measurements out")
    review.add_argument("--db", metavar="URL", help="plan store that the id is looked up in")
    review.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Plan or read the plan, review it, write the file; 3 when nothing is feasible."""
    from planner import charts, service, settings

    own = settings.from_environment()
    own = msgspec.structs.replace(
        own, database_url=arguments.db or own.database_url, measurements=not arguments.no_measurements
    )
    plan = plan_of(arguments.source, own)
    document = service.review(plan, own, _format(arguments), arguments.growth)
    if not charts.available():
        print(UNDRAWN, file=sys.stderr)
    if arguments.out is None:
        write_document(document)
    else:
        _write(arguments.out, document)
    return 0 if plan.feasible else 3


def _format(arguments: argparse.Namespace) -> str:
    if arguments.format is not None:
        return str(arguments.format)
    return "html" if arguments.out is not None and arguments.out.suffix in {".html", ".htm"} else "md"


def _write(path: Path, document: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(document)
    except OSError as error:
        raise BadInput(f"cannot write the review: {error.strerror}", str(path)) from error


def plan_of(source: str, own: Settings) -> Plan:
    """A plan document as it stands, a request planned now, or a plan out of the store."""
    from planner import decode, service
    from planner.cli.plan import read_file, simulating

    if source != "-" and not Path(source).suffix and not Path(source).exists():
        return _stored(source, own)
    data, kind = read_file(source)
    if kind == "json" and _is_plan(data):
        return decoded(data, source)
    return service.make_plan(simulating(service.with_trace(decode.decode(data, kind)), asked=True), own)


def _stored(plan_id: str, own: Settings) -> Plan:
    from planner.store import Store

    store = Store(own.database_url)
    try:
        return decoded(store.get(plan_id), plan_id)
    finally:
        store.close()


def _is_plan(data: bytes) -> bool:
    """Whether a document is an answer: only answers say whether they are feasible."""
    try:
        return "feasible" in msgspec.json.decode(data, type=dict)
    except msgspec.DecodeError:
        return False


def decoded(data: bytes, source: str) -> Plan:
    """A plan from its document. Raises BadInput for one that is not ours."""
    from planner.plan import Plan

    try:
        return msgspec.json.decode(data, type=Plan)
    except msgspec.DecodeError as fault:
        raise BadInput(f"not a plan of this version: {fault}", source) from None
