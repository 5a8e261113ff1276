"""What flips the decision: one field changed at a time, everything else as asked."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from catalog.load import Catalog
from planner.plan import Candidate, Plan
from planner.request import Quality, Request
from planner.review.content import Flip, Verdict
from planner.review.replan import Decision, Planning, decide, load_of, repriced, scaled
from planner.review.settled import mix, settled_value
from planner.wording import percent, short

HARD = ("code", "reasoning")
"""Task families that lose first."""
PRICE = 0.3
"""Share by which prices move."""


class Case(Struct, frozen=True, kw_only=True):
    """One change: what it is, and the question that it makes."""

    change: str
    before: str
    after: str
    request: Request
    catalog: Catalog


def flips(plan: Plan, request: Request, catalog: Catalog, planning: Planning) -> tuple[Flip, ...]:
    """Every change with the decision that follows from it."""
    return tuple(
        _flip(case, decide(planning(case.request, case.catalog)), plan.choice)
        for case in _cases(plan, request, catalog)
    )


def _flip(case: Case, decision: Decision, was: Candidate | None) -> Flip:
    return Flip(
        change=case.change,
        before=case.before,
        after=case.after,
        choice=decision.choice,
        because=decision.because,
        verdict=_verdict(was, decision.choice),
    )


def _verdict(was: Candidate | None, now: Candidate | None) -> Verdict:
    if now is None:
        return "nothing fits" if was else "same"
    if was is None or _kind(was) != _kind(now):
        return "changes"
    more = now.pools[0].count - was.pools[0].count
    if more:
        return "more devices" if more > 0 else "fewer devices"
    return "same" if _settings(was) == _settings(now) else "other settings"


def _kind(candidate: Candidate) -> tuple[str, str, str]:
    return candidate.lane, candidate.engine, candidate.pools[0].accelerator


def _settings(candidate: Candidate) -> tuple[object, ...]:
    pool = candidate.pools[0]
    split = pool.tensor_parallel, pool.pipeline_parallel, pool.data_parallel
    return candidate.recipe.name, candidate.kv_cache_dtype, *split


def _cases(plan: Plan, request: Request, catalog: Catalog) -> Iterator[Case]:
    for case in (*_harder(plan, request), *_loads(request), *_contexts(plan, request), *_tolerances(plan, request)):
        yield Case(change=case[0], before=case[1], after=case[2], request=case[3], catalog=catalog)
    yield from _prices(plan, request, catalog)
    sure = request.confidence == "high"
    other = replace(request, confidence="typical" if sure else "high")
    names = ("high", "typical") if sure else ("typical", "high")
    yield Case(change="confidence", before=names[0], after=names[1], request=other, catalog=catalog)


Change = tuple[str, str, str, Request]
"""What changes, from what, to what, and the request with the change."""


def _harder(plan: Plan, request: Request) -> Iterator[Change]:
    """Half of the requests of a harder kind, the others in proportion."""
    asked = mix(plan)
    for family in HARD:
        share = asked.get(family, 0.0)
        if share >= 0.5:
            continue
        rest = {name: 0.5 * part / (1 - share) for name, part in asked.items() if name != family}
        work = replace(request.workload, mix={**rest, family: 0.5})
        yield f"share of {family}", percent(share), percent(0.5), replace(request, workload=work)


def _loads(request: Request) -> Iterator[Change]:
    load, name = load_of(request)
    for factor in (2.0, 0.5):
        changed = scaled(request, factor)
        yield name, short(load), short(load_of(changed)[0]), changed


def _contexts(plan: Plan, request: Request) -> Iterator[Change]:
    """Twice and half the longest context; no shorter than a mean prompt with its answer."""
    now = int(settled_value(plan, "workload.context_tokens_max"))
    least = sum(float(settled_value(plan, f"workload.{name}_tokens.mean")) for name in ("prompt", "output"))
    for context in (2 * now, now // 2):
        if context >= least:
            work = replace(request.workload, context_tokens_max=context)
            yield "longest context, tokens", f"{now:,}", f"{context:,}", replace(request, workload=work)


def _tolerances(plan: Plan, request: Request) -> Iterator[Change]:
    """Half and twice of every tolerance."""
    now, quality = float(settled_value(plan, "quality.max_loss_pct")), request.quality or Quality()
    for factor in (0.5, 2.0):
        families = {name: limit * factor for name, limit in quality.per_family.items()}
        changed = replace(request, quality=Quality(max_loss_pct=now * factor, per_family=families))
        yield "tolerated loss", f"{short(now)} %", f"{short(now * factor)} %", changed


def _prices(plan: Plan, request: Request, catalog: Catalog) -> Iterator[Case]:
    """The price of the chosen accelerator; of every one where nothing is chosen."""
    name = plan.choice.pools[0].accelerator if plan.choice else None
    for factor in (1 + PRICE, 1 - PRICE):
        changed, facts = repriced(request, catalog, name, factor)
        label = f"price of {name}" if name else "all prices"
        yield Case(
            change=label, before="as planned", after=f"{100 * (factor - 1):+.0f} %", request=changed, catalog=facts
        )
