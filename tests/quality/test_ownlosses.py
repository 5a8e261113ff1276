"""How own measurements move an estimate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from catalog.evidence import Evidence
from planner import quality
from planner.lanes import BY_ID
from tests.plan.asking import catalog

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
ASKED = quality.Asked(params=8.0e9, model=LLAMA, context=4096, typical=1250)


def own(loss_pct: float, **fields: object) -> Evidence:
    """A paired measurement of GPTQ on the user's own questions."""
    row = {
        "id": f"own-{loss_pct:g}", "citation": "own measurement", "url": "", "model": LLAMA, "params": 8.0e9,
        "method": "GPTQ_INT4", "lane": "gptq-int4", "recipe": "gptq", "task": "our questions",
        "task_family": "knowledge", "baseline": 80.0, "quantized": 80.0 * (1 - loss_pct / 100),
        "higher_is_better": True, "recovery": 100 - loss_pct, "grade": "A", "own": True,
    }  # fmt: skip
    return Evidence(**{**row, **fields})  # type: ignore[arg-type]


def estimate(
    *rows: Evidence, family: str = "knowledge", lane: str = "gptq-int4", asked: quality.Asked = ASKED
) -> quality.Loss:
    about = quality.known(replace(catalog(), evidence=(*catalog().evidence, *rows)))
    return quality.weight_loss(about, BY_ID[lane], BY_ID[lane].methods[0].recipe, asked, family)


@pytest.mark.parametrize("measured", [0.0, 1.0, 6.0, 12.0])
def test_an_own_measurement_outranks_what_others_found(measured: float) -> None:
    """The estimate moves most of the way, its interval narrows, and the plan says how much was settled."""
    before, after = estimate(), estimate(own(measured))
    assert abs(after.value - measured) < 0.5 * abs(before.value - measured)
    assert after.high - after.low < before.high - before.low
    assert after.own_share > 0.5
    assert "own measurement" in after.citations


def test_what_agrees_with_the_estimate_narrows_it_alone() -> None:
    before = estimate()
    after = estimate(own(before.value))
    assert after.value == pytest.approx(before.value, abs=0.02)
    assert after.high < before.high


def test_other_families_lanes_and_models_move_less() -> None:
    row, before = own(12.0), estimate()
    moves = [
        estimate(row).value - before.value,
        estimate(row, family="math").value - estimate(family="math").value,
        estimate(row, lane="awq-int4").value - estimate(lane="awq-int4").value,
    ]
    assert moves[0] > moves[1] > 0
    assert moves[0] > moves[2] > 0
    other = quality.Asked(params=70e9, model="meta-llama/Llama-3.1-70B-Instruct", context=4096, typical=1250)
    assert 0 < estimate(row, asked=other).value - estimate(asked=other).value < moves[2]


def test_a_noisy_benchmark_says_less() -> None:
    """Thirty problems settle less than fourteen thousand questions."""
    fine, coarse = estimate(own(12.0, task="MMLU")), estimate(own(12.0, task="AIME24"))
    assert fine.own_share > coarse.own_share
    assert fine.value > coarse.value


def test_repeats_settle_more_and_the_order_of_rows_nothing() -> None:
    first, second = own(1.0, task="AIME24"), own(1.0, task="AIME24", id="own-again")
    assert estimate(first, second).own_share > estimate(first).own_share
    assert estimate(first, second) == estimate(second, first)


def test_own_rows_of_a_cache_leave_weights_alone() -> None:
    row = own(9.0, lane="kv:fp8", method="KV_FP8_tensor", recipe="", kv_bits=8.0)
    assert estimate(row) == estimate()
    about = quality.known(replace(catalog(), evidence=(*catalog().evidence, row)))
    shipped = quality.cache_loss(quality.known(catalog()), "fp8", ASKED, "knowledge")
    assert quality.cache_loss(about, "fp8", ASKED, "knowledge").value > shipped.value


def test_published_rows_do_not_move_an_estimate_until_they_are_fitted() -> None:
    assert estimate(own(12.0, own=False)).value == estimate().value
