"""Predictions of recoveries: every row an answer or a reason, from the describing columns alone, in either spelling."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from catalog.load import DATA
from planner import measured
from planner.accuracy import predict_quality, quality_truth, spellings
from planner.accuracy.spellings import Words
from planner.cli import main
from tests.plan.asking import catalog

MEASURED = ("quantized_value", "quantized", "recovery_pct", "recovery", "note", "stderr_quantized", "stderr")
RENAMED = {
    "method": "method(lane)", "baseline": "baseline_value", "quantized": "quantized_value", "recovery": "recovery_pct",
    "stderr": "stderr_quantized",
}  # fmt: skip
Line = dict[str, str]


def shipped() -> list[Line]:
    with (DATA / "evidence.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def published(line: Mapping[str, str]) -> Line:
    """A row as the table it was taken from spells it: billions, contexts in words, no column of recipes."""
    found = {RENAMED.get(name, name): cell for name, cell in line.items()}
    found["params_b"] = f"{float(line['params']) / 1e9:.10g}" if line["params"] else ""
    found["context_tokens"] = line["context"] or line["context_tokens"]
    found["lane_family"] = spellings.group_of(line["method"])
    return {name: cell for name, cell in found.items() if name not in ("params", "context", "recipe")}


def write(path: Path, lines: Iterable[Mapping[str, str]]) -> Path:
    rows = list(lines)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def predicted(path: Path) -> bytes:
    out = path.with_suffix(".out")
    assert main(["predict", "quality", "--truth", str(path), "--out", str(out)]) == 0
    return out.read_bytes()


def test_every_row_is_answered_or_refused_with_a_reason(tmp_path: Path) -> None:
    lines = shipped()
    answers = predicted(write(tmp_path / "t.csv", lines)).decode().splitlines()
    assert answers[0] == "id,predicted,p10,p90,refused"
    assert len(answers) == len(lines) + 1 == 1336
    for line, row in zip(lines, csv.DictReader(answers), strict=True):
        assert row["id"] == line["id"]
        if row["refused"]:
            assert (row["predicted"], row["p10"], row["p90"]) == ("", "", "")
            assert line["task_family"] == "kld" or "delta" in line["task"], line
        else:
            assert 0 <= float(row["p10"]) < float(row["predicted"]) < float(row["p90"])


def test_what_was_measured_is_not_read(tmp_path: Path) -> None:
    lines = [published(line) for line in shipped()]
    whole = predicted(write(tmp_path / "a.csv", lines))
    blank = [{name: "" if name in MEASURED else cell for name, cell in line.items()} for line in lines]
    wrong = [{name: "1e9 of 7" if name in MEASURED else cell for name, cell in line.items()} for line in lines]
    assert predicted(write(tmp_path / "b.csv", blank)) == whole
    assert predicted(write(tmp_path / "c.csv", wrong)) == whole


def test_both_spellings_of_the_table_are_described_alike(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours.csv", shipped())
    theirs = write(tmp_path / "theirs.csv", [published(line) for line in shipped()])
    assert predicted(ours) == predicted(theirs)
    rows = quality_truth.rows(quality_truth.read(theirs), catalog(), "theirs.csv")
    for row, known in zip(rows, catalog().evidence, strict=True):
        assert measured.described(row.row, catalog().benchmarks) == measured.described(known, catalog().benchmarks)


def one(**cells: str) -> predict_quality.Prediction:
    line = {"id": "x", "model": "Qwen3-8B", "params_b": "8.2", "method(lane)": "AWQ_INT4", "task": "MMLU",
            "task_family": "knowledge", "baseline_value": "70"} | cells  # fmt: skip
    (row,) = quality_truth.rows([line], catalog(), "one.csv")
    return predict_quality.answer(row, catalog().severity, catalog().benchmarks)


def width(answer: predict_quality.Prediction) -> float:
    return (answer.p90 or 0.0) - (answer.predicted or 0.0)


@pytest.mark.parametrize("method", ["AWQ_INT4", "awq-int4", "AWQ INT4", "AutoAWQ W4A16"])
def test_an_unlisted_spelling_means_the_same(method: str) -> None:
    assert one(**{"method(lane)": method, "weight_bits": "4"}) == one(weight_bits="4")


def test_a_method_that_nobody_knows_is_predicted_by_its_bits_and_wider() -> None:
    four, two = (one(**{"method(lane)": "Foo", "weight_bits": bits}) for bits in ("4", "2"))
    assert (two.predicted or 0) < (four.predicted or 0) < 100
    assert width(four) / (100 - (four.predicted or 0)) > width(one()) / (100 - (one().predicted or 0))


def test_a_size_that_nobody_states_is_taken_from_the_name_or_assumed_and_wider() -> None:
    assert one(params_b="", model="acme/Foo-8.2B-Chat") == one(model="acme/Foo-8.2B-Chat")
    assert one(params_b="", model="Mixtral-8x7B") == one(params_b="56", model="Mixtral-8x7B")
    assumed, stated = one(params_b="", model="Foo"), one(params_b="8", model="Foo")
    assert assumed.predicted == stated.predicted
    assert width(assumed) > 1.2 * width(stated)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", None), ("short", None), ("short in / long out", None), ("2048", 2048), ("64000-128000", 96000),
     ("up to 64K gen", 64000), ("book-length (<=128K)", 128000), ("1M", 1000000), ("16k", 16000)],
)  # fmt: skip
def test_contexts_in_words(text: str, tokens: int | None) -> None:
    line = {"id": "x", "model": "m", "method(lane)": "AWQ_INT4", "task": "t", "task_family": "chat"}
    (row,) = quality_truth.rows([line | {"context_tokens": text}], catalog(), "")
    assert row.row.context_tokens == tokens


@pytest.mark.parametrize(
    ("said", "lane", "recipe"),
    [
        (Words(method="KV_INT4", kv_bits=4), "kv:int4", ""),
        (Words(method="q8_0 cache, Hadamard", group="KV"), "kv:q8_0", "rotation"),
        (Words(method="gguf q4_k_m"), "gguf:Q4_K_M", ""),
        (Words(method="GGUF_IQ3_XXS(imatrix)"), "gguf:IQ3_XXS", "imatrix"),
        (Words(method="GGUF_Q9_Z", group="GGUF"), "-", ""),
        (Words(method="GPTQ-Int8", weight_bits=8), "int8-w8a16", ""),
        (Words(method="GPTQ_INT4_g32", weight_bits=4), "gptq-int4", "gptq"),
        (Words(method="AWQ", weight_bits=3), "-", "awq"),
        (Words(method="INT8", activation_bits="8"), "int8-w8a8", ""),
        (Words(method="INT8", activation_bits="16"), "int8-w8a16", ""),
        (Words(method="Quark FP8"), "fp8", ""),
        (Words(method="SpinQuant W4A4"), "-", ""),
        (Words(method="mystery", group="NF4"), "nf4", ""),
    ],
)
def test_words_of_methods(said: Words, lane: str, recipe: str) -> None:
    found = spellings.meant(said, catalog().spellings)
    assert (found.lane, found.recipe) == (lane, recipe)


def test_the_granularity_of_scales_says_which_fp8_recipe_it_is() -> None:
    dynamic, static = (one(**{"method(lane)": "FP8_W8A8", "group_size": size}) for size in ("channel", "tensor"))
    assert dynamic.predicted != static.predicted


@pytest.mark.parametrize(
    ("cells", "reason"),
    [({"task_family": "kld", "task": "mean KLD"}, "a distance"), ({"task": "AIME delta (pts)"}, "a difference"),
     ({"baseline_value": "0.0"}, "a difference")],
)  # fmt: skip
def test_what_has_no_ratio_is_refused(cells: Line, reason: str) -> None:
    answer = one(**cells)
    assert answer.refused.startswith(reason)
    assert answer.predicted is None


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"params_b": "seven"}, "row x, column params_b: expected a number, found 'seven'"),
        ({"params_b": "-7"}, "row x, column params_b: expected a number above zero, found '-7'"),
        ({"params_b": "nan"}, "row x, column params_b: expected a number, found 'nan'"),
        ({"weight_bits": "four"}, "row x, column weight_bits: expected a number, found 'four'"),
        ({"baseline_value": "n/a"}, "row x, column baseline_value: expected a number, found 'n/a'"),
    ],
)
def test_errors_name_file_row_and_column(
    cells: Line, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"id": "x", "model": "m", "params_b": "8", "weight_bits": "4", "method(lane)": "AWQ_INT4", "task": "t",
            "task_family": "chat", "baseline_value": "70"} | cells  # fmt: skip
    path = write(tmp_path / "bad.csv", [line])
    assert main(["predict", "quality", "--truth", str(path), "--out", str(tmp_path / "o.csv")]) == 2
    assert capsys.readouterr().err == f"lanewise: {said} - at `{path}`\n"
    assert not (tmp_path / "o.csv").exists()


def test_missing_columns_and_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "bad.csv", [{"id": "x", "model": "m"}])
    assert main(["predict", "quality", "--truth", str(path), "--out", str(tmp_path / "o.csv")]) == 2
    assert "columns missing: method(lane), task, task_family" in capsys.readouterr().err
    assert main(["predict", "quality", "--truth", str(tmp_path / "no.csv"), "--out", str(tmp_path / "o.csv")]) == 2
    assert "no.csv" in capsys.readouterr().err
