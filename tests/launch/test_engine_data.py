"""Laws over the rows of every engine: nothing is left unsaid, nothing is said twice, everything has a source."""

from __future__ import annotations

import msgspec
import pytest

from catalog.accelerator import Accelerator
from catalog.engine import Flag, release
from catalog.errors import Unsupported
from catalog.lane import REFUSED_LANES, SAFETENSORS_LANES
from catalog.load import Catalog, load
from planner.lanes import LANES
from planner.launch import TARGETS
from tests.launch.candidates import CASES, DATA

FILES = sorted(DATA.glob("*.toml"))
ENGINES = {f"{engine.id}-{engine.version}": engine for engine in load().engines}
LANE_IDS = (*SAFETENSORS_LANES, *REFUSED_LANES, "gguf:Q4_K_M", "gguf:BF16")
RECIPES = ("mxfp4", "fp8-dynamic", "fp8-static", "fp8-block", "fp8-online", "awq", "gptq", "native", "")
CUDA = tuple(round(tenth / 10, 1) for tenth in range(50, 131))
CARRIES = {
    "w16": ("bf16", "fp16"),
    "fp8": ("fp8",),
    "fp8-emulated": ("bf16",),
    "fp8-weight-only": ("bf16", "fp16"),
    "int8": ("int8",),
    "int8-weight-only": ("bf16", "fp16"),
    "int4-weight-only": ("bf16", "fp16"),
    "fp4": ("fp4", "fp8"),
    "fp4-weight-only": ("bf16", "fp16"),
    "gguf": ("fp16", "fp32"),
}
"""Families of kernels and the number formats that their matrix units may multiply in."""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


def nvidia(capability: float) -> Accelerator:
    """A made-up NVIDIA card of that compute capability."""
    return Accelerator(
        id="card", name="card", vendor="nvidia", kind="gpu", architecture="any", compute_capability=f"{capability:.1f}",
        bandwidth=msgspec.convert(1e12, float), source="test", confidence="A",
    )  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
def test_every_lane_on_every_accelerator_is_planned_or_refused_with_a_reason(name: str, catalog: Catalog) -> None:
    unsaid = [
        (lane, recipe, device.id)
        for device in catalog.accelerators.values()
        for lane in LANE_IDS
        for recipe in RECIPES
        if ENGINES[name].kernel(lane, recipe, device) is None
    ]
    assert unsaid == []


@pytest.mark.parametrize("name", ENGINES)
def test_no_compute_capability_falls_between_two_rows(name: str) -> None:
    for capability in CUDA:
        for lane in LANE_IDS:
            for recipe in RECIPES:
                assert ENGINES[name].kernel(lane, recipe, nvidia(capability)), (capability, lane, recipe)


@pytest.mark.parametrize("name", ENGINES)
def test_a_row_names_a_kernel_or_a_reason(name: str) -> None:
    for row in ENGINES[name].kernels:
        assert (row.refuse is None) == bool(row.name and row.path), row
        assert len(row.source) > 20, row
        if row.refuse is None:
            assert row.math in CARRIES[row.path], row
            assert ("weight-only" in row.name) == row.path.endswith("weight-only"), row


@pytest.mark.parametrize("name", ENGINES)
def test_small_number_formats_are_planned_only_where_the_device_has_them(name: str, catalog: Catalog) -> None:
    """A kernel that multiplies in FP8, FP4 or INT8 needs units that the device lists as native."""
    needs = {"fp8": "fp8", "fp4": "fp4", "int8": "int8"}
    for device in catalog.accelerators.values():
        for lane in LANE_IDS:
            row = ENGINES[name].kernel(lane, "", device)
            if row is not None and row.refuse is None and row.math in needs and device.native:
                assert any(form.startswith(needs[row.math]) for form in device.native), (lane, device.id, row.name)


def test_no_row_is_dead(catalog: Catalog) -> None:
    """Every row decides for some version, accelerator, lane and recipe; a row that never wins is a mistake or stale."""
    old_amd = msgspec.structs.replace(catalog.accelerator("mi210"), compute_capability="gfx906")
    old_cpu = msgspec.structs.replace(catalog.accelerator("epyc-9654"), architecture="zen2")
    devices = [*catalog.accelerators.values(), *(nvidia(capability) for capability in CUDA), old_amd, old_cpu]
    won = {
        (engine.id, repr(engine.kernel(lane, recipe, device)))
        for engine in ENGINES.values()
        for device in devices
        for lane in LANE_IDS
        for recipe in RECIPES
    }
    rows = [(engine.id, repr(row)) for engine in ENGINES.values() for row in engine.kernels]
    assert [row for row in rows if row not in won] == []


@pytest.mark.parametrize("name", ENGINES)
def test_every_cache_format_is_answered_everywhere(name: str, catalog: Catalog) -> None:
    engine = ENGINES[name]
    for device in catalog.accelerators.values():
        for dtype in {row.dtype for row in engine.caches}:
            found = engine.cache(dtype, device)
            assert found is not None, (dtype, device.id)
            assert found.source
            assert 4 <= found.bits <= 16


def test_lanes_and_rows_know_each_other() -> None:
    ids = {lane.id.partition(":")[0] for lane in LANES} | set(SAFETENSORS_LANES) | set(REFUSED_LANES) | {"gguf", "*"}
    for engine in ENGINES.values():
        for row in engine.kernels:
            assert set(row.lanes) <= ids, row


def test_planned_engines_are_the_ones_with_launch_files() -> None:
    assert {engine.id for engine in ENGINES.values() if engine.planned} == {target.engine for target in TARGETS}


@pytest.mark.parametrize(
    ("lane", "recipe", "capability", "kernel"),
    [
        ("fp8", "fp8-dynamic", 8.0, "marlin-fp8 weight-only"),
        ("fp8", "fp8-dynamic", 8.9, "cutlass-fp8"),
        ("fp8", "fp8-block", 8.9, "marlin-fp8 weight-only"),
        ("fp8", "fp8-block", 9.0, "deepgemm-block-fp8"),
        ("fp8", "fp8-online", 9.0, "cutlass-fp8"),
        ("awq-int4", "awq", 9.0, "machete weight-only"),
        ("awq-int4", "awq", 8.6, "marlin weight-only"),
        ("int8-w8a8", "", 9.0, "cutlass-int8"),
        ("nvfp4", "", 9.0, "humming-nvfp4 weight-only"),
        ("nvfp4", "", 10.0, "flashinfer-cutedsl-nvfp4"),
        ("mxfp4", "", 9.0, "triton-mxfp4 weight-only"),
        ("mxfp4", "", 12.1, "marlin-mxfp4 weight-only"),
        ("fp16", "", 7.5, "cublas-fp16"),
    ],
)
def test_kernels_of_vllm(lane: str, recipe: str, capability: float, kernel: str) -> None:
    row = ENGINES["vllm-0.33.0"].kernel(lane, recipe, nvidia(capability))
    assert row is not None
    assert (row.name, row.refuse) == (kernel, None)


@pytest.mark.parametrize(
    ("lane", "device", "because"),
    [
        ("int8-w8a8", "b200-sxm", "54311"),
        ("bf16", "t4", "lane fp16"),
        ("fp16", "v100-sxm2-32", "llama.cpp"),
        ("fp8", "apple-m3-max-40c", "llama.cpp"),
        ("fp16", "epyc-9654", "bf16"),
        ("int8-w8a16", "xeon-8480", "int8-w8a8"),
        ("nvfp4", "epyc-9755", "NVFP4 linear layer"),
        ("mxfp4", "xeon-6980p", "llama.cpp"),
        ("fp8", "gaudi3", "plugin"),
        ("nf4", "h100-sxm5-80", "bitsandbytes"),
        ("nvfp4", "mi300x", "emulated"),
        ("fp8", "mi210", "gfx942"),
    ],
)
def test_refusals_of_vllm(lane: str, device: str, because: str, catalog: Catalog) -> None:
    row = ENGINES["vllm-0.33.0"].kernel(lane, "", catalog.accelerator(device))
    assert row is not None
    assert because in f"{row.refuse} {row.source}"
    assert row.refuse


def test_volta_is_served_by_llama_cpp(catalog: Catalog) -> None:
    row = ENGINES["llama.cpp-0.3.36"].kernel("gguf:Q4_K_M", "", catalog.accelerator("v100-sxm2-32"))
    assert row is not None
    assert row.name == "ggml-cuda"


@pytest.mark.parametrize(
    ("device", "fp8"),
    [
        ("t4", False),
        ("a100-sxm4-80", True),
        ("rtx4090", True),
        ("h100-sxm5-80", True),
        ("mi300x", True),
        ("rx7900xtx", False),
    ],
)
def test_fp8_cache_of_vllm(device: str, fp8: bool, catalog: Catalog) -> None:
    row = ENGINES["vllm-0.33.0"].cache("fp8", catalog.accelerator(device))
    assert row is not None
    assert (row.refuse is None) == fp8


def test_a_flag_that_is_gone_or_unknown_is_named() -> None:
    engine = ENGINES["vllm-0.33.0"]
    assert engine.flag("--max-model-len").until is None
    with pytest.raises(Unsupported, match=r"vllm 0\.33\.0 has no flag --swap-space; gone since 0\.33"):
        engine.flag("--swap-space")
    with pytest.raises(Unsupported, match="has no flag --nonsense"):
        engine.flag("--nonsense")


def test_a_flag_lives_from_since_until_before_until() -> None:
    flag = Flag(name="--new", since="0.33", until="0.35", source="test")
    versions = {"0.32.9": False, "0.33": True, "0.33.0": True, "0.34.7": True, "0.35": False, "0.35.1": False}
    for version, lives in versions.items():
        engine = msgspec.structs.replace(ENGINES["vllm-0.33.0"], version=version, flags=(flag,))
        if lives:
            assert engine.flag("--new") is flag
        else:
            with pytest.raises(Unsupported):
                engine.flag("--new")


def test_releases_compare_as_numbers() -> None:
    assert release("0.9") < release("0.10") < release("0.10.1") < release("1")


def test_every_flag_in_the_golden_launches_has_a_row_once() -> None:
    for engine in ENGINES.values():
        names = [row.name for row in engine.flags]
        assert len(names) == len(set(names))
    assert {case.candidate.engine_version for case in CASES.values()} == {
        ENGINES["vllm-0.33.0"].version,
        ENGINES["llama.cpp-0.3.36"].version,
    }


def test_engine_files_are_named_after_what_they_hold() -> None:
    assert {path.stem for path in FILES} == {engine.id for engine in ENGINES.values()}


def test_every_image_is_of_its_version_and_runs_somewhere(catalog: Catalog) -> None:
    for engine in ENGINES.values():
        for build in engine.builds:
            assert any(build.made_for(device) for device in catalog.accelerators.values()), build.image
            assert build.source
            assert (build.min_driver is None) == (build.cuda is None)
            assert engine.id != "vllm" or engine.version in build.image


@pytest.mark.parametrize(
    ("name", "device", "driver", "image"),
    [
        ("vllm-0.33.0", "h100-sxm5-80", None, "vllm/vllm-openai:v0.33.0"),
        ("vllm-0.33.0", "h100-sxm5-80", "580.65.06", "vllm/vllm-openai:v0.33.0"),
        ("vllm-0.33.0", "h100-sxm5-80", "575.57.08", "vllm/vllm-openai:v0.33.0-cu129"),
        ("vllm-0.33.0", "h100-sxm5-80", "470.82.01", None),
        ("vllm-0.33.0", "v100-sxm2-32", None, None),
        ("vllm-0.19.1", "v100-sxm2-32", "535.10", "vllm/vllm-openai:v0.19.1"),
        ("vllm-0.33.0", "gb10", None, "vllm/vllm-openai:v0.33.0"),
        ("vllm-0.33.0", "mi300x", None, "vllm/vllm-openai-rocm:v0.33.0"),
        ("llama.cpp-0.3.36", "rtx4090", "530.30", "ghcr.io/ggml-org/llama.cpp:server-cuda"),
        ("llama.cpp-0.3.36", "h100-sxm5-80", "550.54", None),
        ("llama.cpp-0.3.36", "epyc-9654", None, "ghcr.io/ggml-org/llama.cpp:server"),
        ("llama.cpp-0.3.36", "apple-m3-max-40c", None, None),
    ],
)
def test_the_image_follows_device_and_driver(
    name: str, device: str, driver: str | None, image: str | None, catalog: Catalog
) -> None:
    found = ENGINES[name].image(catalog.accelerator(device), driver)
    assert (found.image if found else None) == image
