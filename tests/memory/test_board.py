"""The board of docs/accuracy/memory.md is the program's, it may not get worse, and it meets what was promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.accuracy import memory_board, memory_fit, memory_page, predict_memory, speed_board, truth
from planner.accuracy.memory_board import Cell, Key, Score
from planner.accuracy.truth import Prediction
from tests.plan.asking import catalog

PAGE = Path(__file__).parents[2] / "docs" / "accuracy" / "memory.md"
LINES = truth.read(speed_board.shipped("memory"))
WORSE = 2e-4
"""ln; what other processors may round differently."""


def table(scored: list[Score]) -> dict[Key, Cell]:
    return {(cell.engine, cell.version, cell.metric): cell for cell in memory_board.cells(scored)}


@pytest.fixture(scope="module")
def inside() -> dict[Key, Cell]:
    return table(memory_board.scores(LINES, predict_memory.memory(LINES)))


@pytest.fixture(scope="module")
def unseen() -> list[Score]:
    return memory_board.scores(LINES, memory_board.left_out(LINES, memory_fit.geometry))


def committed() -> dict[Key, list[str]]:
    """The page's rows: columns after the metric."""
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    return {(row[0], row[1], row[2]): row[3:] for row in rows if len(row) == 11 and row[0] in ("vllm", "llama.cpp")}


def no_worse(cell: Cell, written: str) -> bool:
    if cell.right is not None:
        return cell.right >= int(written.split(maxsplit=1)[0])
    if cell.median is None or cell.p90 is None:
        return written == "-"
    median, p90 = (float(part) for part in written.split(" / "))
    return cell.median <= median + WORSE and cell.p90 <= p90 + WORSE


def test_no_figure_is_worse_than_the_committed_board(inside: dict[Key, Cell], unseen: list[Score]) -> None:
    written, left_out = committed(), table(unseen)
    assert set(written) == set(inside)
    for key, columns in written.items():
        assert inside[key].coverage >= float(columns[2].rstrip("%")) / 100 - 0.005, key
        assert no_worse(inside[key], columns[3]), (key, inside[key])
        assert no_worse(left_out[key], columns[4]), (key, left_out[key])


def test_the_page_is_what_the_command_writes() -> None:
    assert memory_page.page(LINES) == PAGE.read_text(), "write it again: lanewise accuracy memory --page"


@pytest.mark.parametrize(
    ("key", "median", "p90"),
    [
        (("vllm", "0.19", "weights_gib"), 0.0005, 0.005),
        (("vllm", "0.19", "activation_peak_gib"), 0.003, 0.025),
        (("vllm", "0.19", "kv_cache_gib"), 0.0005, 0.0015),
        (("vllm", "0.19", "kv_cache_tokens"), 0.0005, 0.0015),
        (("vllm", "0.19", "max_concurrency"), 0.0005, 0.0015),
        (("vllm", "0.8-0.13", "weights_gib"), 0.005, 0.005),
        (("llama.cpp", "b2xxx", "model_buffer_mib"), 0.005, 0.005),
        (("llama.cpp", "b2xxx", "compute_buffer_mib"), 0.001, 0.001),
        (("llama.cpp", "b1xxx", "kv_mib"), 0.0, 0.0),
        (("llama.cpp", "b1xxx", "total_vram_mib"), 0.0005, 0.002),
    ],
)
def test_unseen_models_are_predicted_as_promised(unseen: list[Score], key: Key, median: float, p90: float) -> None:
    cell = table(unseen)[key]
    assert cell.median is not None
    assert cell.p90 is not None
    assert cell.median <= median
    assert cell.p90 <= p90


def test_nothing_that_failed_to_start_is_called_startable() -> None:
    begun = [line for line in LINES if line["metric"] == "starts"]
    told = {one.id: one.predicted for one in predict_memory.memory(begun)}
    assert [line["id"] for line in begun if line["value"] == "0" and told[line["id"]]] == []
    started = [line["id"] for line in begun if line["value"] == "1"]
    assert sum(bool(told[name]) for name in started) >= 0.95 * len(started)


def test_intervals_hold_about_as_often_as_they_say(unseen: list[Score]) -> None:
    """Every model of a cell counts once; exact cells lift the share above the 80 % that the intervals are named for."""
    held: dict[tuple[Key, str], list[bool]] = {}
    for one in unseen:
        if one.answer.predicted is not None and one.key[2] != "starts":
            inside = (one.answer.p10 or 0.0) <= one.value <= (one.answer.p90 or 0.0)
            held.setdefault((one.key, one.model), []).append(inside)
    share = sum(sum(each) / len(each) for each in held.values()) / len(held)
    assert 0.75 <= share <= 0.92


def test_a_fit_recovers_the_shipped_constants() -> None:
    """The data file's constants are those of the logs, to the digits that it writes."""
    facts = catalog()
    rows = [row for _, row in memory_board.measured(LINES, facts)]
    left = {name for entry in memory_board.excluded() for name in entry.ids}
    kept = [row for row in rows if row.found.row.id not in left]
    refitted, shipped = memory_fit.refit(kept, facts).engine, facts.engine("vllm")
    for version in ("0.19.0", "0.11.0", "0.6"):
        assert refitted.constants_at(version, "9.0") == pytest.approx(shipped.constants_at(version, "9.0"), rel=2e-3)


def test_every_excluded_row_exists_and_says_why() -> None:
    known = {line["id"] for line in LINES}
    for entry in memory_board.excluded():
        assert set(entry.ids) <= known
        assert len(entry.reason) > 20


def test_a_cell_counts_errors_refusals_and_intervals() -> None:
    answers = [
        Prediction(id="a", predicted=2.0, p10=1.5, p90=3.0),
        Prediction(id="b", predicted=1.0, p10=0.9, p90=1.1),
        Prediction(id="c", refused="no formula"),
    ]
    key = ("e", "v", "m")
    (found,) = memory_board.cells([Score(key, one.id, 1.0, one) for one in answers])
    assert (found.rows, found.models) == (3, 3)
    assert found.coverage == pytest.approx(2 / 3)
    assert (found.median, found.interval_coverage) == (0.0, 0.5)
    assert found.p90 == pytest.approx(0.6931, abs=1e-4)
