"""Models read from disk are planned like those of the catalogue, from headers alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from planner.plan import Plan
from probes import models
from tests.models import stored
from tests.plan.asking import ask, catalog, device, planned


def plan_of(folder: Path, config: stored.Config) -> Plan:
    model = models.read(str(stored.checkpoint(folder, config)), catalog().models)
    facts = catalog().with_model(model)
    return planned(ask(model.id, device("h100-sxm5-80", 2), workload={"qps": 1.0}), facts)


def test_a_folder_weighs_what_the_catalogue_says_of_the_same_shapes(tmp_path: Path) -> None:
    local = plan_of(tmp_path / "llama", stored.LLAMA_8B).choice
    known = planned(ask("meta-llama/Llama-3.1-8B-Instruct", device("h100-sxm5-80", 2), workload={"qps": 1.0})).choice
    assert local is not None
    assert known is not None
    assert local.lane == known.lane
    assert local.estimates["weight_bytes"].value == pytest.approx(known.estimates["weight_bytes"].value, rel=1e-3)


def test_a_mixture_of_experts_is_planned_from_its_headers(tmp_path: Path) -> None:
    assert plan_of(tmp_path / "moe", stored.QWEN3_30B).feasible


def test_a_model_read_from_disk_changes_the_digest_and_the_id(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "llama", stored.LLAMA_8B)
    assert plan.catalog_digest != catalog().digest


def test_a_quantized_folder_is_served_as_it_is(tmp_path: Path) -> None:
    quantized = stored.LLAMA_8B | {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    model = models.read(str(stored.checkpoint(tmp_path / "awq", quantized)), catalog().models)
    plan = planned(
        ask(model.id, device("l4"), workload={"qps": 0.2}, quality={"max_loss_pct": 8.0}), catalog().with_model(model)
    )
    assert plan.choice is not None
    assert plan.choice.lane == "awq-int4"
    assert plan.choice.artifact is None
    assert plan.choice.make is None


def test_the_catalogue_itself_stays_as_it_was() -> None:
    before = dataclasses.replace(catalog())
    catalog().with_model(catalog().model("Qwen/Qwen3-8B"))
    assert before.digest == catalog().digest


def test_devices_on_which_nothing_is_left_are_a_refusal() -> None:
    """Something else keeps all of the memory: a sentence, and no division by what may be claimed."""
    full = {"accelerators": [device("h100-sxm5-80")], "reserved": {"memory_gib": 79.0}}
    plan = planned(ask(hardware=full))
    assert plan.choice is None
    assert any("may claim" in each.finding.because for each in plan.refused)
