"""What a user wants both sides asked: items of their own, how answers are chosen, and a scorer of their own.

It also says which gates a plan then has beside its own: one for the scorer, and one for answers that have a form where
the plan asks for none.
"""

from __future__ import annotations

from msgspec import Struct, structs

from catalog.public_tasks import PublicTask
from planner.plan import Candidate, Gate, Threshold, Verification
from planner.proving.answers import Sampling

SCORER, FORMED = "scorer", "structured_output"
ANSWER_TOKENS = 512
"""Of one answer, at most, where the user says nothing (assumed)."""


class OwnItems(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user's task files, as far as a program depends on them; items are counted by family, "" = of none."""

    files: tuple[str, ...]
    asked: dict[str, int]
    scored: dict[str, int] = {}
    """Of these, how many expect an answer."""
    formed: dict[str, int] = {}
    """How many ask for a schema or a tool call."""
    letters: float = 0.0
    """Of a prompt, on average."""

    @property
    def count(self) -> int:
        return sum(self.asked.values())


class Scorer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command that prints how good answers are, higher is better; `tolerance` in its own unit."""

    command: tuple[str, ...]
    tolerance: float
    files: tuple[str, ...] = ()
    """Words of it that are files here."""


class TaskFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task of lm-eval in a file of the user's, over data beside it."""

    path: str
    name: str
    data: tuple[str, ...]
    family: str = ""
    """That it counts for; "" = it says none."""
    chat: bool = False
    """Whether it is asked through the chat template."""
    documents: int
    letters: float = 0.0
    """Of a document, on average."""
    answer_tokens: float = 0.0
    """That are written, at most; 0 where options are scored."""


class Benched(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked through lm-eval."""

    tasks: tuple[PublicTask, ...] = ()
    """That lm-eval has for the plan's benchmarks."""
    public: bool = False
    """Whether the user asks for them: their data comes from the hub."""
    retrieval: bool = False
    """The same of those whose documents are made here."""
    files: tuple[TaskFile, ...] = ()
    limit: int = 0
    """Documents of each benchmark, at most; 0: as many as the plan says."""
    code: bool = False
    """Whether a task file may run code."""


class Questions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that both sides are asked beside the smoke test."""

    own: OwnItems | None = None
    answer_tokens: int = ANSWER_TOKENS
    sampled: Sampling | None = None
    """As served; greedy answers are always taken."""
    samples: int = 1
    """Sampled answers to each item."""
    scorer: Scorer | None = None
    benched: Benched = Benched()


def extended(candidate: Candidate, asked: Questions) -> Candidate:
    """The candidate with the gates that the user's items and scorer ask for beside the plan's."""
    verification = candidate.verification
    if verification is None or asked.own is None:
        return candidate
    more = [*_formed(verification, asked.own)]
    if asked.scorer is not None:
        more.append(_scorer(asked.scorer, verification, asked.own))
    if not more:
        return candidate
    return structs.replace(candidate, verification=structs.replace(verification, gates=(*verification.gates, *more)))


def _formed(verification: Verification, own: OwnItems) -> list[Gate]:
    """Answers that have to have a form, held as the plan's strictest task is, where the plan has no such gate."""
    tasks = [gate for gate in verification.gates if gate.id.startswith("task:") and gate.thresholds]
    if not own.formed or not tasks or any(gate.id == FORMED for gate in verification.gates):
        return []
    strictest = max(tasks, key=lambda gate: gate.thresholds[0].value)
    limit = structs.replace(
        strictest.thresholds[0],
        statistic="valid_answers_difference",
        because=f"as {strictest.id}: items of your own ask for a schema or a tool call",
        source="assumed: as paired tasks; no paired table of tool calls or schemas is known",
    )
    return [
        structs.replace(
            strictest, id=FORMED, thresholds=(limit,), benchmarks=(), share=None, context_tokens=None, shares="",
            samples=sum(own.formed.values()), tool="answers to your own items",
            because="answers that fit their schema, and calls of a tool that there is",
        )
    ]  # fmt: skip


def _scorer(scorer: Scorer, verification: Verification, own: OwnItems) -> Gate:
    """The business metric: its mean may not fall by more than the tolerance."""
    first = verification.gates[0]
    limit = Threshold(
        statistic="scorer_difference", unit="own", bound="lower", relation=">=", value=-scorer.tolerance,
        because="as --scorer-tolerance says", source="the user's own",
    )  # fmt: skip
    return Gate(
        id=SCORER, decides=True, thresholds=(limit,), tolerance_pct=first.tolerance_pct,
        tolerance_class=first.tolerance_class, samples=own.count, samples_of="answers",
        tool="a command of your own", because="what the answers are worth to you",
    )  # fmt: skip
