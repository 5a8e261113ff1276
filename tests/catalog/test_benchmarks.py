"""Benchmarks by the words of a task's name."""

from __future__ import annotations

import pytest

from catalog.benchmarks import UNKNOWN_ITEMS, named, relative_error
from catalog.load import load

CATALOG = load()
SPARED = {"RULER at the served length"}
"""The published rows ran fewer items of it than its harness has."""


@pytest.mark.parametrize("row", CATALOG.gates.benchmarks, ids=lambda row: f"{row.family}:{row.name}")
def test_gates_and_evidence_count_the_same_items(row: object) -> None:
    found = named(row.name, CATALOG.benchmarks)  # type: ignore[attr-defined]
    items = row.items  # type: ignore[attr-defined]
    assert items is None or row.name in SPARED or (found is not None and found.items == items)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("task", "points"),
    [("MMLU (5-shot)", 0.39), ("GSM8K strict-match (5-shot)", 1.16), ("GPQA-Diamond", 3.5), ("AIME24", 8.6)],
)
def test_the_noise_of_one_run_is_the_published_one(task: str, points: float) -> None:
    """Binomial standard errors that lm-eval prints, at a share of 68, 77, 42 and 67 %."""
    share = {"MMLU (5-shot)": 68.0, "GSM8K strict-match (5-shot)": 77.0, "GPQA-Diamond": 42.0, "AIME24": 67.0}[task]
    assert relative_error(task, share, CATALOG.benchmarks) * share / 100 == pytest.approx(points, rel=0.02)


def test_shares_and_percents_are_told_apart_and_unlisted_tasks_are_assumed() -> None:
    assert relative_error("MMLU", 0.68, CATALOG.benchmarks) == pytest.approx(relative_error("MMLU", 68.0, CATALOG.benchmarks))  # fmt: skip  # noqa: E501
    assert named("our own questions", CATALOG.benchmarks) is None
    assert relative_error("our own questions", 50.0, CATALOG.benchmarks) == pytest.approx(100 / UNKNOWN_ITEMS**0.5)
