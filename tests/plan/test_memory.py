"""Bytes held to published truth: real checkpoints, llama.cpp's own file sizes, start-up logs of vLLM."""

from __future__ import annotations

import math
from statistics import median

import pytest

from catalog.load import DATA
from catalog.model import Model
from planner import memory
from planner.lanes import BY_ID, Lane, grouped, part_bytes
from planner.rooms import Books
from planner.work import Layout, device_weight_bytes, shape, weights
from tests.plan.asking import catalog

GIB = 2**30
EIGHT, SEVENTY = "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"
LLAMA_CPP_SIZES = {
    "Q2_K": 2.953, "Q3_K_M": 3.736, "Q3_K_L": 4.018, "Q4_0": 4.334, "Q4_K_S": 4.363, "Q4_K_M": 4.575, "Q5_K_S": 5.207,
    "Q5_K_M": 5.332, "Q6_K": 6.136, "Q8_0": 7.947,
}  # fmt: skip
"""GiB of tensor data of Llama-3.1-8B, as llama.cpp labels its file types (tools/quantize/quantize.cpp)."""
TINY = [(256, 256), (128, 256), (128, 256), (256, 256), (640, 256), (640, 256), (256, 640)] * 2
TINY_REST = 2 * (1000 * 256 * 2) + (2 * 2 + 1) * 256 * 2
CHECKPOINTS = {
    ("fp8", "fp8-dynamic"): 2412032, ("fp8", "fp8-block"): 2402984, ("fp8", "fp8-static"): 2402872,
    ("int8-w8a8", "smoothquant"): 2412032, ("int8-w8a16", "gptq"): 2424544, ("w4a16", "gptq"): 1736416,
    ("nvfp4", "nvfp4"): 1800816, ("mxfp4", "mxfp4"): 1757696,
}  # fmt: skip
"""Tensor bytes of a two-layer Llama that llm-compressor 0.14 wrote in each scheme."""


def file_bytes(model: Model, lane: str) -> float:
    return sum(part_bytes(model, BY_ID[lane].methods[0]).values())


@pytest.mark.parametrize(("lane", "recipe"), CHECKPOINTS)
def test_a_matrix_weighs_what_a_real_checkpoint_holds(lane: str, recipe: str) -> None:
    method = BY_ID[lane].method(recipe)
    assert method is not None
    assert method.matrix_bytes is not None
    group = method.recipe.group_size or 0
    total = TINY_REST + sum(method.matrix_bytes(rows, columns, group) for rows, columns in TINY)
    assert total == CHECKPOINTS[lane, recipe]


@pytest.mark.parametrize("lane", ["awq-int4", "gptq-int4", "w4a16", "int8-w8a16"])
def test_smaller_groups_are_paid_for_where_128_divides_no_width(lane: str) -> None:
    model, usual = catalog().model("HuggingFaceTB/SmolLM2-135M-Instruct"), BY_ID[lane].methods[0]
    method = grouped(usual, model)
    assert (method.recipe.group_size, usual.recipe.group_size) == (64, 128)
    assert weights(model, method).split_bytes > weights(model, usual).split_bytes
    assert grouped(usual, catalog().model(EIGHT)) == usual


MADE_DENSE = [lane for lane in BY_ID.values() if lane.bits < 16 and lane.id != "gguf:MXFP4"]
"""Lanes that a dense model can be made in; llama.cpp's MXFP4 files are of mixtures, and hold the rest in Q8_0."""


@pytest.mark.parametrize("lane", MADE_DENSE, ids=lambda lane: lane.id)
def test_a_made_lane_weighs_what_its_bits_say(lane: Lane) -> None:
    """A dense model of which nothing is published: 8.03e9 parameters, of which 1.05e9 may stay in 16 bits."""
    size = file_bytes(catalog().model(EIGHT), lane.id)
    assert 0.85 * 8.03e9 * lane.bits / 8 < size < 1.15 * (6.98e9 * lane.bits / 8 + 2 * 1.05e9)


@pytest.mark.parametrize("kind", LLAMA_CPP_SIZES)
def test_a_gguf_file_is_as_large_as_llama_cpp_says(kind: str) -> None:
    size = file_bytes(catalog().model(EIGHT), f"gguf:{kind}") / GIB
    assert size == pytest.approx(LLAMA_CPP_SIZES[kind], rel=0.002)


def test_seventy_billion_at_q4_k_m_are_not_35_gb() -> None:
    assert file_bytes(catalog().model(SEVENTY), "gguf:Q4_K_M") == pytest.approx(42_512_531_712, rel=0.002)


def log(metric: str, version: str) -> list[dict[str, str]]:
    import csv

    with (DATA / "truth" / "memory.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["metric"] == metric and row["engine_version"] == version]


def layout(row: dict[str, str]) -> Layout[float]:
    tensor = float(row["tp"] or 1)
    return Layout(tensor=tensor, pipeline=float(row["accelerators"] or 1) / tensor)


def test_vllm_weights_match_the_start_up_logs() -> None:
    errors = []
    for row in log("weights_gib", "0.19.0"):
        model = catalog().model(row["model"])
        lane = BY_ID[row["lane"]]
        held = weights(model, lane.methods[0])
        errors.append(abs(math.log(device_weight_bytes(held, shape(model), layout(row)) / GIB / float(row["value"]))))
    assert len(errors) >= 15
    assert median(errors) <= 0.0005
    assert max(errors) <= 0.01


@pytest.mark.parametrize("books", ["vllm", "llama.cpp"])
def test_more_slots_never_need_less_memory(books: Books) -> None:
    few, many = memory.slots_for(4.0), memory.slots_for(40.0)
    assert few <= many
    assert memory.slots_for(0.02) == 1
