"""The parameter file: strict, complete, physical; the unseen inherits and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import parameters
from catalog.engine import Kernel
from catalog.errors import BadInput
from catalog.load import load
from catalog.parameters import NAMES, SCALES, Setup, from_scale, generation_of, to_scale
from catalog.speed_classes import halves_integers

FITTED = parameters.load()
SERVING = Setup(engine="vllm", generation="vllm-2026", lane="fp8", moe=False)


def of(lane: str, accelerator: str, setup: Setup = SERVING) -> parameters.Resolved:
    """The parameters of a lane on an accelerator under today's vLLM."""
    catalog = load()
    device = catalog.accelerator(accelerator)
    engine = catalog.engine(setup.engine)
    kernel = engine.kernel(lane, "", device)
    assert kernel is not None
    return FITTED.resolve(parameters.classes(setup, kernel, device), parameters.family_of(setup.engine))


def test_every_parameter_has_a_global_value_in_both_families() -> None:
    for family in ("serving", "llama.cpp"):
        assert {row.name for row in FITTED.parameter if row.family == family and not row.of} == set(NAMES)


def test_no_parameter_is_named_twice() -> None:
    keys = [(row.family, row.name, row.of) for row in FITTED.parameter]
    assert len(keys) == len(set(keys))


def test_fitted_means_that_measurements_speak_to_it() -> None:
    assert all((row.groups > 0) == (row.basis == "fitted") for row in FITTED.parameter)


def test_few_numbers() -> None:
    free = [row for row in FITTED.parameter if row.basis == "fitted"]
    assert len([row for row in free if not row.of]) <= 30
    assert len(free) <= 130


@pytest.mark.parametrize("accelerator", ["h100-sxm5-80", "a100-sxm4-80", "l40s", "t4", "b200-sxm"])
def test_resolved_values_are_physical(accelerator: str) -> None:
    found = of("fp16", accelerator)
    for name in NAMES:
        value = getattr(found, name)
        assert value >= 0
        if SCALES.get(name) == "share":
            assert 0 < value < 1
        if SCALES.get(name) == "cost":
            assert value >= 1


def test_a_seen_class_is_fitted_and_an_unseen_one_is_assumed() -> None:
    assert of("fp8", "h100-sxm5-80").basis == "fitted"
    turing = of("fp16", "t4")
    assert turing.basis == "assumed"
    assert turing.assumed == ("all on architecture turing",)


def test_an_unseen_class_has_a_wider_interval() -> None:
    low, high = FITTED.band("vllm", "closed", "tpot_ms")
    wide_low, wide_high = FITTED.band("vllm", "closed", "tpot_ms", assumed=True)
    assert wide_low < low < 1 < high < wide_high


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(BadInput, match="no interval for vllm, closed, furlongs"):
        FITTED.band("vllm", "closed", "furlongs")


@given(st.sampled_from(sorted(SCALES)), st.floats(1e-6, 1e6))
def test_scales_lead_there_and_back_within_bounds(name: str, x: float) -> None:
    value = from_scale(name, x)
    assert 0 < value < 1 or value > 1
    assert to_scale(name, value) == pytest.approx(x, rel=1e-4)


@pytest.mark.parametrize(
    ("engine", "version", "generation"),
    [
        ("vllm", "0.33.0", "vllm-2026"),
        ("vllm", "0.12.0", "vllm-2025"),
        ("vllm", "", "vllm-2025"),
        ("vllm", "0.6.1 on MI300X", "vllm-2024"),
        ("vllm", "1.0", "vllm-2026"),
        ("tensorrt-llm", "0.14.0", "tensorrt-llm-2024"),
        ("tensorrt-llm", "TensorRT 10.2.0, CUDA 12.4", "tensorrt-llm-2024"),
        ("tensorrt-llm", "TensorRT 10.11, CUDA 12.9", "tensorrt-llm-2025"),
        ("tensorrt-llm", "0.20", "tensorrt-llm-2025"),
        ("sglang", "0.5.3", "sglang-2025"),
        ("llama.cpp", "b2824 (4426e298)", "llama.cpp-2024"),
        ("llama.cpp", "b6111 (7ad67ba9)", "llama.cpp-2025"),
        ("llama.cpp", "0.3.36", "llama.cpp-2026"),
    ],
)
def test_generations(engine: str, version: str, generation: str) -> None:
    assert generation_of(engine, version) == generation


def test_the_file_is_its_own_text() -> None:
    assert parameters.text(FITTED) == parameters.FILE.read_text()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "parameters.toml"
    broken.write_text('source = "x"\nrows = "many"\n')
    with pytest.raises(BadInput, match=r"parameters\.toml"):
        parameters.load(broken)


@pytest.mark.parametrize(
    ("accelerator", "older"),
    [("h100-sxm5-80", True), ("b200-sxm", True), ("a100-sxm4-80", False), ("rtx4090", False), ("rtx5090", False)],
)
def test_marlin_runs_older_instructions_only_where_the_full_rate_needs_newer_ones(
    accelerator: str, older: bool
) -> None:
    marlin = Kernel(lanes=("w4a16",), name="marlin weight-only", path="int4-weight-only", source="test")
    found = parameters.classes(SERVING, marlin, load().accelerator(accelerator))
    assert ("instructions=ampere on newer" in found) == older


@pytest.mark.parametrize(
    ("accelerator", "halved"),
    [("a100-sxm4-80", False), ("rtx3090", True), ("h100-sxm5-80", True), ("rtx5090", False), ("t4", False),
     ("strix-halo", True), ("mi210", False), ("apple-m1-max", False)],
)  # fmt: skip
def test_integers_run_at_half_the_fp32_rate_where_the_vendor_says_so(accelerator: str, halved: bool) -> None:
    assert halves_integers(load().accelerator(accelerator)) == halved


@pytest.mark.parametrize(
    ("lane", "weights"),
    [("gguf:BF16", "16-bit"), ("gguf:Q4_K_M", "blocks"), ("gguf:UD-Q2_K_XL", "small blocks"),
     ("gguf:IQ3_XXS", "small blocks"), ("gguf:IQ4_XS", "blocks"), ("gguf:Q8_0", "blocks"), ("gguf:MXFP4", "blocks")],
)  # fmt: skip
def test_blocks_of_few_bits_are_a_class_of_their_own(lane: str, weights: str) -> None:
    setup = Setup(engine="llama.cpp", generation="llama.cpp-2026", lane=lane, moe=False)
    kernel = Kernel(lanes=(lane,), name="mmvq", path="gguf", source="test")
    assert f"weights={weights}" in parameters.classes(setup, kernel, load().accelerator("rtx4090"))
