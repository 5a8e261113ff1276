"""One formula, three kinds of number: floats, arrays and traced numbers agree, and units are checked."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner import explain, hardware, pairing, rows, settle
from planner.fits import Fits
from planner.rooms import Terms, room
from planner.serving import Latency, budgeted, latency, pace, percentile
from planner.trace import Num, derivation
from tests.plan.asking import ask, catalog, device

FITS = Fits(catalog().speed)


def options(model: str, name: str, **more: float) -> list[pairing.Option]:
    request = ask(model, device(name, 8, **more))
    found = catalog().model(model)
    settled = settle.settle(request, found.max_position, catalog().as_of)
    return pairing.options(settled, found, hardware.devices(request, catalog()), catalog()).kept


OPTIONS = [
    *options("meta-llama/Llama-3.1-8B-Instruct", "h100-sxm5-80"),
    *options("Qwen/Qwen3-30B-A3B", "rtx4090"),
    *options("deepseek-ai/DeepSeek-V2-Lite-Chat", "a100-sxm4-80"),
    *options("google/gemma-3-27b-it", "apple-m2-ultra", memory_gib=192),
    *options("Qwen/Qwen3-Next-80B-A3B-Instruct", "mi300x"),
]
CHOSEN = st.integers(0, len(OPTIONS) - 1)
"""An index: an option prints as half the catalogue."""
LAYOUTS: st.SearchStrategy[rows.Place] = st.sampled_from(
    [(1, 1), (2, 1), (4, 2), (1, 3), (1, 1, True, 8), (2, 1, True, 4)]
)
BATCHES = st.floats(0.05, 400.0)


def numbers(terms: object, make: Any) -> Any:
    """The same structure with every number made anew."""
    kind = cast(Any, type(terms))
    return kind(
        **{
            each.name: numbers(value, make)
            if is_dataclass(value := getattr(terms, each.name))
            else make(value, each.name)
            for each in fields(cast(Any, terms))
        }
    )


def results(terms: Terms[Any], batch: Any, books: Any) -> list[Any]:
    held, at = room(terms, batch, books), pace(terms, batch, books)
    late: Latency[Any] = latency(terms, (batch, held.slots), at, books)
    return [held.cache_bytes, held.longest_bytes, held.running_bytes, at.rate, late.ttft_s, late.tpot_s, late.e2e_s]


@settings(max_examples=60, deadline=None)
@given(CHOSEN, LAYOUTS, BATCHES)
def test_floats_arrays_and_traced_numbers_agree(chosen: int, layout: rows.Place, batch: float) -> None:
    option = OPTIONS[chosen]
    books = rows.books_of(option.pairing)
    plain = rows.terms_of(option, layout, rows.CHUNKS[books][0], FITS)
    expected = results(plain, batch, books)
    columns = numbers(plain, lambda value, _: np.full(3, value))
    arrays = results(columns, np.full(3, batch), books)
    traced_terms = numbers(plain, lambda value, name: Num(value, explain.unit_of(name), name=name))
    traced = results(traced_terms, Num(batch, name="batch"), books)
    for one, many, told in zip(expected, arrays, traced, strict=True):
        assert many == pytest.approx(np.full(3, one), rel=1e-9)
        assert float(told) == pytest.approx(one, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(CHOSEN, BATCHES)
def test_a_derivation_names_every_step_and_its_unit(chosen: int, batch: float) -> None:
    option = OPTIONS[chosen]
    books = rows.books_of(option.pairing)
    plain = rows.terms_of(option, (1, 1), rows.CHUNKS[books][0], FITS)
    terms = numbers(plain, lambda value, name: Num(value, explain.unit_of(name), name=name, source="a test"))
    running = Num(batch, name="batch", source="a test")
    held, at = room(terms, running, books), pace(terms, running, books)
    late = latency(terms, (running, held.slots), at, books)
    steps = derivation([held.cache_bytes, at.rate, percentile(late, "e2e", Num(1.6, name="z", source="a test"))])
    units = {step.name: step.unit for step in steps}
    assert units["device_weight_bytes"] == units["cache_bytes_per_token"] == "byte"
    assert units["decode_step_s"] == units["ttft_s"] == "s"
    assert units["rate_at_batch"] == "1/s"
    assert all(step.source or step.formula for step in steps)


def test_bytes_do_not_add_to_seconds() -> None:
    with pytest.raises(TypeError, match="weights is in byte, wait in s"):
        Num(1, {"byte": 1}, name="weights") + Num(1, {"s": 1}, name="wait")


@settings(max_examples=40, deadline=None)
@given(CHOSEN, BATCHES, st.floats(1.01, 3.0))
def test_a_larger_batch_is_slower_each_and_faster_together(chosen: int, batch: float, more: float) -> None:
    option = OPTIONS[chosen]
    books = rows.books_of(option.pairing)
    plain = rows.terms_of(option, (1, 1), rows.CHUNKS[books][0], FITS)
    assume(budgeted(plain, batch * more) <= 1)
    few, many = pace(plain, batch, books), pace(plain, batch * more, books)
    assert many.step_s >= few.step_s
    assert many.rate >= few.rate * (1 - 1e-9)
