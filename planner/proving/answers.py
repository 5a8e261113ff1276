"""What both sides answered, read and paired: scores for the judge, and the failures of a smoke test.

A file (`answers.json`) is what one side answered; any worker may write it. Answers are paired by task, item and sample;
an item is named by a hash of what was asked, so that other questions on the two sides are found and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catalog.errors import BadInput
from planner.proving import bounds
from planner.proving.judge_answers import Pairs

SCHEMA = 1
OWN_ITEMS = "your own items"
"""`Step.text` of answers to the user's items: one file for all families, whose `task` is the family."""
NOT_FINITE, EMPTY, LOOP = "not finite", "empty", "repetition"
"""Faults of an answer: its log-probabilities, nothing but white space, one passage over and over."""
CHANCE = 0.05
"""Below which more faults than the baseline's are no accident."""


class Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tokens were chosen; a temperature of 0 takes the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all."""
    max_tokens: int = 0
    seed: int = 0

    @property
    def words(self) -> str:
        if self.temperature <= 0:
            return "greedy"
        top = f", top k {self.top_k}" if self.top_k else ""
        return f"sampled at temperature {self.temperature:g}, top p {self.top_p:g}{top}"


class Prompt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an item became on one side: hashes of the text that the chat template made, and of its token ids."""

    text: str
    ids: str
    tokens: int = 0
    bos: int = 0
    """How many BOS tokens it begins with."""
    template: bool = False
    """Whether a chat template made it."""


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer to one item."""

    task: str
    item: str
    sample: int = 0
    score: float | None = None
    """From 0 to 1; None where nothing is expected."""
    valid: bool | None = None
    """Whether it fits its schema, or calls a tool that there is as that tool is called; None where neither is asked."""
    text: str = ""
    tokens: int = 0
    stopped: Literal["end", "length", ""] = ""
    faults: tuple[str, ...] = ()
    prompt: Prompt | None = None
    name: str = ""
    """The user's own name of the item."""
    details: dict[str, Any] = {}

    @property
    def key(self) -> tuple[str, str, int]:
        return self.task, self.item, self.sample


class Side(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file."""

    schema: int
    model: str
    model_sha256: str
    backend: str
    versions: dict[str, str] = {}
    sampling: Sampling
    seconds: float = 0.0
    answers: tuple[Answer, ...]
    details: dict[str, Any] = {}


Both = tuple[Answer, Answer]
"""The baseline's answer and the candidate's, to one item."""


def read(data: bytes, name: str) -> Side:
    """A file's answers. Raises BadInput naming the file where it is not one, or says nothing."""
    try:
        side = msgspec.json.decode(data, type=Side)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadInput(f"not a file of answers: {fault}", name) from None
    if side.schema != SCHEMA:
        raise BadInput(f"answers of schema {side.schema}, this version reads {SCHEMA}", name)
    if not side.answers:
        raise BadInput("it holds no answer", name)
    if len({each.key for each in side.answers}) < len(side.answers):
        raise BadInput("an item is answered twice under one sample number", name)
    wrong = next((each for each in side.answers if each.score is not None and not 0 <= each.score <= 1), None)
    if wrong is not None:
        raise BadInput(f"a score of {wrong.score:g} for item {_called(wrong)}: it has to be from 0 to 1", name)
    return side


def paired(baseline: Side, candidate: Side) -> tuple[Both, ...]:
    """Answers side by side, in the baseline's order. Raises BadInput with the reason where the sides differ."""
    if baseline.backend != candidate.backend:
        raise BadInput(f"the baseline answered through {baseline.backend}, the candidate through {candidate.backend}")
    if baseline.sampling != candidate.sampling:
        raise BadInput(f"other sampling: {_told(baseline.sampling)} against {_told(candidate.sampling)}")
    ours, theirs = ({each.key: each for each in side.answers} for side in (baseline, candidate))
    for lacking, there, whose in ((ours, theirs, "the candidate"), (theirs, ours, "the baseline")):
        missing = [each for key, each in there.items() if key not in lacking]
        if missing:
            raise BadInput(
                f"{len(missing)} answers are {whose}'s alone (item {_called(missing[0])}): other items or prompts"
            )
    return tuple((each, theirs[key]) for key, each in ours.items())


def _told(sampling: Sampling) -> str:
    return f"{sampling.words}, {sampling.max_tokens} tokens, seed {sampling.seed}"


def _called(answer: Answer) -> str:
    return answer.name or answer.item[:12]


def scores(both: Iterable[Both], on: str = "") -> Pairs:
    """Scores for a task's gate; items that expect nothing are left out. Raises BadInput where none expects anything."""
    return _pairs(both, lambda each: each.score, ("no answer has a score: the items expect nothing", on))


def validity(both: Iterable[Both], on: str = "") -> Pairs:
    """The same of answers that have to fit a schema or call a tool: 1 where they do."""
    return _pairs(
        both,
        lambda each: None if each.valid is None else float(each.valid),
        ("no item asks for a schema or a tool call", on),
    )


def _pairs(both: Iterable[Both], value: Callable[[Answer], float | None], said: tuple[str, str]) -> Pairs:
    found = [(one, value(one), value(other)) for one, other in both]
    if any((left is None) != (right is None) for _, left, right in found):
        raise BadInput("an item is scored on one side only")
    kept = [(each, left, right) for each, left, right in found if left is not None and right is not None]
    if not kept:
        raise BadInput(said[0])
    return Pairs(
        baseline=tuple(left for _, left, _ in kept),
        candidate=tuple(right for _, _, right in kept),
        items=tuple(f"{each.task}:{each.item}" for each, _, _ in kept),
        tasks=tuple(each.task for each, _, _ in kept),
        on=said[1],
    )


def of_families(both: Iterable[Both], families: Sequence[str]) -> tuple[Both, ...]:
    """Answers to the user's items of these families; "" = of none."""
    return tuple(each for each in both if each[0].task in families)


def smoke(both: Sequence[Both], structure: Sequence[str] = ()) -> tuple[str, ...]:
    """What is wrong with the candidate, a sentence each; `structure` = faults of its files.

    Log-probabilities have to be finite and prompts the same token ids, whatever the baseline does. An empty answer or a
    repetition counts where the baseline has none at all; where it has some, chance decides which prompts they fall on,
    and the candidate's count once they are more than chance would have them (McNemar, one-sided, 5 %).
    Raises BadInput where the baseline's own log-probabilities are not finite.
    """
    broken = [one for one, _ in both if NOT_FINITE in one.faults]
    if broken:
        raise BadInput(f"the baseline is broken: not finite in {_listed(broken)}")
    found = list(structure)
    failed = [other for _, other in both if NOT_FINITE in other.faults]
    if failed:
        found += [f"{_called(each)}: log-probabilities are not finite" for each in failed]
    found += [said for pair in both if (said := _prompts_differ(*pair))]
    for kind in (EMPTY, LOOP):
        found += [f"{_called(each)}: {kind}" for each in _more(both, kind)]
    return tuple(found)


def _listed(answers: Sequence[Answer]) -> str:
    names = ", ".join(_called(each) for each in answers[:3])
    return f"{names} and {len(answers) - 3} more" if len(answers) > 3 else names


def _prompts_differ(one: Answer, other: Answer) -> str:
    """The template, BOS or the tokenizer, whichever gives other token ids; "" where they are the same."""
    left, right = one.prompt, other.prompt
    if left is None or right is None or left.ids == right.ids:
        return ""
    if left.template and not right.template:
        return f"{_called(one)}: the candidate has no chat template, the baseline has one"
    if left.text != right.text:
        return f"{_called(one)}: the candidate's chat template writes another text than the baseline's"
    if left.bos != right.bos:
        return f"{_called(one)}: the candidate's prompt begins with {right.bos} BOS tokens, the baseline's {left.bos}"
    return f"{_called(one)}: the candidate's tokenizer gives other token ids for the same text"


def _more(both: Sequence[Both], kind: str) -> list[Answer]:
    """The candidate's answers with a fault that the baseline's have not."""
    ours = [kind in one.faults for one, _ in both]
    theirs = [kind in other.faults for _, other in both]
    only = [pair[1] for pair, mine, its in zip(both, ours, theirs, strict=True) if its and not mine]
    if not any(ours):
        return only
    turned = bounds.numbers(not mine for mine in ours), bounds.numbers(not its for its in theirs)
    return only if bounds.mcnemar(*turned) < CHANCE else []


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that is wrong with a checkpoint's files."""

    what: str
    where: str = ""


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `faults.json`: what an inspection of the candidate's files found."""

    schema: int = 1
    faults: tuple[Fault, ...]
    seen: dict[str, Any] = {}


def structure(data: bytes, name: str) -> tuple[str, ...]:
    """Sentences of a `faults.json`. Raises BadInput naming the file where it is not one."""
    try:
        found = msgspec.json.decode(data, type=Faults)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadInput(f"not a file of faults: {fault}", name) from None
    return tuple(f"{each.where}: {each.what}" if each.where else each.what for each in found.faults)
