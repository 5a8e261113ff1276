"""An iteration-level scheduler as vLLM V1's, from event to event.

Each step has a budget of tokens. Running sequences come first, one token each; what is left goes to prompts in order
of arrival, in chunks, while there are seats and blocks for the whole prompt. Where a running sequence finds no block,
the one admitted last gives all of its blocks back and is computed again later. Steps between two events are one sum.
Source: vllm 0.33.0 v1/core/sched/scheduler.py. Two simplifications: a prompt takes all its blocks when it is admitted
(vLLM checks that they are there, and takes them chunk by chunk), and a common prefix is always in the cache.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

from catalog.errors import BadInput
from planner.simulation.requests import Counts, Requests
from planner.simulation.ticks import Ticks
from planner.trace import Array

ENDLESS = 1 << 60
"""Blocks where every seat has its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a replica may run at once."""

    seats: int
    """max_num_seqs; llama.cpp: slots, each with a context of its own."""
    budget: int
    """Tokens of one step: max_num_batched_tokens; at least one per seat."""
    blocks: int | None = None
    """Of the shared cache; None where every seat has its own."""
    block_tokens: int = 16
    groups: int = 1
    """Blocks that one stretch of `block_tokens` takes: one per group of full-length layers."""
    kept_blocks: int = 0
    """Blocks that a sequence takes whatever its length: windows and states."""
    prefix: int = 0
    """Tokens that all prompts share; whole blocks of them are cached once and for all."""
    chunked: bool = True
    """Whether a prompt may be taken in over several steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What happened: one element per request, in order of arrival; seconds from the start."""

    arrival: Array
    admitted: Array
    first: Array
    finish: Array
    prompt: Counts
    output: Counts
    preempted: Counts
    """How often each was computed again."""
    steps: int
    end_s: float
    busy_s: float
    """Time in which a step was under way."""
    running_s: float
    """Sequences x seconds: over `end_s`, the mean number that ran."""
    most_running: int
    most_blocks: int

    @property
    def ttft(self) -> Array:
        """From arrival to the first token."""
        return self.first - self.arrival

    @property
    def e2e(self) -> Array:
        return self.finish - self.arrival

    @property
    def tpot(self) -> Array:
        """Time per token after the first; NaN for answers of one token."""
        others = np.where(self.output > 1, self.output - 1, np.nan)
        return np.asarray((self.finish - self.first) / others)

    @property
    def wait(self) -> Array:
        """From arrival to the first step that works on it."""
        return self.admitted - self.arrival


def run(ticks: Ticks, limits: Limits, requests: Requests, users: int | None = None) -> Run:
    """Serve all requests. With `users`, each of them sends the next request when the last is answered; the arrivals of
    `requests` do not count then. Raises BadInput for limits, or a request, that can never be served."""
    _check(limits, requests)
    replica = Replica(ticks, limits, requests, users)
    replica.serve()
    return replica.run()


def _check(limits: Limits, requests: Requests) -> None:
    if limits.seats < 1 or limits.budget < limits.seats:
        raise BadInput(f"expected at least one token of budget per seat, got {limits.budget} for {limits.seats}")
    if not len(requests):
        return
    longest = requests.prompt + requests.output - 1
    if not limits.chunked and (longest > limits.budget).any():
        raise BadInput(f"expected at most {limits.budget} tokens of a request where prompts are not chunked")
    size, cached = limits.block_tokens, np.minimum(limits.prefix, requests.prompt - 1) // limits.block_tokens
    needed = limits.kept_blocks + limits.groups * int((-(-longest // size) - cached).max())
    if limits.blocks is not None and needed > limits.blocks:
        raise BadInput(f"expected room for the longest request ({needed} blocks), got {limits.blocks}")


class Replica:
    """The state between two events."""

    def __init__(self, ticks: Ticks, limits: Limits, requests: Requests, users: int | None) -> None:
        self.ticks, self.limits = ticks, limits
        self.count = count = len(requests)
        self.prompt: list[int] = requests.prompt.tolist()
        self.output: list[int] = requests.output.tolist()
        size = limits.block_tokens
        self.cached: list[int] = (np.minimum(limits.prefix, requests.prompt - 1) // size * size).tolist()
        """Tokens of each prompt that are in the cache: whole blocks, and never the last token."""
        self.arrival: list[float] = requests.arrival.tolist() if users is None else [0.0] * count
        self.sent = count if users is None else min(users, count)
        """Requests whose arrival is known."""
        self.thinking: list[float] = []
        """Closed loop: when the next requests arrive."""
        self.closed = users is not None
        self.done = [0] * count
        self.admitted, self.first, self.finish = [-1.0] * count, [-1.0] * count, [0.0] * count
        self.preempted = [0] * count
        self.trail = [0.0] * count
        self.queue = 0
        """The first request that was never admitted."""
        self.again: deque[int] = deque()
        self.running: dict[int, None] = {}
        """In order of admission."""
        self.decoding, self.context = 0, 0
        self.partial = -1
        """The running prompt that is not all computed yet, if any …"""
        self.computed = self.total = 0
        """… its tokens that are, and all of them."""
        self.started, self.held = [0] * count, [0] * count
        """Of the decoding: the step of the last first token, and the tokens computed then."""
        self.ends: list[int] = [-1] * count
        self.ending: list[tuple[int, int]] = []
        self.phase: Counter[int] = Counter()
        """Sequences that need a block in steps of each remainder, where any do."""
        self.free = limits.blocks if limits.blocks is not None else ENDLESS
        self.now, self.step, self.left = 0.0, 0, count
        self.busy = self.area = 0.0
        self.most_running, self.least_free = 0, self.free

    def serve(self) -> None:
        """From event to event until all are answered."""
        while self.left:
            if self.partial >= 0 or self.ready() >= 0:
                self.mix()
            elif self.decoding:
                steps = self.undisturbed()
                if steps:
                    self.jump(steps)
                else:
                    self.mix()
            else:
                self.now = max(self.now, self.next_arrival())

    def next_arrival(self) -> float:
        """When the next request reaches the scheduler."""
        if self.queue == self.sent and self.thinking:
            self.arrival[self.sent] = heapq.heappop(self.thinking)
            self.sent += 1
        return self.arrival[self.queue] + self.ticks.arrival_s if self.queue < self.sent else float("inf")

    def ready(self) -> int:
        """The first in the queue, where a seat and blocks for it are free; else -1."""
        if len(self.running) >= self.limits.seats:
            return -1
        if self.again:
            head = self.again[0]
        elif self.queue < self.count and self.next_arrival() <= self.now:
            head = self.queue
        else:
            return -1
        return head if self.own_blocks(self.prompt[head] + self.done[head], head) <= self.free else -1

    def own_blocks(self, tokens: int, request: int) -> int:
        """Blocks that `tokens` of a request take, the common prefix aside."""
        size = self.limits.block_tokens
        return self.limits.kept_blocks + self.limits.groups * (-(-tokens // size) - self.cached[request] // size)

    def undisturbed(self) -> int:
        """Steps until a sequence ends, finds no block, or somebody arrives who need not wait; 0: no block is left."""
        while self.ends[self.ending[0][1]] != self.ending[0][0]:
            heapq.heappop(self.ending)
        steps = self.covered(self.ending[0][0] - self.step)
        if steps and not self.again and len(self.running) < self.limits.seats:
            arrival = self.next_arrival()
            if self.now < arrival < self.now + self.ticks.decode_s(self.decoding, self.context, steps):
                return self.ticks.steps_until(self.decoding, self.context, arrival - self.now)
        return steps

    def covered(self, steps: int) -> int:
        """How many of the next `steps` steps the free blocks suffice for."""
        size, groups = self.limits.block_tokens, self.limits.groups
        if self.decoding * groups * (steps // size + 1) <= self.free:
            return steps
        cycles = self.free // (self.decoding * groups)
        free = self.free - cycles * self.decoding * groups
        for away, sequences in sorted(((each - self.step - 1) % size, many) for each, many in self.phase.items()):
            free -= groups * sequences
            if free < 0:
                return min(cycles * size + away, steps)
        return steps

    def grown(self, steps: int) -> int:
        """Blocks that the next `steps` steps take."""
        size, next_step = self.limits.block_tokens, self.step + 1
        cycles, rest = divmod(steps, size)
        parts = sum(many for each, many in self.phase.items() if (each - next_step) % size < rest)
        return self.limits.groups * (cycles * self.decoding + parts)

    def jump(self, steps: int) -> None:
        """Several steps of the same sequences at once."""
        self.free -= self.grown(steps)
        self.pass_time(self.ticks.decode_s(self.decoding, self.context, steps))
        self.step += steps
        self.context += self.decoding * steps
        self.end_step()

    def mix(self) -> None:
        """One step that may admit, take in prompts, or preempt."""
        self.step += 1
        preempted = self.take_blocks()
        left, new, looked, extra = self.limits.budget - self.decoding, 0, 0.0, 0.0
        finished: list[int] = []
        while left > 0:
            if self.partial < 0:
                request = -1 if preempted else self.ready()
                if request < 0 or not self.whole_fits(request, left):
                    break
                extra += self.admit(request)
            part = min(self.total - self.computed, left)
            new, left, looked = new + part, left - part, looked + part * (self.computed + part / 2)
            self.computed += part
            if self.computed == self.total:
                finished.append(self.partial)
                self.partial = -1
        decoding = self.decoding
        self.pass_time(self.ticks.mixed_s(decoding, self.context, new, looked) + extra)
        self.context += self.decoding
        if finished:
            self.give_first(finished, self.ticks.trail_s(decoding, new, looked))
        self.end_step()

    def whole_fits(self, request: int, left: int) -> bool:
        """Whether `left` tokens suffice for the head of the queue, where prompts are not chunked."""
        return self.limits.chunked or self.prompt[request] + self.done[request] - self.cached[request] <= left

    def take_blocks(self) -> bool:
        """A block for every sequence that needs one; whether somebody had to leave for it."""
        phase, groups, preempted = self.step % self.limits.block_tokens, self.limits.groups, False
        while groups * self.phase[phase] > self.free:
            self.preempt()
            preempted = True
        self.free -= groups * self.phase[phase]
        return preempted

    def preempt(self) -> None:
        """The sequence admitted last gives back its blocks and waits in front of all others."""
        request, _ = self.running.popitem()
        if request == self.partial:
            held, self.partial = self.total, -1
        else:
            held = self.leave(request, self.step - 1 - self.started[request])
        self.free += self.own_blocks(held, request)
        self.preempted[request] += 1
        self.again.appendleft(request)

    def leave(self, request: int, steps: int) -> int:
        """It decodes no more after `steps` steps since its last first token: how many of its tokens are computed."""
        held = self.held[request]
        self.done[request] += steps
        self.decoding -= 1
        self.context -= held + steps + 1
        self.ends[request] = -1
        phase = (self.started[request] + 1 - held) % self.limits.block_tokens
        self.phase[phase] -= 1
        if not self.phase[phase]:
            del self.phase[phase]
        return held + steps

    def admit(self, request: int) -> float:
        """The head of the queue takes a seat and blocks; seconds that this costs everyone."""
        if self.again:
            self.again.popleft()
        else:
            self.queue += 1
        self.running[request] = None
        self.partial, self.computed = request, self.cached[request]
        self.total = self.prompt[request] + self.done[request]
        self.free -= self.own_blocks(self.total, request)
        if self.admitted[request] >= 0:
            return 0.0
        self.admitted[request] = self.now
        return self.ticks.request_s

    def give_first(self, finished: list[int], trail: float) -> None:
        """Prompts that are computed give a token at the end of the step and decode from the next one on."""
        for request in finished:
            if self.first[request] < 0:
                self.first[request] = self.now + trail
                self.trail[request] = trail
            self.held[request] = self.prompt[request] + self.done[request]
            self.started[request] = self.step
            self.done[request] += 1
            self.decoding += 1
            self.context += self.held[request] + 1
            self.phase[(self.step + 1 - self.held[request]) % self.limits.block_tokens] += 1
            self.ends[request] = self.step + self.output[request] - self.done[request]
            heapq.heappush(self.ending, (self.ends[request], request))

    def end_step(self) -> None:
        """Those who have their last token leave."""
        ending = self.ending
        while ending and ending[0][0] <= self.step:
            end, request = heapq.heappop(ending)
            if self.ends[request] == end:
                self.answer(request)

    def answer(self, request: int) -> None:
        held = self.leave(request, self.step - self.started[request])
        self.free += self.own_blocks(held, request)
        del self.running[request]
        self.finish[request] = self.now + self.trail[request]
        self.left -= 1
        if self.closed and self.sent + len(self.thinking) < self.count:
            heapq.heappush(self.thinking, self.finish[request])

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.busy += seconds
        self.area += seconds * len(self.running)
        self.most_running = max(self.most_running, len(self.running))
        self.least_free = min(self.least_free, self.free)

    def run(self) -> Run:
        """What happened."""
        return Run(
            arrival=np.array(self.arrival),
            admitted=np.array(self.admitted),
            first=np.array(self.first),
            finish=np.array(self.finish),
            prompt=np.array(self.prompt, dtype=np.int64),
            output=np.array(self.output, dtype=np.int64),
            preempted=np.array(self.preempted, dtype=np.int64),
            steps=self.step,
            end_s=self.now,
            busy_s=self.busy,
            running_s=self.area,
            most_running=self.most_running,
            most_blocks=(self.limits.blocks or 0) - self.least_free if self.limits.blocks is not None else 0,
        )
