"""Laws of step and prompt time: physics bounds them, more of anything never makes them shorter."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.speed import (
    Rates,
    Work,
    cache_s,
    decode_step_s,
    decoding,
    expert_coverage,
    matrix_s,
    mixed_step_s,
    pass_token_s,
    prefill_s,
    prompt_token_s,
    stage_s,
    unpack_s,
    weight_s,
)
from planner.trace import Array, Num, derivation
from tests.speed.deployments import rates, works

BYTE, FLOP, SECOND = {"byte": 1}, {"flop": 1}, {"s": 1}
PER_SECOND = {"byte": 1, "s": -1}, {"flop": 1, "s": -1}
UNITS = {
    "dense_bytes": BYTE, "expert_bytes": BYTE, "cache_bytes_per_token": BYTE, "cache_bytes_fixed": BYTE,
    "exchange_bytes_per_token": BYTE, "flops_per_token": FLOP, "expert_flops": FLOP, "attention_flops": FLOP,
    "bandwidth": PER_SECOND[0], "link_bandwidth": PER_SECOND[0], "matrix_peak": PER_SECOND[1],
    "attention_peak": PER_SECOND[1], "scalar_peak": PER_SECOND[1],
    "step_s": SECOND, "layer_s": SECOND, "sequence_s": SECOND, "exchange_s": SECOND,
}  # fmt: skip
batches = st.integers(1, 2000).map(float)
tokens = st.integers(1, 200_000).map(float)


def as_arrays(terms: Any) -> Any:
    """Every number as an array of one."""
    return type(terms)(**{field.name: _array(getattr(terms, field.name)) for field in fields(terms)})


def as_traced(terms: Any) -> Any:
    """Every number with its name and unit."""
    made = {f.name: Num(getattr(terms, f.name), UNITS.get(f.name, {}), name=f.name) for f in fields(terms)}
    return type(terms)(**made)


def _array(x: float) -> Array:
    return np.array([x])


@given(works, rates, batches, tokens)
def test_a_step_never_reads_faster_than_the_memory(
    work: Work[float], able: Rates[float], batch: float, context: float
) -> None:
    cache = batch * (work.cache_bytes_per_token * context + work.cache_bytes_fixed)
    assert decode_step_s(work, able, batch, context) >= (work.dense_bytes + cache) / able.bandwidth


@given(works, rates, batches, tokens)
def test_a_step_never_multiplies_faster_than_the_dense_peak(
    work: Work[float], able: Rates[float], batch: float, context: float
) -> None:
    assert decode_step_s(work, able, batch, context) >= batch * work.flops_per_token / able.matrix_peak * (1 - 1e-9)


@given(works, rates, tokens)
def test_a_prompt_never_beats_the_dense_peak(work: Work[float], able: Rates[float], prompt: float) -> None:
    assert prefill_s(work, able, prompt, 0.0) >= prompt * work.flops_per_token / able.matrix_peak * (1 - 1e-9)


@given(works, rates, batches, tokens, st.floats(1, 10))
def test_more_work_is_never_faster(
    work: Work[float], able: Rates[float], batch: float, context: float, more: float
) -> None:
    base = decode_step_s(work, able, batch, context) * (1 - 1e-9)
    assert decode_step_s(work, able, batch * more, context) >= base
    assert decode_step_s(work, able, batch, context * more) >= base
    assert decode_step_s(replace(work, dense_bytes=work.dense_bytes * more), able, batch, context) >= base
    assert prefill_s(work, able, context * more, 0.0) >= prefill_s(work, able, context, 0.0) * (1 - 1e-9)


@given(works, rates, batches, tokens, st.floats(1, 10))
def test_a_better_device_is_never_slower(
    work: Work[float], able: Rates[float], batch: float, context: float, more: float
) -> None:
    for name in ("bandwidth", "matrix_peak", "attention_peak", "link_bandwidth", "scalar_peak"):
        better = replace(able, **{name: getattr(able, name) * more})
        assert decode_step_s(work, better, batch, context) <= decode_step_s(work, able, batch, context) * (1 + 1e-9)
        assert prefill_s(work, better, context, 0.0) <= prefill_s(work, able, context, 0.0) * (1 + 1e-9)


@given(works, rates, tokens, st.floats(0, 0.9))
def test_a_cached_prefix_never_costs(work: Work[float], able: Rates[float], prompt: float, part: float) -> None:
    """On one stage: through a pipeline, a prompt short enough for one chunk no longer overlaps with itself."""
    alone, cached = replace(work, pipeline=1.0), float(int(prompt * part))
    assert prefill_s(alone, able, prompt, cached) <= prefill_s(alone, able, prompt, 0.0) * (1 + 1e-9)


@given(works, rates, tokens, st.floats(1, 10))
def test_fuller_passes_fill_the_tiles_of_experts(
    work: Work[float], able: Rates[float], count: float, more: float
) -> None:
    one, fuller = (pass_token_s(work, able, count * factor, 100.0) for factor in (1.0, more))
    assert fuller <= one * (1 + 1e-9)
    full = pass_token_s(work, replace(able, tile_rows=0.0), count, 100.0)
    assert full <= one
    assert work.expert_flops > 0 or one == pytest.approx(full)


@given(works, rates)
def test_a_kernel_never_beats_the_scalar_units_nor_the_memory(work: Work[float], able: Rates[float]) -> None:
    took, read = stage_s(work, able, decoding(work, able, 1.0), 0.0), weight_s(work, able, 1.0)
    unpack = unpack_s(work, able)
    assert took >= max(read, unpack) * (1 - 1e-9)
    busiest = max(read, unpack, matrix_s(work, able, 1.0))
    assert took <= 2**0.25 * busiest + cache_s(work, able, 1.0, 0.0) * (1 + 1e-9)


@given(st.floats(0.001, 1), st.floats(1, 1e4))
def test_a_batch_touches_at_least_one_tokens_experts_and_at_most_all(share: float, tokens: float) -> None:
    assert share * (1 - 1e-9) <= expert_coverage(share, tokens) <= 1


@given(works, rates, batches, tokens)
def test_float_array_and_traced_agree(work: Work[float], able: Rates[float], batch: float, context: float) -> None:
    for formula in (decode_step_s, prefill_s):
        second = batch if formula is decode_step_s else max(context, 2.0)
        third = context if formula is decode_step_s else 1.0
        one = formula(work, able, second, third)
        many = formula(as_arrays(work), as_arrays(able), np.array([second]), np.array([third]))
        told = formula(as_traced(work), as_traced(able), Num(second, name="a"), Num(third, name="b"))
        assert many[0] == pytest.approx(one)
        assert told.value == pytest.approx(one)
        assert told.unit == {"s": 1}


@given(works, rates, batches, tokens, st.integers(0, 8192).map(float))
def test_a_mixed_step_is_the_same_in_all_three_kinds(
    work: Work[float], able: Rates[float], batch: float, context: float, new: float
) -> None:
    one = mixed_step_s(work, able, (batch, context), (new, 100.0))
    many = mixed_step_s(
        as_arrays(work), as_arrays(able), (_array(batch), _array(context)), (_array(new), _array(100.0))
    )
    told = mixed_step_s(as_traced(work), as_traced(able), (Num(batch), Num(context)), (Num(new), Num(100.0)))
    assert many[0] == pytest.approx(one)
    assert told.value == pytest.approx(one)
    assert told.unit == {"s": 1}


@given(works, rates, batches, tokens, st.integers(0, 8192).map(float))
def test_a_mixed_step_obeys_physics(
    work: Work[float], able: Rates[float], batch: float, context: float, new: float
) -> None:
    """No faster than the peak for all its tokens, nor than its parts alone; longer with more of anything."""
    step = mixed_step_s(work, able, (batch, context), (new, 100.0))
    assert step >= (batch + new) * work.flops_per_token / able.matrix_peak * (1 - 1e-9)
    assert step >= decode_step_s(work, able, batch, context) * (1 - 1e-9)
    for more in (
        mixed_step_s(work, able, (batch + 1, context), (new, 100.0)),
        mixed_step_s(work, able, (batch, context + 1), (new, 100.0)),
        mixed_step_s(work, able, (batch, context), (new + 1, 100.0)),
        mixed_step_s(work, able, (batch, context), (new, 200.0)),
    ):
        assert more >= step * (1 - 1e-9)


@given(works, rates)
def test_every_step_of_a_derivation_says_why(work: Work[float], able: Rates[float]) -> None:
    told = decode_step_s(as_traced(work), as_traced(able), Num(8, name="batch"), Num(1000, name="context"))
    made = [line for line in derivation([told]) if line.formula]
    assert {"decode_step_s", "weight_s", "cache_s", "host_s"} <= {line.name for line in made}
    assert all(line.why for line in made)


def test_an_8b_model_on_an_h100_by_hand() -> None:
    """16 GB of weights at 80 % of 3.35 TB/s, 32 layers of 40 us, one sequence, no cache: 5.97 + 1 + 1.28 ms."""
    work = Work(
        layers=32.0, dense_bytes=16e9, expert_bytes=0.0, expert_share=1.0, flops_per_token=16e9, expert_flops=0.0,
        attention_flops=0.0,
        cache_bytes_per_token=0.0, cache_bytes_fixed=0.0, exchange_bytes_per_token=0.0, exchanges=0.0, pipeline=1.0,
    )  # fmt: skip
    able = Rates(
        bandwidth=3.35e12, matrix_peak=989e12, attention_peak=989e12, scalar_peak=67e12, link_bandwidth=450e9,
        chunk=8192.0, weight_efficiency=0.8, cache_efficiency=0.8, matrix_efficiency=0.5, attention_efficiency=0.5,
        link_efficiency=0.5, step_s=1e-3, layer_s=40e-6, sequence_s=0.0, exchange_s=0.0, expert_cost=1.0,
        routing_spread=0.5, tile_rows=0.0, unpack_flops=0.0,
    )  # fmt: skip
    assert decode_step_s(work, able, 1.0, 1000.0) == pytest.approx(16e9 / (3.35e12 * 0.8) + 1e-3 + 32 * 40e-6)
    assert prompt_token_s(work, able, 500.0) == pytest.approx(16e9 / (989e12 * 0.5))


def test_twenty_thousand_candidates_at_twelve_batches_take_one_array_pass() -> None:
    """Measured 10 ms on two cores; the bound is loose because machines differ."""
    work = Work(**{field.name: np.full((20_000, 1), 1e9) for field in fields(Work)})
    able = Rates(**{field.name: np.full((20_000, 1), 0.5) for field in fields(Rates)})
    batch, context = np.array([[2.0**n for n in range(12)]]), np.full((1, 1), 1000.0)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        assert decode_step_s(work, able, batch, context).shape == (20_000, 12)
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.2
