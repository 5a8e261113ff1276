"""Verdicts: per threshold, per gate, overall, and from the bytes of a run."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

from catalog.errors import BadInput
from planner.plan import NOTHING, Gate, Text, Threshold, Verification
from planner.proving import judge
from planner.proving.judge import Pairs, Runs, Windows

TOKENS = 64
OWN = "your own text"


def threshold(statistic: str, bound: str, relation: str, value: float) -> Threshold:
    return msgspec.convert(
        {
            "statistic": statistic, "unit": "", "bound": bound, "relation": relation, "value": value,
            "because": "", "source": "",
        },
        Threshold,
    )  # fmt: skip


def gate(name: str, *thresholds: Threshold, of: str = "tokens", **fields: Any) -> Gate:
    base = Gate(
        id=name, thresholds=thresholds, tolerance_pct=2.0, tolerance_class="normal", samples=20,
        samples_of="tokens", tool="", because="",
    )  # fmt: skip
    own = {"context_tokens": 512, "texts": (Text(name=OWN, windows=100),)} if of == "tokens" else {}
    return structs.replace(base, samples_of=of, **own, **fields)


SMOKE = gate("smoke", threshold("failures", "value", "<=", 0), of="prompts", decides=True)
KLD = gate("kld_mean", threshold("kld_mean", "upper", "<=", 0.035))
P99 = gate("kld_p99", threshold("kld_p99", "upper", "<=", 0.1), shares="kld_mean@512")
TOP1 = gate("top1_agreement", threshold("top1_agreement", "lower", ">=", 91.0), shares="kld_mean@512")
RATIO = gate("ppl_ratio", threshold("ppl_ratio", "upper", "<=", 1.03), shares="kld_mean@512")
SKEW = gate("dp_asymmetry", threshold("dp_asymmetry", "upper", "<=", 1.7), shares="kld_mean@512")
TASK = gate("task:chat", threshold("paired_difference", "lower", ">=", -2.0), of="answers", decides=True)
FLIPS = gate("flip_rate", threshold("right_to_wrong", "upper", "<=", 6.0), of="answers", shares="task:*")
GATES = (SMOKE, KLD, P99, TOP1, RATIO, SKEW, TASK, FLIPS)


def verification(*gates: Gate) -> Verification:
    return Verification(
        baseline="", excluded=(), confidence=0.95, power=0.8, discordant_share=0.08, discordant_source="", verdicts={},
        expected_s=NOTHING, gates=gates,
    )  # fmt: skip


@dataclass
class Drawn:
    """Windows of a model whose every token diverges as it is told."""

    seed: int = 0

    def windows(self, count: int, divergence: float) -> Windows:
        chance = np.random.default_rng(self.seed)
        shape = (count, TOKENS)
        base = -chance.exponential(2.0, shape)
        moved = chance.normal(0, np.sqrt(2 * divergence), shape)
        return Windows(
            base_logprob=base, cand_logprob=base + moved, kl=chance.exponential(divergence or 1e-300, shape),
            dp=chance.normal(0, max(divergence, 1e-300), shape),
            agrees=(chance.random(shape) >= divergence).astype(float), broken=np.zeros(shape),
        )  # fmt: skip


def same(count: int) -> Windows:
    base = -np.random.default_rng(1).exponential(2.0, (count, TOKENS))
    nothing = np.zeros_like(base)
    return Windows(base_logprob=base, cand_logprob=base, kl=nothing, dp=nothing, agrees=nothing + 1, broken=nothing)


def answers(count: int, wrong: int = 0, right: int = 0) -> Pairs:
    base, other = np.tile([1.0, 0.0], count // 2), np.tile([1.0, 0.0], count // 2)
    other[: 2 * wrong : 2] = 0.0
    other[1 : 2 * right : 2] = 1.0
    return Pairs(baseline=tuple(base), candidate=tuple(other))


def runs(windows: Windows | None, pairs: Pairs | None, failures: int | None = 0) -> Runs:
    return Runs(
        tokens={} if windows is None else {"kld_mean@512": {OWN: windows}},
        answers={} if pairs is None else {"task:chat": pairs},
        failures=failures,
    )


def verdicts(judgement: judge.Judgement) -> dict[str, str]:
    return {each.gate.split("@")[0]: each.verdict for each in judgement.gates}


def test_identical_models_pass_every_gate() -> None:
    found = judge.judge(verification(*GATES), runs(same(100), answers(2000)))
    assert set(verdicts(found).values()) == {"pass"}
    assert found.verdict == "pass"
    values = {check.statistic: check.value for each in found.gates for check in each.checks}
    assert values == {
        "failures": 0, "kld_mean": 0, "kld_p99": 0, "top1_agreement": 100, "ppl_ratio": 1, "dp_asymmetry": 1,
        "paired_difference": 0, "right_to_wrong": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("divergence", "verdict"), [(0.02, "pass"), (0.035, "inconclusive"), (0.07, "fail")])
def test_a_mean_divergence_passes_below_its_limit_and_fails_beyond(divergence: float, verdict: str) -> None:
    found = judge.judge_gate(KLD, runs(Drawn().windows(100, divergence), None))
    assert found.verdict == verdict
    assert (found.further is not None) == (verdict == "inconclusive")


def test_too_few_windows_are_inconclusive_and_say_how_many_are_missing() -> None:
    for count in (1, 7):
        found = judge.judge_gate(KLD, runs(same(count), None))
        assert (found.verdict, found.further) == ("inconclusive", 8 - count)
    found = judge.judge_gate(P99, runs(same(20), None))
    assert (found.verdict, found.further) == ("inconclusive", 30)


def test_one_broken_token_fails_gate_and_candidate() -> None:
    windows = same(100)
    broken = windows.broken.copy()
    broken[3, 5] = 1.0
    kl = windows.kl.copy()
    kl[3, 5] = np.nan
    found = judge.judge(verification(*GATES), runs(structs.replace(windows, broken=broken, kl=kl), answers(2000)))
    assert found.verdict == "fail"
    assert verdicts(found)["kld_mean"] == "fail"
    assert "1 of 6400 tokens" in found.gates[1].because


def test_tasks_decide_where_tokens_fail_and_where_they_pass() -> None:
    far = Drawn().windows(100, 0.5)
    found = judge.judge(verification(*GATES), runs(far, answers(2000)))
    assert verdicts(found)["kld_mean"] == "fail"
    assert (found.verdict, "kld_mean@512" in found.because) == ("pass", True)
    found = judge.judge(verification(*GATES), runs(same(100), answers(2000, wrong=300)))
    assert (found.verdict, found.because) == ("fail", "task:chat failed")


def test_doubt_in_a_task_and_a_gate_not_run_leave_it_open() -> None:
    found = judge.judge(verification(*GATES), runs(same(100), answers(40, wrong=1)))
    assert (found.verdict, found.because) == ("inconclusive", "task:chat inconclusive")
    task = next(each for each in found.gates if each.gate == "task:chat")
    assert task.further is not None
    assert task.further > 40
    found = judge.judge(verification(*GATES), runs(None, answers(2000)))
    assert found.verdict == "inconclusive"
    assert "kld_mean@512, kld_p99@512" in found.because
    assert judge.judge(verification(*GATES), runs(same(100), answers(2000), None)).verdict == "inconclusive"


def test_screens_alone_prove_nothing_and_failing_smoke_fails() -> None:
    assert judge.judge(verification(KLD), runs(same(100), None)).verdict == "inconclusive"
    assert judge.judge(verification(*GATES), runs(same(100), answers(2000), 1)).verdict == "fail"


def test_each_text_is_held_by_itself() -> None:
    both = structs.replace(KLD, texts=(Text(name="own", windows=100), Text(name="neutral", windows=100)))
    seen = {"own": same(100), "neutral": Drawn().windows(100, 0.2)}
    found = judge.judge_gate(both, Runs(tokens={"kld_mean@512": seen}))
    assert [(check.text, check.verdict) for check in found.checks] == [("own", "pass"), ("neutral", "fail")]
    assert found.verdict == "fail"
    missing = judge.judge_gate(both, Runs(tokens={"kld_mean@512": {"own": same(100)}}))
    assert (missing.verdict, missing.run, missing.because) == ("inconclusive", False, "not run on neutral")


def test_repeated_answers_to_an_item_are_one_item() -> None:
    pairs = answers(40, wrong=2)
    often = Pairs(baseline=pairs.baseline * 16, candidate=pairs.candidate * 16, items=tuple(map(str, range(40))) * 16)
    once, many = (judge.judge_gate(TASK, Runs(answers={"task:chat": each})).checks[0] for each in (pairs, often))
    assert (once.value, once.lower, once.samples) == pytest.approx((many.value, many.lower, many.samples))


def test_turned_answers_are_counted_and_flips_are_of_items() -> None:
    pairs = answers(40, wrong=2)
    assert (
        "2 turned wrong, 0 right (McNemar, one-sided: p = 0.25)"
        in judge.judge_gate(TASK, Runs(answers={"task:chat": pairs})).because
    )
    often = Pairs(baseline=pairs.baseline * 16, candidate=pairs.candidate * 16, items=tuple(map(str, range(40))) * 16)
    once, many = (judge.judge_gate(FLIPS, Runs(answers={"task:chat": each})).checks[0] for each in (pairs, often))
    assert (once.value, once.upper, many.value, many.upper) == (5.0, once.upper, 5.0, once.upper)
    assert once.upper > 6 > once.lower


def test_long_documents_are_held_to_recovery_and_no_task_may_be_lost() -> None:
    limits = (
        threshold("mean_recovery", "lower", ">=", 96.0),
        threshold("worst_task_recovery", "upper", ">=", 85.0),
    )  # fmt: skip
    far = gate("long_context", *limits, of="answers", decides=True)
    tasks = ("needle",) * 400 + ("summary",) * 400
    whole = Pairs(baseline=(1.0,) * 800, candidate=(1.0,) * 800, tasks=tasks)
    assert judge.judge_gate(far, Runs(answers={"long_context": whole})).verdict == "pass"
    lost = structs.replace(whole, candidate=(1.0,) * 400 + (1.0, 0.0) * 200)
    found = judge.judge_gate(far, Runs(answers={"long_context": lost}))
    assert [(check.statistic, check.verdict) for check in found.checks] == [
        ("mean_recovery", "fail"),
        ("worst_task_recovery", "fail"),
    ]
    assert found.checks[1].value == 50


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (Pairs(baseline=(1.0,), candidate=(1.0, 0.0)), "1 and 2 scores are not pairs"),
        (Pairs(baseline=(), candidate=()), "0 and 0 scores"),
        (Pairs(baseline=(1.0, 0.0), candidate=(float("nan"), 0.0)), "not a number from 0 to 1"),
        (Pairs(baseline=(1.0, 0.0), candidate=(0.0, 3.0)), "not a number from 0 to 1"),
        (Pairs(baseline=(1.0, 0.0), candidate=(0.0, 1.0), items=("a",)), "not pairs of the same answers"),
    ],
)
def test_scores_that_are_no_pairs_are_refused(pairs: Pairs, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        judge.judge_gate(TASK, Runs(answers={"task:chat": pairs}))


def stored(**changes: Any) -> bytes:
    windows = Drawn().windows(6, 0.1)
    arrays = {name: getattr(windows, name) for name in judge.NAMES} | {"text": np.array([0, 0, 1, 1, 1, 1])}
    target = io.BytesIO()
    np.savez(target, **(arrays | {"header": np.array(json.dumps({"texts": ["own", "neutral"]}))} | changes))
    return target.getvalue()


def test_a_run_is_read_text_by_text() -> None:
    header, texts = judge.read(stored(), "stats.npz")
    assert header == {"texts": ["own", "neutral"]}
    assert {name: seen.count for name, seen in texts.items()} == {"own": 2, "neutral": 4}
    np.testing.assert_array_equal(texts["own"].kl, Drawn().windows(6, 0.1).kl[:2])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 torn",
        stored()[:-200],
        stored(kl=np.zeros((6, 3))),
        stored(kl=np.array([None] * 6, dtype=object)),
        stored(kl=np.full((6, TOKENS), np.nan)),
        stored(header=np.array("{")),
    ],
)
def test_a_torn_or_foreign_file_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"stats\.npz"):
        judge.read(data, "stats.npz")
