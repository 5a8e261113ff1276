"""vLLM on CPUs: which lanes it is planned in, what its cache takes, how sure its numbers say they are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from catalog.inventory import Host, Inventory
from catalog.observation import Deviation
from catalog.units import GIB
from planner import engines, pages, rows
from planner.engines.vllm import NODES
from planner.fits import fits_of
from planner.launch import LaunchOptions
from planner.plan import Candidate, Plan
from planner.request import Hardware
from planner.search import Found, search
from tests.plan.asking import ask, catalog, device, planned

MODEL = "Qwen/Qwen3-8B"
ZEN, AMX = "epyc-9755", "xeon-8480"
LANES = ["bf16", "fp8", "int8-w8a8", "awq-int4", "gptq-int4", "w4a16"]
WAIVED = {"waive": ["Q101"]}
FEW: dict[str, Any] = {"qps": 0.01}


def on_a_cpu(name: str = ZEN, model: str = MODEL, ram: float = 256.0, **more: Any) -> Plan:
    """A plan for few requests on one socket."""
    asked: dict[str, Any] = {"engines": ["vllm"], "overrides": WAIVED, "workload": FEW} | more
    return planned(ask(model, device(name, host_ram_gib=ram), **asked))


def chosen(plan: Plan) -> Candidate:
    assert plan.choice is not None, [refused.finding.because for refused in plan.refused]
    return plan.choice


@pytest.mark.parametrize("name", [ZEN, AMX])
@pytest.mark.parametrize("lane", LANES)
def test_a_lane_with_a_kernel_is_planned(name: str, lane: str) -> None:
    choice = chosen(on_a_cpu(name, lanes=[lane]))
    assert (choice.engine, choice.lane, choice.image) == ("vllm", lane, "vllm/vllm-openai-cpu:v0.33.0")
    assert choice.kernel == getattr(
        catalog().engine("vllm").kernel(lane, choice.recipe.name, catalog().accelerator(name)), "name", ""
    )


@pytest.mark.parametrize("lane", ["fp16", "int8-w8a16", "nvfp4", "mxfp4"])
def test_a_lane_without_one_leaves_with_the_reason(lane: str) -> None:
    plan = on_a_cpu(lanes=[lane])
    assert plan.choice is None
    assert [refused.finding.rule for refused in plan.refused] == ["H101"]


def test_quantized_experts_need_amx() -> None:
    """In bf16 they run everywhere, in FP8 with AMX."""
    mixture = "Qwen/Qwen3-30B-A3B"
    assert chosen(on_a_cpu(model=mixture, lanes=["bf16"])).kernels["experts"] == "cpu-fused-moe-bf16"
    assert on_a_cpu(model=mixture, lanes=["fp8"]).choice is None
    assert chosen(on_a_cpu(AMX, model=mixture, lanes=["fp8"])).kernels["experts"] == "cpu-fused-moe-fp8"


@pytest.mark.parametrize("context", [2048, 8192, 32768])
def test_the_cache_is_told_its_size_and_it_is_enough(context: int) -> None:
    """Whole GiB that hold what is needed and one block more; the plan, the estimate and the launch file agree."""
    choice = chosen(on_a_cpu(lanes=["bf16"], workload=FEW | {"context_tokens_max": context}))
    size, needed = choice.pools[0].settings.kv_cache_gib, choice.estimates["kv_needed_bytes"].value
    assert isinstance(size, int)
    pool = choice.estimates["kv_pool_bytes"]
    assert pool.value == pytest.approx(size * GIB, rel=1e-5)
    assert pool.low == pool.value == pool.high
    assert size * GIB >= needed
    assert size == math.ceil((needed + 128 * 147_456) / GIB)
    launch = engines.launch(choice, catalog().engine("vllm"), LaunchOptions(model=MODEL))
    assert launch.env["VLLM_CPU_KVCACHE_SPACE"] == str(size)
    assert "gpu-memory-utilization" not in launch.settings
    assert (launch.settings["dtype"], launch.settings["enforce-eager"]) == ("bfloat16", True)


def test_everything_fits_into_the_host() -> None:
    """Weights, activation, the engine's processes and the cache are within nine tenths of the memory; a host that is
    a little too small is refused, one a little larger is not."""

    def fits(ram: float) -> bool:
        return on_a_cpu(lanes=["bf16"], ram=ram).choice is not None

    assert not fits(20)
    assert fits(28)
    choice = chosen(on_a_cpu(lanes=["bf16"], ram=28))
    taken = sum(choice.estimates[name].value for name in ("weight_bytes", "activation_bytes", "kv_pool_bytes"))
    assert taken + 2.6e9 <= 0.9 * 28 * GIB


def test_a_socket_caches_in_blocks_of_its_own() -> None:
    """128 tokens on a CPU, 16 on a GPU; one step is in flight instead of two."""
    found = search(ask(MODEL, device(ZEN, host_ram_gib=256), engines=["vllm"], lanes=["bf16"]), catalog())
    pairing = found.options.kept[0].pairing
    assert rows.own_block(pairing) == 128
    fixed = rows.books_kept(pairing)
    assert (fixed.steps_in_flight, fixed.pool_in_gib, fixed.graphs_claimed) == (1.0, 1.0, 0.0)
    assert catalog().engine("vllm").block(latent=False) == 16
    assert pages.tokens_in_flight(fixed, rows._layout(1, 1), 2048.0) == 2048.0


def test_its_speed_is_assumed_and_says_so() -> None:
    """A factor of three either way for tokens, eight for prompts; nothing else is called measured or fitted."""
    made = chosen(on_a_cpu(lanes=["bf16"])).estimates
    for name, factor in (("tpot_p50_s", 3.0), ("ttft_p50_s", 8.0)):
        assert made[name].basis == "assumed"
        assert made[name].high / made[name].value == pytest.approx(factor, rel=1e-4)
        assert made[name].value / made[name].low == pytest.approx(factor, rel=1e-4)
    assert made["ready_s"].basis == "assumed"
    assert made["weight_bytes"].basis == "fitted"


def test_tokens_cannot_come_faster_than_weights_are_read() -> None:
    """The law of decoding, on any CPU: bytes over bandwidth; and FP8, which is emulated, is slower than bf16."""
    facts = catalog()
    for name in (ZEN, "epyc-9654", "desktop-ddr5"):
        wide, narrow = (chosen(on_a_cpu(name, lanes=[lane])).estimates["tpot_p50_s"].value for lane in ("bf16", "fp8"))
        assert wide > 15e9 / float(facts.accelerator(name).bandwidth)
        assert narrow > wide


def test_more_bandwidth_gives_more_tokens() -> None:
    assert _tpot("xeon-6980p-mrdimm") < _tpot("xeon-6980p") < _tpot("xeon-8480")


def _tpot(name: str) -> float:
    return chosen(on_a_cpu(name, lanes=["bf16"])).estimates["tpot_p50_s"].value


def test_assumed_numbers_do_not_choose() -> None:
    """Where both may be chosen, it is llama.cpp, and vLLM is shown beside it; asked for alone, it is vLLM."""
    both = on_a_cpu(engines=None, lanes=["bf16", "int8-w8a8", "gguf:Q8_0"])
    assert chosen(both).engine == "llama.cpp"
    assert "vllm" in {each.engine for each in both.alternatives}
    alone = on_a_cpu(engines=["vllm"], lanes=["bf16", "int8-w8a8"])
    assert chosen(alone).engine == "vllm"


def test_no_other_device_is_touched() -> None:
    """GPUs have neither a stated cache nor assumed factors."""
    choice = chosen(planned(ask(MODEL, device("l40s"), engines=["vllm"])))
    assert choice.pools[0].settings.kv_cache_gib is UNSET
    assert catalog().engine("vllm").assumption(catalog().accelerator("l40s")) is None
    assert b"kv_cache_gib" not in msgspec.json.encode(choice)


def test_replicas_are_pinned_to_memory_nodes() -> None:
    plan = planned(
        ask(
            MODEL, device(ZEN, count=2, host_ram_gib=256), engines=["vllm"], lanes=["bf16"],
            workload=FEW, availability={"spares": 1},
        )
    )  # fmt: skip
    choice = chosen(plan)
    assert (choice.pools[0].replicas, choice.pools[0].tensor_parallel) == (2, 1)
    launch = engines.launch(choice, catalog().engine("vllm"), LaunchOptions(model=MODEL))
    assert launch.device_variable == NODES


def test_shares_are_those_of_llama_cpp_in_the_lane_of_the_same_bits() -> None:
    """Weight-only kernels unpack as its blocks do; emulated FP8 takes what the engine's facts say."""
    found = search(
        ask(
            MODEL, device(ZEN, host_ram_gib=256), engines=["vllm"], lanes=["bf16", "fp8", "gptq-int4"], overrides=WAIVED
        ),
        catalog(),
    )
    fits = fits_of(catalog())
    by_lane = {each.pairing.lane.id: fits.of(each.pairing) for each in found.options.kept}
    assert by_lane["bf16"].unpack_flops == 0 < by_lane["gptq-int4"].unpack_flops < by_lane["fp8"].unpack_flops
    stated = catalog().engine("vllm").assumption(catalog().accelerator(ZEN))
    assert stated is not None
    assert by_lane["fp8"].unpack_flops == stated.emulated_flops
    assert {each.basis for each in by_lane.values()} == {"assumed"}


def probed(**host: Any) -> Plan:
    """A plan on a probed host of one socket; `host` = what differs."""
    here = {
        "system": "linux", "machine": "x86_64", "accelerator": ZEN, "sockets": 1, "ram_bytes": 256 * GIB,
        "ram_available_bytes": 200 * GIB, "flags": ("avx512f", "avx512_bf16"),
    }  # fmt: skip
    inventory = Inventory(probed_at="2026-11-20T09:00:00Z", host=Host(**here | host))
    asked = ask(MODEL, engines=["vllm"], lanes=["bf16"], workload=FEW)
    hardware = msgspec.structs.replace(Hardware(), inventory=inventory)
    return planned(msgspec.structs.replace(asked, hardware=hardware))


def test_a_probed_machine_without_a_gpu_plans_vllm() -> None:
    choice = chosen(probed())
    assert (choice.engine, choice.pools[0].accelerator) == ("vllm", ZEN)


@pytest.mark.parametrize(
    ("host", "because"),
    [({"flags": ("avx2",)}, "does not show avx512_bf16"), ({"sockets": 2}, "has 2 sockets")],
)
def test_another_host_than_was_read_is_refused(host: dict[str, Any], because: str) -> None:
    plan = probed(**host)
    assert plan.choice is None
    assert because in plan.refused[0].finding.because


def test_measured_speed_lifts_the_preference() -> None:
    """Deviations that were observed on the very device: vLLM competes like any other."""
    facts = catalog()
    request = ask(MODEL, device(ZEN, host_ram_gib=256), lanes=["bf16", "gguf:Q8_0"], workload=FEW)
    seen = Deviation(
        accelerator=ZEN, engine="vllm", version="0.33.0", lane="bf16", model=MODEL, prompt=512.0, output=128.0,
        decode=1.0, prefill=0.0, deviation=0.1, noise=0.01,
    )  # fmt: skip
    before = search(request, facts)
    after = search(request, replace(facts, deviations=(seen,)))
    assert preferred(before) == {"llama.cpp"}
    assert preferred(after) == {"llama.cpp", "vllm"}


def preferred(found: Found) -> set[str]:
    """Engines that no rule prefers something else to."""
    return {each.pairing.engine.id for each in found.options.kept if not each.second_best}
