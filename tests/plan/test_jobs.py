"""A batch of requests against its deadline: laws, and a little server that works it off token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner import explain, jobs, search
from planner.plan import Candidate, Plan
from planner.rows import terms_of
from planner.serving import pacing
from tests.plan.asking import ask, catalog, device, planned

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def plan(requests: int, deadline_s: float, count: int = 16, **more: Any) -> Plan:
    asked = {"batch": {"requests": requests, "deadline_s": deadline_s}, **more.pop("workload", {})}
    return planned(ask(MODEL, device("l40s", count, usd_per_hour=2.0), lanes=["fp8"], workload=asked, **more))


def chosen(*args: Any, **more: Any) -> Candidate:
    made = plan(*args, **more)
    assert made.choice is not None, made.refused
    return made.choice


@pytest.mark.parametrize(("requests", "deadline"), [(1, 120.0), (500, 45.0), (5000, 120.0), (50_000, 900.0)])
def test_a_plan_ends_before_the_deadline_and_with_one_replica_less_it_would_not(requests: int, deadline: float) -> None:
    asked = {"batch": {"requests": requests, "deadline_s": deadline}}
    found = search.search(ask(MODEL, device("l40s", 64), lanes=["fp8"], engines=["vllm"], workload=asked), catalog())
    row = found.choice
    assert row is not None
    swept, longest = row.swept, jobs.longest_answer(found.settled)
    times = jobs.job_times(explain.terms_at(row, found.fits), "vllm", row.at(swept.most), longest)

    def takes(replicas: float) -> float:
        rate, ending = times(requests / replicas)
        return requests / replicas / rate + ending

    replicas = row.at(swept.replicas)
    assert takes(replicas) <= deadline
    assert replicas == 1 or takes(replicas - 1) > deadline


def test_a_later_deadline_never_needs_more_and_more_requests_never_fewer() -> None:
    by_deadline = [chosen(5000, deadline, count=256).pools[0].count for deadline in (90, 150, 600, 3600)]
    assert by_deadline == sorted(by_deadline, reverse=True)
    by_requests = [chosen(requests, 600, count=256).pools[0].count for requests in (10, 1000, 5000, 50_000)]
    assert by_requests == sorted(by_requests)


def test_the_deadline_holds_for_the_last_answer_and_not_for_the_mean_rate() -> None:
    """Ten requests in 60 s are a sixth of a request a second, and one answer may still take twenty seconds."""
    short = plan(10, 5)
    assert short.choice is None or short.choice.estimates["job_s"].value <= 5
    missed = plan(10, 2)
    assert missed.choice is None
    said = [each.finding for each in missed.refused if each.finding.rule == "L101"]
    assert said
    assert said[0].facts["objective"] == "job_s"
    assert said[0].facts["limit_s"] == 2


def test_a_job_costs_its_hours_and_spares_are_paid_too() -> None:
    alone, spared = chosen(20_000, 3600), chosen(20_000, 3600, availability={"spares": 1})
    for choice in (alone, spared):
        made = choice.estimates
        assert made["usd_per_job"].value == pytest.approx(
            made["price_usd_per_hour"].value * made["job_s"].value / 3600, rel=1e-4
        )
    assert spared.pools[0].replicas == alone.pools[0].replicas + 1
    assert spared.estimates["job_s"].value == pytest.approx(alone.estimates["job_s"].value)
    assert spared.estimates["usd_per_job"].value > alone.estimates["usd_per_job"].value
    assert "L403" in {found.rule for found in spared.findings}


def test_a_deadline_for_sure_holds_at_the_bad_end() -> None:
    sure = chosen(20_000, 3600, confidence="high")
    assert sure.estimates["job_s"].high <= 3600


def test_a_rate_of_ones_own_makes_the_job() -> None:
    own = chosen(20_000, 3600, overrides={"estimates": [{"requests_per_s": 100.0}]})
    assert own.estimates["job_s"].basis == "overridden"
    assert own.pools[0].replicas == 1
    assert own.estimates["job_s"].value >= 200


def test_what_is_no_job_has_no_end() -> None:
    made = planned(ask(MODEL, device("l40s"))).choice
    assert made is not None
    assert not {"job_s", "usd_per_job"} & made.estimates.keys()


@pytest.mark.parametrize(("requests", "slots"), [(64, 128), (600, 64), (3000, 128), (3000, 32)])
def test_the_time_of_a_job_is_that_of_a_server_that_works_it_off(requests: int, slots: int) -> None:
    """Every step makes one token of each running answer; a free slot takes the next request, whose prompt stops all."""
    asked = {"batch": {"requests": requests, "deadline_s": 1e6}, "output_tokens": {"mean": 60, "p95": 150}}
    found = search.search(ask(MODEL, device("l40s"), lanes=["fp8"], engines=["vllm"], workload=asked), catalog())
    option, settled = found.options.kept[0], found.settled
    terms = terms_of(option, (1, 1), 2048.0, found.fits)
    longest = jobs.longest_answer(settled)
    rate, ending = jobs.job_times(terms, "vllm", float(slots), longest)(float(requests))
    spread = settled.load.output
    served = [_served(terms, (requests, slots), (spread.mean, spread.sigma), seed) for seed in range(3)]
    assert requests / rate + ending == pytest.approx(float(np.mean(served)), rel=0.2)


def _served(terms: Any, size: tuple[int, int], lengths: tuple[float, float], seed: int) -> float:
    (requests, slots), (mean, sigma) = size, lengths
    drawn = np.random.default_rng(seed).lognormal(np.log(mean) - sigma**2 / 2, sigma, requests)
    waiting, running = list(np.maximum(np.round(drawn), 1).astype(int)), np.zeros(0, int)
    at, clock = pacing(terms, "vllm"), 0.0
    steps = {batch: at(float(batch)) for batch in range(1, slots + 1)}
    while waiting or running.size:
        joined = waiting[: slots - running.size]
        del waiting[: len(joined)]
        running = np.concatenate([running, np.array(joined, dtype=int)])
        pace = steps[running.size]
        clock += len(joined) * pace.prompt_s + pace.step_s
        running = running[running > 1] - 1
    return clock
