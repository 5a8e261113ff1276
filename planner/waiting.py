"""What single requests wait for at a replica that batches continuously: the search's stand-in for the simulation.

Steps follow each other without a pause. Whoever comes during one waits for its end, and the next step takes in the
prompts of all who came meanwhile: it is longer for that, so that more come during it. Prompts that fill the token
budget of a step by themselves stand in line instead. Both have means and variances in closed form; what a request gets
lies between the two by how much of a step's budget its prompt fills. Every formula takes a float, an array of
candidates, or a traced number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Generic

from planner.ranks import fullest, several
from planner.trace import N, exponential, largest, positive, root, smallest, step, worth

CLUMPS = 4 / 3
"""How much more than their variance clumped arrivals count in a step that they themselves make longer."""
TAIL = 4 / 3
"""Of the variance of first-token times: long steps follow long steps, which the moments of one step do not see."""
LATE = 1 / 6
"""Of a step: what a first token waits for on average beyond the mean step, for the same reason."""
SHORT, SHORT_START = 1.6, 0.5
"""Of the variance of times per token of short answers: while they run, and from prompts that came with their own. The
second is hardly determined: fits gave 0.2 to 0.7."""
SOON = 20.0
"""Expected arrivals within which the rest of a clump comes, one over that (assumed: the edge of what was searched)."""
STAY = 0.75
"""Of the variance of the batch: what is left of it on average over a stay of mean length; 2/e for exponential decay."""
STEEPEST = 0.9
"""Share of a step that its sequences may add before the spread of the batch loses its meaning (assumed)."""
LEAST_FOUND = 0.5
"""Of `company`: even the most regular arrivals find that much of a hall's guests; users in a closed loop find none."""
LEAST_IDLE = 0.02
"""Share of the time that prompts in line always leave: beyond it a mean has no meaning, and the wait is long anyway."""
# CLUMPS to SHORT_START: least squares, rounded, over 583 simulated cases (accelerators, models, lanes, loads and
# lengths of all kinds, utilisation 0.18 to 0.88, burstiness 0.5 to 2). What they leave: tests/speed/test_agreement.py.


@dataclass(frozen=True, kw_only=True)
class Traffic(Generic[N]):
    """What comes to a replica, however many sequences run; seconds, squared coefficients of variation."""

    arithmetic_s: N
    """Of a prompt, whatever hides behind the weights' way from memory: it is what longer prompts take longer."""
    fill: N
    """Share of a step's token budget that a prompt fills; steps that it takes where it is above 1."""
    prompt_cv2: N
    """Of prompts beyond what is cached."""
    output_cv2: N
    gap_cv2: N
    """Of gaps between arrivals."""
    output: N
    """Mean tokens of an answer."""
    ranks: N = 1.0  # type: ignore[assignment]
    """Engines whose attention is data parallel: of the prompts that come with one's own, each takes its share."""

    @cached_property
    def ranked(self) -> bool:
        """Whether there are several anywhere."""
        return several(self.ranks)

    @cached_property
    def part(self) -> N:
        """Of a step's token budget, what a prompt fills."""
        return smallest(self.fill, 1.0)

    @cached_property
    @step
    def length_variance(self) -> N:
        """Of what a prompt adds: the arithmetic of long prompts and short ones; s²."""
        return self.arithmetic_s * self.arithmetic_s * self.prompt_cv2

    @cached_property
    def skew(self) -> N:
        """Third moment of what lengths add about their mean: they are log-normal; s³."""
        return self.length_variance * self.arithmetic_s * self.prompt_cv2 * (self.prompt_cv2 + 3)

    @cached_property
    def clumped(self) -> N:
        """Squared variation of the gaps between arrivals, as it counts in steps."""
        return 1 + CLUMPS * (self.gap_cv2 - 1)


@dataclass(frozen=True, kw_only=True)
class Crowd(Generic[N]):
    """A replica in its steady state, with what prompts do to its steps; seconds."""

    rate: N
    """Requests/s."""
    batch: N
    """Sequences that decode on average."""
    step_s: N
    """A step in which nobody's prompt is taken in."""
    slope_s: N
    """What one more sequence adds to the time between two tokens."""
    token_s: N
    """Time between two tokens of a sequence while no prompt is taken in: the step, unless drafts are kept."""
    joining_s: N
    """What a prompt adds to the steps that take it in, on average."""
    alone_s: N
    """The same of a prompt that no other shares its steps with."""
    trail_s: N
    """Until the first token has passed the later stages of a pipeline."""
    traffic: Traffic[N]

    @cached_property
    @step
    def own_s(self) -> N:
        """The steps that take in one's own prompt."""
        return self.step_s * largest(self.traffic.fill, 1.0) + self.alone_s + self.trail_s

    @cached_property
    @step
    def trailing(self) -> N:
        """How much longer a prompt takes through all stages of a pipeline than it holds up one."""
        return 1 + self.trail_s / self.traffic.arithmetic_s

    @property
    @step
    def own_variance(self) -> N:
        """Long prompts take longer, and their last chunk takes longer through a pipeline; s²."""
        return self.traffic.length_variance * self.trailing * self.trailing


@step
def company(burstiness: N, output_cv2: N) -> N:
    """Others that an arriving request finds beyond their mean number, itself included: 1 for Poisson arrivals, more
    where arrivals come in clumps; variance over mean of the number of guests in a hall.

    Part of a clump is still there when the next request comes: it is larger for equal stays, E[min(S, S')] / E[S],
    here for log-normal ones within 4 %. Source: W. Whitt 1984, "Heavy-traffic approximations for service systems with
    blocking" (peakedness).
    """
    return 1 + (1 / burstiness - 1) / (1 + 0.8 * root(output_cv2))


@step
def prompts_in_a_step(batch: N, output: N) -> N:
    """Each sequence leaves with its last token and another request takes its place: batch / output come per step."""
    return batch / output


@step
def budget_share(batch: N, prompt_tokens: N, budget: N) -> N:
    """Each sequence takes a token of a step's budget, and brings `prompt_tokens` of prompts per token of its answer."""
    return batch * (1 + prompt_tokens) / budget


@step
def together(prompts: N) -> N:
    """How many prompts share a step that takes in any: arrivals during a step are counted as Poisson."""
    return prompts / (1 - exponential(-1 * prompts))


def taken_in(fresh: N, begun: N, budget: N, ranks: N) -> tuple[N, N]:
    """Prompt tokens of a step that takes in any: of all ranks, and of the one that has most of them.

    `begun` prompts of `fresh` tokens come per step, dealt out as evenly as sequences; each rank has a `budget`.
    """
    if not several(ranks):
        tokens = smallest(fresh * together(begun), budget)
        return tokens, tokens
    one = smallest(fresh, budget)
    under_way = together(begun * largest(fresh / budget, 1.0))
    most = smallest(one * fullest(ranks, under_way), budget)
    return smallest(one * under_way, most * ranks), most


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Generic[N]):
    """How long steps are, and who comes during one; seconds."""

    share: N
    """Of the time, that prompts take."""
    mean_s: N
    seen_s: N
    """Mean of the step that a request comes in."""
    seen_s2: N
    """Its second moment; s²."""
    noise_s: N
    """What prompts scatter per second, s²/s."""
    others_s: N
    """Prompts of those who come in the same step as oneself."""
    each_s: N
    """One of them."""
    behind_s: N
    """Prompts of the late ones among them."""
    others_s2: N
    """Variance of their sum; s²."""


def beat(crowd: Crowd[N]) -> Beat[N]:
    """Moments of the steps. Prompts lengthen steps, in which more prompts come: half of that shows in the moments."""
    share = crowd.rate * crowd.joining_s
    mean = mean_step_s(crowd.step_s, share)
    second, third = moments(crowd.traffic, crowd.joining_s)
    noise = crowd.rate * second
    free = root(1 - share)
    seen = seen_step_s(mean, noise, free)
    come = crowd.rate * seen
    late = clump(crowd.traffic.gap_cv2, come)
    each = smallest(crowd.traffic.arithmetic_s, crowd.alone_s)
    count = positive(come + late) / crowd.traffic.ranks if crowd.traffic.ranked else positive(come + late)
    return Beat(
        share=share,
        mean_s=mean,
        seen_s=seen,
        seen_s2=seen_step_s2(mean, noise, crowd.rate * third, free),
        noise_s=noise,
        others_s=count * each,
        each_s=each,
        behind_s=late * each,
        others_s2=count * moments(crowd.traffic, each)[0],
    )


@step
def mean_step_s(step_s: N, share: N) -> N:
    """Prompts take their share of the time; steps have what is left, and are longer by it."""
    return step_s / (1 - share)


@step
def seen_step_s(mean_s: N, noise_s: N, free: N) -> N:
    """Who comes at random comes in a long step more often than in a short one: second moment over mean."""
    return mean_s + noise_s / free


@step
def seen_step_s2(mean_s: N, noise_s: N, third_s2: N, free: N) -> N:
    """Second moment of the step that somebody comes in: third moment of steps over their mean; s²."""
    return mean_s * mean_s + (3 * mean_s * noise_s + third_s2) / free


def moments(traffic: Traffic[N], each: N) -> tuple[N, N]:
    """Second and third moment of prompts that take `each` seconds on average, and come in clumps; s², s³."""
    clumps, spread = traffic.clumped, traffic.length_variance
    square = each * each * clumps
    return square + spread, each * (square * clumps + 3 * spread) + traffic.skew


@step
def clump(gap_cv2: N, expected: N) -> N:
    """Requests that come with another beyond the `expected` of the mean rate: half of what clumping adds, soon."""
    excess = (gap_cv2 - 1) / 2
    return excess * (1 - exponential(-SOON * expected)) if worth(excess) else excess


@step
def busy(batch: N, found: N) -> N:
    """Probability that somebody decodes when a request comes."""
    return 1 - exponential(-1 * batch / largest(found, LEAST_FOUND))


@dataclass(frozen=True, slots=True)
class Wait(Generic[N]):
    """Mean and variance; s, s²."""

    mean: N
    variance: N


def shared(crowd: Crowd[N], pulse: Beat[N], at_work: N) -> Wait[N]:
    """Where a step takes in everybody who came: the rest of a step, then the prompts of the others in one's own."""
    longer = crowd.trailing
    mean = shared_wait_s(at_work, pulse.seen_s, pulse.others_s, longer)
    load, counts = crowd.rate * pulse.each_s * longer, pulse.others_s2 * longer * longer
    return Wait(mean, shared_variance(at_work * pulse.seen_s2, load, counts, mean))


@step
def shared_wait_s(at_work: N, seen_s: N, others_s: N, longer: N) -> N:
    """Half of the step that one comes in, and the others' prompts, through all stages; at an idle replica there are
    only those behind oneself."""
    return at_work * seen_s / 2 + others_s * ((1 + at_work) / 2 + longer - 1)


@step
def shared_variance(seen_s2: N, load: N, others_s2: N, mean: N) -> N:
    """The rest of the step is uniform over it, the others' prompts grow with it and are counted by chance; s²."""
    return positive(seen_s2 * (1 / 3 + load + load * load) + others_s2 - mean * mean)


def in_line(crowd: Crowd[N], pulse: Beat[N], at_work: N) -> Wait[N]:
    """Where prompts fill steps by themselves: one server, in order of arrival (Pollaczek, Khinchine; Kingman)."""
    each = crowd.joining_s + crowd.step_s * crowd.traffic.part
    left = largest(1 - crowd.rate * each, LEAST_IDLE)
    idle = left * root(left)
    second, third = moments(crowd.traffic, each)
    queue = queue_s(crowd.rate * second, idle)
    residue = at_work * crowd.step_s / 2
    spread = queue * queue + crowd.rate * third / 3 / idle
    return Wait(positive(queue + residue + pulse.behind_s / 2), spread + residue * crowd.step_s / 6)


@step
def queue_s(offered_s: N, idle: N) -> N:
    """The prompts of those who came before: what is offered per second, s²/s, over what is left of the time."""
    return offered_s / 2 / idle


def first_token(crowd: Crowd[N], pulse: Beat[N], found: N) -> Wait[N]:
    """From the scheduler to the first token. `found` = `company` of the load."""
    at_work, part = busy(crowd.batch, found), crowd.traffic.part
    one, other = shared(crowd, pulse, at_work), in_line(crowd, pulse, at_work)
    waited = one.mean + part * (other.mean - one.mean)
    spread = one.variance + part * (other.variance - one.variance)
    return Wait(first_token_s(waited, crowd.own_s, crowd.step_s), first_token_variance(spread, crowd.own_variance))


@step
def first_token_s(waited_s: N, own: N, step_s: N) -> N:
    """The wait, one's own prompt, and what long steps in a row add."""
    return waited_s + own + LATE * step_s


@step
def first_token_variance(waited_s2: N, own_s2: N) -> N:
    """Of the wait and of one's own prompt; s²."""
    return TAIL * (waited_s2 + own_s2)


def per_token(crowd: Crowd[N], pulse: Beat[N], found: N) -> Wait[N]:
    """Time per token after the first, as requests see it: those with short answers share it among fewer tokens."""
    left = 1 - pulse.share
    answers = smallest((1 + crowd.traffic.output_cv2) / crowd.traffic.output, 1.0)
    begun = crowd.own_s - crowd.trail_s + pulse.others_s
    started = started_s(pulse.share, begun - pulse.mean_s, pulse.behind_s)
    crowded = found * crowd.batch / (1 - smallest(crowd.batch * crowd.slope_s / crowd.token_s, STEEPEST))
    slow = crowd.slope_s / left
    scatter = pulse.noise_s / (left * left * left)
    return Wait(
        per_token_s(crowd.token_s, left, started, answers),
        per_token_variance(STAY * crowded * slow * slow, answers, scatter, crowd.token_s, begun),
    )


@step
def started_s(share: N, longer_s: N, behind_s: N) -> N:
    """Steps after a long one are long too: those who came during one's own prompt are taken in next."""
    return (share * longer_s + behind_s) / (1 - share)


@step
def per_token_s(token_s: N, left: N, started: N, answers: N) -> N:
    """Tokens have what prompts leave of the time, and what is left of one's own start; never less than a step without
    prompts. `answers` = mean of 1 over the tokens of an answer."""
    return largest(token_s / left + started * answers, token_s)


@step
def per_token_variance(crowding_s2: N, answers: N, scatter_s: N, token_s: N, begun_s: N) -> N:
    """The batch that one runs in, averaged over one's stay, and the prompts that happen to come meanwhile; s²."""
    return crowding_s2 + (SHORT * token_s + SHORT_START * begun_s * answers) * answers * scatter_s
