"""Checkpoints that llm-compressor writes weigh what we say, to the byte; so do the layouts that vLLM allocates.

Slow: needs the tool environments of tests/tools/quantizer.py and tests/tools/vllm_parser.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from catalog import tensors
from catalog.model import Model
from planner import lanes
from planner.lanes import BY_ID, Method
from probes import checkpoint
from tests.tools.environment import run
from tests.tools.quantizer import Made, quantize
from tests.tools.vllm_parser import vllm_parser

pytestmark = pytest.mark.slow
GEOMETRIES = ("dense", "odd", "experts")
OURS = {
    "FP8_DYNAMIC": ("fp8", "fp8-dynamic"),
    "FP8_BLOCK": ("fp8", "fp8-block"),
    "FP8": ("fp8", "fp8-static"),
    "W8A8": ("int8-w8a8", "smoothquant"),
    "W8A16": ("int8-w8a16", "gptq"),
    "W4A16": ("w4a16", "gptq"),
    "W4A16_ASYM": ("awq-int4", "awq"),
    "NVFP4": ("nvfp4", "nvfp4"),
    "MXFP4A16": ("mxfp4", "mxfp4"),
}
"""Schemes of llm-compressor that our lanes have a formula for."""
READ_ONLY = ("NVFP4A16", "MXFP4", "MXFP8")
"""Schemes without a recipe of ours: a checkpoint of them weighs what its files say."""
GROUPED = ("W8A16", "W4A16", "W4A16_ASYM")
ROUTERS = ("lm_head", "re:.*mlp.gate$")


def ignored(geometry: str) -> tuple[str, ...]:
    return ROUTERS if geometry == "experts" else ROUTERS[:1]


def group(geometry: str, scheme: str) -> int | None:
    """That of the plan's recipe where a group of 128 does not divide the widths."""
    return 32 if geometry == "odd" and scheme in GROUPED else None


WRITTEN = {
    (geometry, scheme): Made(geometry=geometry, scheme=scheme, group=group(geometry, scheme), ignore=ignored(geometry))
    for geometry in GEOMETRIES
    for scheme in (*OURS, *READ_ONLY)
}
REFUSED = Made(geometry="odd", scheme="W4A16")
CACHED = Made(geometry="dense", scheme="FP8_DYNAMIC", cache=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every checkpoint; what the tool said of each in `said.json`."""
    place = tmp_path_factory.mktemp("checkpoints")
    said = quantize(place, GEOMETRIES, (*WRITTEN.values(), REFUSED, CACHED))
    (place / "said.json").write_text(json.dumps(said))
    return place


def stored_bytes(folder: Path) -> int:
    return sum(checkpoint.header(file).bytes for file in checkpoint.weight_files(folder))


def recipe(scheme: str, model: Model) -> Method:
    """Our method of the scheme on this model. MXFP4 is planned for experts alone; the tool shrinks every matrix."""
    lane, name = OURS[scheme]
    method = BY_ID[lane].method(name)
    assert method is not None
    return replace(lanes.grouped(method, model), only=())


def by_matrix(model: Model, size: dict[int, float]) -> dict[tuple[str, int, int], float]:
    return {(each.part, each.rows, each.columns): size[index] for index, each in enumerate(tensors.inventory(model))}


@pytest.mark.parametrize("scheme", OURS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_formula_of_a_lane_gives_every_tensor_of_the_file(folder: Path, geometry: str, scheme: str) -> None:
    original = checkpoint.read(folder / geometry, {})
    written = folder / WRITTEN[geometry, scheme].name
    read, method = checkpoint.read(written, {}), recipe(scheme, original)
    ours = {index: lanes.tensor_bytes(each, method, original) for index, each in enumerate(tensors.inventory(original))}
    theirs = {index: each.stored_bytes or 0.0 for index, each in enumerate(tensors.inventory(read))}
    assert by_matrix(original, ours) == by_matrix(read, theirs)
    assert sum(ours.values()) == stored_bytes(written)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_config_alone_gives_the_sum_but_for_the_norms_of_heads(folder: Path, geometry: str) -> None:
    from_config = replace(checkpoint.read(folder / geometry, {}), tensors=(), total_params=None)
    unseen = 2 * 2 * from_config.head_dim * from_config.layers if geometry == "experts" else 0
    for scheme in OURS:
        method = recipe(scheme, from_config)
        ours = sum(lanes.tensor_bytes(each, method, from_config) for each in tensors.inventory(from_config))
        assert ours + unseen == stored_bytes(folder / WRITTEN[geometry, scheme].name), scheme


@pytest.mark.parametrize("case", WRITTEN.values(), ids=lambda case: case.name)
def test_a_checkpoint_that_was_read_weighs_what_its_files_hold(folder: Path, case: Made) -> None:
    model = checkpoint.read(folder / case.name, {})
    lane = BY_ID[model.native]
    method = lane.method(model.native_recipe) or lane.methods[-1]
    assert sum(lanes.part_bytes(model, method).values()) == stored_bytes(folder / case.name)


def test_scales_of_the_cache_are_the_only_bytes_beside_the_weights(folder: Path) -> None:
    model = checkpoint.read(folder / CACHED.name, {})
    plain = stored_bytes(folder / WRITTEN["dense", "FP8_DYNAMIC"].name)
    assert stored_bytes(folder / CACHED.name) - plain == 2 * 2 * model.layers
    assert sum(each.stored_bytes or 0.0 for each in model.tensors) == plain


def test_the_tool_refuses_the_groups_that_a_plan_avoids(folder: Path) -> None:
    said = json.loads((folder / "said.json").read_text())
    assert {name for name, refusal in said.items() if refusal} == {REFUSED.name}
    assert "not divisible by group_size" in said[REFUSED.name]
    method = BY_ID["w4a16"].methods[0]
    assert lanes.group_size(method, checkpoint.read(folder / "odd", {})) == 32
    assert lanes.group_size(method, checkpoint.read(folder / "dense", {})) == 128


LAYOUTS = [
    {"method": name, "rows": rows, "columns": columns, "group": size}
    for name in ("awq", "gptq")
    for rows, columns in ((256, 256), (768, 256), (256, 768))
    for size in lanes.lane.GROUPS
]


def test_published_layouts_are_those_that_vllm_allocates(tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text(json.dumps(LAYOUTS))
    script = Path(__file__).parents[1] / "tools" / "vllm_layouts.py"
    files = (tmp_path / "cases.json", tmp_path / "results.json")
    run(vllm_parser().python, script, *files, timeout_s=300, VLLM_TARGET_DEVICE="cpu", VLLM_NO_USAGE_STATS="1")
    for case, found in zip(LAYOUTS, json.loads(files[1].read_text()), strict=True):
        method = BY_ID[f"{case['method']}-int4"].methods[0]
        assert method.published is not None
        ours = method.published(int(case["rows"]), int(case["columns"]), int(case["group"]))
        index = 4 * int(case["columns"]) if case["method"] == "gptq" else 0
        assert ours == sum(found.values()) + index, case
