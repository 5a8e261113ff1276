"""`lanewise predict`, `accuracy`, `fit-speed`: estimates beside published measurements, and parameters from them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import Unsupported
from planner.cli.common import Commands, write_document

if TYPE_CHECKING:
    from planner.accuracy.speed_fit import Refit

KINDS = ("speed", "memory")


def add_to(commands: Commands) -> None:
    """Declare `predict`, `accuracy` and `fit-speed`."""
    predict = commands.add_parser(
        "predict",
        help="predict the rows of a measurement file without looking at the measured values",
        description="Read IN.csv, write id,predicted,p10,p90,refused to OUT.csv in the same order.",
    )
    predict.add_argument("kind", choices=KINDS, help="what was measured")
    predict.add_argument("--truth", type=Path, required=True, metavar="IN.csv", help="rows to predict")
    predict.add_argument("--out", type=Path, required=True, metavar="OUT.csv", help="where the predictions go")
    predict.set_defaults(run=run_predict)
    accuracy = commands.add_parser(
        "accuracy",
        help="compare predictions with published measurements",
        description="Print the error of the predictions, over the shipped measurements or over IN.csv.",
    )
    accuracy.add_argument("kind", choices=KINDS, help="what was measured")
    accuracy.add_argument("--truth", type=Path, metavar="IN.csv", help="measurements to compare with")
    accuracy.add_argument("--page", type=Path, metavar="FILE", help="memory: accuracy page in Markdown to write")
    accuracy.set_defaults(run=run_accuracy)
    fit = commands.add_parser(
        "fit-speed",
        help="fit the speed parameters to measurements",
        description="Fit the parameters of the speed formulas to TRUTH.csv; the same file gives the same parameters.",
    )
    fit.add_argument("truth", type=Path, metavar="TRUTH.csv", help="measurements to fit to")
    fit.add_argument("--out", type=Path, metavar="FILE", help="parameter file to write (default: stdout)")
    fit.add_argument(
        "--page", type=Path, metavar="FILE", help="accuracy page in Markdown to write, its drawings beside it"
    )
    fit.set_defaults(run=run_fit)


def _draw(found: Refit, folder: Path) -> None:
    """The page's drawings beside it; none without matplotlib."""
    from planner import charts

    if not charts.available():
        print("no drawings: matplotlib is not installed (extra `review`)", file=sys.stderr)
        return
    from planner.accuracy import speed_plots

    with charts.styled():
        for name, sketch in speed_plots.sketches(found).items():
            (folder / f"{name}.svg").write_text(charts.document(name, sketch), encoding="utf-8")


def run_predict(arguments: argparse.Namespace) -> int:
    """Write the predictions."""
    from planner.accuracy import predict

    predict.run(arguments.kind, arguments.truth, arguments.out)
    return 0


def run_accuracy(arguments: argparse.Namespace) -> int:
    """Print the board, or write the page. Raises Unsupported where another command writes the page."""
    from planner.accuracy import memory_page, speed_board, truth

    if arguments.page is None:
        speed_board.run(arguments.kind, arguments.truth)
        return 0
    if arguments.kind != "memory":
        raise Unsupported("the page of the speed estimates is written by fit-speed --page", "--page")
    lines = truth.read(arguments.truth or speed_board.shipped("memory"))
    arguments.page.write_text(memory_page.page(lines), encoding="utf-8")
    return 0


def run_fit(arguments: argparse.Namespace) -> int:
    """Write the parameter file, and the accuracy page where asked for."""
    from catalog import parameters
    from planner.accuracy import speed_fit, speed_page

    found = speed_fit.refit(arguments.truth)
    fitted = parameters.text(found.parameters).encode()
    if arguments.page is not None:
        arguments.page.write_text(speed_page.page(found), encoding="utf-8")
        _draw(found, arguments.page.parent)
    if arguments.out is None:
        write_document(fitted)
    else:
        arguments.out.write_bytes(fitted)
    return 0
