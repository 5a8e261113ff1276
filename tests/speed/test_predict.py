"""`predict` answers from the describing columns alone, in order, and refuses by name."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from catalog.errors import BadInput, Unsupported
from catalog.load import DATA
from planner.accuracy import predict, truth

TRUTH = DATA / "truth" / "speed.csv"


@pytest.fixture(scope="module")
def sample() -> list[dict[str, str]]:
    """Every 40th row: all engines and loads."""
    return truth.read(TRUTH)[::40]


def write(path: Path, lines: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    return path


def answered(tmp_path: Path, lines: list[dict[str, str]]) -> str:
    out = tmp_path / "out.csv"
    predict.run("speed", write(tmp_path / "in.csv", lines), out)
    return out.read_text()


def test_the_value_is_never_read(tmp_path: Path, sample: list[dict[str, str]]) -> None:
    blanked = [{**line, "value": ""} for line in sample]
    assert answered(tmp_path, blanked) == answered(tmp_path, sample)


def test_nothing_but_the_listed_keys_of_the_note_is_read() -> None:
    told = truth.note(
        "fa=1 hipblaslt=0 depth=4096; file_gib=33.31; scenario=offline; printed X; n_requests=1000; tok/s=99"
    )
    assert told == {"fa": "1", "hipblaslt": "0", "depth": "4096", "file_gib": "33.31", "n_requests": "1000"}


def test_answers_come_in_order_with_an_interval_around_them(tmp_path: Path, sample: list[dict[str, str]]) -> None:
    rows = list(csv.DictReader(answered(tmp_path, sample).splitlines()))
    assert [row["id"] for row in rows] == [line["id"] for line in sample]
    assert all(0 < float(row["p10"]) <= float(row["predicted"]) <= float(row["p90"]) for row in rows)
    assert not any(row["refused"] for row in rows)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("model", "nobody/nothing", "no model 'nobody/nothing'"),
        ("accelerator", "abacus-9000", "no accelerator 'abacus-9000'"),
        ("engine", "steam", "no facts for engine 'steam'"),
        ("lane", "nf4", "NF4 is not planned for serving"),
        ("lane", "int3", "no facts for engine"),
        ("load", "tidal", "no formula for"),
        ("isl", "many", "cannot be read"),
        ("concurrency", "", "needs concurrency"),
    ],
)
def test_what_is_unknown_is_refused_with_its_name(
    tmp_path: Path, sample: list[dict[str, str]], field: str, value: str, reason: str
) -> None:
    closed = next(line for line in sample if line["load"] == "closed")
    first, second = csv.DictReader(answered(tmp_path, [{**closed, field: value}, closed]).splitlines())
    assert reason in first["refused"]
    assert not first["predicted"]
    assert second["predicted"]


def test_a_missing_layout_is_the_best_of_all(tmp_path: Path) -> None:
    line = next(one for one in truth.read(TRUTH) if not one["tp"] and one["accelerators"] == "8")
    tried = [{**line, "tp": str(tensor), "dp": str(8 // tensor)} for tensor in (1, 2, 4, 8)]
    rows = list(csv.DictReader(answered(tmp_path, [line, *tried]).splitlines()))
    assert float(rows[0]["predicted"]) == max(float(row["predicted"]) for row in rows[1:])


def test_a_mean_over_requests_counts_short_answers_a_median_does_not(tmp_path: Path) -> None:
    line = next(one for one in truth.read(TRUTH) if one["load"] == "saturated" and one["metric"] == "tpot_ms")
    lines = [{**line, "stat": stat} for stat in ("mean", "p50")]
    mean, median = csv.DictReader(answered(tmp_path, lines).splitlines())
    assert float(mean["predicted"]) > float(median["predicted"])


def test_a_file_that_is_no_truth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,colour\n1,red\n")
    with pytest.raises(BadInput, match="columns missing: accelerator, engine, lane, metric, model"):
        predict.run("speed", tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_kind_without_formulas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no predictions of taste"):
        predict.run("taste", TRUTH, tmp_path / "out.csv")  # type: ignore[arg-type]
