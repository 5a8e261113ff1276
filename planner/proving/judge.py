"""From measured values to verdicts: pass, fail, or inconclusive with the samples that are missing.

A gate's threshold is compared as `planner/plan.Threshold` says: the stated bound decides a pass, a fail needs both
bounds beyond it, anything between is inconclusive. Tokens screen, tasks decide (`planner/plan.Verification.verdicts`).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from catalog.errors import BadInput
from planner.plan import Gate, Threshold, Verification
from planner.proving import bounds
from planner.proving.bounds import Measured, Numbers
from planner.proving.checks import Check, Verdict, check
from planner.proving.judge_answers import Pairs, on_answers
from planner.proving.steps import gate_key

NAMES = ("base_logprob", "cand_logprob", "kl", "dp", "agrees", "broken")
SHOWN = 5
"""Failures that a sentence names."""
GRADES: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
"""The worst first."""


class Windows(Struct, frozen=True, kw_only=True):
    """What `score.py compare` measured on one text: arrays [windows, scored tokens of each]."""

    base_logprob: Numbers
    cand_logprob: Numbers
    kl: Numbers
    dp: Numbers
    agrees: Numbers
    broken: Numbers

    @property
    def count(self) -> int:
        return len(self.kl)


class Runs(Struct, frozen=True, kw_only=True):
    """What was run, by `gate_key`. A run of several gates stands under the name that they share."""

    tokens: dict[str, dict[str, Windows]] = {}
    """Text by text."""
    answers: dict[str, Pairs] = {}
    sampled: dict[str, Pairs] = {}
    """The same at the served sampling parameters, where that was asked as well."""
    failures: int | None = None
    """Answers that failed the smoke test; None where it was not run."""
    failed: tuple[str, ...] = ()
    """How, in sentences."""
    prompts: int | None = None
    """That the smoke test asked, where not as many as planned."""
    checks: dict[str, tuple[Check, ...]] = {}
    """Of gates whose numbers are of another kind, checked where they were read."""
    refused: dict[str, str] = {}
    """Gates whose run is not whole or cannot be read, and why: a failure that it shows stands, nothing else."""


class Judged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A gate with its checks, the worst of which it takes."""

    gate: str
    decides: bool
    verdict: Verdict
    run: bool = True
    broken: bool = False
    """Log-probabilities were not finite: that fails the candidate, whatever tasks say."""
    further: int | None = None
    because: str
    checks: tuple[Check, ...] = ()


class Judgement(Struct, frozen=True, kw_only=True):
    """The overall verdict and the gates it follows from."""

    verdict: Verdict
    because: str
    gates: tuple[Judged, ...]


def judge(verification: Verification, runs: Runs) -> Judgement:
    """Every gate by itself, then all of them. Raises BadInput where a run cannot be read."""
    gates = tuple(judge_gate(gate, runs) for gate in verification.gates)
    verdict, because = overall(gates)
    return Judgement(verdict=verdict, because=because, gates=gates)


def overall(gates: Sequence[Judged]) -> tuple[Verdict, str]:
    """A decider that fails fails; one in doubt, or any gate that was not run, leaves it open; screens never decide."""
    failed = [each.gate for each in gates if each.verdict == "fail" and (each.decides or each.broken)]
    if failed:
        return "fail", f"{', '.join(failed)} failed"
    missing = [each.gate for each in gates if not each.run]
    open_ = [each.gate for each in gates if each.run and each.decides and each.verdict == "inconclusive"]
    said = [f"{', '.join(names)} {what}" for names, what in ((open_, "inconclusive"), (missing, "not run")) if names]
    if said:
        return "inconclusive", "; ".join(said)
    deciders = [each.gate for each in gates if each.decides]
    if not deciders:
        return "inconclusive", "no gate decides: token statistics alone prove nothing"
    screens = [each.gate for each in gates if each.verdict != "pass"]
    but = f"; {', '.join(screens)} did not pass, and the tasks decide" if screens else ""
    return "pass", f"{', '.join(deciders)} passed{but}"


def judge_gate(gate: Gate, runs: Runs) -> Judged:
    """A gate on what was run for it; named as not run where nothing was."""
    name = gate_key(gate)
    if gate.id == "smoke":
        found = _smoke(gate, runs)
    elif name in runs.checks:
        found = list(runs.checks[name])
    elif gate.samples_of == "tokens":
        texts = runs.tokens.get(name) or runs.tokens.get(gate.shares, {})
        found = [check for text, windows in texts.items() for check in _on_text(gate, text, windows)]
        absent = [text.name for text in gate.texts if text.name not in texts]
        if found and absent:
            return _missing(gate, f"not run on {', '.join(absent)}", tuple(found))
    else:
        found = [*on_answers(gate, runs.answers), *on_answers(gate, runs.sampled)]
    if name in runs.refused:
        return _missing(gate, runs.refused[name], tuple(found))
    if not found:
        return _missing(gate, "not run")
    return _judged(gate, found, broken=any(check.statistic == "broken_tokens" for check in found))


def _missing(gate: Gate, because: str, checks: tuple[Check, ...] = ()) -> Judged:
    """Not run, or not on every text: a failure that is known already stands."""
    if any(check.verdict == "fail" for check in checks):
        return _judged(gate, list(checks), broken=any(check.statistic == "broken_tokens" for check in checks))
    return Judged(
        gate=gate_key(gate), decides=gate.decides, verdict="inconclusive", run=False, because=because, checks=checks
    )


def _judged(gate: Gate, checks: list[Check], *, broken: bool) -> Judged:
    verdict = min((check.verdict for check in checks), key=GRADES.index)
    worst = [check for check in checks if check.verdict == verdict]
    wanted = [check.further for check in worst]
    return Judged(
        gate=gate_key(gate),
        decides=gate.decides,
        verdict=verdict,
        broken=broken,
        further=None if verdict != "inconclusive" or None in wanted else max(each or 0 for each in wanted),
        because="; ".join(f"{check.text}: {check.because}" if check.text else check.because for check in worst),
        checks=tuple(checks),
    )


def _smoke(gate: Gate, runs: Runs) -> list[Check]:
    if runs.failures is None:
        return []
    (threshold,), failures, prompts = gate.thresholds, runs.failures, runs.prompts or gate.samples
    more = f" and {len(runs.failed) - SHOWN} more" if len(runs.failed) > SHOWN else ""
    said = f": {'; '.join(runs.failed[:SHOWN])}{more}" if runs.failed else ""
    verdict: Verdict = "pass" if failures <= threshold.value else "fail"
    return [
        Check(
            statistic=threshold.statistic, unit=threshold.unit, value=float(failures), relation=threshold.relation,
            limit=threshold.value, samples=prompts, samples_of=gate.samples_of, verdict=verdict,
            because=f"{failures} failures in {prompts} answers{said}",
        )
    ]  # fmt: skip


OF_TOKENS: dict[str, Callable[[Windows], Measured]] = {
    "kld_mean": lambda seen: bounds.positive_mean("kld_mean", "nat", seen.kl),
    "kld_p99": lambda seen: bounds.percentile("kld_p99", "nat", seen.kl),
    "top1_agreement": lambda seen: bounds.share("top1_agreement", seen.agrees),
    "ppl_ratio": lambda seen: bounds.log_ratio("ppl_ratio", seen.base_logprob - seen.cand_logprob),
    "dp_asymmetry": lambda seen: bounds.asymmetry("dp_asymmetry", seen.dp),
}
"""Statistics of token gates by name."""


def kld_median(seen: Windows) -> float:
    """The median divergence in nat, to print beside the mean; no gate asks for it."""
    return float(np.median(seen.kl))


def _on_text(gate: Gate, text: str, seen: Windows) -> Iterator[Check]:
    for threshold in gate.thresholds:
        if seen.broken.any():
            yield _broken(threshold, text, seen)
        elif seen.count < bounds.least(threshold.statistic):
            yield _too_few(threshold, text, seen.count)
        else:
            yield check(_of_tokens(threshold)(seen), threshold, text)


def _of_tokens(threshold: Threshold) -> Callable[[Windows], Measured]:
    if threshold.statistic not in OF_TOKENS:
        raise BadInput(f"no statistic of tokens is called {threshold.statistic}", threshold.statistic)
    return OF_TOKENS[threshold.statistic]


def _broken(threshold: Threshold, text: str, seen: Windows) -> Check:
    count = int(seen.broken.sum())
    return Check(
        text=text, statistic="broken_tokens", unit="tokens", value=float(count), relation="<=", limit=0.0,
        samples=seen.count, samples_of="windows", verdict="fail",
        because=f"{count} of {seen.kl.size} tokens have no finite log-probability: {threshold.statistic} means nothing",
    )  # fmt: skip


def _too_few(threshold: Threshold, text: str, count: int) -> Check:
    least = bounds.least(threshold.statistic)
    return Check(
        text=text, statistic=threshold.statistic, unit=threshold.unit, relation=threshold.relation,
        limit=threshold.value, samples=count, samples_of="windows", verdict="inconclusive", further=least - count,
        because=f"{count} windows, {least} are the least that show its spread",
    )  # fmt: skip


def read(data: bytes, name: str) -> tuple[dict[str, Any], dict[str, Windows]]:
    """The header of a stats.npz of `score.py compare`, and its windows text by text.

    Raises BadInput naming the file where it is not one, or is not whole.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in (*NAMES, "text")}
            header = msgspec.json.decode(str(stored["header"]), type=dict[str, Any])
        texts = [str(each) for each in header["texts"]]
    except (ValueError, KeyError, OSError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"not made by `score.py compare` ({error})", name) from error
    shapes = {arrays[key].shape for key in NAMES}
    owner = arrays.pop("text")
    if len(shapes) != 1 or arrays["kl"].ndim != 2 or owner.shape != arrays["kl"].shape[:1] or not arrays["kl"].size:
        raise BadInput("its arrays are not windows by tokens", name)
    _finite(arrays, name)
    made = {
        text: Windows(**{key: np.asarray(arrays[key][owner == place], dtype=np.float64) for key in NAMES})
        for place, text in enumerate(texts)
    }
    return header, made


def joined(parts: Sequence[Windows]) -> Windows:
    """The windows of several files as those of one text."""
    return Windows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in NAMES})


def _finite(arrays: Mapping[str, Any], name: str) -> None:
    """Raises BadInput where a value is not finite and its token is not called broken."""
    whole = ~arrays["broken"].astype(bool)
    for key in ("base_logprob", "cand_logprob", "kl", "dp"):
        if not np.isfinite(arrays[key][whole]).all():
            raise BadInput(f"{key} is not finite where no token is called broken", name)
