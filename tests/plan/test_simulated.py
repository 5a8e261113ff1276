"""What a simulation adds to a plan: beside the formulas, in their place where they differ, and never to the ranking."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from planner import explain, pages, search
from planner.plan import Candidate, Plan
from planner.rows import terms_of
from planner.rules.rule import Shown
from planner.rules.simulated import simulation_misses_the_objective
from planner.service import encode
from planner.simulated import AGREE, LATENCIES, SHOWN
from planner.simulation import replica
from tests.plan.asking import ask, catalog, device, planned

EIGHT_B = "Qwen/Qwen3-8B"
LOADS: dict[str, dict[str, Any]] = {
    "open": {"qps": 4},
    "bursty": {"qps": 12, "burstiness": 0.5},
    "nearly idle": {"qps": 0.05},
    "users": {"users": 24},
    "prefix": {"qps": 3, "prompt_tokens": {"mean": 2000}, "shared_prefix_tokens": 1500},
}


def both(**workload: Any) -> tuple[Plan, Plan]:
    """The plan without and with a simulation."""
    where = (device("l4", 4), device("h100-sxm5-80"))
    plain, simulated = (planned(ask(EIGHT_B, *where, workload=workload, **more)) for more in ({}, {"simulate": True}))
    return plain, simulated


def shown(plan: Plan) -> list[Candidate]:
    return [each for each in (plan.choice, *plan.alternatives) if each is not None]


@pytest.mark.parametrize("name", LOADS)
def test_it_changes_latencies_alone_and_says_what_the_formulas_said(name: str) -> None:
    plain, simulated = both(**LOADS[name])
    assert [each.pools for each in shown(plain)] == [each.pools for each in shown(simulated)]
    for before, after in zip(shown(plain), shown(simulated), strict=True):
        said = after.simulated
        assert before.simulated is None
        assert said is not None
        changed = {key for key, value in after.estimates.items() if value != before.estimates[key]}
        assert changed <= set(said.replaces)
        for key, formula in said.replaces.items():
            latency, quantile, _ = key.split("_")
            assert formula == before.estimates[key].value
            assert after.estimates[key].value == getattr(getattr(said, f"{latency}_s"), quantile)
            assert after.estimates[key].low <= after.estimates[key].value <= after.estimates[key].high
        assert ("L121" in {finding.rule for finding in after.findings}) == bool(said.replaces)


@pytest.mark.parametrize("name", LOADS)
def test_where_the_formulas_stay_they_agree(name: str) -> None:
    _, simulated = both(**LOADS[name])
    for each in shown(simulated):
        assert each.simulated is not None
        for latency in LATENCIES:
            kept = [
                f"{latency}_{quantile}_s"
                for quantile in SHOWN
                if f"{latency}_{quantile}_s" not in each.simulated.replaces
            ]
            assert len(kept) in (0, len(SHOWN))
            for quantile in ("p50", "p95") if kept else ():
                own = getattr(getattr(each.simulated, f"{latency}_s"), quantile)
                assert abs(each.estimates[f"{latency}_{quantile}_s"].value - own) <= AGREE * own


@pytest.mark.parametrize("name", LOADS)
def test_one_replica_carries_its_share(name: str) -> None:
    """Open loads: what arrives is answered. Closed ones: users are running or waiting for their first token."""
    _, simulated = both(**LOADS[name])
    for each in shown(simulated):
        said, pool = each.simulated, each.pools[0]
        assert said is not None
        assert said.preemptions == 0
        assert said.ttft_s.p50 <= said.ttft_s.p90 <= said.ttft_s.p95 <= said.ttft_s.p99
        assert said.queue_wait_s.p95 < said.ttft_s.p95
        if "qps" in LOADS[name]:
            assert said.requests_per_s == pytest.approx(LOADS[name]["qps"] / pool.replicas, rel=0.06)
        else:
            assert said.running_sequences <= 24 / pool.replicas + 1


def test_the_same_request_gives_the_same_bytes() -> None:
    request = ask(EIGHT_B, device("l4", 4), workload={"qps": 2, "burstiness": 0.7}, simulate=True)
    one, two = (encode(planned(request)) for _ in range(2))
    assert one == two
    assert b"simulated_ttft_p95_s" in one


@pytest.mark.parametrize(
    ("model", "on", "prefix"), [(EIGHT_B, "l4", 0), (EIGHT_B, "l4", 1000), ("google/gemma-3-27b-it", "h100-sxm5-80", 0)]
)
def test_the_replica_has_the_seats_and_the_cache_of_the_launch_files(model: str, on: str, prefix: int) -> None:
    request = ask(model, device(on, 4), workload={"qps": 1, "shared_prefix_tokens": prefix}, engines=["vllm"])
    found = search.search(request, catalog())
    row, made = found.choice, planned(request).choice
    assert row is not None
    assert made is not None
    pool = made.pools[0]
    place = (pool.tensor_parallel, pool.pipeline_parallel, pool.expert_parallel > 1)
    terms = terms_of(row.option, place, float(pool.settings.max_num_batched_tokens), found.fits)
    limit = replica.limits(terms, row.at(row.swept.most), "vllm")
    assert limit.seats == pool.settings.max_num_seqs
    assert limit.blocks is not None
    size = pages.block_bytes(terms.shape, terms.cell_bytes, terms.layout, float(limit.block_tokens))
    shared = limit.groups * (prefix // limit.block_tokens)
    free = made.estimates["kv_pool_bytes"].value - (limit.blocks + shared) * size
    assert -1e-3 * size * limit.blocks <= free < size * (1 + 1e-3 * limit.blocks)
    assert (limit.kept_blocks > 0) == ("gemma" in model)


def test_llama_cpp_keeps_a_context_for_every_seat() -> None:
    request = ask(EIGHT_B, device("rtx4090"), workload={"users": 2}, engines=["llama.cpp"], simulate=True)
    made = planned(request).choice
    assert made is not None
    assert made.simulated is not None
    assert made.simulated.preemptions == 0
    assert made.simulated.running_sequences <= 2


def test_a_growing_queue_and_a_missed_objective_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[Shown] = []
    monkeypatch.setattr(explain, "SHOWN", (cases.append,))
    planned(ask(EIGHT_B, device("l4", 4), workload={"qps": 2}, slo={"ttft_ms": {"p95": 5000}}, simulate=True))
    case, said = cases[0], cases[0].simulated
    assert said is not None
    assert simulation_misses_the_objective(case) is None
    slow = replace(said, requests_per_s=0.8 * case.rate)
    late = replace(said, ttft_s=replace(said.ttft_s, p95=6.0))
    grows, misses = (simulation_misses_the_objective(replace(case, simulated=each)) for each in (slow, late))
    assert grows is not None
    assert "its queue grows" in grows.because
    assert misses is not None
    assert misses.facts == {"ttft_p95_s": 6.0}


def test_who_states_the_rate_of_a_replica_is_not_contradicted() -> None:
    own = {"estimates": [{"requests_per_s": 5.0}]}
    plan = planned(ask(EIGHT_B, device("l4", 4), workload={"qps": 2}, overrides=own, simulate=True))
    assert plan.choice is not None
    assert plan.choice.simulated is None


@pytest.mark.parametrize(("requests", "deadline_s"), [(2000, 3600.0), (12_000, 8000.0)])
def test_a_batch_job_has_an_end(requests: int, deadline_s: float) -> None:
    """All requests are there at once. Beyond LONGEST_BATCH the rest follows at the same rate."""
    job = {"requests": requests, "deadline_s": deadline_s}
    plan = planned(ask(EIGHT_B, device("l4"), workload={"batch": job}, simulate=True))
    assert plan.choice is not None
    said = plan.choice.simulated
    assert said is not None
    assert said.requests == min(requests, replica.LONGEST_BATCH)
    assert said.makespan_s == pytest.approx(requests / said.requests_per_s, rel=1e-3)
    assert said.makespan_s < deadline_s
    assert said.replaces == {}
