"""A request is read strictly: every fault is named with its place, every default is said."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from catalog.errors import BadInput, Unsupported
from planner import decode
from tests.plan.asking import ask, device, planned

ROW = {"arrival_s": 0, "prompt_tokens": 100, "output_tokens": 10}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"workload": {"qps": 1, "speed": 2}}, "$.workload"),
    "an unknown top field": ({"speed": 2}, "$"),
    "no rate": ({"workload": {}}, "$.workload"),
    "two rates": ({"workload": {"qps": 1, "users": 3}}, "$.workload"),
    "a negative rate": ({"workload": {"qps": -1}}, "$.workload.qps"),
    "a word for a number": ({"workload": {"qps": "fast"}}, "$.workload.qps"),
    "a p95 below the mean": (
        {"workload": {"qps": 1, "prompt_tokens": {"mean": 10, "p95": 5}}}, "$.workload.prompt_tokens.p95",
    ),
    "an unknown family": ({"workload": {"qps": 1, "mix": {"poetry": 1.0}}}, "$.workload.mix.poetry"),
    "shares beyond one": ({"workload": {"qps": 1, "mix": {"chat": 0.7, "code": 0.7}}}, "$.workload.mix"),
    "an unknown lane": ({"lanes": ["int3"]}, "$.lanes[0]"),
    "no accelerators": ({"hardware": {"accelerators": []}}, "$.hardware.accelerators"),
    "two kinds of hardware": ({"hardware": {"accelerators": [device("t4")], "any": {}}}, "$.hardware"),
    "no devices": ({"hardware": {"accelerators": [device("t4", 0)]}}, "$.hardware.accelerators[0].count"),
    "a mean rate without a peak": ({"workload": {"users": 2, "qps_mean": 1}}, "$.workload.qps_mean"),
    "shares of languages": ({"workload": {"qps": 1, "languages": {"en": 0.5, "de": 0.6}}}, "$.workload.languages"),
    "no adapters": ({"workload": {"qps": 1, "lora": {"adapters": 0}}}, "$.workload.lora.adapters"),
    "too high a rank": ({"workload": {"qps": 1, "lora": {"max_rank": 1024}}}, "$.workload.lora.max_rank"),
    "negative spares": ({"availability": {"spares": -1}}, "$.availability.spares"),
    "a probe and names": ({"hardware": {"probe": True, "any": {}}}, "$.hardware"),
    "half an inventory": ({"hardware": {"inventory": {}}}, "$.hardware.inventory"),
    "negative memory": ({"hardware": {"any": {}, "reserved": {"memory_gib": -1}}}, "$.hardware.reserved.memory_gib"),
    "an estimate of nothing": ({"overrides": {"estimates": [{"lane": "fp8"}]}}, "$.overrides.estimates[0]"),
    "an estimate we do not know": ({"overrides": {"estimates": [{"tpot_p95_s": 1}]}}, "$.overrides.estimates[0]"),
    "a loss of an unknown family": (
        {"overrides": {"estimates": [{"loss_pct": {"poetry": 1}}]}}, "$.overrides.estimates[0].loss_pct.poetry"
    ),
    "a trace beside a rate": ({"workload": {"qps": 1, "trace": [ROW]}}, "$.workload"),
    "a trace beside lengths": (
        {"workload": {"trace": [ROW], "prompt_tokens": {"mean": 9}}}, "$.workload.prompt_tokens"
    ),
    "a request before the beginning": (
        {"workload": {"trace": [ROW, ROW | {"arrival_s": -1}]}}, "$.workload.trace[1].arrival_s"
    ),
    "a request without an answer": ({"workload": {"trace": [ROW | {"output_tokens": 0}]}}, "$.workload.trace[0]"),
    "half a token": ({"workload": {"trace": [ROW | {"prompt_tokens": 1.5}]}}, "$.workload.trace[0].prompt_tokens"),
    "no date": ({"as_of": "yesterday"}, "$.as_of"),
    "another schema": ({"schema": 2}, "$.schema"),
    "an objective of zero": ({"slo": {"ttft_ms": {"p95": 0}}}, "$.slo.ttft_ms.p95"),
    "an unknown percentile": ({"slo": {"ttft_ms": {"p42": 10}}}, "$.slo.ttft_ms"),
}  # fmt: skip
LATER: dict[str, dict[str, Any]] = {
    "$.workload.sessions": {"workload": {"qps": 1, "sessions": {"turns": 4}}},
    "$.workload.thinking_tokens": {"workload": {"qps": 1, "thinking_tokens": {"mean": 400}}},
    "$.workload.structured_share": {"workload": {"qps": 1, "structured_share": 0.5}},
    "$.workload.images": {"workload": {"qps": 1, "images": {"per_request": 1}}},
    "$.budget.watts": {"budget": {"watts": 900}},
    "$.current": {"current": {"launch": "vllm serve"}},
    "$.classes": {"classes": [{"name": "a"}]},
    "$.allow_models": {"allow_models": ["a"]},
    "$.task": {"task": "embed"},
}


def body(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "Qwen/Qwen3-8B", "workload": {"qps": 1}, **fields})


@pytest.mark.parametrize("name", BAD)
def test_a_fault_is_refused_with_its_place(name: str) -> None:
    fields, path = BAD[name]
    with pytest.raises(BadInput) as caught:
        decode.decode(body(**fields))
    assert caught.value.path.startswith(path)


@pytest.mark.parametrize("path", LATER)
def test_a_known_field_that_is_not_planned_is_refused_by_name(path: str) -> None:
    with pytest.raises(Unsupported, match="planned") as caught:
        decode.decode(body(**LATER[path]))
    assert caught.value.path == path


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null"])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        decode.decode(data)


def test_toml_and_json_say_the_same() -> None:
    toml = b'model = "Qwen/Qwen3-8B"\n[workload]\nqps = 1\n'
    assert decode.decode(toml, "toml") == decode.decode(body())


def test_every_default_is_an_assumption() -> None:
    plan = planned(ask("Qwen/Qwen3-8B", device("h100-sxm5-80")))
    said = {assumption.path for assumption in plan.assumptions}
    assert {"workload.prompt_tokens.mean", "workload.output_tokens.mean", "workload.context_tokens_max", "workload.mix",
            "workload.burstiness", "quality.max_loss_pct", "objective", "engines", "slo"} <= said  # fmt: skip


def test_what_is_given_is_no_assumption() -> None:
    workload = {"qps": 1.0, "prompt_tokens": {"mean": 10, "p95": 20}, "burstiness": 1.0, "mix": {"chat": 1.0}}
    said = {each.path for each in planned(ask("Qwen/Qwen3-8B", device("h100-sxm5-80"), workload=workload)).assumptions}
    assert not said & {"workload.prompt_tokens.mean", "workload.burstiness", "workload.mix"}


def test_an_unknown_accelerator_is_named_with_its_neighbours() -> None:
    with pytest.raises(BadInput, match="h100-sxm5-80") as caught:
        planned(ask("Qwen/Qwen3-8B", device("h100-sxm-80")))
    assert caught.value.path == "$.hardware.accelerators[0].id"


@pytest.mark.parametrize("engine", ["ollama", "tgi", "mlc-llm", "no-such-engine"])
def test_an_engine_without_facts_is_refused_by_name(engine: str) -> None:
    with pytest.raises(Unsupported, match=engine):
        planned(ask("Qwen/Qwen3-8B", device("h100-sxm5-80"), engines=[engine]))


def test_a_pinned_version_is_honoured_or_refused() -> None:
    pinned = ask("Qwen/Qwen3-8B", device("h100-sxm5-80"), engine_versions={"vllm": "0.33"})
    assert planned(pinned).versions["vllm"].startswith("0.33")
    with pytest.raises(Unsupported, match=r"unsupported version 0\.6 of vllm"):
        planned(ask("Qwen/Qwen3-8B", device("h100-sxm5-80"), engine_versions={"vllm": "0.6"}))


def test_users_and_batches_are_planned_as_well_as_rates() -> None:
    users = planned(ask("Qwen/Qwen3-8B", device("h100-sxm5-80", 4), workload={"users": 50}))
    batch = planned(ask("Qwen/Qwen3-8B", device("h100-sxm5-80", 4), workload={"batch": {"requests": 5000, "deadline_s": 3600}}))  # fmt: skip  # noqa: E501
    assert users.choice is not None
    assert batch.choice is not None
    assert batch.choice.estimates["requests_per_s"].value == pytest.approx(5000 / 3600, rel=0.02)
