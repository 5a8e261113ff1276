"""The laws of a plan, whatever is asked."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner import service
from planner.plan import Candidate, Plan
from planner.request import Slo
from tests.plan.asking import ask, catalog, cost, device, devices, planned

MODELS = st.sampled_from(
    [
        "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen3-30B-A3B",
        "google/gemma-3-27b-it", "deepseek-ai/DeepSeek-V2-Lite-Chat", "openai/gpt-oss-20b",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
    ]
)  # fmt: skip
DEVICES = st.sampled_from(["h100-sxm5-80", "a100-sxm4-80", "l40s", "rtx4090", "a10g", "h200-sxm5", "t4", "b200-sxm"])
RATES = st.floats(0.05, 40.0)
LAW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def candidates(plan: Plan) -> list[Candidate]:
    return [*([plan.choice] if plan.choice else []), *plan.alternatives]


@LAW
@given(MODELS, DEVICES, RATES, st.floats(12.0, 80.0), st.floats(1.0, 2.0))
def test_more_memory_never_hurts(model: str, name: str, qps: float, gib: float, more: float) -> None:
    small = ask(model, device(name, 8, memory_gib=gib, usd_per_hour=1.0), workload={"qps": qps})
    large = ask(model, device(name, 8, memory_gib=gib * more, usd_per_hour=1.0), workload={"qps": qps})
    assert devices(planned(large)) <= devices(planned(small))


@LAW
@given(MODELS, DEVICES, RATES, st.floats(1.0, 4.0))
def test_more_requests_never_need_fewer_devices(model: str, name: str, qps: float, more: float) -> None:
    calm = ask(model, device(name, 64, usd_per_hour=1.0), workload={"qps": qps})
    busy = ask(model, device(name, 64, usd_per_hour=1.0), workload={"qps": qps * more})
    assert devices(planned(busy)) >= devices(planned(calm)) * (1 - 0.03)


@LAW
@given(MODELS, DEVICES, RATES, st.floats(15.0, 200.0), st.floats(1.0, 4.0))
def test_a_stricter_objective_never_gets_cheaper(model: str, name: str, qps: float, tpot: float, looser: float) -> None:
    strict, loose = (
        ask(model, device(name, 64, usd_per_hour=1.0), workload={"qps": qps}, slo={"tpot_ms": {"p95": limit}})
        for limit in (tpot, tpot * looser)
    )
    assert cost(planned(strict)) >= cost(planned(loose)) * (1 - 0.03)


@LAW
@given(MODELS, DEVICES, RATES)
def test_percentiles_and_intervals_are_in_order(model: str, name: str, qps: float) -> None:
    for candidate in candidates(planned(ask(model, device(name, 32), workload={"qps": qps}))):
        for latency in ("ttft", "tpot", "e2e"):
            p50, p95, p99 = (candidate.estimates[f"{latency}_{p}_s"].value for p in ("p50", "p95", "p99"))
            assert 0 < p50 <= p95 <= p99
        for estimate in [*candidate.estimates.values(), *candidate.quality.values()]:
            assert estimate.low <= estimate.value <= estimate.high


@LAW
@given(MODELS, DEVICES, RATES)
def test_devices_are_the_product_of_the_layout_and_within_what_is_there(model: str, name: str, qps: float) -> None:
    for candidate in candidates(planned(ask(model, device(name, 16), workload={"qps": qps}))):
        pool = candidate.pools[0]
        product = pool.replicas * pool.tensor_parallel * pool.pipeline_parallel * pool.data_parallel
        assert pool.count == product <= 16
        assert pool.settings.max_num_batched_tokens >= pool.settings.max_num_seqs


@LAW
@given(MODELS, DEVICES, RATES)
def test_a_chosen_cache_holds_the_longest_context_and_what_runs(model: str, name: str, qps: float) -> None:
    for candidate in candidates(planned(ask(model, device(name, 16), workload={"qps": qps}))):
        assert candidate.estimates["kv_pool_bytes"].value >= candidate.estimates["kv_needed_bytes"].value * (1 - 1e-4)


@LAW
@given(MODELS, RATES)
def test_no_alternative_is_dominated_by_another_or_by_the_choice(model: str, qps: float) -> None:
    shown = candidates(planned(ask(model, workload={"qps": qps}, hardware={"any": {}})))
    points = [
        (
            candidate.estimates["price_usd_per_month"].value,
            candidate.estimates["e2e_p95_s"].value,
            candidate.estimates["loss_pct"].value,
        )
        for candidate in shown
    ]
    for mine in points[1:]:
        for other in points:
            better = all(theirs <= own * (1 - 1e-3) or theirs < own for theirs, own in zip(other, mine, strict=True))
            assert not (better and other != mine)


def test_alternatives_differ_in_lane_engine_or_accelerator() -> None:
    plan = planned(ask(workload={"qps": 2.0}, hardware={"any": {}}))
    shown = [(each.lane, each.engine, each.pools[0].accelerator) for each in candidates(plan)]
    assert len(plan.alternatives) >= 3
    assert len(set(shown)) == len(shown)


def test_the_same_inputs_give_the_same_bytes() -> None:
    request = ask("Qwen/Qwen3-32B", device("h100-sxm5-80", 4), workload={"qps": 3.0})
    assert service.encode(planned(request)) == service.encode(planned(request))


def test_an_id_changes_with_the_request_and_with_the_catalogue() -> None:
    request = ask(workload={"qps": 3.0})
    model = msgspec.structs.replace(catalog().model(request.model), id="someone/else")
    other = planned(ask(workload={"qps": 3.1}))
    elsewhere = planned(request, catalog().with_model(model))
    assert len({planned(request).id, other.id, elsewhere.id}) == 3


def test_an_engine_that_is_only_estimated_is_never_chosen() -> None:
    plan = planned(ask("Qwen/Qwen3-32B", device("h100-sxm5-80", 4), engines=["sglang"]))
    assert not plan.feasible
    assert plan.alternatives == ()


@pytest.mark.parametrize("objective", ["cost", "latency", "quality", "energy"])
def test_every_objective_chooses_its_own_best(objective: str) -> None:
    plan = planned(ask("Qwen/Qwen3-32B", device("h100-sxm5-80", 8), objective=objective))
    assert plan.choice is not None
    name = {"cost": "price_usd_per_month", "latency": "e2e_p95_s", "quality": "loss_pct"}.get(objective)
    if name is not None:
        best = min(each.estimates[name].value for each in candidates(plan))
        assert plan.choice.estimates[name].value <= best * 1.03 + 0.2 * (objective == "quality")


def test_confidence_high_never_accepts_more_than_typical() -> None:
    fields = {"workload": {"qps": 2.0}, "slo": {"tpot_ms": {"p95": 30.0}}}
    typical = planned(ask("Qwen/Qwen3-32B", device("h100-sxm5-80", 64), **fields))
    high = planned(ask("Qwen/Qwen3-32B", device("h100-sxm5-80", 64), confidence="high", **fields))
    assert cost(high) >= cost(typical) * 0.97
    assert high.choice is None or high.choice.estimates["tpot_p95_s"].high <= 0.030 * 1.001


def test_dropping_an_empty_objective_changes_nothing() -> None:
    with_empty = msgspec.structs.replace(ask(), slo=Slo())
    assert planned(with_empty).choice == planned(ask()).choice


def test_idle_hours_make_each_token_dearer_and_nothing_else() -> None:
    def choice(**rate: float) -> Candidate:
        plan = planned(ask("Qwen/Qwen3-8B", device("l4", 2, usd_per_hour=1.0), workload={"qps": 1.0, **rate}))
        assert plan.choice is not None
        return plan.choice

    busy, idle = choice(), choice(qps_mean=0.25)
    tokens = {name for name in busy.estimates if name.startswith("usd_per_million_")}
    assert len(tokens) == 3
    for token in tokens:
        assert idle.estimates[token].value == pytest.approx(4 * busy.estimates[token].value, rel=1e-5)
    spread = dict.fromkeys((*tokens, "idle_share", "price_usd_per_month_at_mean"))
    assert idle.estimates | spread == busy.estimates | spread


def test_few_users_pay_for_the_tokens_they_get() -> None:
    plan = planned(ask("Qwen/Qwen3-8B", device("l4", 1, usd_per_hour=1.0), workload={"users": 1, "output_tokens": {"mean": 256}}))  # fmt: skip  # noqa: E501
    assert plan.choice is not None
    made = plan.choice.estimates
    tokens = 3600 * made["requests_per_s"].value * 256
    assert made["usd_per_million_output_tokens"].value == pytest.approx(1e6 / tokens, rel=1e-5)
