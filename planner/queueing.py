"""From step times to service: rates, waiting and percentiles of one replica that batches continuously.

Every formula takes a float, an array of candidates, or a traced number. Nothing iterates: a search evaluates a grid
of running batches and picks the one that carries its rate.
"""

from __future__ import annotations

from planner.trace import N, ceiling, exponential, logarithm, positive, power, root, smallest, step


@step
def rate_at_batch(batch: N, output: N, step_s: N, prompt_s: N) -> N:
    """With `batch` sequences always running, each request takes its share of the steps and its own prompt time.

    Requests/s; `output` tokens per request, `step_s` of a decode step at that batch, `prompt_s` of one prompt.
    """
    return 1 / (output * step_s / batch + prompt_s)


@step
def tpot_capped_s(tpot: N, step_s: N, chunk_s: N) -> N:
    """Where prompts are chunked a token waits for one chunk at most; the rest of the wait moves to the queue."""
    return smallest(tpot, step_s + chunk_s)


@step
def slot_wait_s(batch: N, slots: N, service_s: N, variability: N) -> N:
    """Waiting for a free slot: Sakasegawa's approximation for many parallel servers.

    `batch` busy slots on average of `slots`, each held for `service_s`; `variability` is the mean of the squared
    coefficients of variation of arrivals and service. Source: H. Sakasegawa 1977, "An approximation formula
    Lq = a rho^b / (1 - rho)".
    """
    busy = batch / slots
    return variability * power(busy, root(2 * (slots + 1)) - 1) / (slots * (1 - busy)) * service_s


@step
def variability(burstiness: N, service_cv2: N) -> N:
    """Bursty arrivals and spread lengths make queues: half the sum of the squared coefficients of variation."""
    return (1 / burstiness + service_cv2) / 2


@step
def ttft_s(arrival_s: N, first_s: N) -> N:
    """First token: reception, and what the scheduler takes from there."""
    return arrival_s + first_s


@step
def ttft_variance(slot_wait: N, first_s2: N) -> N:
    """Waits for a slot spread like an exponential (variance = mean squared); s²."""
    return slot_wait * slot_wait + first_s2


@step
def e2e_s(ttft: N, output: N, tpot: N) -> N:
    """The first token, then one time per token for each of the others."""
    return ttft + positive(output - 1) * tpot


@step
def e2e_variance(ttft_var: N, output: N, tpot: N, output_cv2: N) -> N:
    """Mostly the spread of answer lengths; s²."""
    length_s = output * tpot
    return ttft_var + length_s * length_s * output_cv2


@step
def percentile(mean: N, variance: N, z: N) -> N:
    """Latencies are positive and skewed: a log-normal with this mean and variance, at the normal quantile `z`."""
    spread = logarithm(1 + variance / (mean * mean))
    return mean * exponential(z * root(spread) - spread / 2)


@step
def closed_tpot_s(step_s: N, others: N, prompt_s: N, output: N, bunching: N) -> N:
    """Each of the other users sends one prompt per answer of mine. Bunched users prefill together: then half of that
    waiting falls before my first token instead.

    `others` = running sequences - 1; `bunching` 0 (arrivals spread evenly) to 1 (all at once).
    """
    return step_s + others * prompt_s * (1 - bunching / 2) / output


@step
def closed_ttft_s(users: N, rate: N, output: N, tpot: N) -> N:
    """Little's law: users = rate x time in the system, and what is not spent on tokens is spent before the first."""
    return users / rate - output * tpot


@step
def flood_s(requests: N, rate: N, drain_s: N) -> N:
    """All requests are queued at once: they leave at the full rate, then the longest answers drain a thinning batch."""
    return requests / rate + drain_s


@step
def flood_ttft_s(requests: N, batch: N, rate: N, prompt_s: N) -> N:
    """The first batch waits for the prompts before it, the others for a slot: half of their queue on average."""
    first = 1 - positive(1 - batch / requests)
    wait = positive(requests - batch) / (2 * rate)
    return prompt_s * (1 + first * positive(batch - 1) / 2) + (1 - first) * wait


@step
def replicas(peak_rate: N, rate: N) -> N:
    """Whole replicas for the peak, at least one."""
    return 1 + positive(ceiling(peak_rate / rate) - 1)
