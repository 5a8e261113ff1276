"""Limits of quality are data: sourced or marked as assumed, in order, for every family; medians are recomputed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from statistics import median

import pytest

from catalog import gates
from catalog.errors import BadInput
from catalog.gates import Benchmark, Limit
from catalog.load import DATA, load
from planner.request import FAMILIES
from tests.plan.asking import ask, device, planned

CATALOG = load()
GATES = CATALOG.gates
TEXT = (DATA / gates.FILE).read_bytes()
ROWS = {row.id: row for row in CATALOG.evidence}
CITED = re.compile(r"quality evidence §\d|Q\d{4}|arXiv|README|data card|et al\.")


@pytest.mark.parametrize("limit", GATES.limits, ids=lambda each: f"{each.gate}-{each.statistic}")
def test_a_limit_has_a_source_or_says_that_it_is_assumed(limit: Limit) -> None:
    assert limit.source.startswith("assumed") == limit.assumed
    assert limit.assumed or CITED.search(limit.source)


@pytest.mark.parametrize("name", [field for field in GATES.scoring.__struct_fields__ if not field.startswith("source")])
def test_a_constant_has_a_source_or_says_that_it_is_assumed(name: str) -> None:
    source = GATES.scoring.source_of(name)
    assert "assumed" in source or CITED.search(source)


def test_cited_rows_exist_and_count() -> None:
    sources = [each.source for each in (*GATES.limits, *GATES.benchmarks, *GATES.tolerances)]
    sources += GATES.scoring.sources.values()
    cited = {row for source in sources for row in re.findall(r"Q\d{4}", source)}
    cited |= {row for each in GATES.benchmarks for row in each.rows}
    assert len(cited) > 60
    assert [row for row in sorted(cited) if row not in ROWS or not ROWS[row].counts] == []


def test_every_family_of_the_contract_has_a_benchmark() -> None:
    assert {each.family for each in GATES.benchmarks} == set(FAMILIES)


@pytest.mark.parametrize("row", [each for each in GATES.benchmarks if each.rows], ids=lambda each: each.name)
def test_a_typical_score_is_the_median_of_its_rows(row: Benchmark) -> None:
    measured = [ROWS[each] for each in row.rows]
    percent = [each.baseline if each.baseline > 1.5 else 100 * each.baseline for each in measured]
    assert row.baseline == pytest.approx(median(percent), abs=0.05)
    assert {each.task_family for each in measured} <= {row.family, "knowledge"}
    assert len({(each.citation, each.task, each.baseline) for each in measured}) == len(measured)


@pytest.mark.parametrize(
    ("tolerance", "grade"), [(0.0, "strict"), (1.0, "strict"), (1.01, "normal"), (3.0, "normal"), (6.0, "loose")]
)
def test_the_class_is_the_strictest_that_covers_the_tolerance(tolerance: float, grade: str) -> None:
    found = GATES.covering(tolerance)
    assert found is not None
    assert found.id == grade
    assert GATES.covering(6.01) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ("window_tokens = 512", "window_tokens = 0", "positive counts"),
        ("discordant_share = 0.08", "discordant_share = 8.0", "shares above 0"),
        ("up_to_pct = 3.0", "up_to_pct = 0.5", "wider ones after stricter ones"),
        ("normal = 0.035", "normal = 0.35", "a looser class is stricter"),
        ("normal = 91.0", "normal = 97.0", "a looser class is stricter"),
        ('rows = ["Q1045", "Q1430"]', "", "a baseline with its rows"),
        ("items = 880", "items = 0", "at least one item"),
        ("strict = 1.005", 'strict = "1.005"', "Expected `float`"),
        ("strict = 1.005", "strikt = 1.005", "unknown field `strikt`"),
        ('bound = "upper"', 'bound = "middle"', "Invalid enum value"),
    ],
)
def test_a_spoilt_file_is_refused_by_name(ours: str, theirs: str, said: str) -> None:
    spoilt = TEXT.decode().replace(ours, theirs, 1)
    assert spoilt != TEXT.decode()
    with pytest.raises(BadInput, match=said) as caught:
        gates.decode(spoilt.encode(), "mine/gates.toml")
    assert "mine/gates.toml" in str(caught.value)


def test_a_users_file_replaces_ours_whole_and_moves_the_threshold(tmp_path: Path) -> None:
    own = TEXT.decode().replace("normal = 0.035", "normal = 0.02", 1)
    (tmp_path / gates.FILE).write_text(own, encoding="utf-8")
    mine = load(overlay=tmp_path)
    assert mine.gates.of("kld_mean")[0].normal == 0.02
    assert mine.digest != CATALOG.digest
    asked = ask("meta-llama/Llama-3.1-8B-Instruct", device("h100-sxm5-80"), lanes=["fp8"])
    choice = planned(asked, mine).choice
    assert choice is not None
    assert choice.verification is not None
    held = {gate.id: gate.thresholds[0].value for gate in choice.verification.gates}
    assert held["kld_mean"] == 0.02


def test_a_catalogue_without_limits_says_so(tmp_path: Path) -> None:
    data = Path(shutil.copytree(DATA, tmp_path / "data", ignore=shutil.ignore_patterns("truth")))
    (data / gates.FILE).unlink()
    with pytest.raises(BadInput, match="no limits of quality"):
        load(data)
