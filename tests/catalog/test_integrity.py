"""The laws that every entry of the packaged catalogue keeps, entry by entry (the models have their own file)."""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest

from catalog.accelerator import Accelerator
from catalog.artifact import Artifact
from catalog.evidence import Evidence
from catalog.lane import Spelling, is_lane
from catalog.load import DATA, lane_of, load
from catalog.price import STALE_DAYS, Offer
from catalog.source import Sourced

CATALOG = load()
ACCELERATORS = list(CATALOG.accelerators.values())
GB, TERA = 1e9, 1e12
RATES = ("fp32", "bf16", "fp16", "fp8", "int8", "fp4")

LIMITED_PRODUCTS = {"a10g", "h100-pcie-80", "h100-nvl-94", "h200-nvl"}
"""Sold below what SMs x clock gives: the A10G by product, the Hopper cards by power."""
HALVED = {"l40", "l20"}
"""Ada cards with the fp32-accumulate rate of a GeForce."""
FP8_AT_16_BIT_RATE = {"gaudi3"}
SLOW_INT8 = {"b300-sxm", "gb300"}
"""Blackwell Ultra gave its INT8 units away: about 29 times slower than FP8."""
FRAMES = {"", "SXM2", "SXM4", "SXM5", "SXM6", "OAM", "PCIe", "SoC", "NVL72", "Superchip", "socket"}
NOT_CATALOGUED = {
    "MiniMaxAI/MiniMax-M2",
    "Qwen/Qwen2.5-VL-72B-Instruct",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "Qwen/Qwen3-235B-A22B-Instruct-2507",
    "Qwen/Qwen3-VL-235B-A22B-Instruct",
    "Qwen/Qwen3.8-2.4T-A95B",
    "arcee-ai/Trinity-Large-Thinking",
    "deepseek-ai/DeepSeek-R1-0528",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    "deepseek-ai/DeepSeek-V3.1",
    "dots-studio/dots3-note-prev",
    "google/diffusiongemma-26B-A4B-it",
    "inclusionAI/Ling-3.0-flash",
    "internlm/Intern-S1",
    "internlm/Intern-S2-Preview",
    "meta-llama/Llama-3.1-405B",
    "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-3.2-1B",
    "meta-models/Muse-Glimmer-30B",
    "moonshotai/Kimi-K2-Thinking",
    "nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16",
    "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-BF16",
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16",
    "nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-BF16",
    "poolside/Laguna-M.1",
    "poolside/Laguna-S-2.1",
    "poolside/Laguna-XS-2.1",
    "poolside/Laguna-XS.2",
    "stepfun-ai/Step-3.5-Flash",
    "tencent/Hy3",
    "thinkingmachines/Inkling-NVFP4",
    "thinkingmachines/Inkling-Small-NVFP4",
    "zai-org/GLM-4.5",
    "zai-org/GLM-4.5V",
    "zai-org/GLM-4.6V",
    "zai-org/GLM-4.7",
}
"""Bases of known checkpoints without an entry: base models, vision models, releases without published shapes."""


def named(rows: list[Sourced]) -> list[str]:
    return [row.id for row in rows]


every_accelerator = pytest.mark.parametrize("device", ACCELERATORS, ids=named(list(ACCELERATORS)))


def operations_per_clock(device: Accelerator) -> int | None:
    """Dense 16-bit operations per clock and SM with fp32 accumulate; None for architectures without a fixed law."""
    if device.architecture in {"volta", "turing"}:
        return 1024
    if device.architecture == "hopper":
        return 4096
    if device.chip == "GA100":
        return 2048
    if (device.vendor == "nvidia" and device.chip[:2] in {"GA", "AD"}) or device.chip == "GB202":
        return 512 if "GeForce" in device.name or device.id in HALVED else 1024
    return None


@every_accelerator
def test_quantities_are_in_a_plausible_range(device: Accelerator) -> None:
    assert device.memory is None or 4 * 2**30 <= device.memory <= 1024 * 2**30
    assert 50 * GB <= device.bandwidth <= 10_000 * GB
    assert all(rate is None or 1 * TERA <= rate <= 20_000 * TERA for rate in (device.peak(math) for math in RATES))  # type: ignore[arg-type]
    assert device.link_bandwidth is None or 10 * GB <= device.link_bandwidth <= 1000 * GB
    assert device.tdp is None or 10 <= device.tdp <= 2000
    assert device.boost is None or 0.8e9 <= device.boost <= 3.5e9
    assert device.form in FRAMES


@every_accelerator
def test_reported_memory_is_a_little_below_what_is_sold(device: Accelerator) -> None:
    if device.reported_memory is not None:
        assert device.memory is not None
        assert 0.9 * device.memory <= device.reported_memory <= device.memory
        assert device.usable_memory == device.reported_memory


@every_accelerator
def test_kind_and_node_agree(device: Accelerator) -> None:
    by_frame = {"NVL72": {72}, "Superchip": {1}}.get(device.form, {8})
    assert device.per_node in {"unified": {1}, "cpu": {1, 2}}.get(device.kind, by_frame)
    assert (device.memory is None) == (device.kind == "cpu"), "only a socket has no memory of its own"


@every_accelerator
def test_rates_are_dense_and_ordered(device: Accelerator) -> None:
    """Half the width is at least as fast, where native; a sparse figure would break the factor of two."""
    sixteen = device.bf16 or device.fp16
    if sixteen and device.bf16 and device.fp16 and device.id not in {"gaudi3"}:
        assert device.bf16 == device.fp16
    if sixteen and device.fp8 and "fp8" in {name[:3] for name in device.native}:
        assert device.fp8 >= sixteen
        assert device.fp8 <= sixteen * 2.05, "twice the 16-bit rate at most: more is a sparse figure"
    if sixteen and device.int8 and device.id not in SLOW_INT8:
        assert sixteen <= device.int8 <= sixteen * 4.1, "GeForce int8 is not halved; more than four times is sparse"
    if device.fp8 and device.fp4:
        assert device.fp8 <= device.fp4 <= device.fp8 * 4.1


@every_accelerator
def test_a_rate_implies_the_format_and_turing_has_no_bf16(device: Accelerator) -> None:
    formats = {name.partition("-")[0] for name in device.native}
    for math in ("bf16", "fp8", "fp4"):
        if device.peak(math) is not None:  # type: ignore[arg-type]
            assert math in formats, math
    if device.cuda_capability is not None:
        assert ("bf16" in formats) == (device.cuda_capability >= 8.0)
        assert ("fp8" in formats) == (device.cuda_capability >= 8.9)
        assert ("fp4" in formats) == (device.cuda_capability >= 10.0)


@every_accelerator
def test_multiprocessors_times_clock_give_the_rate(device: Accelerator) -> None:
    law, rate = operations_per_clock(device), device.bf16 or device.fp16
    if law is None or rate is None or device.sms is None or device.boost is None:
        pytest.skip("no law, or no clock")
    derived = device.sms * device.boost * law
    if device.id in LIMITED_PRODUCTS:
        assert rate < 0.96 * derived, "no longer limited: take it off the list"
    else:
        assert rate == pytest.approx(derived, rel=0.04)


@every_accelerator
def test_what_was_measured_stays_below_the_peak(device: Accelerator) -> None:
    for achieved, peak in ((device.achieved_bf16, device.bf16), (device.achieved_fp8, device.fp8)):
        if achieved is not None and peak is not None:
            assert 0.4 * peak <= achieved <= peak


@every_accelerator
def test_no_memory_text_above_confidence_c(device: Accelerator) -> None:
    assert "RECALL" not in device.source or device.confidence == "C"
    for field, fact in device.facts.items():
        assert "RECALL" not in fact.source or fact.confidence == "C", field
        assert hasattr(device, field), f"a fact about no field: {field}"
        assert getattr(device, field) is not None, f"a source for a blank value: {field}"


@every_accelerator
def test_what_decides_a_choice_is_confirmed_or_the_whole_entry_is_doubted(device: Accelerator) -> None:
    """Memory and bandwidth carry every plan: from memory alone they doubt the entry, never just themselves."""
    weak = device.confidence_of("bandwidth", "reported_memory" if device.reported_memory else "memory") == "C"
    known_to_vary = device.kind == "unified" and device.confidence != "C"
    assert not weak or device.confidence == "C" or known_to_vary


def test_ids_are_plain_and_driver_names_mean_one_device() -> None:
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*", device.id) for device in ACCELERATORS)
    names = Counter(name for device in ACCELERATORS for name in device.nvml_names)
    assert [name for name, count in names.items() if count > 1] == []


def test_devices_that_measurements_speak_of_are_catalogued() -> None:
    for table in ("speed", "memory"):
        with (DATA / "truth" / f"{table}.csv").open(encoding="utf-8") as file:
            keys = {row["accelerator"] for row in csv.DictReader(file)} - {""}
        assert keys <= set(CATALOG.accelerators)


every_offer = pytest.mark.parametrize("offer", CATALOG.offers, ids=[offer.name for offer in CATALOG.offers])


@every_offer
def test_an_offer_names_a_device_a_price_and_a_source(offer: Offer) -> None:
    assert offer.accelerator in CATALOG.accelerators
    assert 0.05 <= offer.usd_per_accelerator_hour <= 20
    assert 1 <= offer.count <= 72
    assert offer.source
    assert "RECALL" not in offer.source or offer.confidence == "C"
    assert offer.as_of == "" or re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", offer.as_of)


@every_offer
def test_undated_and_old_prices_are_stale(offer: Offer) -> None:
    age = offer.age_days(CATALOG.as_of)
    assert (age is None) == (offer.as_of == "")
    assert age is None or age >= 0
    assert offer.stale(CATALOG.as_of) == (age is None or age > STALE_DAYS)


def test_spot_is_cheaper_than_on_demand() -> None:
    listed = {offer.name: offer for offer in CATALOG.offers}
    pairs = [(listed[o.name.replace("/spot", "/on_demand")], o) for o in CATALOG.offers if o.market == "spot"]
    assert len(pairs) > 20
    assert all(spot.usd_per_hour < demand.usd_per_hour for demand, spot in pairs)


@pytest.mark.parametrize("artifact", CATALOG.artifacts, ids=[artifact.repo for artifact in CATALOG.artifacts])
def test_an_artifact_has_a_lane_and_a_base(artifact: Artifact) -> None:
    assert is_lane(artifact.lane) or artifact.lane in {"gguf", "-"}
    assert artifact.lane != "nf4"
    assert artifact.base in CATALOG.models or artifact.base in NOT_CATALOGUED, artifact.base
    assert artifact.repo.count("/") == 1
    assert artifact.source
    assert artifact.weight_bytes is None or artifact.weight_bytes > 1e8


@pytest.mark.parametrize("row", CATALOG.evidence, ids=[row.id for row in CATALOG.evidence])
def test_evidence_is_recomputed_and_in_range(row: Evidence) -> None:
    assert is_lane(row.lane) or row.lane == "-" or row.lane.startswith("kv:")
    assert row.counts == (row.grade in {"A", "B"})
    assert row.training in {"ptq", "qat", "qad", "native"}
    assert row.params is None or 1e8 <= row.params <= 2e12
    assert row.context_tokens is None or 128 <= row.context_tokens <= 1_048_576
    assert row.weight_bits is None or 1 <= row.weight_bits <= 16
    assert row.kv_bits is None or 1 <= row.kv_bits <= 16
    if row.recovery is not None:
        ratio = row.quantized / row.baseline if row.higher_is_better else row.baseline / row.quantized
        assert row.recovery == pytest.approx(100 * ratio, abs=0.006)


def test_kld_and_differences_have_no_recovery() -> None:
    blank = [row for row in CATALOG.evidence if row.recovery is None]
    assert all(row.task_family == "kld" or "delta" in row.task for row in blank)
    distances = [row for row in CATALOG.evidence if "KLD" in row.task or "KL " in row.task]
    assert len(distances) > 40
    assert all(row.recovery is None for row in distances)


def test_lanes_read_from_evidence() -> None:
    """The spellings that decide most rows, by hand: a wrong row in the table would move every quality estimate."""
    spelled = {row.method: (row.lane, row.recipe, row.training) for row in CATALOG.evidence}
    assert spelled["GPTQ_INT4"] == ("gptq-int4", "gptq", "ptq")
    assert spelled["AWQ_INT4"] == ("awq-int4", "awq", "ptq")
    assert spelled["RTN_INT4"] == ("w4a16", "rtn", "ptq")
    assert spelled["GPTQ_INT8_W8A16"] == ("int8-w8a16", "gptq", "ptq")
    assert spelled["NF4_bnb"][0] == "nf4"
    assert spelled["QAT_NVFP4"] == ("nvfp4", "nvfp4", "qat")
    assert spelled["GGUF_Q4_K_M"][0] == "gguf:Q4_K_M"
    assert spelled["KV_q8_0_rot"] == ("kv:q8_0", "rotation", "ptq")
    assert spelled["GPTQ_INT3"][0] == spelled["W4A8KV4_QoQ"][0] == spelled["EXL3_4b"][0] == "-"


@pytest.mark.parametrize("row", CATALOG.spellings.values(), ids=lambda row: f"{row.table}:{row.spelling}")
def test_a_spelling_maps_to_something_we_name(row: Spelling) -> None:
    assert row.table in {"evidence", "artifacts", "models", "speed", "memory"}
    assert is_lane(row.lane) or row.lane in {"gguf", "-"} or row.lane.startswith("kv:")
    assert row.lane not in {"-", "kv:other"} or row.why, "what is left out says why"
    assert row.training in {"ptq", "qat", "qad", "native"}


@pytest.mark.parametrize("table", ["speed", "memory"])
def test_every_lane_of_the_measurements_is_spelled(table: str) -> None:
    with (DATA / "truth" / f"{table}.csv").open(encoding="utf-8") as file:
        lanes = {row["lane"] for row in csv.DictReader(file)} - {""}
    assert {lane_of(CATALOG.spellings, table, lane).lane for lane in lanes} == lanes
    assert {(table, lane) for lane in lanes} <= set(CATALOG.spellings)


def test_every_listed_spelling_is_used() -> None:
    used = {("evidence", row.method) for row in CATALOG.evidence} | {
        ("artifacts", row.format) for row in CATALOG.artifacts
    }
    listed = {key for key in CATALOG.spellings if key[0] in {"evidence", "artifacts"}}
    assert listed == used


def test_the_data_speak_of_nothing_private() -> None:
    """Paths and names of a workplace never enter the data that users read."""
    for file in [*DATA.glob("*.csv"), *DATA.glob("accelerators/*.toml")]:
        assert not re.search(r"/work/|/root/|/tmp/|\bseed \d{3}\b|scratch/", file.read_text(encoding="utf-8")), file
