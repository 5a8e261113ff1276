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
PROMISED: dict[tuple[str, str, str], tuple[float, float]] = {
    ("vllm", "closed", "tpot_ms"): (0.12, 0.12),
    ("vllm", "closed", "ttft_ms"): (0.35, 0.35),
    ("vllm", "saturated", "output_tok_s"): (0.20, 0.20),
    ("tensorrt-llm", "closed", "tpot_ms"): (0.16, 0.16),
    ("tensorrt-llm", "saturated", "output_tok_s"): (0.13, 0.13),
    ("sglang", "closed", "tpot_ms"): (0.20, 0.20),
    ("llama.cpp", "batch1", "decode_tok_s"): (0.10, 0.10),
    ("llama.cpp", "batch1", "prefill_tok_s"): (0.22, 0.22),
}
"""Largest medians of |ln(predicted/measured)| without the accelerator, and without the model."""
BARS = {
    ("vllm", "closed", "tpot_ms"): 0.15,
    ("vllm", "closed", "total_tok_s"): 0.15,
    ("vllm", "saturated", "output_tok_s"): 0.25,
    ("tensorrt-llm", "closed", "tpot_ms"): 0.20,
    ("tensorrt-llm", "saturated", "output_tok_s"): 0.15,
    ("llama.cpp", "batch1", "decode_tok_s"): 0.15,
    ("llama.cpp", "batch1", "prefill_tok_s"): 0.30,
}
"""Largest in-sample medians, whatever the page says."""
WORSE = 2e-4
"""ln; what other processors may round differently."""
GROUPS = 5
"""Fewer groups of rows have no share that means anything."""


def committed() -> dict[tuple[str, str, str], list[str]]:
    """The board of the page: columns after the metric."""
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    return {(row[0], row[1], row[2]): row[3:] for row in rows if len(row) == 13 and row[3].isdigit()}


def medians(columns: list[str]) -> list[float]:
    """In sample, without the accelerator, the model, the architecture, the lab."""
    return [float(column.split(" / ")[0]) for column in columns[2:7]]


@pytest.fixture(scope="module")
def board() -> dict[tuple[str, str, str], Cell]:
    found = speed_board.board("speed", DATA / "truth" / "speed.csv")
    return {(cell.engine, cell.load, cell.metric): cell for cell in found}


@pytest.mark.parametrize("key", BARS, ids="-".join)
def test_no_cell_is_worse_than_its_bar(board: dict[tuple[str, str, str], Cell], key: tuple[str, str, str]) -> None:
    assert (board[key].median or 9) <= BARS[key]


def test_the_committed_board_is_what_the_program_computes(board: dict[tuple[str, str, str], Cell]) -> None:
    written = committed()
    assert set(written) == set(board) - {("all", "", "")}
    for key, columns in written.items():
        median, p90 = (float(part) for part in columns[2].split(" / "))
        assert board[key].median == pytest.approx(median, abs=5e-4 + WORSE), key
        assert board[key].p90 == pytest.approx(p90, abs=5e-3 + WORSE), key
        assert board[key].coverage == 1, key


@pytest.mark.parametrize("key", PROMISED, ids="-".join)
def test_the_committed_fit_predicts_what_it_has_not_seen(key: tuple[str, str, str]) -> None:
    """The left-out columns are the refit's, compared with it by the slow test below."""
    _, accelerator, model, *_ = medians(committed()[key])
    assert accelerator <= PROMISED[key][0]
    assert model <= PROMISED[key][1]


def test_nine_pairs_in_ten_of_unseen_accelerators_come_in_order() -> None:
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    shares = {row[0]: float(row[4].rstrip("%")) for row in rows if len(row) == 5 and row[1] == "all"}
    assert shares.keys() == {"lane", "accelerator", "layout"}
    assert min(shares.values()) >= 90


def test_intervals_hold_four_rows_in_five_of_unseen_accelerators() -> None:
    for key, columns in committed().items():
        if int(columns[1]) >= GROUPS:
            assert 0.72 <= float(columns[7].rstrip("%")) / 100 <= 0.88, key


@pytest.mark.slow
def test_the_page_and_the_parameters_are_what_the_refit_writes() -> None:
    pytest.importorskip("scipy")
    from catalog import parameters
    from planner.accuracy import speed_fit, speed_page

    found = speed_fit.refit(DATA / "truth" / "speed.csv")
    shipped = {(row.family, row.name, row.of): row.value for row in parameters.load().parameter}
    assert {(row.family, row.name, row.of) for row in found.parameters.parameter} == set(shipped)
    for row in found.parameters.parameter:
        assert row.value == pytest.approx(shipped[row.family, row.name, row.of], rel=0.02), row
    remade = speed_page.page(found).splitlines()
    for key, columns in committed().items():
        line = next(line for line in remade if line.startswith(f"| {' | '.join(key)} |"))
        assert medians([part.strip() for part in line.strip("|").split("|")][3:]) == pytest.approx(
            medians(columns), abs=5e-3
        ), key


def test_every_row_is_answered(board: dict[tuple[str, str, str], Cell]) -> None:
    assert board["all", "", ""].rows > 7000
    assert board["all", "", ""].coverage >= 0.95


def test_intervals_hold_most_rows(board: dict[tuple[str, str, str], Cell]) -> None:
    assert (board["all", "", ""].interval_coverage or 0) >= 0.8


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
    board, _, _ = out.getvalue().partition("\n\n")
    assert len(board.splitlines()) == len(found) + 1
    assert "vllm / closed / tpot_ms" in out.getvalue()
