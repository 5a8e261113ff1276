"""Sequences that fit at once: what engines leave beside weights and cache, and batches that come in waves."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import load as catalogue
from catalog.load import DATA
from catalog.units import GIB
from planner.accuracy import predict, truth
from planner.accuracy.deployment import SGLANG_LIMITS, Use, cases, sglang_reserve
from planner.benchmark import Load, running
from planner.work import Layout

TRUTH = DATA / "truth" / "speed.csv"


def loaded(users: float, *, static: bool) -> Load:
    fields = {name: np.ones(1) for name in Use.__dataclass_fields__}
    return replace(Load(**fields), users=np.array([users]), static=np.array([float(static)]))


@pytest.mark.parametrize(("users", "most", "expected"), [(16, 16.9, 16), (16, 12.9, 8), (64, 40, 32), (64, 21, 16)])
def test_a_static_batch_that_does_not_fit_comes_in_equal_waves(users: float, most: float, expected: float) -> None:
    assert running(loaded(users, static=True), np.array([most])) == pytest.approx(expected)


@given(users=st.integers(1, 512), most=st.floats(1, 1024))
def test_waves_run_no_more_than_fits_and_no_more_than_a_full_loop(users: int, most: float) -> None:
    waves, loop = (running(loaded(users, static=static), np.array([most]))[0] for static in (True, False))
    assert waves <= loop == min(users, most)
    assert waves > loop / 2 - 1


def test_published_static_batches_lose_half_their_speed_where_memory_ends(tmp_path: Path) -> None:
    """Llama-2-70B in FP16 on four A100 with 40 GB: 16 users of 512 + 512 tokens fit, 16 of 1024 + 1024 do not."""
    lines = [line for line in truth.read(TRUTH) if line["id"] in ("ARG-00518", "ARG-00519")]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    made = [float(one.predicted or 0) for one in predict.predictions("speed", tmp_path / "in.csv")]
    told = [float(line["value"]) for line in lines]
    assert made[1] / made[0] == pytest.approx(told[1] / told[0], rel=0.25)


@pytest.mark.parametrize(
    ("memory", "tensor", "mib"),
    [(24, 1, 512 + 3072 + 48 + 128), (48, 4, 512 + 6144 + 320 + 512), (80, 1, 512 + 12288 + 512 + 128),
     (141, 8, 512 + 12288 + 1024 + 1024), (180, 1, 512 + 24576 + 1024 + 128)],
)  # fmt: skip
def test_sglang_reserves_what_its_server_arguments_say(memory: float, tensor: float, mib: float) -> None:
    assert sglang_reserve(memory * GIB, Layout(tensor=tensor, pipeline=1.0)) == mib * GIB / 1024


def test_sglang_limits_grow_with_the_memory() -> None:
    for smaller, larger in pairwise(SGLANG_LIMITS):
        assert all(one <= other for one, other in zip(smaller, larger, strict=True))


def test_only_an_engine_without_a_known_reserve_takes_the_fitted_one() -> None:
    catalog, seen = catalogue.load(), {}
    for line in truth.read(TRUTH)[::200]:
        row = truth.row(line)
        seen[row.engine] = cases(row, catalog)[0].use.unreserved
    assert seen == {"tensorrt-llm": 1.0, "vllm": 0.0, "sglang": 0.0, "llama.cpp": 0.0}
