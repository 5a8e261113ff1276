"""The scheduler said naively, one step after the other, every request with its own counters: what jumps must equal."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.simulation.requests import Requests
from planner.simulation.scheduler import Limits
from planner.speed import Rates, Work, mixed_step_s


@dataclass
class One:
    number: int
    arrival: float
    prompt: int
    output: int
    computed: int = 0
    made: int = 0
    admitted: float = -1.0
    first: float = -1.0
    finish: float = -1.0
    preempted: int = 0
    decodes: bool = False


@dataclass
class Naive:
    """One replica; `serve` fills in the requests' times."""

    work: Work[float]
    rates: Rates[float]
    limits: Limits
    waiting: list[One]
    request_s: float = 0.0
    running: list[One] = field(default_factory=list)
    now: float = 0.0
    steps: int = 0
    used: int = 0
    most_running: int = 0
    most_used: int = 0
    somebody_left: bool = False
    queued: list[One] = field(default_factory=list)

    def cached(self, one: One) -> int:
        size = self.limits.block_tokens
        return min(self.limits.prefix, one.prompt - 1) // size * size

    def blocks(self, one: One, tokens: int) -> int:
        size = self.limits.block_tokens
        return self.limits.kept_blocks + self.limits.groups * (-(-tokens // size) - self.cached(one) // size)

    def held(self, one: One) -> int:
        """A prompt holds the blocks of all its tokens from its admission on."""
        return self.blocks(one, one.computed if one.decodes else one.prompt + one.made)

    def free(self) -> int:
        pool = 1 << 50 if self.limits.blocks is None else self.limits.blocks
        return pool - sum(self.held(one) for one in self.running) - self.used

    def serve(self) -> None:
        while self.waiting or self.queued or self.running:
            while self.waiting and self.waiting[0].arrival <= self.now:
                self.queued.append(self.waiting.pop(0))
            if not self.running and not self.queued:
                self.now = self.waiting[0].arrival
                continue
            self.one_step()

    def one_step(self) -> None:
        self.steps += 1
        self.used = 0  # blocks that decoding sequences took in this step
        scheduled = self.go_on()
        extra = 0.0 if self.somebody_left else self.admit(scheduled)
        self.most_running = max(self.most_running, len(self.running))
        if self.limits.blocks is not None:
            self.most_used = max(self.most_used, self.limits.blocks - self.free())
        self.now += self.seconds(scheduled) + extra
        for one in list(self.running):
            self.end(one, scheduled.get(one.number, 0))

    def go_on(self) -> dict[int, int]:
        """Tokens of the running requests, by number."""
        scheduled: dict[int, int] = {}
        index, self.somebody_left = 0, False
        while index < len(self.running):
            one = self.running[index]
            if one.decodes and not self.take_block(one):
                break
            left = self.limits.budget - sum(scheduled.values())
            scheduled[one.number] = min(one.prompt + one.made - one.computed, left)
            index += 1
        return scheduled

    def take_block(self, one: One) -> bool:
        """False where it was itself the last to be preempted."""
        more = self.blocks(one, one.computed + 1) - self.blocks(one, one.computed)
        while more > self.free():
            victim = self.running.pop()
            victim.computed, victim.preempted, victim.decodes = 0, victim.preempted + 1, False
            self.queued.insert(0, victim)
            self.somebody_left = True
            if victim is one:
                return False
        self.used += more
        return True

    def admit(self, scheduled: dict[int, int]) -> float:
        """Prompts in order of arrival; host time that they take."""
        extra, budget = 0.0, self.limits.budget - sum(scheduled.values())
        while self.queued and budget > 0 and len(self.running) < self.limits.seats:
            one = self.queued[0]
            whole = one.prompt + one.made - self.cached(one)
            if self.blocks(one, one.prompt + one.made) > self.free() or (not self.limits.chunked and whole > budget):
                break
            self.running.append(self.queued.pop(0))
            one.computed = self.cached(one)
            if one.admitted < 0:
                one.admitted, extra = self.now, extra + self.request_s
            scheduled[one.number] = min(whole, budget)
            budget -= scheduled[one.number]
        return extra

    def end(self, one: One, tokens: int) -> None:
        one.computed += tokens
        if one.computed == one.prompt + one.made:
            one.made, one.decodes = one.made + 1, True
            if one.first < 0:
                one.first = self.now
        if one.made == one.output:
            one.finish = self.now
            self.running.remove(one)

    def seconds(self, scheduled: dict[int, int]) -> float:
        decoding = [one for one in self.running if one.decodes]
        context = sum(one.computed + 1 for one in decoding) / max(len(decoding), 1)
        prompts = [(one, scheduled[one.number]) for one in self.running if not one.decodes]
        new = sum(tokens for _, tokens in prompts)
        looked = sum(tokens * (one.computed + tokens / 2) for one, tokens in prompts)
        together = (float(len(decoding)), context), (float(new), looked / max(new, 1))
        return mixed_step_s(self.work, self.rates, *together)


def stepwise(
    work: Work[float], rates: Rates[float], limits: Limits, requests: Requests, request_s: float = 0.0
) -> Naive:
    """Serve all requests, one step at a time; `waiting` holds them in order of arrival afterwards."""
    rows = zip(requests.arrival.tolist(), requests.prompt.tolist(), requests.output.tolist(), strict=True)
    ones = [One(number, *row) for number, row in enumerate(rows)]
    naive = Naive(work, rates, limits, list(ones), request_s)
    naive.serve()
    naive.waiting = ones
    return naive
