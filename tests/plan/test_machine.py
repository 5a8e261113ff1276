"""A probed machine is planned on as it is: what is free, what its driver starts, what it cannot combine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from catalog import inventory as inventories
from catalog.errors import BadInput
from catalog.inventory import Host, Inventory
from catalog.units import GIB
from planner import decode, machine, service
from planner.plan import Plan
from planner.request import Request
from planner.settings import Settings
from tests.plan.asking import catalog, planned

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "inventories").glob("*.json"))
PICTURES = sorted((ROOT / "tests" / "probes" / "pictures").glob("*.json"))


def inventory(name: str) -> Inventory:
    return inventories.decode((ROOT / "examples" / "inventories" / f"{name}.json").read_bytes())


def on(found: Inventory, model: str = "Qwen/Qwen3-8B", qps: float = 0.2, **fields: Any) -> Request:
    document = {"model": model, "workload": {"qps": qps}, "hardware": {"inventory": msgspec.to_builtins(found)}}
    return decode.decode(msgspec.json.encode(document | fields))


def codes(plan: Plan) -> set[str]:
    return {entry.finding.rule for entry in plan.refused}


@pytest.mark.parametrize("path", [*EXAMPLES, *PICTURES], ids=lambda path: path.stem)
def test_every_machine_is_planned_on_or_refused_in_a_sentence(path: Path) -> None:
    found = inventories.decode(path.read_bytes())
    try:
        plan = planned(on(found))
    except BadInput as fault:
        refused = fault
    else:
        assert plan.probed_at == found.probed_at
        assert plan.feasible or plan.refused
        return
    assert refused.path == "$.hardware.inventory"
    assert "name the accelerators" in str(refused)
    assert not any(gpu.accelerator in catalog().accelerators for gpu in found.gpus)


def test_the_busy_card_is_left_alone_when_one_suffices() -> None:
    plan = planned(on(inventory("4090s-one-busy"), lanes=["fp8"]))
    assert plan.choice is not None
    assert plan.choice.pools[0].count == 1
    assert plan.choice.pools[0].settings.gpu_memory_utilization == 0.92


def test_a_replica_over_both_claims_what_the_busy_one_has_free() -> None:
    found = {device.most: device for device in machine.devices(inventory("4090s-one-busy"), catalog())}
    assert sorted(found) == [1, 2]
    assert found[1].free > 20 * GIB > 6 * GIB > found[2].free  # type: ignore[operator]


def test_less_free_memory_never_plans_a_larger_cache() -> None:
    whole = inventory("h100")
    pools = []
    for free in (79.0, 60.0, 40.0, 30.0):
        gpus = tuple(replace(gpu, free_bytes=free * GIB) for gpu in whole.gpus)
        choice = planned(on(replace(whole, gpus=gpus), lanes=["bf16"])).choice
        assert choice is not None
        pools.append(choice.estimates["kv_pool_bytes"].value)
    assert pools == sorted(pools, reverse=True)


def test_an_engine_never_claims_more_than_is_free() -> None:
    for free in (10.0, 20.0, 45.5, 79.0):
        whole = inventory("h100")
        gpus = tuple(replace(gpu, free_bytes=free * GIB) for gpu in whole.gpus)
        for candidate in planned(on(replace(whole, gpus=gpus), "Qwen/Qwen3-1.7B")).alternatives:
            claimed = candidate.pools[0].settings.gpu_memory_utilization * 79.6 * GIB
            assert claimed <= free * GIB


def test_a_slice_has_its_share_of_the_whole() -> None:
    (device,) = machine.devices(inventory("h100-mig"), catalog())
    whole = catalog().accelerator("h100-sxm5-80")
    assert device.most == 2
    assert device.accelerator.bf16 == pytest.approx(3 / 7 * (whole.bf16 or 0))
    assert device.accelerator.bandwidth == pytest.approx(39.5 / 79.6 * whole.bandwidth)
    plan = planned(on(inventory("h100-mig")))
    assert plan.choice is not None
    assert plan.choice.pools[0].accelerator == "h100-sxm5-80:3g.40gb"
    assert plan.choice.pools[0].tensor_parallel == 1


def test_a_driver_decides_which_image_starts() -> None:
    new, old, ancient = (planned(on(inventory(name))) for name in ("a100s", "a100s-driver-550", "a100s-driver-470"))
    assert new.choice is not None
    assert new.choice.image == "vllm/vllm-openai:v0.33.0"
    assert old.choice is not None
    assert old.choice.image == "vllm/vllm-openai:v0.33.0-cu129"
    assert not ancient.feasible
    assert codes(ancient) == {"H108"}


def test_the_refusal_names_an_image_that_runs() -> None:
    found = inventory("a100s-driver-550")
    plan = planned(on(replace(found, driver="524.10")))
    assert "H108" in codes(plan)
    v100 = planned(decode.decode(b'{"model":"Qwen/Qwen3-8B","workload":{"qps":0.1},"engines":["vllm"],"hardware":{"accelerators":[{"id":"v100-sxm2-32","count":1}]}}'))  # fmt: skip  # noqa: E501
    said = next(entry.finding for entry in v100.refused if entry.finding.rule == "H113")
    assert "vllm/vllm-openai:v0.19.1 runs (engine_versions.vllm=0.19.1)" in said.because


def test_one_faulty_card_does_not_stop_the_others() -> None:
    found = inventory("a100s")
    faulty = replace(found, gpus=(replace(found.gpus[0], needs_reset=True), found.gpus[1]))
    plan = planned(on(faulty))
    assert plan.choice is not None
    assert plan.choice.pools[0].count == 1


def test_a_plan_keeps_the_machine_and_is_made_again_from_its_own_request() -> None:
    plan = planned(on(inventory("4090s-one-busy")))
    again = planned(decode.decode(msgspec.json.encode(plan.request)))
    assert again == plan


def test_a_probe_is_written_out_before_it_is_planned_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = inventory("a100s")
    monkeypatch.setattr(service, "probe", lambda _settings: found)
    asked = decode.decode(b'{"model":"Qwen/Qwen3-8B","workload":{"qps":1},"hardware":{"probe":true,"reserved":{"memory_gib":4}}}')  # fmt: skip  # noqa: E501
    own = Settings(catalog_dir=tmp_path / "catalog", database_url=f"sqlite:///{tmp_path}/plans.sqlite3")
    plan = service.make_plan(asked, own)
    assert plan.request["hardware"]["inventory"]["probed_at"] == found.probed_at
    assert plan.request["hardware"]["reserved"] == {"memory_gib": 4.0}
    assert planned(decode.decode(msgspec.json.encode(plan.request))).id == plan.id


def test_a_device_that_nobody_knows_is_left_out_and_said() -> None:
    found = inventory("a100s")
    strange = replace(found, gpus=(replace(found.gpus[0], name="NVIDIA Z9000", accelerator=None), found.gpus[1]))
    plan = planned(on(strange))
    assert plan.choice is not None
    assert [each.value for each in plan.assumptions if each.path == "hardware.inventory.gpus"] == [["NVIDIA Z9000"]]


def host(accelerator: str, ram: float, available: float, **more: Any) -> Inventory:
    return Inventory(
        probed_at="2026-11-20T09:00:00Z",
        host=Host(accelerator=accelerator, ram_bytes=ram * GIB, ram_available_bytes=available * GIB, **more),
    )


def test_a_mac_plans_on_what_metal_may_take() -> None:
    wide = planned(on(host("apple-m3-max-40c", 64, 60), qps=0.02))
    tight = planned(on(host("apple-m3-max-40c", 64, 60, gpu_working_set_bytes=8.0 * GIB), qps=0.02))
    assert wide.choice is not None
    assert wide.choice.engine == "llama.cpp"
    assert tight.choice is None or (
        tight.choice.estimates["weight_bytes"].value < 8 * GIB <= wide.choice.estimates["kv_pool_bytes"].value
    )


def test_a_host_without_gpus_serves_from_its_free_memory() -> None:
    plan = planned(on(host("epyc-9654", 256, 200), qps=0.01))
    assert plan.choice is not None
    assert (plan.choice.engine, plan.choice.image) == ("llama.cpp", "ghcr.io/ggml-org/llama.cpp:server")
    full = planned(on(host("epyc-9654", 256, 3), qps=0.01))
    assert not full.feasible
    assert codes(full) <= {"H101", "H201", "H202", "Q101", "Q203", "H113"}
