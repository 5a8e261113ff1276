"""`lanewise predict`, `accuracy`, `fit-speed`, `fit-quality`: estimates beside measurements, parameters from them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import Unsupported
from planner.cli.common import Commands, write_document

if TYPE_CHECKING:
    from catalog.load import Catalog
    from planner.accuracy.speed_fit import Refit

KINDS = ("speed", "memory", "quality")


def add_to(commands: Commands) -> None:
    """Declare `predict`, `accuracy`, `fit-speed` and `fit-quality`."""
    predict = commands.add_parser(
        "predict",
        help="predict the rows of a measurement file without looking at the measured values",
        description="Read IN.csv, write id,predicted,p10,p90,refused to OUT.csv in the same order. Quality: recovery "
        "in percent by the law of losses, with the parameters of LANEWISE_CATALOG_DIR where it has some.",
    )
    predict.add_argument("kind", choices=KINDS, help="what was measured")
    predict.add_argument("--truth", type=Path, required=True, metavar="IN.csv", help="rows to predict")
    predict.add_argument("--out", type=Path, required=True, metavar="OUT.csv", help="where the predictions go")
    predict.set_defaults(run=run_predict)
    accuracy = commands.add_parser(
        "accuracy",
        help="compare predictions with published measurements",
        description="Print the error of the predictions, over the shipped measurements or over IN.csv. Quality: every "
        "source is left out of the fit in turn.",
    )
    accuracy.add_argument("kind", choices=KINDS, help="what was measured")
    accuracy.add_argument("--truth", type=Path, metavar="IN.csv", help="measurements to compare with")
    accuracy.add_argument("--page", type=Path, metavar="FILE", help="memory: accuracy page in Markdown to write")
    accuracy.set_defaults(run=run_accuracy)
    _add_fits(commands)


def _add_fits(commands: Commands) -> None:
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
    quality = commands.add_parser(
        "fit-quality",
        help="fit the law of losses to the catalogue's evidence",
        description="Fit the parameters of the law of losses to the evidence of the catalogue, rows of your own "
        "LANEWISE_CATALOG_DIR included, own measurements not; the same rows give the same parameters. Written to "
        "quality/parameters.toml of that folder they change what plans expect to lose.",
    )
    quality.add_argument("--out", type=Path, metavar="FILE", help="parameter file to write (default: stdout)")
    quality.add_argument("--page", type=Path, metavar="FILE", help="accuracy page in Markdown to write")
    quality.set_defaults(run=run_fit_quality)


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

    if arguments.kind == "quality":
        from planner.accuracy import predict_quality

        predict.write(predict_quality.predictions(arguments.truth, _catalog()), "quality", arguments.out)
    else:
        predict.run(arguments.kind, arguments.truth, arguments.out)
    return 0


def _catalog() -> Catalog:
    """The catalogue under the user's own entries: parameters of losses may be theirs."""
    from planner import service, settings

    return service.catalogue(settings.from_environment())


def run_accuracy(arguments: argparse.Namespace) -> int:
    """Print the board, or write the page. Raises Unsupported where another command writes the page."""
    if arguments.page is not None:
        return _write_page(arguments)
    if arguments.kind == "quality":
        _needs_scipy("accuracy quality")
        from planner.accuracy import quality_tables

        print(*quality_tables.printed(arguments.truth, _catalog()), sep="\n")
        return 0
    from planner.accuracy import speed_board

    speed_board.run(arguments.kind, arguments.truth)
    return 0


def _write_page(arguments: argparse.Namespace) -> int:
    from planner.accuracy import memory_page, speed_board, truth

    if arguments.kind != "memory":
        raise Unsupported(f"the page of {arguments.kind} is written by fit-{arguments.kind} --page", "--page")
    lines = truth.read(arguments.truth or speed_board.shipped("memory"))
    arguments.page.write_text(memory_page.page(lines), encoding="utf-8")
    return 0


def _needs_scipy(command: str) -> None:
    from importlib.util import find_spec

    if find_spec("scipy") is None:
        raise Unsupported(f"{command} fits the law anew, which needs SciPy: pip install 'lanewise[fit]'", "scipy")


def run_fit_quality(arguments: argparse.Namespace) -> int:
    """Write the parameter file, and the accuracy page where asked for."""
    _needs_scipy("fit-quality")
    from catalog import quality_parameters
    from planner.accuracy import quality_fit, quality_folds, quality_page

    catalog = _catalog()
    written = quality_parameters.text(quality_fit.refit(catalog)).encode()
    if arguments.page is not None:
        fitted = quality_parameters.decode(written, "parameters.toml")
        arguments.page.write_text(quality_page.page(fitted, quality_folds.left_out(catalog)), encoding="utf-8")
    if arguments.out is None:
        write_document(written)
    else:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_bytes(written)
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
