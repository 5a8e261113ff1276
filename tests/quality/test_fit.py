"""The fit of the law of losses: what it weighs, what it leaves out, and that the shipped file is what it finds."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from catalog import overlay, quality_parameters
from catalog.evidence import Evidence
from catalog.load import DATA, QUALITY, Catalog, load
from catalog.quality_parameters import SeverityParameters
from planner import measured, quality, severity
from planner.accuracy import quality_fit
from planner.accuracy.quality_fit import GAIN, Design
from planner.cli import main
from planner.lanes import BY_ID
from planner.severity import Setting, Treatment
from tests.plan.asking import ask, catalog, device, planned

pytest.importorskip("scipy")
FAMILIES = ("knowledge", "reasoning", "math", "code", "instruction", "chat", "multilingual", "long_context")
LANES = ("fp8", "int8-w8a8", "awq-int4", "gptq-int4", "w4a16", "nvfp4", "gguf:Q4_K_M", "gguf:Q8_0")
FOUR_BIT = ("awq-int4", "gptq-int4", "w4a16", "nvfp4", "mxfp4", "nf4", "gguf:Q4_K_M", "gguf:IQ4_XS")
BIGGEST = "Mekala et al. 2025"


def lane(name: str) -> Treatment:
    return severity.of_lane(BY_ID[name], BY_ID[name].methods[0].recipe)


def loss(fitted: SeverityParameters, what: Treatment, params: float, family: str, context: float = 0.0) -> float:
    where = Setting(params=params, family=family, context=context, hard=fitted.hard(family))
    return severity.severity(fitted, what, where).loss


def of(evidence: list[Evidence]) -> Catalog:
    return replace(catalog(), evidence=tuple(evidence))


# ---- the file --------------------------------------------------------------------------------------------------------


def test_the_shipped_file_is_what_the_fit_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANEWISE_CATALOG_DIR", str(tmp_path / "none"))
    out = tmp_path / "new" / "parameters.toml"
    assert main(["fit-quality", "--out", str(out)]) == 0
    assert out.read_bytes() == (DATA / QUALITY).read_bytes(), "write it again: lanewise fit-quality --out …"


def test_the_same_rows_give_the_same_fit_from_wherever_the_search_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, losses = measured.of_catalog(catalog())
    one, other = (quality_fit.fit(rows, losses) for _ in range(2))
    assert (one.theta == other.theta).all()
    monkeypatch.setattr(quality_fit, "BELIEVING", 10.0)
    again = quality_fit.fit(rows, losses)
    assert np.abs(again.theta - one.theta).max() < 1e-9
    assert (again.noise, again.floor, again.share) == pytest.approx((one.noise, one.floor, one.share), abs=1e-9)


@pytest.mark.parametrize("freedom", [4.0, 1000.0])
def test_slopes_and_bends_are_those_of_the_cost(freedom: float) -> None:
    design = Design.of(*measured.of_catalog(catalog()))
    posterior, step = quality_fit._Posterior(design), 1e-5
    away, along = (np.sin(np.arange(len(design.names) + 3) * pace) for pace in (0.7, 1.3))
    ahead, behind = away + step * along, away - step * along
    gained = (posterior.cost(ahead, freedom) - posterior.cost(behind, freedom)) / (2 * step)
    assert posterior.gradient(away, freedom) @ along == pytest.approx(gained, rel=1e-6)
    turned = (posterior.gradient(ahead, freedom) - posterior.gradient(behind, freedom)) / (2 * step)
    assert posterior.bend(away, along, freedom) == pytest.approx(turned, rel=1e-4, abs=1e-4)


def test_the_search_ends_where_the_gradient_is_flat() -> None:
    found = quality_fit.fit(*measured.of_catalog(catalog()))
    posterior, design = quality_fit._Posterior(found.design), found.design
    away = np.append((found.theta - design.prior) / design.sd, (found.shares - posterior.start) / quality_fit.SHARES_SD)
    assert np.abs(posterior.gradient(away, quality_fit.FREEDOM)).max() < 1e-9


# ---- which rows, and how much they weigh -----------------------------------------------------------------------------


def test_grade_c_and_own_measurements_change_nothing() -> None:
    spoiled = [msgspec.structs.replace(row, recovery=1.0) if row.grade == "C" else row for row in catalog().evidence]
    own = [msgspec.structs.replace(row, id=f"own-{row.id}", recovery=1.0, own=True) for row in catalog().evidence[:50]]
    changed = of([*spoiled, *own])
    assert spoiled != list(catalog().evidence)
    assert measured.digest(changed) == measured.digest(catalog())
    assert quality_fit.refit(changed) == quality_fit.refit(catalog())


@pytest.mark.parametrize(
    "cells", [{"recovery": math.nan}, {"params": 0.0}, {"params": -8e9}, {"params": None}], ids=str
)
def test_rows_that_have_no_ratio_or_no_size_are_not_fitted(cells: dict[str, float]) -> None:
    (row,) = (row for row in catalog().evidence if row.id == "Q0003")
    changed = of([*catalog().evidence, msgspec.structs.replace(row, id="broken", **cells)])
    assert measured.digest(changed) == measured.digest(catalog())


def test_a_source_weighs_as_twice_the_root_of_its_rows() -> None:
    rows, losses = measured.of_catalog(catalog())
    design, counts = Design.of(rows, losses), Counter(row.source for row in rows)
    assert len(counts) == catalog().severity.sources
    for name, count in counts.items():
        weight = sum(w for w, row in zip(design.weight, rows, strict=True) if row.source == name)
        assert weight == pytest.approx(GAIN * math.sqrt(count))


def test_a_source_that_repeats_its_rows_fivefold_moves_little() -> None:
    """The largest source then weighs 2.2 times, not five times; estimates move by less than a third of their spread."""
    again = [
        msgspec.structs.replace(row, id=f"{row.id}-{copy}")
        for row in catalog().evidence
        for copy in range(5 if row.citation.startswith(BIGGEST) else 1)
    ]
    before, after = catalog().severity, quality_fit.refit(of(again))
    assert after.rows > before.rows + 1000
    for name in LANES:
        for family in FAMILIES:
            where = Setting(params=8e9, family=family, context=32768.0, hard=before.hard(family))
            old, new = (severity.severity(fitted, lane(name), where) for fitted in (before, after))
            assert abs(old.loss - new.loss) < old.spread / 3, (name, family)


def test_intervals_are_those_of_the_fitted_errors() -> None:
    """The quantiles that plans use belong to the degrees of freedom that the file states."""
    from scipy.stats import t

    freedom = catalog().severity.freedom
    assert pytest.approx(t.ppf([0.9, 0.75], freedom), abs=1e-9) == [quality.T80, quality.T75]


def test_losses_of_weights_and_cache_stay_losses() -> None:
    """Nobody loses more than everything, however much each loses alone."""
    much = quality.Loss(value=80.0, low=60.0, high=100.0, likely=90.0, sources=1, citations=("assumed",))
    both = quality.together(much, much)
    assert (both.value, both.likely, both.high) == (100.0, 100.0, 100.0)
    assert 0 <= both.low <= both.value


# ---- what the law says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [1.5e9, 8e9, 70e9])
@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_bits_never_lose_less_in_the_same_format(family: str, params: float) -> None:
    fitted = catalog().severity
    for name in ("w4a16", "gguf:Q4_K_M", "nvfp4"):
        bits = [8.5, 8.0, 6.5, 5.5, 5.0, 4.5, 4.0, 3.5, 3.0, 2.5, 2.0]
        losses = [loss(fitted, msgspec.structs.replace(lane(name), weight_bits=b), params, family) for b in bits]
        assert losses == sorted(losses), name
    caches = [Treatment(kind="kv", way="kv:x", cache_bits=b) for b in (8.5, 8.0, 6.0, 4.5, 4.0, 3.0, 2.0)]
    losses = [loss(fitted, what, params, family) for what in caches]
    assert losses == sorted(losses)


def test_a_coarser_gguf_type_never_loses_less() -> None:
    order = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K", "IQ2_XXS", "IQ1_S"]
    for params in (1.5e9, 8e9, 70e9):
        losses = [loss(catalog().severity, lane(f"gguf:{kind}"), params, "chat") for kind in order]
        assert losses == sorted(losses)


@pytest.mark.parametrize("family", FAMILIES)
def test_larger_models_never_lose_more_within_a_size_bucket(family: str) -> None:
    for name in LANES:
        for sizes in ((0.3, 0.6, 1), (1.1, 3, 4.5), (4.6, 8, 15), (16, 30, 50), (51, 70, 120), (121, 405, 1000)):
            losses = [loss(catalog().severity, lane(name), size * 1e9, family) for size in sizes]
            assert losses == sorted(losses, reverse=True), (name, sizes)


@pytest.mark.parametrize("family", FAMILIES)
def test_buckets_of_sizes_step_up_by_less_than_they_fall_over_two(family: str) -> None:
    """Buckets deviate from the slope as their sources measured: at 15B up to 1.7 times, but not over two buckets."""
    middles = (0.6, 3.0, 8.0, 30.0, 70.0, 400.0)
    for name in LANES:
        losses = [loss(catalog().severity, lane(name), size * 1e9, family) for size in middles]
        assert all(later < earlier for earlier, later in zip(losses, losses[2:], strict=False)), (name, losses)
        for bound in severity.SIZES:
            below, above = (loss(catalog().severity, lane(name), bound * by, family) for by in (0.999, 1.001))
            assert above < 1.7 * below, (name, bound)


@pytest.mark.parametrize("name", FOUR_BIT)
@pytest.mark.parametrize("family", ["long_context", "multilingual"])
def test_longer_documents_never_lose_less_at_four_bits(name: str, family: str) -> None:
    contexts = (0, 8192, 16384, 32768, 65536, 131072)
    losses = [loss(catalog().severity, lane(name), 8e9, family, context) for context in contexts]
    assert losses == sorted(losses)
    assert losses[-1] > losses[0]


# ---- a user's own rows -----------------------------------------------------------------------------------------------


def test_edited_rows_and_a_refit_change_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four bits that lost a fifth more than published: the 70B model no longer ships in them."""
    four = ("awq-int4", "gptq-int4", "w4a16")
    monkeypatch.setenv("LANEWISE_CATALOG_DIR", str(tmp_path))
    request = ask(
        "meta-llama/Llama-3.1-70B-Instruct", device("l40s"), workload={"qps": 0.05, "context_tokens_max": 4096}
    )
    before = planned(request)
    assert before.choice is not None
    assert before.choice.lane in four
    written = [row for row in catalog().evidence if row.lane in four and row.recovery is not None]
    overlay.add(tmp_path, written[0])
    path, rows = tmp_path / "evidence.csv", [spoiled(row) for row in written]
    header = path.read_text(encoding="utf-8").splitlines()[0]
    path.write_text("\n".join([header, *(_csv(row, header.split(",")) for row in rows)]) + "\n", encoding="utf-8")
    edited = load(overlay=tmp_path)
    assert measured.stale(edited)
    assert main(["fit-quality", "--out", str(tmp_path / QUALITY)]) == 0
    refitted = load(overlay=tmp_path)
    assert not measured.stale(refitted)
    after = planned(request, refitted)
    assert after.choice is None or after.choice.lane not in four


def spoiled(row: Evidence) -> Evidence:
    by = 0.8 if row.higher_is_better else 1.25
    return msgspec.structs.replace(row, quantized=row.quantized * by, recovery=(row.recovery or 0) * 0.8)


def _csv(row: Evidence, columns: list[str]) -> str:
    import csv
    import io

    line = io.StringIO()
    cells = {name: getattr(row, name) for name in columns}
    csv.writer(line, lineterminator="").writerow(
        "" if cell is None else int(cell) if isinstance(cell, bool) else cell for cell in cells.values()
    )
    return line.getvalue()


def test_the_shipped_parameters_are_not_stale() -> None:
    assert not measured.stale(catalog())
    moved = [msgspec.structs.replace(row, recovery=50.0) if row.id == "Q0003" else row for row in catalog().evidence]
    assert measured.stale(of(moved))


def test_the_parameter_file_reads_back_as_it_was_written() -> None:
    fitted = catalog().severity
    assert quality_parameters.decode(quality_parameters.text(fitted).encode(), "x") == fitted
