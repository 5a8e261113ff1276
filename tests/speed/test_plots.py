"""The drawings of the accuracy page: small, complete, and the same bytes for the same fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from catalog import parameters
from catalog.load import DATA
from planner import charts
from planner.accuracy import predict, speed_plots
from planner.accuracy.speed_fit import HELD_OUT, Refit, Table

FOLDER = Path(__file__).parents[2] / "docs" / "accuracy"
LIMIT = 100_000


@pytest.fixture(scope="module")
def found() -> Refit:
    """The shipped parameters as if nothing had been left out."""
    table, fitted = Table.read(DATA / "truth" / "speed.csv"), parameters.load()
    log = np.log(predict.evaluate(table.rows, predict.Resolver(fitted, {}).values))
    return Refit(table, fitted, log, dict.fromkeys(HELD_OUT, log))


def drawn(found: Refit) -> dict[str, str]:
    with charts.styled():
        return {name: charts.document(name, sketch) for name, sketch in speed_plots.sketches(found).items()}


def test_the_same_fit_gives_the_same_bytes(found: Refit) -> None:
    assert drawn(found) == drawn(found)


def test_better_predictions_are_another_drawing(found: Refit) -> None:
    exact = replace(found, left_out=dict.fromkeys(HELD_OUT, found.table.measured.log))
    assert drawn(exact) != drawn(found)


def test_every_engine_is_named_and_files_are_small(found: Refit) -> None:
    for name, text in drawn(found).items():
        assert len(text) < LIMIT
        assert ElementTree.fromstring(text.encode()).tag.endswith("svg")
        assert (FOLDER / f"{name}.svg").stat().st_size < LIMIT
    assert all(engine in drawn(found)["speed-measured"] for engine in speed_plots.ENGINES)
