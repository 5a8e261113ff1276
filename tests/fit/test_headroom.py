"""Does it start, and how much fits: laws, agreement with the plan, the rules' own words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from catalog.errors import BadInput
from catalog.units import GIB
from planner import decode, memory, service
from planner.headroom import answer
from planner.headroom.picture import Ask, Headroom, Outcome, Picture
from planner.headroom.seating import batch_of, most
from planner.headroom.setups import setups
from planner.headroom_report import cells, segments
from tests.plan import asking
from tests.plan.asking import catalog, device

MODELS = st.sampled_from(
    [
        "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-30B-A3B", "google/gemma-3-27b-it",
        "deepseek-ai/DeepSeek-V2-Lite-Chat", "Qwen/Qwen3-Next-80B-A3B-Instruct",
    ]
)  # fmt: skip
LANES = st.sampled_from(["bf16", "fp8", "awq-int4", "gguf:Q4_K_M"])
LAW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
RANKED = "deepseek-ai/DeepSeek-V3"


def question(model: str, *devices: dict[str, Any], **fields: Any) -> Ask:
    hardware = fields.pop("hardware", {"accelerators": list(devices)})
    return decode.decode_ask(msgspec.json.encode({"model": model, "hardware": hardware, **fields}))


def outcomes(model: str, *devices: dict[str, Any], **fields: Any) -> tuple[Outcome, ...]:
    return answer.headroom(question(model, *devices, **fields), catalog()).outcomes


def one(model: str, *devices: dict[str, Any], **fields: Any) -> Outcome:
    """The only outcome of a question about one lane on one device."""
    (found,) = outcomes(model, *devices, **fields)
    return found


def seen(outcome: Outcome) -> Picture:
    assert outcome.picture is not None, outcome.reasons
    return outcome.picture


def codes(outcome: Outcome) -> set[str]:
    return {reason.rule for reason in outcome.reasons}


FIXED = {"sequences": 16, "batched_tokens": 2048}
"""The defaults of vLLM grow with the device and take memory themselves; laws hold them still."""


@LAW
@given(MODELS, LANES, st.floats(8.0, 120.0), st.floats(1.0, 2.0))
def test_more_memory_never_lowers_the_longest_context(model: str, lane: str, gib: float, more: float) -> None:
    small, large = (
        seen(one(model, device("h100-sxm5-80", memory_gib=size), lane=lane, **FIXED)) for size in (gib, gib * more)
    )
    assert large.longest_context >= small.longest_context
    assert large.max_concurrency >= small.max_concurrency


@LAW
@given(MODELS, LANES, st.integers(256, 30_000), st.integers(1, 10_000))
def test_a_longer_context_never_raises_the_number_of_sequences(model: str, lane: str, short: int, longer: int) -> None:
    on = device("h100-sxm5-80", 2)
    fewer, all_of = (seen(one(model, on, lane=lane, context=each)) for each in (short + longer, short))
    assert fewer.seats_at(short + longer) <= all_of.seats_at(short)  # type: ignore[operator]


@LAW
@given(MODELS, st.sampled_from(["bf16", "fp8"]), st.floats(20.0, 140.0))
def test_an_fp8_cache_never_holds_fewer_tokens(model: str, lane: str, gib: float) -> None:
    on = device("h100-sxm5-80", memory_gib=gib)
    plain, narrow = (seen(one(model, on, lane=lane, context=4096, kv_cache=each)) for each in ("auto", "fp8"))
    assert narrow.kv_tokens >= plain.kv_tokens
    assert narrow.longest_context >= plain.longest_context


@LAW
@given(MODELS, LANES, st.floats(4.0, 90.0), st.integers(64, 32_000), st.integers(1, 64))
def test_it_starts_exactly_where_no_rule_of_memory_speaks(
    model: str, lane: str, gib: float, context: int, slots: int
) -> None:
    found = one(model, device("h100-sxm5-80", memory_gib=gib), lane=lane, context=context, sequences=slots)
    assume(codes(found) <= {"H201", "H202"})
    assert found.starts is not bool(codes(found))
    assert found.starts is (seen(found).first_missing == "")
    if abs(seen(found).margin.value) > 1e-5 * seen(found).device_bytes:
        assert found.starts is (seen(found).margin.value > 0)


@LAW
@given(MODELS, LANES, st.floats(16.0, 90.0), st.integers(1, 16))
def test_the_longest_context_is_the_last_that_starts(model: str, lane: str, gib: float, slots: int) -> None:
    on = device("h100-sxm5-80", memory_gib=gib)
    found = one(model, on, lane=lane, sequences=slots)
    longest, block = seen(found).longest_context, 256 if lane.startswith("gguf") else 16
    limit = catalog().model(model).max_position
    if longest:
        assert one(model, on, lane=lane, sequences=slots, context=longest).starts
    if 0 < longest < limit:
        beyond = min(longest + block, limit)
        assert one(model, on, lane=lane, sequences=slots, context=beyond).starts is False


@LAW
@given(MODELS, LANES, st.integers(1, 4))
def test_parts_add_up_to_the_claim_and_the_claim_to_the_device(model: str, lane: str, count: int) -> None:
    picture = seen(one(model, device("h200-sxm5", count), lane=lane, context=8192))
    assert sum(part.bytes.value for part in picture.parts) == pytest.approx(picture.claimed_bytes, rel=1e-4)
    assert picture.claimed_bytes + picture.unclaimed_bytes == pytest.approx(picture.device_bytes, rel=1e-5)
    assert all(part.bytes.low <= part.bytes.value <= part.bytes.high for part in picture.parts)


@pytest.mark.parametrize(
    ("model", "name", "count"),
    [
        (LLAMA, "l4", 4),
        (LLAMA, "rtx4090", 2),
        ("Qwen/Qwen3-30B-A3B", "l40s", 2),
        ("Qwen/Qwen3-32B", "h100-sxm5-80", 4),
        (RANKED, "h200-sxm5", 8),
    ],
)
def test_a_plan_counts_the_same_memory(model: str, name: str, count: int) -> None:
    """Weights, activations and cache of every candidate of a plan, to the last digit; one has data-parallel ranks."""
    load = {"qps": 20.0} if model == RANKED else {"users": 4}
    workload = {**load, "prompt_tokens": {"mean": 1000}, "context_tokens_max": 8192}
    plan = asking.planned(asking.ask(model, device(name, count), workload=workload, quality={"max_loss_pct": 20.0}))
    assert plan.choice is not None
    assert (plan.choice.pools[0].data_parallel > 1) is (model == RANKED)
    for candidate in (plan.choice, *plan.alternatives):
        pool = candidate.pools[0]
        picture = seen(
            one(
                model,
                device(name, count),
                lane=candidate.lane,
                context=pool.settings.max_model_len,
                sequences=pool.settings.max_num_seqs,
                batched_tokens=pool.settings.max_num_batched_tokens,
                tensor_parallel=pool.tensor_parallel,
                pipeline_parallel=pool.pipeline_parallel,
                data_parallel=pool.data_parallel,
                kv_cache=candidate.kv_cache_dtype,
            )
        )
        ours = {part.name: part.bytes for part in picture.parts}
        assert ours["weights"] == candidate.estimates["weight_bytes"]
        assert ours["activations"] == candidate.estimates["activation_bytes"]
        assert ours["KV cache"] == candidate.estimates["kv_pool_bytes"]


def test_every_lane_has_one_outcome_and_reasons_where_it_does_not_start() -> None:
    found = answer.headroom(question("Qwen/Qwen3-8B", device("b200-sxm")), catalog())
    assert len({(each.lane, each.engine) for each in found.outcomes}) == len(found.outcomes) > 10
    assert all(each.starts is (not each.reasons) for each in found.outcomes)
    refused = {each.lane: codes(each) for each in found.outcomes if each.starts is False}
    assert "H101" in refused["int8-w8a8"]
    assert found.starts


@pytest.mark.parametrize(
    ("model", "fields", "code"),
    [
        ("Qwen/Qwen3-8B", {"on": "l4", "lane": "bf16", "context": 90_000}, "H106"),
        ("Qwen/Qwen3-8B", {"on": "v100-sxm2-32", "lane": "fp16", "context": 2048}, "H113"),
        ("Qwen/Qwen2.5-7B-Instruct", {"on": "h100-sxm5-80:8", "lane": "bf16", "tensor_parallel": 8}, "H301"),
        ("Qwen/Qwen2.5-72B-Instruct", {"on": "h100-sxm5-80:8", "lane": "awq-int4", "tensor_parallel": 8}, "H302"),
        ("deepseek-ai/DeepSeek-V3", {"on": "b200-sxm:8", "lane": "bf16"}, "H110"),
        ("microsoft/phi-4", {"on": "h100-sxm5-80:4", "lane": "bf16", "tensor_parallel": 4}, "H308"),
        ("Qwen/Qwen3-Next-80B-A3B-Instruct", {"on": "h100-sxm5-80:8", "lane": "w4a16", "tensor_parallel": 8}, "H302"),
        ("openai/gpt-oss-20b", {"on": "l40s", "lane": "awq-int4"}, "H111"),
        (LLAMA, {"on": "rtx4090", "lane": "bf16", "utilization": 1.0, "context": 8192}, "H124"),
        (LLAMA, {"on": "t4", "lane": "fp16", "kv_cache": "fp8", "context": 2048}, "H120"),
    ],
)
def test_other_reasons_are_named_by_their_rules(model: str, fields: dict[str, Any], code: str) -> None:
    name, _, count = fields["on"].partition(":")
    given_ = {key: value for key, value in fields.items() if key != "on"}
    found = one(model, device(name, int(count or 1)), **given_)
    assert found.starts is False
    assert code in codes(found)


@pytest.mark.parametrize("fields", [{"on": "epyc-9654"}, {"on": "apple-m5", "memory_gib": 24}])
def test_what_nobody_knows_is_neither_yes_nor_no(fields: dict[str, Any]) -> None:
    more = {"memory_gib": fields["memory_gib"]} if "memory_gib" in fields else {}
    found = one("Qwen/Qwen3-8B", device(fields["on"], **more), lane="gguf:Q4_K_M")
    assert found.starts is None
    assert found.picture is None
    assert codes(found) & {"H105", "H107"}


def test_an_old_driver_is_a_reason_and_a_busy_device_has_less_to_claim() -> None:
    old = inventory("a100s-driver-470")
    assert "H108" in codes(one("Qwen/Qwen3-8B", hardware={"inventory": old}, lane="bf16"))
    free, busy = outcomes("Qwen/Qwen3-8B", hardware={"inventory": inventory("4090s-one-busy")}, lane="fp8")
    assert seen(free).free_bytes > seen(busy).free_bytes  # type: ignore[operator]
    assert seen(free).claimed_bytes > seen(busy).claimed_bytes
    assert busy.flags.gpu_memory_utilization < free.flags.gpu_memory_utilization


def test_reserved_memory_is_not_claimed() -> None:
    on = {"accelerators": [device("l40s")]}
    plain = one(LLAMA, hardware=on, lane="fp8")
    kept = one(LLAMA, hardware=on | {"reserved": {"memory_gib": 20}}, lane="fp8")
    assert seen(kept).free_bytes == pytest.approx(seen(plain).device_bytes - 20 * GIB)
    assert seen(kept).kv_tokens < seen(plain).kv_tokens


def test_doubtful_facts_warn_and_do_not_stop_an_engine() -> None:
    found = one("Qwen/Qwen3-8B", device("b100"), lane="bf16", context=8192)
    assert found.starts
    assert "H104" in {finding.rule for finding in found.findings if finding.effect == "warn"}


def inventory(name: str) -> dict[str, Any]:
    from pathlib import Path

    path = Path(__file__).parents[2] / "examples" / "inventories" / f"{name}.json"
    read: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return read


def test_every_change_does_what_it_says() -> None:
    """Asked again with the flags that a change names, the answer starts and fits what the change promised."""
    asked = {"lane": "bf16", "context": 32_768}
    found = one(LLAMA, device("rtx4090", memory_gib=20), **asked)
    assert found.starts is False
    assert len(found.changes) >= 3
    for change in found.changes:
        fields: dict[str, Any] = {"on": device("rtx4090", memory_gib=20), **asked}
        flag, value = change.flags.split(" ")
        if flag == "--on":
            fields["on"] = device("rtx4090", int(value.partition(":")[2]), memory_gib=20)
        else:
            fields |= {
                flag.removeprefix("--").replace("-", "_"): msgspec.json.decode(value) if value[0].isdecimal() else value
            }
        again = one(LLAMA, fields.pop("on"), **fields)
        assert again.starts, change
        assert seen(again).longest_context == change.longest_context
        assert seen(again).margin == change.margin


def test_a_document_reads_back_as_it_was_written() -> None:
    found = answer.headroom(question(LLAMA, device("l4", 2), context=16_384), catalog())
    written = service.encode(found)
    again = msgspec.json.decode(written, type=Headroom)
    assert service.encode(again) == written
    asked = decode.decode_ask(msgspec.json.encode(found.ask))
    assert service.encode(answer.headroom(asked, catalog())) == written


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 16, 100, 255, 256, 1024, 65_536])
def test_the_batch_of_so_many_slots_reserves_so_many(slots: int) -> None:
    assert memory.slots_for(batch_of(slots)) == slots


@given(st.integers(0, 5000), st.integers(1, 5000))
def test_halving_finds_the_last_that_holds(last: int, limit: int) -> None:
    assert most(lambda number: number <= last, limit) == min(last, limit)


@given(st.dictionaries(st.text(min_size=1), st.floats(1.0, 1e12), min_size=1, max_size=8), st.integers(1, 200))
def test_the_bar_is_as_wide_as_it_should_be(sizes: dict[str, float], width: int) -> None:
    assert sum(cells(sizes, width).values()) == width
    assert all(count >= 0 for count in cells(sizes, width).values())


def test_what_is_missing_stands_in_the_bar() -> None:
    picture = seen(one(LLAMA, device("rtx4090"), lane="bf16"))
    drawn = segments(picture)
    assert drawn["missing"] == pytest.approx(-picture.margin.value)
    assert "KV cache to spare" not in drawn


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"context": 1}, "$.context"),
        ({"sequences": 0}, "$.sequences"),
        ({"utilization": 1.5}, "$.utilization"),
        ({"lane": "int3"}, "$.lane"),
        ({"engine": "sglang"}, "$.engine"),
        ({"engine": "vllm", "lane": "gguf:Q4_K_M"}, "$.engine"),
        ({"kv_cache": "int2"}, "$.kv_cache"),
        ({"engine": "llama.cpp", "utilization": 0.9}, "$.utilization"),
        ({"engine": "llama.cpp", "tensor_parallel": 2}, "$.tensor_parallel"),
        ({"tensor_parallel": 4}, "$.tensor_parallel"),
        ({"pipeline_parallel": 4}, "$.pipeline_parallel"),
        ({"data_parallel": 0}, "$.data_parallel"),
        ({"data_parallel": 2}, "$.data_parallel"),
        ({"model": "Qwen/Qwen3-30B-A3B", "data_parallel": 4}, "$.data_parallel"),
        ({"model": "Qwen/Qwen3-30B-A3B", "data_parallel": 2, "pipeline_parallel": 2}, "$.pipeline_parallel"),
        ({"model": "Qwen/Qwen3-30B-A3B", "data_parallel": 2, "engine": "llama.cpp"}, "$.data_parallel"),
        ({"lora": {"max_rank": 0}}, "$.lora.max_rank"),
        ({"hardware": {"any": {}}}, "$.hardware.any"),
        ({"hardware": {"accelerators": [{"id": "h100", "count": 1}]}}, "$.hardware.accelerators[0].id"),
        ({"engine_versions": {"vllm": "0.1"}}, "$.engine_versions.vllm"),
        ({"flags": 1}, "$"),
    ],
)
def test_bad_input_names_its_place(fields: dict[str, Any], path: str) -> None:
    body = {"model": LLAMA, "hardware": {"accelerators": [device("l4", 2)]}} | fields
    with pytest.raises(BadInput) as fault:
        setups(decode.decode_ask(msgspec.json.encode(body)), catalog())
    assert fault.value.path == path
