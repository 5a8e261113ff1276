"""L rules about the event simulation: where it contradicts the objectives, and where it speaks for the formulas."""

from __future__ import annotations

from planner.plan import Simulated
from planner.rules.rule import Says, Shown, rule

KEEPS_UP = 0.9
"""Share of the arrivals below which 2,000 requests show a growing queue, and not a draw of chance."""


@rule("L120", "warn")
def simulation_misses_the_objective(case: Shown) -> Says | None:
    """Warns where single requests, simulated one by one, take longer than an objective or a deadline allows, or where
    more of them arrive than are answered.

    Why: the search ranks by formulas; the simulation follows every request through queue, seats, token budget and blocks
    of the cache, and sees what means and variances do not. Percentiles of a queue that grows are no answer.
    Source: planner/simulation, an iteration-level scheduler as vLLM V1's.
    Fires: --model Qwen/Qwen3-8B --on l4:1 --lanes bf16 --qps 1.2 --set workload.burstiness=0.3 --ttft-p95-ms 3000 --set simulate=true
    Silent: --model Qwen/Qwen3-8B --on h100-sxm5-80:1 --qps 1 --ttft-p95-ms 5000 --set simulate=true
    """
    said = case.simulated
    if said is None:
        return None
    if case.pairing.settled.request.workload.qps is not None and said.requests_per_s < KEEPS_UP * case.rate:
        return Says(
            because=f"the simulated replica answers {said.requests_per_s:.3g} of {case.rate:.3g} requests/s that reach it, with {said.preemptions} preemptions: its queue grows",
            facts={"answered_per_s": said.requests_per_s, "arriving_per_s": round(case.rate, 6)},
            source="planner/simulation",
        )
    limits = _limits(case)
    missed = {name: _value(said, name) for name, limit in limits.items() if _value(said, name) > limit}
    if not missed:
        return None
    worst = max(missed, key=lambda name: missed[name] / limits[name])
    what = "the last answer after" if worst == "deadline_s" else f"{worst} of"
    return Says(
        because=f"the event simulation of {said.requests} requests shows {what} {missed[worst]:.3g} s, {limits[worst]:.3g} s allowed",
        facts={name: round(value, 6) for name, value in missed.items()},
        source="planner/simulation",
    )


def _limits(case: Shown) -> dict[str, float]:
    """Objectives by name in seconds; a batch job has its deadline alone."""
    settled = case.pairing.settled
    job = settled.request.workload.batch
    return dict(settled.objectives.slo_s) if job is None else {"deadline_s": job.deadline_s}


def _value(said: Simulated, name: str) -> float:
    """Of an objective such as ttft_p95_s, or of the deadline; seconds."""
    if name == "deadline_s":
        return said.makespan_s or 0.0
    latency, quantile, _ = name.split("_")
    return float(getattr(getattr(said, f"{latency}_s"), quantile))


@rule("L121", "note")
def simulation_speaks(case: Shown) -> Says | None:
    """Notes which latencies are those of the event simulation instead of the formulas'.

    Why: outside 20 to 85 % of the sustainable rate and burstiness 0.5 to 2 the formulas are not checked, and where the two
    differ by more than 10 % the simulation, which follows every request, is shown. A recorded trace is always replayed.
    Source: planner/simulation, an iteration-level scheduler as vLLM V1's.
    Fires: --model Qwen/Qwen3-8B --on h100-sxm5-80:1 --qps 0.05 --set simulate=true
    Silent: --model Qwen/Qwen3-8B --on h100-sxm5-80:1 --qps 0.05
    """
    said = case.simulated
    if said is None or not said.replaces:
        return None
    latencies = dict.fromkeys(estimate.split("_")[0] for estimate in said.replaces)
    names = ", ".join(name.upper() if name != "e2e" else name for name in latencies)
    return Says(
        because=f"{names}: percentiles of {said.requests} simulated requests (p95 TTFT {said.ttft_s.p95:.3g} s, standard error {said.ttft_s.p95_error:.2g} s)",
        facts={"ttft_p95_s": said.ttft_s.p95, "tpot_p95_s": said.tpot_s.p95, "e2e_p95_s": said.e2e_s.p95},
        source="planner/simulation",
    )
