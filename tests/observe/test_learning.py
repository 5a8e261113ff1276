"""What own measurements of speed do to plans: the same machine moves towards them, others stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from catalog.load import Catalog
from catalog.observation import Deviation, Observation, named
from catalog.parameters import Setup, classes
from planner import decode, ownspeed, search
from planner.observe import beside, deviations
from planner.ownspeed import Asked
from planner.plan import Estimate
from tests.plan.asking import catalog

LLAMA, OTHER = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-8B"
VLLM: dict[str, Any] = {
    "engine": "vllm", "engine_version": "0.33.0", "accelerator": "l40s", "lane": "fp8", "tensor": 1, "load": "closed",
    "prompt": 1000.0, "output": 200.0, "users": 16.0,
}  # fmt: skip
LLAMACPP: dict[str, Any] = {
    "engine": "llama.cpp", "engine_version": "0.3.36", "accelerator": "rtx4090", "lane": "gguf:Q4_K_M",
    "load": "batch1", "users": 1.0,
}  # fmt: skip
SERVED = ({"metric": "ttft_ms", "unit": "ms"}, {"metric": "tpot_ms", "unit": "ms"})
BENCHED = (
    {"metric": "decode_tok_s", "unit": "tokens/s", "output": 200.0},
    {"metric": "prefill_tok_s", "unit": "tokens/s", "prompt": 1000.0},
)


def measured(
    about: dict[str, Any], metrics: tuple[dict[str, Any], ...], decode: float, prefill: float
) -> tuple[Observation, ...]:
    """Five repeats that lie these factors of time from what the formulas say."""
    blank = {"id": "", "run": "", "model": LLAMA, "stat": "mean", "value": 1.0}
    rows = named(Observation(**{**blank, **about, **metric}) for metric in metrics)
    said = {one.id: one.predicted or 0.0 for one in beside.predicted_speed([*map(beside.speed_line, rows)], catalog())}
    factors = {"ttft_ms": prefill, "tpot_ms": decode, "decode_tok_s": 1 / decode, "prefill_tok_s": 1 / prefill}
    return named(
        replace(row, value=said[row.id] * factors[row.metric], repeats=5, sd=0.02 * said[row.id]) for row in rows
    )


def learned(rows: tuple[Observation, ...]) -> Catalog:
    return deviations.with_deviations(catalog().with_observations(rows))


def estimates(about: Catalog, **asked: Any) -> Mapping[str, Estimate]:
    """Of the plan for the measured deployment, or for what is asked instead."""
    given = {
        "model": LLAMA,
        "accelerator": "l40s",
        "engine": "vllm",
        "lane": "fp8",
        "users": 16,
        "prompt": 1000,
    } | asked
    request = {
        "model": given["model"],
        "workload": {
            "users": given["users"],
            "prompt_tokens": {"mean": given["prompt"]},
            "output_tokens": {"mean": 200},
        },
        "hardware": {"accelerators": [{"id": given["accelerator"], "count": 1}]},
        "lanes": [given["lane"]],
        "engines": [given["engine"]],
        "quality": {"max_loss_pct": 90},
    }
    choice = search.plan(decode.decode(json.dumps(request).encode()), about).choice
    assert choice is not None
    return choice.estimates


@cache
def unmoved(**asked: Any) -> Mapping[str, Estimate]:
    return estimates(catalog(), **asked)


def ratio(about: Catalog, name: str, **asked: Any) -> float:
    return estimates(about, **asked)[name].value / unmoved(**asked)[name].value


@pytest.mark.parametrize("factor", [0.7, 1.3, 2.0])
def test_a_machine_that_takes_so_much_longer_is_planned_so(factor: float) -> None:
    """Every time of the measured deployment within 3 %, and it says that it was measured."""
    about = learned(measured(VLLM, SERVED, factor, factor))
    for name in ("ttft_p50_s", "tpot_p50_s", "e2e_p95_s"):
        assert ratio(about, name) == pytest.approx(factor, rel=0.03)
        assert estimates(about)[name].basis == "measured"
    assert ratio(about, "requests_per_s_max") == pytest.approx(1 / factor, rel=0.03)


@pytest.mark.parametrize("factor", [0.7, 1.3, 2.0])
def test_llama_cpp_learns_from_llama_bench(factor: float) -> None:
    about = learned(measured(LLAMACPP, BENCHED, factor, factor))
    asked = {"accelerator": "rtx4090", "engine": "llama.cpp", "lane": "gguf:Q4_K_M", "users": 1}
    assert ratio(about, "tpot_p50_s", **asked) == pytest.approx(factor, rel=0.05)
    assert ratio(about, "requests_per_s", **asked) == pytest.approx(1 / factor, rel=0.05)


def test_prompts_and_decoding_move_apart() -> None:
    about = learned(measured(VLLM, SERVED, 1.5, 1.0))
    assert ratio(about, "tpot_p50_s") == pytest.approx(1.5, rel=0.03)
    assert ratio(about, "ttft_p50_s") < 1.15


def test_intervals_narrow_and_keep_what_no_run_settles() -> None:
    """At another number of users, with other bursts, something stays unknown."""
    mine = estimates(learned(measured(VLLM, SERVED, 1.0, 1.0)))
    for name in ("ttft_p95_s", "tpot_p95_s", "requests_per_s_max"):
        before, after = unmoved()[name], mine[name]
        assert after.value == pytest.approx(before.value, rel=0.01)
        assert 0.05 * before.value < after.high - after.low < 0.7 * (before.high - before.low)


def test_other_machines_and_engines_stay_to_the_digit() -> None:
    about = learned(measured(VLLM, SERVED, 2.0, 2.0))
    for asked in (
        {"accelerator": "h100-sxm5-80"},
        {"accelerator": "l4"},
        {"engine": "llama.cpp", "lane": "gguf:Q4_K_M", "users": 1},
    ):
        mine = estimates(about, **asked)
        assert mine == unmoved(**asked)


def test_neighbours_on_the_machine_move_most_of_the_way_and_are_not_called_measured() -> None:
    about = learned(measured(VLLM, SERVED, 1.5, 1.5))
    for asked in ({"lane": "bf16"}, {"model": OTHER}):
        assert 1.2 < ratio(about, "tpot_p50_s", **asked) < 1.5
        assert estimates(about, **asked)["tpot_p50_s"].basis == "fitted"


def test_more_repeats_count_more() -> None:
    rows = measured(VLLM, SERVED, 2.0, 2.0)
    noisy = tuple(replace(row, repeats=2, sd=0.8 * row.value) for row in rows)
    assert 1 < ratio(learned(noisy), "tpot_p50_s") < ratio(learned(rows), "tpot_p50_s")


def deviation(**fields: Any) -> Deviation:
    usual = {
        "accelerator": "l40s", "engine": "vllm", "version": "0.33.0", "lane": "fp8", "model": LLAMA, "prompt": 1000.0,
        "output": 200.0, "decode": 1.0, "prefill": 0.0, "deviation": 0.2, "noise": 1e-4,
    }  # fmt: skip
    return Deviation(**{**usual, **fields})


ASKED = Asked(
    accelerator="l40s", engine="vllm", version="0.33.0", lane="fp8", model=LLAMA, prompt=1000.0, output=200.0
)  # fmt: skip


def test_the_posterior_of_one_measurement_is_the_textbooks() -> None:
    """Mean = variance / (variance + noise) times what was measured."""
    spread = ownspeed.PRIORS[""][0]
    variance = spread.machine**2 + spread.case**2 + spread.length**2
    found = ownspeed.moved([deviation(noise=0.05)], ASKED)
    assert found.decode == pytest.approx(0.2 * variance / (variance + 0.05))
    assert found.prefill == 0
    assert found.measured


def test_a_machine_far_off_is_believed_rather_than_shrunk() -> None:
    found = ownspeed.moved([deviation(deviation=3.0)], ASKED)
    assert found.decode == pytest.approx(3.0, rel=0.001)
    near = ownspeed.moved([deviation()], ASKED)
    assert found.decode_settled == pytest.approx(near.decode_settled, abs=0.01)


def test_nothing_is_said_of_other_machines() -> None:
    for fields in ({"accelerator": "l4"}, {"engine": "sglang"}):
        assert ownspeed.moved([deviation(**fields)], ASKED) is ownspeed.STILL


def test_versions_decide_what_was_measured_not_what_is_learnt() -> None:
    found = ownspeed.moved([deviation(version="0.32.0")], ASKED)
    assert found.decode > 0.15
    assert not found.measured


def test_scaled_parameters_take_so_much_longer() -> None:
    setup = Setup(engine="vllm", generation="vllm-2026", lane="fp8", moe=False)
    kernel = next(kernel for kernel in catalog().engine("vllm").kernels if "fp8" in kernel.lanes)
    fitted = catalog().speed.resolve(classes(setup, kernel, catalog().accelerator("l40s")), "serving")
    moved = ownspeed.scaled(fitted, ownspeed.Moved(decode=0.5, prefill=-0.5))
    for name in ownspeed.DECODING + ownspeed.PROMPTS:
        sign = (1 if name in ownspeed.DECODING else -1) * (1 if name.endswith(ownspeed.COSTS) else -1)
        assert getattr(moved, name) == pytest.approx(getattr(fitted, name) * 2.718281828 ** (0.5 * sign))
    assert ownspeed.scaled(fitted, ownspeed.STILL) == fitted


def test_observations_of_models_that_nobody_knows_change_nothing() -> None:
    rows = named(replace(row, model="nobody/knows") for row in measured(VLLM, SERVED, 2.0, 2.0))
    assert learned(rows).deviations == ()
