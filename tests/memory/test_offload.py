"""llama.cpp's buffers per device and on the host, held to llama-fit-params."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planner import offload
from planner.offload import HOST, Split
from planner.oracles import outline
from tests.memory.offloaded import CASES, RECORDED, UNSEEN, Case, Counted, near, recorded
from tests.plan.asking import catalog
from tests.tools.llamacpp import Devices, llamacpp

ALL = (*CASES, *UNSEEN)


def agrees(case: Case, theirs: list[Counted]) -> None:
    own = case.ours()
    assert len(own) == len(theirs)
    for ours, (model, cache, compute) in zip(own, theirs, strict=True):
        assert near(ours.model, model, 0.005), (ours, model)
        assert near(ours.cache, cache, 0.005), (ours, cache)
        assert near(ours.compute, compute, 0.2), (ours, compute)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_buffer_is_what_llama_cpp_counted(case: Case) -> None:
    agrees(case, recorded()[case.name])


@pytest.mark.slow
def test_llama_fit_params_counts_the_same_today(tmp_path: Path) -> None:
    files: dict[tuple[str, str], Path] = {}
    counted: dict[str, list[Counted]] = {}
    with Devices(llamacpp(), 2) as devices:
        for case in ALL:
            key = case.model, case.kind
            if key not in files:
                path = tmp_path / f"{len(files)}.gguf"
                files[key] = outline.write(catalog().model(case.model), case.kind, path)
            counted[case.name] = devices.buffers(files[key], *case.flags, devices=len(case.split.shares))
    if os.environ.get("LANEWISE_GOLDEN") == "write":
        rows = [f"{name},{a},{b},{c}" for name, places in counted.items() for a, b, c in places]
        RECORDED.write_text("\n".join(["case,model_mib,cache_mib,compute_mib", *(_quoted(row) for row in rows)]) + "\n")
    assert counted == recorded()


def _quoted(row: str) -> str:
    name, *numbers = row.rsplit(",", 3)
    return ",".join([f'"{name}"', *numbers])


def test_layers_go_to_devices_in_runs_as_long_as_the_split_says() -> None:
    model = catalog().model("meta-llama/Llama-3.1-8B-Instruct")
    places = offload.placement(model, Split(shares=(3, 1), layers=21))
    assert places[:12] == [HOST] * 12
    assert places == sorted(places)
    assert len(places) == model.layers + 1
    assert places.count(0) == 16
    assert places.count(1) == 5


@pytest.mark.parametrize("split", [Split(layers=0), Split(shares=(3, 1), layers=21), Split(shares=(1, 2, 1))])
def test_weights_and_cache_add_up_whatever_lies_where(split: Split) -> None:
    case = CASES[0]
    whole, parted = case.ours(), Case(case.model, case.kind, case.start, split).ours()
    assert sum(each.model for each in parted) == pytest.approx(sum(each.model for each in whole))
    assert sum(each.cache for each in parted) == pytest.approx(sum(each.cache for each in whole))
