"""The fit: it finds what made the data, is the same twice, and the shipped file is what it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from catalog import parameters
from catalog.load import DATA
from catalog.parameters import from_scale
from planner.accuracy.regression import Measured, Space, lane_pairs, solve
from planner.accuracy.speed_fit import EXCLUDED, LLAMA_CPP, Table, entries
from planner.accuracy.truth import read

pytest.importorskip("scipy")
TRUTH = DATA / "truth" / "speed.csv"


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.read(TRUTH)


def test_the_fit_finds_the_parameters_that_made_the_data(table: Table) -> None:
    rows = table.take(table.of("llama.cpp"))[::3]
    space = Space.over(LLAMA_CPP, (case for row in rows for case in row.cases))
    theta = space.start + 0.5 * space.width * np.sin(np.arange(len(space.start)))
    first = solve(LLAMA_CPP, rows, Measured(np.zeros(len(rows)), np.ones(len(rows)), np.full(len(rows), 0.02)))
    made = type(first)(space, theta, first.sd).predict(rows)
    found = solve(LLAMA_CPP, rows, Measured(made, np.ones(len(rows)), np.full(len(rows), 0.02)))
    assert np.median(np.abs(found.predict(rows) - made)) < 0.01


def test_the_same_data_give_the_same_fit(table: Table) -> None:
    everything = np.ones(len(table.rows), dtype=bool)
    one, other = (table.solve("llama.cpp", everything) for _ in range(2))
    assert (one.theta == other.theta).all()


@pytest.mark.parametrize("family", ["serving", "llama.cpp"])
def test_the_shipped_file_is_what_the_fit_finds(table: Table, family: parameters.Family) -> None:
    solution = table.solve(family, np.ones(len(table.rows), dtype=bool))
    shipped = {(row.name, row.of): row for row in parameters.load().parameter if row.family == family}
    found = {(row.name, row.of): row for row in entries(table, family, solution)}
    assert shipped.keys() == found.keys()
    for key, row in found.items():
        assert row.value == pytest.approx(shipped[key].value, rel=0.02), key
        assert row.groups == shipped[key].groups, key


def test_excluded_rows_exist_and_are_not_fitted(table: Table) -> None:
    ids = {line["id"] for line in read(TRUTH)}
    excluded = {row for entry in EXCLUDED for row in entry.ids}
    assert excluded & ids
    assert not {one.row.id for one in table.take(table.fitted)} & excluded


def test_pairs_differ_only_in_their_lane(table: Table) -> None:
    pairs = lane_pairs(table.rows, table.measured)
    assert len(pairs.one) > 100
    for one, other in zip(pairs.one, pairs.other, strict=True):
        left, right = table.rows[one].row, table.rows[other].row
        assert left.lane != right.lane
        assert (left.model, left.accelerator, left.metric) == (right.model, right.accelerator, right.metric)


def test_scale_of_a_share_keeps_it_a_share() -> None:
    assert 0 < from_scale("matrix_efficiency", math.exp(20)) < 1
