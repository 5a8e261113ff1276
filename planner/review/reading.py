"""What a plan already says, read off for the review: margins, memory, contrasts, refusals. No number is new."""

from __future__ import annotations

from collections.abc import Iterator

from planner.plan import Candidate, Estimate, Finding, Plan, Refused
from planner.review.content import Contrast, Family, Memory, Objective, RuleGroup
from planner.review.settled import limits_s, mix, tolerated_pct
from planner.rules import BY_CODE
from planner.wording import amount, short

DOUBTS = ("Q501", "Q502")
"""Rules that speak of how well a family's loss is sourced."""


def objectives(plan: Plan) -> tuple[Objective, ...]:
    """Every latency objective beside the choice's estimate, in the request's order."""
    made = plan.choice.estimates if plan.choice else {}
    limits = limits_s(plan).items()
    return tuple(Objective(name=name, limit_s=limit, estimate=made[name]) for name, limit in limits if name in made)


def families(plan: Plan) -> tuple[Family, ...]:
    """The choice's loss in every family that it is judged on, the largest share of the mix first."""
    if plan.choice is None:
        return ()
    shares, said = mix(plan), plan.choice.findings
    rows = [
        Family(
            name=name,
            share_pct=100 * shares[name] if name in shares else None,
            loss=loss,
            tolerated_pct=tolerated_pct(plan, name),
            doubt="; ".join(_doubts(name, said)),
        )
        for name, loss in plan.choice.quality.items()
    ]
    return tuple(sorted(rows, key=lambda family: (-(family.share_pct or 0.0), family.name)))


def _doubts(family: str, findings: tuple[Finding, ...]) -> Iterator[str]:
    for finding in findings:
        if finding.rule == "Q501" and family in finding.facts.get("families", ()):
            yield "fewer than two sources"
        if finding.rule == "Q502" and family in finding.facts.get("proxies", {}):
            yield f"estimated by {finding.facts['proxies'][family]}"


def memory(plan: Plan) -> tuple[Memory, ...]:
    """Bytes of one device of the choice and of every alternative."""
    if plan.choice is None:
        return ()
    device, claimed = _derived(plan, "memory"), _derived(plan, "claimed_bytes")
    others = tuple(_held(candidate, None, None) for candidate in plan.alternatives)
    return (_held(plan.choice, device, claimed), *others)


def _derived(plan: Plan, name: str) -> float | None:
    return next((step.value for step in plan.derivation if step.name == name and step.unit == "byte"), None)


def _held(candidate: Candidate, device: float | None, claimed: float | None) -> Memory:
    """What the engine itself takes (graphs, libraries) is what is left of its claim; what it leaves alone is free."""
    made = {name: estimate.value for name, estimate in candidate.estimates.items()}
    needed, pool = made["kv_needed_bytes"], made["kv_pool_bytes"]
    parts = {
        "weights": made["weight_bytes"],
        "activations": made["activation_bytes"],
        "KV cache needed": min(needed, pool),
        "KV cache spare": max(pool - needed, 0.0),
    }
    if device is not None and claimed is not None:
        parts["engine"] = max(claimed - sum(parts.values()), 0.0)
        parts["free"] = max(device - claimed, 0.0)
    return Memory(candidate=candidate, parts=parts, device_bytes=device)


COMPARED = {
    "price_usd_per_month": "cost",
    "ttft_p95_s": "TTFT p95",
    "tpot_p95_s": "TPOT p95",
    "e2e_p95_s": "e2e p95",
    "loss_pct": "loss",
}
"""Estimates in which an alternative wins or loses; lower is better in all of them."""


def alternatives(plan: Plan) -> tuple[Contrast, ...]:
    """Every alternative beside the choice."""
    return tuple(_contrast(candidate, plan.choice) for candidate in plan.alternatives) if plan.choice else ()


def _contrast(candidate: Candidate, choice: Candidate) -> Contrast:
    wins: list[str] = []
    loses: list[str] = []
    for name, label in COMPARED.items():
        ours, theirs = choice.estimates.get(name), candidate.estimates.get(name)
        if ours is None or theirs is None or ours.value == theirs.value:
            continue
        said = f"{label} {amount(theirs.value, theirs.unit)} against {amount(ours.value, ours.unit)}"
        said += " (intervals overlap)" if _overlap(ours, theirs) else ""
        (wins if theirs.value < ours.value else loses).append(said)
    return Contrast(candidate=candidate, wins=tuple(wins), loses=tuple(loses))


def _overlap(one: Estimate, other: Estimate) -> bool:
    """Whether two intervals share a point; a price has none."""
    wide = one.low < one.high or other.low < other.high
    return wide and one.low <= other.high and other.low <= one.high


def refusals(plan: Plan) -> tuple[RuleGroup, ...]:
    """Refused families by rule, the rule that sent away most candidates first."""
    by_rule: dict[str, list[Refused]] = {}
    for family in plan.refused:
        by_rule.setdefault(family.finding.rule, []).append(family)
    groups = [_group(code, families) for code, families in by_rule.items()]
    return tuple(sorted(groups, key=lambda group: (-group.candidates, group.rule)))


def _group(code: str, families: list[Refused]) -> RuleGroup:
    first = families[0]
    return RuleGroup(
        rule=code,
        page=page(code),
        families=len(families),
        candidates=sum(family.candidates for family in families),
        lanes=tuple(dict.fromkeys(family.lane for family in families)),
        because=f"{first.lane} on {first.accelerator}: {first.finding.because}",
        reasons=len({family.finding.because for family in families}),
    )


def page(code: str) -> str:
    """A rule's text; says so where a stored plan names a rule that is gone."""
    rule = BY_CODE.get(code)
    if rule is None:
        return "This version of Lanewise no longer has this rule."
    parts = rule.sections
    return f"{parts['']} Why: {parts['Why']} Source: {parts['Source']}"


def bases(plan: Plan) -> dict[str, int]:
    """How many of the choice's estimates rest on what, and every basis that none rests on as 0."""
    counts = dict.fromkeys(("measured", "fitted", "published", "assumed", "overridden"), 0)
    for estimate in (*plan.choice.estimates.values(), *plan.choice.quality.values()) if plan.choice else ():
        counts[estimate.basis] += 1
    return counts


def price_estimate(candidate: Candidate | None) -> Estimate | None:
    """$/month, if a price is known."""
    return candidate.estimates.get("price_usd_per_month") if candidate else None


def price_text(candidate: Candidate | None) -> str:
    """$/month in words, for a cell."""
    estimate = price_estimate(candidate)
    return "unknown" if estimate is None else f"{short(estimate.value)} $"
