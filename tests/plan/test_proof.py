"""What would prove a plan's quality: thresholds follow the tolerance, sizes the power, times the plan's own speed."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.gates import Gates
from planner import explain, power, proof, rooms, search, speed
from planner.effort import Clock
from planner.plan import Gate, Plan, Threshold, Verification
from planner.proof_tasks import Wanted, task_gate
from planner.rank import Row
from planner.request import FAMILIES
from tests.plan.asking import ask, catalog, device, planned

GATES: Gates = catalog().gates
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
TOLERANCES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 6.1, 10.0, 20.0)
RUNS, SEED = 20_000, 20261121


def rows(request: Any) -> list[Row]:
    """One row of every option that a request keeps."""
    found = search.search(request, catalog())
    every = (found.ranking.row(place) for place in range(found.ranking.cost.size))
    first: dict[tuple[str, str, str], Row] = {}
    for row in every:
        paired = row.option.pairing
        first.setdefault((paired.lane.id, paired.engine.id, row.option.cached.dtype), row)
    return list(first.values())


def proved(request: Any) -> dict[tuple[str, str], Verification | None]:
    """The gates of every option by lane and cache format."""
    fits = search.search(request, catalog()).fits
    made = {}
    for row in rows(request):
        terms = explain.terms_at(row, fits)
        answer = proof.proof_of(row, (terms, terms), (fits, GATES), None)
        made[row.option.pairing.lane.id, row.option.cached.dtype] = answer
    return made


@cache
def plan(tolerance: float = 3.0, context: int = 8192, lane: str = "fp8", **mix: float) -> Plan:
    work = {"qps": 1.0, "context_tokens_max": context, "mix": mix or {"chat": 1.0}}
    return planned(ask(MODEL, device("h100-sxm5-80"), workload=work, lanes=[lane], quality={"max_loss_pct": tolerance}))


def gates_of(answer: Plan) -> tuple[Gate, ...]:
    assert answer.choice is not None
    assert answer.choice.verification is not None
    return answer.choice.verification.gates


@cache
def clock() -> Clock:
    """The times of a real candidate."""
    found = search.search(ask(MODEL, device("h100-sxm5-80"), lanes=["fp8"]), catalog())
    assert found.choice is not None
    terms = explain.terms_at(found.choice, found.fits)
    return proof.clock_of(found.choice, (terms, terms), found.fits)


def looseness(each: Threshold) -> float:
    """Larger is easier to keep."""
    return each.value if each.relation == "<=" else -each.value


def family_gate(tolerance: float, family: str, *, far: bool) -> Gate:
    return task_gate((GATES, clock()), Wanted.of(GATES, tolerance), family, (1000.0, 250.0, 32768.0), far=far)


@pytest.mark.parametrize("discordant", [0.02, 0.08, 0.136])
@pytest.mark.parametrize("points", [0.5, 1.0, 2.0])
def test_paired_samples_reach_the_stated_power(discordant: float, points: float) -> None:
    """Pairs drawn one by one from four outcomes, each run judged by the bound that a gate is judged by."""
    margin = points / 100
    size = power.paired(discordant, margin)
    assert power_of(size, discordant, 0.0, margin) == pytest.approx(power.POWER, abs=0.03)
    assert power_of(size, max(discordant, 4 * margin), -margin, margin) <= 1 - power.CONFIDENCE + 0.02


def power_of(size: int, discordant: float, true: float, margin: float) -> float:
    """Share of runs whose lower 95 % bound of the paired difference lies above `-margin`."""
    chance = np.random.default_rng(SEED)
    shares = ((discordant + true) / 2, (discordant - true) / 2, 1 - discordant)
    won, lost, _ = chance.multinomial(size, shares, RUNS).T
    found, changed = (won - lost) / size, (won + lost) / size
    lower = found - power.Z95 * np.sqrt((changed - found**2) / size)
    return float((lower >= -margin).mean())


def test_pairs_need_far_fewer_items_than_two_samples() -> None:
    """1,240 paired items for two points, about 6,500 unpaired at a score of 0.7 (quality evidence §3)."""
    assert power.paired(0.08, 0.02) == pytest.approx(1240, abs=5)
    assert power.paired(0.08, 0.01) == pytest.approx(4950, abs=10)
    assert power.paired(2 * 0.7 * 0.3, 0.02) == pytest.approx(6500, abs=50)


@pytest.mark.parametrize(("limit", "against"), [(0.04, 0.8), (0.12, 0.8), (0.01, 0.8), (0.03, 0.5), (0.10, 0.5)])
def test_samples_of_a_share_reach_the_stated_power(limit: float, against: float) -> None:
    size = power.share(limit, limit * against)
    seen = np.random.default_rng(SEED).binomial(size, limit * against, RUNS) / size
    held = seen + power.Z95 * math.sqrt(limit * (1 - limit) / size) <= limit
    assert float(held.mean()) == pytest.approx(power.POWER, abs=0.03)


def test_samples_of_a_skewed_mean_come_near_the_stated_power() -> None:
    """KL divergences of tokens vary three times their mean: gamma-distributed here, judged by the normal bound."""
    variation, against = GATES.scoring.variation, 0.8
    size = power.mean(variation, against)
    shape = 1 / variation**2
    seen = np.random.default_rng(SEED).gamma(shape, against / shape, (4000, size))
    upper = seen.mean(axis=1) + power.Z95 * seen.std(axis=1) / math.sqrt(size)
    assert float((upper <= 1).mean()) == pytest.approx(power.POWER, abs=0.05)


def test_tokens_of_a_perplexity_ratio_reach_the_stated_power() -> None:
    divergence, limit = 0.006, 1.005
    size = power.log_ratio(divergence, limit)
    means = np.random.default_rng(SEED).normal(0.0, math.sqrt(2 * divergence / size), RUNS)
    held = means + power.Z95 * math.sqrt(2 * divergence / size) <= math.log(limit)
    assert float(held.mean()) == pytest.approx(power.POWER, abs=0.03)


def test_the_variance_of_a_log_ratio_is_twice_the_divergence() -> None:
    """What `log_ratio` rests on, over perturbed distributions of a vocabulary."""
    chance = np.random.default_rng(SEED)
    logits = chance.normal(0, 3, (400, 1000))
    moved = logits + chance.normal(0, 0.1, logits.shape)
    first, second = (each - np.log(np.exp(each).sum(axis=1, keepdims=True)) for each in (logits, moved))
    weights, ratio = np.exp(first), first - second
    divergence = (weights * ratio).sum(axis=1).mean()
    variance = ((weights * ratio**2).sum(axis=1) - (weights * ratio).sum(axis=1) ** 2).mean()
    assert variance / divergence == pytest.approx(2, rel=0.05)


@given(st.floats(0, 30), st.floats(0, 30), st.sampled_from(FAMILIES), st.booleans())
def test_a_stricter_tolerance_never_loosens_a_task_nor_needs_fewer_answers(
    one: float, other: float, family: str, far: bool
) -> None:
    far = far and family == "long_context"
    strict, loose = (family_gate(each, family, far=far) for each in sorted((one, other)))
    wide = {each.statistic: looseness(each) for each in loose.thresholds}
    for each in strict.thresholds:
        assert looseness(each) <= wide.get(each.statistic, math.inf)
    assert strict.samples >= loose.samples
    for ours, theirs in zip(strict.benchmarks, loose.benchmarks, strict=True):
        assert ours.samples >= theirs.samples
        assert theirs.conclusive or not ours.conclusive


@pytest.mark.parametrize(("strict", "loose"), list(itertools.pairwise(TOLERANCES)))
def test_a_stricter_tolerance_never_loosens_a_gate_of_a_plan(strict: float, loose: float) -> None:
    """Every gate of one candidate, asked at two tolerances."""
    ours, theirs = (
        {(gate.id, gate.context_tokens): gate for gate in _gates_at(tolerance)} for tolerance in (strict, loose)
    )
    assert theirs.keys() <= ours.keys()
    for name, gate in theirs.items():
        wide = {each.statistic: looseness(each) for each in gate.thresholds}
        tight = {each.statistic: looseness(each) for each in ours[name].thresholds}
        assert wide.keys() <= tight.keys()
        assert all(tight[statistic] <= wide[statistic] for statistic in wide)
        assert ours[name].samples >= gate.samples
        assert sum(text.windows for text in ours[name].texts) >= sum(text.windows for text in gate.texts)


@cache
def _gates_at(tolerance: float) -> tuple[Gate, ...]:
    """The FP8 lane with an FP8 cache under any tolerance: whether a plan would take it is another question."""
    work = {"qps": 1.0, "context_tokens_max": 32768, "mix": {"math": 0.5, "tool_use": 0.5}}
    own = [{"lane": "fp8", "loss_pct": {"math": 0.0, "tool_use": 0.0, "long_context": 0.0}}]
    request = ask(
        MODEL, device("h100-sxm5-80"), workload=work, lanes=["fp8"], quality={"max_loss_pct": tolerance},
        overrides={"estimates": own, "waive": ["Q101"]},
    )  # fmt: skip
    made = proved(request)["fp8", "fp8"]
    assert made is not None
    return made.gates


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_gate_with_a_sourced_threshold(family: str) -> None:
    gate = family_gate(2.0, family, far=False)
    assert gate.id == f"task:{family}"
    assert gate.decides
    assert gate.benchmarks[0].source
    assert all(each.source and each.because for each in gate.thresholds)


def test_every_threshold_of_a_plan_carries_a_source() -> None:
    for gate in gates_of(plan(3.0, 32768, math=0.5, tool_use=0.5)):
        assert gate.because
        assert gate.thresholds
        assert all(each.source and each.because for each in gate.thresholds)


def test_a_tolerance_becomes_points_through_the_typical_score() -> None:
    """2 % of MATH-500's 84.7 are 1.69 points; three percent of it would be more than the class allows."""
    (two,), (three,) = family_gate(2.0, "math", far=False).thresholds, family_gate(3.0, "math", far=False).thresholds
    assert two.value == pytest.approx(-1.694)
    assert "2 % of 84.7" in two.because
    assert three.value == -2.0
    (wide,) = family_gate(20.0, "math", far=False).thresholds
    assert wide.value == pytest.approx(-16.94)


def test_a_tolerance_of_a_family_is_that_familys() -> None:
    work = {"qps": 1.0, "mix": {"math": 0.5, "chat": 0.5}}
    own = [{"lane": "fp8", "loss_pct": {"math": 0.1, "chat": 0.1}}]
    quality = {"max_loss_pct": 3.0, "per_family": {"math": 0.5}}
    more: dict[str, Any] = {"workload": work, "quality": quality, "overrides": {"estimates": own}}
    asked = ask(MODEL, device("h100-sxm5-80"), lanes=["fp8"], **more)
    gates = {gate.id: gate for gate in gates_of(planned(asked))}
    assert gates["task:math"].tolerance_pct == 0.5
    assert gates["task:chat"].tolerance_pct == 3.0
    assert gates["task:chat"].thresholds[0].value == -2.0
    assert gates["kld_mean"].tolerance_class == "strict", "token statistics keep the strictest tolerance of the mix"


def test_small_benchmarks_say_how_often_they_are_repeated_or_that_they_cannot_tell() -> None:
    math_500, aime = family_gate(2.0, "math", far=False).benchmarks
    assert (math_500.repeats, math_500.conclusive, math_500.answers) == (4, True, 2000)
    assert "inconclusive by design" in math_500.because
    assert aime.items == 30
    assert aime.repeats is not None
    assert aime.repeats > GATES.scoring.most_repeats
    assert not aime.conclusive
    pro, diamond = family_gate(1.0, "reasoning", far=False).benchmarks
    assert (diamond.items, diamond.repeats) == (198, 64)
    assert pro.repeats == 2
    own = family_gate(2.0, "rag", far=False)
    assert own.samples == own.benchmarks[0].answers == power.paired(GATES.scoring.discordant_share, 0.02)


@pytest.mark.parametrize(("context", "expected"), [(8192, False), (16384, False), (16385, True), (65536, True)])
def test_long_context_is_proved_exactly_above_16k(context: int, expected: bool) -> None:
    names = [gate.id for gate in gates_of(plan(5.0, context))]
    assert ("long_context" in names) == expected
    assert "task:long_context" not in names


def test_long_documents_of_the_mix_are_a_task_where_the_context_is_short() -> None:
    short = {gate.id: gate for gate in gates_of(plan(5.0, 8192, long_context=1.0))}
    long = {gate.id: gate for gate in gates_of(plan(5.0, 32768, long_context=1.0))}
    assert short["task:long_context"].context_tokens == 8192
    assert "long_context" not in short
    assert long["long_context"].context_tokens == 32768
    assert "task:long_context" not in long
    assert [each.statistic for each in long["long_context"].thresholds] == ["mean_recovery"]
    strict = family_gate(1.0, "long_context", far=True)
    assert [each.value for each in strict.thresholds] == [98.0, 95.0]


def test_what_loses_nothing_has_nothing_to_prove() -> None:
    dense = proved(ask(MODEL, device("h100-sxm5-80"), lanes=["bf16", "fp8"]))
    assert dense["bf16", "auto"] is None
    assert dense["fp8", "auto"] is not None
    native = proved(ask("openai/gpt-oss-20b", device("h100-sxm5-80"), lanes=["mxfp4", "bf16"]))
    assert native["mxfp4", "auto"] is None
    shipped = planned(ask("deepseek-ai/DeepSeek-V3", device("h200-sxm5", 8), lanes=["fp8"]))
    assert shipped.choice is not None
    assert shipped.choice.verification is None
    assert "Q105" not in {finding.rule for finding in shipped.choice.findings}


def test_the_baseline_is_the_models_own_original() -> None:
    plain = proved(ask(MODEL, device("h100-sxm5-80"), lanes=["fp8"]))["fp8", "auto"]
    shipped = proved(ask("openai/gpt-oss-20b", device("h100-sxm5-80"), lanes=["mxfp4"]))["mxfp4", "fp8"]
    assert plain is not None
    assert shipped is not None
    assert plain.baseline == f"{MODEL} in bf16"
    assert shipped.baseline == "openai/gpt-oss-20b as published, in mxfp4"


def test_a_quantized_cache_adds_a_gate_at_the_served_length() -> None:
    made = proved(ask(MODEL, device("h100-sxm5-80"), lanes=["bf16", "fp8"]))
    plain, cached, cache_alone = made["fp8", "auto"], made["fp8", "fp8"], made["bf16", "fp8"]
    assert plain is not None
    assert cached is not None
    assert cache_alone is not None
    added = [gate for gate in cached.gates if gate.id not in {each.id for each in plain.gates}]
    assert [(gate.id, gate.context_tokens) for gate in added] == [("cache_kld_mean", 4096)]
    assert added[0].compares[1] == "candidate with a 16-bit cache"
    assert "cache_kld_mean" not in {gate.id for gate in cache_alone.gates}
    assert ("kld_mean", 4096) in {(gate.id, gate.context_tokens) for gate in cache_alone.gates}


def test_gates_stand_in_order_and_their_times_add_up() -> None:
    answer = plan(3.0, 32768, code=0.2, math=0.5, chat=0.3)
    gates = gates_of(answer)
    assert answer.choice is not None
    assert answer.choice.verification is not None
    names = [gate.id for gate in gates]
    assert names[:2] == ["smoke", "kld_mean"]
    lengths = [gate.context_tokens for gate in gates if gate.texts]
    assert lengths == sorted(lengths, key=int)
    assert [name for name in names if name.startswith("task:")] == ["task:math", "task:chat", "task:code"]
    shares = [gate.share or 0.0 for gate in gates if gate.benchmarks]
    assert shares == sorted(shares, reverse=True)
    total = 0.0
    for gate in gates:
        total += gate.expected_s.value
        assert gate.total_s == pytest.approx(total, rel=1e-5)
        assert (gate.expected_s.value > 0) == (gate.shares == "")
    assert answer.choice.verification.expected_s.value == pytest.approx(total, rel=1e-5)
    assert answer.choice.verification.expected_s.low <= total <= answer.choice.verification.expected_s.high


def test_what_shares_a_run_names_one_that_is_there() -> None:
    gates = gates_of(plan(3.0, 32768, math=0.5, tool_use=0.5))
    there = {f"{gate.id}@{gate.context_tokens}" for gate in gates} | {gate.id for gate in gates} | {"task:*"}
    assert [gate.shares for gate in gates if gate.shares and gate.shares not in there] == []
    assert "structured_output" in {gate.id for gate in gates}
    assert "structured_output" not in {gate.id for gate in gates_of(plan(3.0))}


def test_windows_hold_the_tokens_that_the_largest_gate_needs() -> None:
    for gate in gates_of(plan(1.0, 32768)):
        for text in gate.texts:
            scored = text.windows * (gate.context_tokens or 0) * GATES.scoring.scored_share
            assert scored >= gate.samples
            assert text.name != "wikitext-2" or text.windows * (gate.context_tokens or 0) <= 310_000


def test_a_text_that_is_too_short_for_the_context_is_left_out() -> None:
    work = {"qps": 0.01, "context_tokens_max": 131072}
    near = planned(ask(MODEL, device("h100-sxm5-80"), workload=work, lanes=["fp8"], quality={"max_loss_pct": 8.0}))
    far = [gate for gate in gates_of(near) if gate.context_tokens == 131072 and gate.texts]
    assert {text.name: text.windows for text in far[0].texts} == {"your own text": 8, "wikitext-2": 2}


def test_gguf_lanes_name_the_tool_and_its_floor() -> None:
    asked = ask(
        "Qwen/Qwen3-8B", device("rtx4090"), workload={"users": 1}, lanes=["gguf:Q6_K"], quality={"max_loss_pct": 8.0}
    )
    gates = gates_of(planned(asked))
    scored = [gate for gate in gates if gate.texts]
    assert {gate.tool for gate in scored} == {"llama-perplexity --kl-divergence"}
    assert all("0.00055" in gate.because for gate in scored if gate.id.startswith("kld"))


def test_a_slower_device_takes_longer_for_the_same_gates() -> None:
    """The times are the plan's own: an L4 has a tenth of an H100's bandwidth."""
    quick, slow = (
        planned(ask(MODEL, device(name), lanes=["fp8"], workload={"qps": 0.05}, quality={"max_loss_pct": 5.0})).choice
        for name in ("h100-sxm5-80", "l4")
    )
    assert quick is not None
    assert slow is not None
    assert quick.verification is not None
    assert slow.verification is not None
    assert slow.verification.expected_s.value > 4 * quick.verification.expected_s.value
    same = [
        [(gate.id, gate.samples) for gate in each.verification.gates if gate.id != "cache_kld_mean"]
        for each in (quick, slow)
    ]
    assert same[0] == same[1]


def test_times_are_those_of_the_plans_own_formulas() -> None:
    """One prompt of a full pass takes as long as the formula of a prompt alone; answers fill every slot."""
    runner = clock().candidate
    work, chunk = runner.work, runner.terms.rates.chunk
    alone = speed.prefill_s(work, runner.terms.rates, chunk, 0.0)
    assert runner.reads_s(1, chunk) == pytest.approx(alone, rel=1e-9)
    assert runner.reads_s(6, chunk) == pytest.approx(6 * alone, rel=1e-9)
    assert runner.reads_s(16, chunk / 16) < alone, "short windows look back less"
    held = rooms.held_tokens(runner.terms.demand)
    step = speed.decode_step_s(work, runner.terms.rates, float(runner.slots), held)
    assert runner.answers_s(8 * runner.slots, 100.0) == pytest.approx(800 * step)
    assert runner.answers_s(1, 100.0) == pytest.approx(100 * step)


def test_the_note_points_at_the_gates() -> None:
    answer = plan(3.0, 8192, math=0.5, chat=0.5)
    assert answer.choice is not None
    (note,) = [finding for finding in answer.choice.findings if finding.rule == "Q105"]
    assert note.facts["gates"] == [gate.id for gate in gates_of(answer)]
    assert note.facts["tests"]["task:math"] == "MATH-500"


def test_text_that_calibrated_a_lane_is_excluded() -> None:
    asked = ask("Qwen/Qwen3-14B", device("l40s"), workload={"qps": 0.5, "lora": {"adapters": 1, "merged": True}},
                lanes=["w4a16"], quality={"max_loss_pct": 20.0})  # fmt: skip
    made = planned(asked).choice
    assert made is not None
    assert made.make is not None
    assert made.verification is not None
    assert made.make.calibration is not None
    assert set(made.make.calibration.public) <= set(made.verification.excluded)
    assert "wikitext-2" not in made.verification.excluded
