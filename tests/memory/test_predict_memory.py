"""`predict memory` answers from the describing columns alone, in order, and refuses by name."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from catalog.load import DATA
from planner.accuracy import predict, truth

TRUTH = DATA / "truth" / "memory.csv"
LINES = truth.read(TRUTH)
BY_ID = {line["id"]: line for line in LINES}


def answered(tmp_path: Path, lines: list[dict[str, str]]) -> list[dict[str, str]]:
    with (tmp_path / "in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    predict.run("memory", tmp_path / "in.csv", tmp_path / "out.csv")
    return list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))


def one(tmp_path: Path, line: dict[str, str]) -> dict[str, str]:
    return answered(tmp_path, [line])[0]


def predicted(tmp_path: Path, name: str, **changed: str) -> float:
    return float(one(tmp_path, {**BY_ID[name], **changed})["predicted"])


def test_neither_the_value_nor_a_foreign_note_is_read(tmp_path: Path) -> None:
    read = re.compile(r"\bfa=1|\bMTP n=\d+")
    keys = {line["id"]: " ".join(read.findall(line["note"])) for line in LINES}
    blanked = [{**line, "value": "", "note": keys[line["id"]]} for line in LINES]
    assert answered(tmp_path, blanked) == answered(tmp_path, LINES)


def test_answers_come_in_order_with_an_interval_around_them(tmp_path: Path) -> None:
    rows = answered(tmp_path, LINES)
    assert [row["id"] for row in rows] == [line["id"] for line in LINES]
    for row in rows:
        assert bool(row["predicted"]) != bool(row["refused"])
        if row["predicted"]:
            assert 0 <= float(row["p10"]) <= float(row["predicted"]) <= float(row["p90"])


def test_starts_is_yes_or_no(tmp_path: Path) -> None:
    lines = [line for line in LINES if line["metric"] == "starts"]
    assert {row["predicted"] for row in answered(tmp_path, lines)} == {"0", "1"}


@pytest.mark.parametrize(
    ("name", "field", "value", "reason"),
    [
        ("V19-018-w", "model", "nobody/nothing", "no model 'nobody/nothing'"),
        ("V19-018-w", "accelerator", "abacus-9000", "no accelerator 'abacus-9000'"),
        ("V19-018-a", "accelerator", "", "needs an accelerator"),
        ("V19-018-w", "engine", "steam", "no formula for 'weights_gib' of engine 'steam'"),
        ("V19-018-w", "metric", "smell", "no formula for 'smell'"),
        ("V19-018-w", "lane", "gguf:Q4_K_M", "no facts for engine 'vllm' with lane 'gguf:Q4_K_M'"),
        ("V19-018-w", "lane", "int3", "no facts for engine"),
        ("V19-018-w", "tp", "many", "cannot be read"),
        ("V19-018-k", "kv_dtype", "fp3", "no facts for a cache of 'fp3'"),
        ("V19-018-k", "gpu_memory_utilization", "0.1", "too little memory"),
        ("LM-1280", "engine_version", "b6111", "which backend"),
        ("VM-0024", "max_model_len", "16000", "mostly below zero"),
    ],
)
def test_what_cannot_be_predicted_is_refused_with_its_reason(
    tmp_path: Path, name: str, field: str, value: str, reason: str
) -> None:
    first, second = answered(tmp_path, [{**BY_ID[name], field: value}, BY_ID["V19-018-w"]])
    assert reason in first["refused"]
    assert not first["predicted"]
    assert second["predicted"]


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("V19-006-t", 0.001),
        ("V19-006-c", 0.001),
        ("V19-011-w", 0.006),
        ("V19-011-t", 0.0015),
        ("V19-011-c", 0.0015),
        ("V19-019-t", 0.0005),
        ("V19-020-t", 0.0005),
        ("LM-1337", 1e-9),
        ("LM-1346", 1e-9),
        ("LM-1353", 1e-6),
        ("LM-0462", 1e-4),
        ("LM-0460", 1e-5),
        ("LM-0438", 0.0),
    ],
)
def test_what_can_be_exact_is_exact(tmp_path: Path, name: str, within: float) -> None:
    """Windows in groups, a stretched table of rotations, the fuller stage of a pipeline; tensors of GGUF files, the
    worst-case graph on two devices, a cache of 16-bit cells."""
    assert predicted(tmp_path, name) == pytest.approx(float(BY_ID[name]["value"]), rel=within)


def test_the_version_decides_more_than_the_model(tmp_path: Path) -> None:
    sorting = predicted(tmp_path, "V19-018-a", engine_version="0.11.0")
    assert sorting - predicted(tmp_path, "V19-018-a") > 2.5


def test_a_date_stands_for_the_version_of_its_time(tmp_path: Path) -> None:
    for said, version in {"May 2026 master": "0.21", "not stated (Dec 2024, V0)": "0.6"}.items():
        stated = one(tmp_path, {**BY_ID["V19-018-k"], "engine_version": version})
        assert one(tmp_path, {**BY_ID["V19-018-k"], "engine_version": said}) == stated


def test_what_is_not_stated_widens_the_interval(tmp_path: Path) -> None:
    def width(**changed: str) -> float:
        row = one(tmp_path, {**BY_ID["V19-018-k"], **changed})
        return float(row["p90"]) / float(row["p10"])

    stated = width()
    assert width(accelerator="a100-sxm4-80") > stated
    assert width(accelerator="a100-sxm4-80", max_num_seqs="") > width(accelerator="a100-sxm4-80")
    assert width(engine_version="not stated") > stated
    assert width(gpu_memory_utilization="") > stated


def test_fewer_sequences_leave_more_room(tmp_path: Path) -> None:
    pools = [predicted(tmp_path, "V19-018-k", max_num_seqs=str(slots)) for slots in (1024, 256, 64)]
    assert pools == sorted(pools)
    assert pools[0] < pools[-1]


def test_weights_need_no_device(tmp_path: Path) -> None:
    (row,) = answered(tmp_path, [BY_ID["V19-018-w"] | {"accelerator": ""}])
    (known,) = answered(tmp_path, [BY_ID["V19-018-w"]])
    assert row["predicted"] == known["predicted"]
