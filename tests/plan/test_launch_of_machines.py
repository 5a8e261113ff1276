"""What a plan for a probed machine starts: on the devices that have the memory free, with the adapters it counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner import service
from planner.plan import Plan
from planner.render import write
from planner.settings import Settings
from tests.launch.stub import Heard, run
from tests.plan.asking import planned
from tests.plan.speaking import asked


def started(flags: str, scratch: Path, **environment: str) -> tuple[Plan, Heard]:
    """The plan of a command line, and what its script gives to the engine."""
    plan = planned(asked(flags))
    scratch.mkdir(parents=True, exist_ok=True)
    paths = write(scratch, service.launch_files(plan, Settings(catalog_dir=scratch / "none", database_url="")))
    return plan, run(next(path for path in paths if path.name == "serve.sh"), scratch, **environment)


def test_the_free_card_is_pinned(tmp_path: Path) -> None:
    flags = "--model Qwen/Qwen3-8B --inventory examples/inventories/4090s-one-busy.json --qps 0.2 --lanes fp8"
    _, heard = started(flags, tmp_path)
    assert heard.env["CUDA_VISIBLE_DEVICES"] == "1"
    assert heard.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_slice_is_pinned_by_its_uuid(tmp_path: Path) -> None:
    flags = "--model Qwen/Qwen3-8B --inventory examples/inventories/h100-mig.json --qps 0.2"
    _, heard = started(flags, tmp_path)
    assert heard.env["CUDA_VISIBLE_DEVICES"] == "MIG-0"


def test_each_replica_takes_its_own(tmp_path: Path) -> None:
    flags = "--model Qwen/Qwen3-8B --inventory examples/inventories/a100s.json --qps 0.2 --set availability.spares=1"
    plan, heard = started(flags, tmp_path, REPLICA="1")
    assert plan.choice is not None
    assert plan.choice.pools[0].replicas == 2
    assert heard.env["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(("rank", "allowed"), [(16, 16), (24, 32), (100, 128)])
def test_adapters_are_loaded_as_they_were_counted(rank: int, allowed: int, tmp_path: Path) -> None:
    flags = (
        f"--model Qwen/Qwen3-8B --on l40s --qps 0.2 --set workload.lora.adapters=3 --set workload.lora.max_rank={rank}"
    )
    started(flags, tmp_path)
    text = (tmp_path / "vllm" / "config.yaml").read_text()
    assert "enable-lora: true" in text
    assert "max-loras: 3" in text
    assert f"max-lora-rank: {allowed}" in text


def test_merged_adapters_are_part_of_the_weights(tmp_path: Path) -> None:
    plan, _ = started("--model Qwen/Qwen3-8B --on l40s --qps 0.2 --set workload.lora.merged=true", tmp_path)
    assert plan.choice is not None
    assert plan.choice.artifact is None
    assert "lora" not in (tmp_path / "vllm" / "config.yaml").read_text()


def test_words_of_an_inventory_never_reach_a_shell(tmp_path: Path) -> None:
    hostile = "MIG-$(touch owned)`touch owned`'; touch owned #"
    found = json.loads(Path("examples/inventories/h100-mig.json").read_text())
    for part in found["gpus"][0]["slices"]:
        part["uuid"] = hostile
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(found))
    scratch = tmp_path / "scratch"
    _, heard = started(f"--model Qwen/Qwen3-8B --inventory {file} --qps 0.2", scratch)
    assert heard.env["CUDA_VISIBLE_DEVICES"] == hostile
    flags = f"--model Qwen/Qwen3-8B --inventory {file} --qps 0.2 --set availability.spares=1"
    _, second = started(flags, tmp_path / "two", REPLICA="1")
    assert second.env["CUDA_VISIBLE_DEVICES"] == hostile


@pytest.mark.parametrize("lane", ["bf16", "fp8", "awq-int4"])
def test_what_is_served_is_the_merged_model(lane: str, tmp_path: Path) -> None:
    flags = f"--model Qwen/Qwen3-14B --on l40s --qps 0.2 --lanes {lane} --max-loss 20 --set workload.lora.merged=true"
    _, heard = started(flags, tmp_path)
    page = (tmp_path / "vllm" / "README.md").read_text()
    merge = page.partition("python\n")[2].partition("\n```")[0]
    compile(merge, "merge", "exec")
    assert "model.save_pretrained('./Qwen3-14B-merged')" in merge
    opened = heard.argv[1]
    assert opened == ("./Qwen3-14B-W4A16_ASYM" if lane == "awq-int4" else "./Qwen3-14B-merged")
    assert lane != "awq-int4" or "oneshot(model='./Qwen3-14B-merged'" in page
