"""Verdicts on losses, argued from named rows: each holds as shipped, and turns when its rows are edited."""

from __future__ import annotations

import csv
import io
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog.load import DATA, Catalog, load
from planner.accuracy.quality_fit import refit
from planner.search import search
from tests.plan.asking import ask, catalog, device

CASES: dict[str, dict[str, Any]] = {
    case["id"]: case
    for case in tomllib.loads((Path(__file__).parents[1] / "cases" / "quality.toml").read_text())["case"]
}
DEVICES = 8


def verdict(case: dict[str, Any], facts: Catalog) -> str:
    """ "ships", or the rule of quality that refuses the first format of the cache, or the one asked for."""
    workload = {"qps": 0.05, "mix": case["mix"], "context_tokens_max": case["context"]}
    request = ask(
        case["model"],
        device(case["on"], DEVICES),
        workload=workload,
        lanes=[case["lane"]],
        quality={"max_loss_pct": case["max_loss_pct"]},
    )
    found = search(request, facts)
    kept = found.options.kept
    if any(option.cached.dtype == case.get("cache", option.cached.dtype) for option in kept):
        return "ships"
    return next(finding.rule for _, finding in found.options.refused if finding.rule.startswith("Q"))


def edited(case: dict[str, Any], folder: Path) -> Catalog:
    """The catalogue under an overlay in which the named rows recovered something else, with the law fitted again."""
    rows = list(csv.DictReader(io.StringIO((DATA / "evidence.csv").read_text())))
    named = [changed(row, case["set_recovery"]) for row in rows if row["id"] in case["rows"]]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(named)
    (folder / "evidence.csv").write_text(table.getvalue())
    facts = load(overlay=folder)
    return replace(facts, severity=refit(facts))


def changed(row: dict[str, str], recovery: float) -> dict[str, str]:
    share = recovery / 100 if row["higher_is_better"] == "1" else 100 / recovery
    return {**row, "quantized": str(float(row["baseline"]) * share), "recovery": str(recovery)}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_the_one_argued(name: str) -> None:
    assert verdict(CASES[name], catalog()) == CASES[name]["verdict"]


@pytest.mark.parametrize("name", CASES)
def test_editing_the_named_rows_turns_the_verdict(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    after = verdict(case, edited(case, tmp_path))
    assert (after == "ships") is (case["verdict"] != "ships")


def test_there_are_enough_cases_of_every_kind() -> None:
    lanes = {case["lane"] for case in CASES.values()} | {case.get("cache", "") for case in CASES.values()}
    assert len(CASES) >= 30
    assert {
        "fp8",
        "int8-w8a8",
        "awq-int4",
        "gptq-int4",
        "w4a16",
        "nvfp4",
        "mxfp4",
        "gguf:Q4_K_M",
        "q8_0",
        "q4_0",
    } <= lanes
    assert {family for case in CASES.values() for family in case["mix"]} >= {
        "chat", "code", "math", "reasoning", "knowledge", "instruction", "multilingual", "long_context",
    }  # fmt: skip
    assert {8192, 32768, 65536, 131072} <= {case["context"] for case in CASES.values()}
    refused = [case for case in CASES.values() if case["verdict"] != "ships"]
    assert 10 <= len(refused) <= len(CASES) - 10


def test_every_named_row_exists_and_counts() -> None:
    rows = {row.id: row for row in catalog().evidence}
    for case in CASES.values():
        assert all(rows[name].counts for name in case["rows"])
        assert case["because"]
