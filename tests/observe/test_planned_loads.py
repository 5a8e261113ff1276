"""Measured loads of plans: plans of the same machine move to what they show, sizes to what a log printed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from catalog.load import Catalog, load
from catalog.observation import Observation, named
from planner import decode, ownspeed, replayed, search, service
from planner.fits import Shifted
from planner.observe import deviations, receipts, replays
from planner.observe.deployment import Said, deployment
from planner.observe.observed import observations
from planner.plan import Estimate
from planner.proving.receipt import Receipt
from tests.plan.asking import catalog

MODEL, ACCELERATOR, LANE = "meta-llama/Llama-3.2-1B-Instruct", "epyc-9755", "gguf:Q8_0"
ROW = Observation(
    id="", run="", metric="ttft_ms", stat="p50", value=1.0, unit="ms", repeats=5, engine="llama.cpp",
    engine_version="0.3.36", model=MODEL, accelerator=ACCELERATOR, lane=LANE, kv_dtype="f16", context=8192.0,
    sequences=8.0, batched_tokens=512.0, load=replayed.LOAD, prompt=300.0, prompt_p95=600.0, output=100.0,
    output_p95=200.0, burstiness=1.0, users=2.0, flash_attention="1",
)  # fmt: skip
PRINTED = (("ttft_ms", "ms", "p50"), ("tpot_ms", "ms", "p50"), ("output_tok_s", "tokens/s", "mean"))
SHOWN = {"ttft_ms": "ttft_p50_s", "tpot_ms": "tpot_p50_s"}


def rows(decode: float, prefill: float, row: Observation = ROW) -> tuple[Observation, ...]:
    """What a machine would have measured whose parameters lie these factors of time from the fitted ones."""
    of = replays.of(row, catalog())
    assert of is not None
    by = ownspeed.Moved(decode=math.log(decode), prefill=math.log(prefill))
    said = of.shown(Shifted(catalog().speed, by))
    return named(
        replace(row, metric=metric, value=said[metric], sd=0.02 * said[metric], unit=unit, stat=stat)
        for metric, unit, stat in PRINTED
        if metric in said
    )


def learned(found: tuple[Observation, ...], facts: Catalog | None = None) -> Catalog:
    return deviations.with_deviations((facts or catalog()).with_observations(found))


def estimates(about: Catalog, **asked: Any) -> Mapping[str, Estimate]:
    given = {"model": MODEL, "accelerator": ACCELERATOR, "lane": LANE, "users": 2} | asked
    work = {"users": given["users"]} if given["users"] else {"qps": given["qps"]}
    request = {
        "model": given["model"], "simulate": True,
        "workload": work | {
            "prompt_tokens": {"mean": 300, "p95": 600}, "output_tokens": {"mean": 100, "p95": 200},
            "context_tokens_max": given.get("context", 1024),
        },
        "hardware": {"accelerators": [{"id": given["accelerator"], "count": 1, "host_ram_gib": 64}]},
        "lanes": [given["lane"]], "engines": ["llama.cpp"], "quality": {"max_loss_pct": 90},
    }  # fmt: skip
    choice = search.plan(decode.decode(json.dumps(request).encode()), about).choice
    assert choice is not None
    return choice.estimates


@pytest.mark.parametrize(("decode", "prefill"), [(0.5, 0.5), (2.0, 1.0), (1.0, 3.0), (0.3, 2.0)])
def test_a_plan_shows_what_was_measured_under_its_own_load(decode: float, prefill: float) -> None:
    """Within 3 % of medians and of the rate, prompts and decoding apart."""
    found = rows(decode, prefill)
    mine = estimates(learned(found))
    for row in found:
        if row.metric in SHOWN:
            assert 1e3 * mine[SHOWN[row.metric]].value == pytest.approx(row.value, rel=0.03)
            assert mine[SHOWN[row.metric]].basis == "measured"
    rate = next(row.value for row in found if row.metric == "output_tok_s") / 100
    assert mine["requests_per_s"].value == pytest.approx(rate, rel=0.03)


def test_what_a_plan_shows_is_what_the_replay_predicts() -> None:
    """Without any measurement: the same formulas, the same simulation."""
    before = estimates(catalog())
    for row in rows(1.0, 1.0):
        if row.metric in SHOWN:
            assert row.value == pytest.approx(1e3 * before[SHOWN[row.metric]].value, rel=1e-4)


def test_open_loads_are_learnt_from_as_well() -> None:
    found = rows(0.5, 0.5, replace(ROW, users=0.0, rate=0.5, sequences=16.0, context=16384.0))
    assert {row.metric for row in found} == {"ttft_ms", "tpot_ms"}
    mine, before = (estimates(about, users=0, qps=0.5) for about in (learned(found), catalog()))
    assert mine["tpot_p50_s"].value / before["tpot_p50_s"].value == pytest.approx(0.5, rel=0.05)


def test_other_machines_stay_to_the_digit_and_without_measurements_everything_does() -> None:
    about = learned(rows(0.5, 2.0))
    for asked in ({"accelerator": "l4"}, {"accelerator": "epyc-9654"}):
        assert estimates(about, **asked) == estimates(catalog(), **asked)
    assert estimates(about.unmeasured) == estimates(catalog())
    assert about.digest != catalog().digest
    assert about.unmeasured.digest == catalog().digest


def test_a_load_that_formulas_do_not_carry_changes_nothing() -> None:
    row = named([replace(ROW, users=0.0, rate=1e6)])
    about = learned(row)
    assert about.deviations == ()
    assert estimates(about) == estimates(catalog())


SIZE = replace(
    ROW, metric="compute_buffer_mib", stat="", unit="MiB", value=50.0, load="", users=0.0, prompt=0.0, output=0.0,
    prompt_p95=0.0, output_p95=0.0, burstiness=0.0,
)  # fmt: skip
MIB = 2.0**20


def test_sizes_of_the_same_deployment_replace_their_estimates() -> None:
    sizes = named([SIZE, replace(SIZE, metric="model_buffer_mib", value=1300.0)])
    before, mine = estimates(catalog()), estimates(learned(sizes))
    assert mine["activation_bytes"].value == pytest.approx(50 * MIB, rel=1e-5)
    assert mine["weight_bytes"].value == pytest.approx(1300 * MIB, rel=1e-5)
    assert mine["activation_bytes"].basis == mine["weight_bytes"].basis == "measured"
    assert mine["activation_bytes"].high - mine["activation_bytes"].low == pytest.approx(0.01 * MIB, rel=0.01)
    taken = sum(mine[name].value - before[name].value for name in ("activation_bytes", "weight_bytes"))
    assert mine["kv_pool_bytes"].value == pytest.approx(before["kv_pool_bytes"].value - taken, rel=1e-5)
    changed = {name for name in mine if mine[name] != before[name]}
    assert changed == {"activation_bytes", "weight_bytes", "kv_pool_bytes"}


def test_a_graph_of_another_context_or_batch_keeps_its_law_and_weights_do_not_care() -> None:
    sizes = named([SIZE, replace(SIZE, metric="model_buffer_mib", value=1300.0)])
    for asked in ({"context": 2048}, {"users": 0, "qps": 0.05}):
        before, mine = estimates(catalog(), **asked), estimates(learned(sizes), **asked)
        assert mine["activation_bytes"] == before["activation_bytes"]
        assert mine["weight_bytes"].basis == "measured"


@pytest.mark.parametrize(
    "other",
    [{"accelerator": "epyc-9654"}, {"engine_version": "b10068"}, {"lane": "gguf:Q4_K_M"}, {"accelerators": 2},
     {"model": "meta-llama/Llama-3.2-3B-Instruct"}],
)  # fmt: skip
def test_sizes_of_anything_else_change_nothing(other: dict[str, Any]) -> None:
    assert estimates(learned(named([replace(SIZE, **other)]))) == estimates(catalog())


def test_a_receipt_without_a_served_load_has_nothing_to_keep() -> None:
    """The kept ones were made without serving."""
    kept = sorted((Path(__file__).parents[2] / "docs" / "receipts").glob("gguf-*.json"))
    made = [msgspec.json.decode(path.read_bytes(), type=Receipt) for path in kept]
    assert made
    for each in made:
        if each.served is None:
            reading = receipts.reading(each, "receipt.json")
            assert reading.numbers == ()
            assert observations([reading], deployment(reading, Said(), catalog())) == ()


def test_the_digest_of_kept_rows_survives_writing_and_reading(tmp_path: Path) -> None:
    from catalog import overlay

    found = rows(0.5, 2.0)
    overlay.add_observations(tmp_path, found)
    assert {row.id: row for row in load(overlay=tmp_path).observations} == {row.id: row for row in found}
    assert service.encode(load(overlay=tmp_path).observations) == service.encode(
        tuple(sorted(found, key=lambda row: row.id))
    )
