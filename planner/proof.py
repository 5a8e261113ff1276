"""What would prove that a candidate keeps its quality: gates in order, the cheapest decisive one first.

Thresholds follow the request's tolerance: the strictest class of catalog/data/gates.toml that covers it. Statistics of
tokens screen, tasks decide. Sizes come from `planner/power.py`, times from `planner/effort.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from msgspec import structs

from catalog.gates import Gates, Limit, Scoring
from planner import power
from planner.effort import Clock, Runner, together
from planner.fits import Fits
from planner.lanes import BY_ID
from planner.pairing import Option, is_original
from planner.plan import NOTHING, Gate, Make, Text, Threshold, Verification
from planner.proof_tasks import Wanted, task_gate
from planner.quality import LONG_CONTEXT
from planner.rank import Row
from planner.rooms import Terms

Sides = tuple[Terms[float], Terms[float]]
OWN_TEXT = "your own text"
FULL_CACHE = 16.0
"""Bits of a cached value that nothing is lost in."""
SHORT_ORDER = ("kld_mean", "kld_p99", "top1_agreement", "ppl_ratio", "dp_asymmetry")
SERVED_ORDER = ("kld_mean", "top1_agreement", "ppl_ratio")
TAIL = 0.01
"""Share of tokens beyond a 1st or 99th percentile."""
SCORER = "log-probabilities of the whole vocabulary on the same token ids and windows"
LLAMA = "llama-perplexity --kl-divergence"
VERDICTS = {
    "pass": "the stated bound keeps every threshold, on each text by itself",
    "fail": "both bounds break a threshold of a gate that decides",
    "inconclusive": "a threshold lies between the bounds, or a gate was not run: more samples, never rounding",
    "screens": "token statistics that fail or straddle leave the verdict to the tasks",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A candidate with everything its gates depend on."""

    option: Option
    gates: Gates
    clock: Clock
    make: Make | None

    @property
    def scoring(self) -> Scoring:
        return self.gates.scoring

    @property
    def served(self) -> int:
        """Tokens of the longest context."""
        return self.option.pairing.settled.load.context

    def tolerance(self, family: str) -> float:
        """Percent of the baseline's score that a family may lose."""
        limits = self.option.pairing.settled.objectives
        return limits.per_family.get(family, limits.max_loss_pct)

    @property
    def strictest(self) -> float:
        """The tolerance of the family that may lose least."""
        return min(map(self.tolerance, self.option.cached.losses))

    def wanted(self, tolerance: float) -> Wanted:
        """The class of limits for a tolerance."""
        return Wanted.of(self.gates, tolerance)


def verification(case: Case) -> Verification:
    """The gates of a candidate that loses something."""
    scoring, drafted = case.scoring, [*_screens(case), *_tasks(case), *_of_answers(case)]
    totals = accumulate(each.expected_s.value for each in drafted)
    gates = tuple(
        structs.replace(gate, total_s=float(f"{total:.6g}")) for gate, total in zip(drafted, totals, strict=True)
    )
    return Verification(
        baseline=original_of(case.option),
        excluded=_excluded(case.make),
        confidence=power.CONFIDENCE,
        power=power.POWER,
        discordant_share=scoring.discordant_share,
        discordant_source=scoring.source_of("discordant_share"),
        verdicts=VERDICTS,
        expected_s=together([gate.expected_s for gate in gates]),
        gates=gates,
    )


def proof_of(row: Row, sides: Sides, given: tuple[Fits, Gates], made: Make | None) -> Verification | None:
    """The gates of a row; `sides` = its terms, and those with 16-bit weights on the same layout."""
    fits, gates = given
    if not loses(row.option):
        return None
    return verification(Case(row.option, gates, clock_of(row, sides, fits), made))


def clock_of(row: Row, sides: Sides, fits: Fits) -> Clock:
    """How fast both sides are on one replica with every slot taken."""
    pairing, books = row.option.pairing, row.swept.rows.books
    slots = max(1, math.floor(row.at(row.swept.most)))
    candidate, baseline = (Runner.of(terms, slots, books) for terms in sides)
    low, high = fits.band(pairing, "tpot")
    seen = row.swept.rows.data[row.index] == 1
    return Clock(candidate, baseline, low, high, fits.of(pairing).basis if seen else "assumed")


def loses(option: Option) -> bool:
    """Whether weights or cache are in fewer bits than the publisher's own format, or 16."""
    return _weights_lose(option) or option.cell_bits < FULL_CACHE


def _weights_lose(option: Option) -> bool:
    lane = option.pairing.lane
    return lane.bits < FULL_CACHE and not is_original(option.pairing.model, lane)


def original_of(option: Option) -> str:
    """What the candidate is held against: its own model before anything was quantized."""
    model = option.pairing.model
    native = BY_ID.get(model.native)
    if native is not None and native.family == "16-bit":
        return f"{model.id} in {model.native}"
    if native is not None and is_original(model, native):
        return f"{model.id} as published, in {model.native}"
    return f"the 16-bit model that {model.id} was quantized from"


def _excluded(make: Make | None) -> tuple[str, ...]:
    """Text that the recipe saw: it flatters (17 to 32 % less KL divergence in one suite, a secondary quote)."""
    public = make.calibration.public if make is not None and make.calibration is not None else ()
    return ("calibration text", *public)


def _screens(case: Case) -> Iterator[Gate]:
    """Smoke first, token statistics at the short context, then at the served one, then the cache by itself."""
    yield _smoke(case)
    short = min(case.scoring.window_tokens, case.served)
    yield from _scored(case, SHORT_ORDER, short)
    if case.served > short:
        yield from _scored(case, SERVED_ORDER, case.served)
    if case.option.cell_bits < FULL_CACHE and _weights_lose(case.option):
        yield _cache(case)


def _smoke(case: Case) -> Gate:
    scoring, wanted = case.scoring, case.wanted(case.strictest)
    prompts = scoring.smoke_prompts
    (limit,) = case.gates.of("smoke")
    return Gate(
        id="smoke",
        decides=True,
        thresholds=tuple(wanted.thresholds((limit,))),
        tolerance_pct=wanted.tolerance_pct,
        tolerance_class=wanted.grade,
        samples=prompts,
        samples_of="prompts",
        tool="chat requests to the served engine",
        expected_s=case.clock.answering(prompts, scoring.smoke_prompt_tokens, scoring.smoke_answer_tokens),
        because="no NaN, no endless repetition, the chat template and one BOS token: broken checkpoints fail here",
    )


def _scored(case: Case, names: Sequence[str], context: int) -> Iterator[Gate]:
    """Token statistics of one pass over both texts; the first carries its time."""
    wanted = case.wanted(case.strictest)
    limits = {name: case.gates.of(name) for name in names}
    held = {name: found for name in names if (found := tuple(wanted.thresholds(limits[name])))}
    needed = {name: tokens_needed(case, limits[name][0], wanted) for name in held}
    texts = _texts(case, context, max(needed.values()))
    spent = case.clock.scoring(sum(text.windows for text in texts), context)
    first = f"kld_mean@{context}"
    for place, (name, thresholds) in enumerate(held.items()):
        yield Gate(
            id=name,
            context_tokens=context,
            texts=texts,
            thresholds=thresholds,
            tolerance_pct=wanted.tolerance_pct,
            tolerance_class=wanted.grade,
            samples=needed[name],
            samples_of="tokens",
            tool=_tool(case.option),
            shares=first if place else "",
            expected_s=NOTHING if place else spent,
            because=_token_because(case, limits[name][0]),
        )


def tokens_needed(case: Case, limit: Limit, wanted: Wanted) -> int:
    """Scored tokens that resolve a token statistic's limit."""
    against, value = limit.against or 1.0, limit.at(wanted.grade) or 0.0
    if limit.statistic == "ppl_ratio":
        (divergence,) = case.gates.of("kld_mean")
        return power.log_ratio(divergence.at(wanted.grade) or 0.0, value)
    if limit.statistic == "kld_mean":
        return power.mean(case.scoring.variation, against)
    disagreeing = 1 - value / 100 if limit.statistic == "top1_agreement" else TAIL
    return power.share(disagreeing, disagreeing * against)


def _texts(case: Case, context: int, tokens: int) -> tuple[Text, ...]:
    """The user's own text and a neutral one, as far as that reaches; windows for `tokens` scored tokens of each."""
    scoring = case.scoring
    least = scoring.least_windows if context <= scoring.window_tokens else scoring.served_windows
    windows = max(least, math.ceil(tokens / (context * scoring.scored_share)))
    neutral = min(windows, scoring.neutral_tokens // context)
    own = Text(name=OWN_TEXT, windows=windows)
    return (own, Text(name=scoring.neutral_text, windows=neutral)) if neutral else (own,)


def _tool(option: Option) -> str:
    return LLAMA if option.pairing.engine.id == "llama.cpp" else SCORER


def _token_because(case: Case, limit: Limit) -> str:
    """What the size resolves, and what the tool cannot show."""
    true = f"a true value of {_near(limit)} (assumed)" if limit.against is not None else "what shows no difference"
    shown = f"screens; sized to pass {true}"
    floor = case.scoring.logit_floor
    if limit.gate.startswith("kld") and case.option.pairing.engine.id == "llama.cpp":
        shown += f"; its logits are stored in 16 bits: nothing below {floor:g} shows"
    return shown


def _near(limit: Limit) -> str:
    """What a sample size can tell from the limit."""
    what = "as many disagreements" if limit.relation == ">=" else "the limit"
    return f"{limit.against:g} times {what}"


def _cache(case: Case) -> Gate:
    """The cache format by itself, where its errors have grown longest."""
    wanted, (limit,) = case.wanted(case.strictest), case.gates.of("kld_mean")
    needed = tokens_needed(case, limit, wanted)
    texts = _texts(case, case.served, needed)
    return Gate(
        id="cache_kld_mean",
        compares=("candidate", "candidate with a 16-bit cache"),
        context_tokens=case.served,
        texts=texts,
        thresholds=tuple(wanted.thresholds((limit,))),
        tolerance_pct=wanted.tolerance_pct,
        tolerance_class=wanted.grade,
        samples=needed,
        samples_of="tokens",
        tool=_tool(case.option),
        expected_s=case.clock.rescoring(sum(text.windows for text in texts), case.served),
        because=f"screens; the errors of a {case.option.cached.dtype} cache grow with the context",
    )


def _tasks(case: Case) -> Iterator[Gate]:
    """Paired tasks of the families the plan is judged on, the largest share first."""
    load = case.option.pairing.settled.load
    asked = {"multilingual": load.foreign, **load.mix}
    shares = {name: asked.get(name, 0.0) for name in case.option.cached.losses}
    for family in sorted(shares, key=lambda name: (-shares[name], name)):
        far = family == "long_context" and load.context > LONG_CONTEXT
        lengths = (load.prompt.mean, load.output.mean, float(load.context))
        gate = task_gate((case.gates, case.clock), case.wanted(case.tolerance(family)), family, lengths, far=far)
        yield structs.replace(gate, share=shares[family]) if shares[family] else gate


def _of_answers(case: Case) -> Iterator[Gate]:
    """What the answers of the paired tasks show besides."""
    wanted, (flips,) = case.wanted(case.strictest), case.gates.of("flip_rate")
    thresholds = tuple(wanted.thresholds((flips,)))
    most = thresholds[0].value / 100
    yield _read_off(
        wanted,
        ("flip_rate", "task:*"),
        thresholds,
        power.share(most, most * (flips.against or 1.0)),
        f"screens; a mean hides answers that change; sized to pass a true rate of {_near(flips)} (assumed)",
    )
    if "tool_use" in case.option.cached.losses:
        wanted = case.wanted(case.tolerance("tool_use"))
        thresholds = tuple(wanted.differences(case.gates.of("structured_output"), None))
        samples = power.paired(case.scoring.discordant_share, -thresholds[0].value / 100)
        because = "answers that fit their schema, and calls of the right tool"
        yield _read_off(wanted, ("structured_output", "task:tool_use"), thresholds, samples, because)


def _read_off(
    wanted: Wanted, name: tuple[str, str], thresholds: tuple[Threshold, ...], samples: int, because: str
) -> Gate:
    """A gate on answers that are there already; `name` = its id and the gate that has them."""
    return Gate(
        id=name[0],
        decides=name[0] == "structured_output",
        thresholds=thresholds,
        tolerance_pct=wanted.tolerance_pct,
        tolerance_class=wanted.grade,
        samples=samples,
        samples_of="answers",
        tool="the logged answers of the paired tasks",
        shares=name[1],
        because=because,
    )
