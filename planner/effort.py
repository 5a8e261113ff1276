"""How long a gate takes: the plan's own formulas, with one replica of the planned layout doing nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from planner.plan import Basis, Estimate
from planner.rooms import Books, Terms
from planner.serving import device_work, token_times
from planner.speed import Work, decoding, each_rank, host_s, pass_token_s, weight_s
from planner.spread import between


@dataclass(frozen=True, slots=True)
class Runner:
    """One side of a comparison on one replica."""

    terms: Terms[float]
    work: Work[float]
    slots: int
    step_s: float
    """Between two tokens with every slot taken, at the planned lengths."""

    @classmethod
    def of(cls, terms: Terms[float], slots: int, books: Books) -> Runner:
        """`slots` = sequences that run at most."""
        done, full = device_work(terms, books), float(slots)
        step = token_times(terms, done)(full, decoding(done, terms.rates, full))
        return cls(terms, each_rank(done), slots, step)

    def reads_s(self, prompts: int, tokens: float) -> float:
        """Prompts of so many tokens each, packed into full passes."""
        work, rates = self.work, self.terms.rates
        total = prompts * tokens
        new = min(rates.chunk, total)
        busy = max(new * pass_token_s(work, rates, new, tokens / 2), weight_s(work, rates, new))
        each = busy + (host_s(work, rates, 0.0) + work.exchanges * rates.exchange_s) / work.pipeline
        return total / new * each / self.terms.layout.data

    def answers_s(self, answers: int, tokens: float) -> float:
        """Answers of so many tokens each, as many at once as there are slots."""
        return answers * tokens * self.step_s / min(self.slots, answers)


@dataclass(frozen=True, slots=True)
class Clock:
    """Both sides, and how far their times may be off."""

    candidate: Runner
    baseline: Runner
    low: float
    high: float
    """Factors to both ends of the 80 % interval of a step."""
    basis: Basis
    """Of step times."""

    def scoring(self, windows: int, tokens: int) -> Estimate:
        """Log-probabilities of windows of so many tokens on both sides; storing them takes its own time."""
        return self._estimate(sum(side.reads_s(windows, tokens) for side in self._sides), self.basis)

    def rescoring(self, windows: int, tokens: int) -> Estimate:
        """The same on the candidate's side alone."""
        return self._estimate(self.candidate.reads_s(windows, tokens), self.basis)

    def answering(self, answers: int, prompt: float, output: float) -> Estimate:
        """Answers on both sides; nobody knows beforehand how long they are."""
        seconds = sum(side.reads_s(answers, prompt) + side.answers_s(answers, output) for side in self._sides)
        return self._estimate(seconds, "assumed")

    @property
    def _sides(self) -> tuple[Runner, Runner]:
        return self.candidate, self.baseline

    def _estimate(self, seconds: float, basis: Basis) -> Estimate:
        return between(seconds * min(self.low, 1.0), seconds, seconds * max(self.high, 1.0), basis, "s")


def together(parts: list[Estimate]) -> Estimate:
    """All of them one after the other; their errors are one error."""
    basis: Basis = "assumed" if any(each.basis == "assumed" for each in parts) else "fitted"
    low, value, high = (sum(getattr(each, end) for each in parts) for end in ("low", "value", "high"))
    return between(low, value, high, basis, "s")
