"""Rows of a user's folder: a published row corrected, and a law that was fitted to other rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from catalog import quality_parameters
from catalog.load import DATA, Catalog, load
from planner import quality
from planner.accuracy import quality_fit
from planner.lanes import BY_ID

FP8 = BY_ID["fp8"]
ASKED = quality.Asked(params=70.6e9, model="meta-llama/Llama-3.1-70B-Instruct", context=4096, typical=1250)


def corrected(folder: Path, factor: float) -> Catalog:
    """The catalogue under a folder in which every FP8 row of 70B models scores `factor` of what was published."""
    rows = list(csv.DictReader(io.StringIO((DATA / "evidence.csv").read_text(encoding="utf-8"))))
    spoiled = [row for row in rows if row["method"].startswith("FP8") and row["params"].startswith("706")]
    with (folder / "evidence.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"quantized": str(float(row["quantized"]) * factor)} for row in spoiled)
    return load(overlay=folder)


def loss(catalog: Catalog) -> quality.Loss:
    return quality.weight_loss(quality.known(catalog), FP8, FP8.methods[0].recipe, ASKED, "knowledge")


def test_a_row_with_the_id_of_a_published_one_corrects_it(tmp_path: Path) -> None:
    """It is not the user's own, its recovery is computed again, and plans get other ids."""
    shipped, changed = load(), corrected(tmp_path, 0.8)
    assert not any(row.own for row in changed.evidence)
    assert len(changed.evidence) == len(shipped.evidence)
    assert changed.digest != shipped.digest
    moved = {row.id: row for row in changed.evidence}
    before = [row for row in shipped.evidence if moved[row.id] != row]
    assert before
    for row in before:
        assert moved[row.id].recovery == pytest.approx(0.8 * (row.recovery or 0), abs=0.01)


def test_an_estimate_says_when_the_law_knows_other_rows(tmp_path: Path) -> None:
    assert quality.OUTDATED not in loss(load()).citations
    assert quality.OUTDATED in loss(corrected(tmp_path, 0.8)).citations


def test_corrected_rows_move_the_estimate_once_they_are_fitted(tmp_path: Path) -> None:
    shipped, changed = load(), corrected(tmp_path, 0.8)
    assert loss(changed).value == loss(shipped).value
    (tmp_path / "quality").mkdir()
    text = quality_parameters.text(quality_fit.refit(changed))
    (tmp_path / "quality" / "parameters.toml").write_text(text, encoding="utf-8")
    fitted = load(overlay=tmp_path)
    assert loss(fitted).value > 10 * loss(shipped).value
    assert quality.OUTDATED not in loss(fitted).citations
