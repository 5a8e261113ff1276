"""The board: its arithmetic by hand, its bars, and that the page says what the program says."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest

from catalog.load import DATA
from planner.accuracy import speed_board
from planner.accuracy.speed_board import Cell, Score, cells, weighted

PAGE = Path(__file__).parents[2] / "docs" / "accuracy" / "speed.md"
BARS = {
    ("vllm", "closed", "tpot_ms"): 0.15,
    ("vllm", "closed", "total_tok_s"): 0.15,
    ("vllm", "saturated", "output_tok_s"): 0.25,
    ("tensorrt-llm", "closed", "tpot_ms"): 0.20,
    ("tensorrt-llm", "saturated", "output_tok_s"): 0.15,
    ("llama.cpp", "batch1", "decode_tok_s"): 0.15,
    ("llama.cpp", "batch1", "prefill_tok_s"): 0.30,
}
"""Largest in-sample medians of |ln(predicted/measured)|."""


@pytest.fixture(scope="module")
def board() -> dict[tuple[str, str, str], Cell]:
    found = speed_board.board("speed", DATA / "truth" / "speed.csv")
    return {(cell.engine, cell.load, cell.metric): cell for cell in found}


@pytest.mark.parametrize("key", BARS, ids="-".join)
def test_no_cell_is_worse_than_its_bar(board: dict[tuple[str, str, str], Cell], key: tuple[str, str, str]) -> None:
    assert (board[key].median or 9) <= BARS[key]


def test_every_row_is_answered(board: dict[tuple[str, str, str], Cell]) -> None:
    assert board["all", "", ""].rows > 7000
    assert board["all", "", ""].coverage >= 0.95


def test_intervals_hold_most_rows(board: dict[tuple[str, str, str], Cell]) -> None:
    assert (board["all", "", ""].interval_coverage or 0) >= 0.8


def test_the_page_shows_what_the_program_computes(board: dict[tuple[str, str, str], Cell]) -> None:
    for line in PAGE.read_text().splitlines():
        parts = [part.strip() for part in line.strip("|").split("|")]
        if tuple(parts[:3]) in board:
            cell, (median, p90) = board[parts[0], parts[1], parts[2]], parts[5].split(" / ")
            assert float(median) == pytest.approx(cell.median, abs=2e-3)
            assert float(p90) == pytest.approx(cell.p90, abs=2e-2)


def test_the_arithmetic_by_hand() -> None:
    """Two groups: one row at twice the value, two rows exact (half weight each); one row refused."""

    def score(group: str, weight: float, error: float | None, *, inside: bool = True) -> Score:
        return Score(cell=("e", "l", "m"), group=group, weight=weight, error=error, inside=inside, width=math.log(1.5))

    found, whole = cells(
        [score("a", 1, math.log(2), inside=False), score("b", 0.5, 0.0), score("b", 0.5, 0.0), score("c", 2, None)]
    )
    assert (found.rows, found.groups, found.coverage) == (4, 3, 0.5)
    assert found.median == 0
    assert found.p90 == pytest.approx(math.log(2))
    assert found.interval_coverage == 0.5
    assert (whole.engine, whole.median) == ("all", found.median)


def test_weighted_quantile_takes_the_smallest_value_that_holds_the_share() -> None:
    assert weighted([3.0, 1.0, 2.0], [1, 1, 1], 0.5) == 2.0
    assert weighted([3.0, 1.0, 2.0], [1, 10, 1], 0.5) == 1.0
    assert weighted([3.0, 1.0, 2.0], [1, 1, 1], 1.0) == 3.0


def test_the_board_prints_one_line_per_cell() -> None:
    out = io.StringIO()
    speed_board.run("speed", out=out)
    found = speed_board.board("speed", DATA / "truth" / "speed.csv")
    assert len(out.getvalue().splitlines()) == len(found) + 1
    assert "vllm / closed / tpot_ms" in out.getvalue()
