"""The decision in two sentences, and the tie that it came from."""

from __future__ import annotations

from collections.abc import Iterator

from planner.plan import Candidate, Plan
from planner.review.blocks import Block, Items, Paragraph, Section, say, table, warn
from planner.review.content import Objective, Review
from planner.review.settled import label, settled_value, unprinted
from planner.wording import amount, percent, short, spoken, tie_breaker


def decision(review: Review) -> Section:
    """What to ship and with which margins; or that nothing fits, why, and the ways out."""
    made = _ship(review, review.plan.choice) if review.plan.choice else _nothing(review)
    return Section(title="Decision", blocks=(*made, *_cautions(review)))


def _ship(review: Review, choice: Candidate) -> tuple[Block, ...]:
    plan = review.plan
    what = f"Ship {plan.request['model']} as {choice.lane} ({choice.recipe.name}) {_where(choice)} {_cost(choice)}."
    lead = Paragraph(text=f"{what} {_meets(review)}", tone="lead")
    return (lead, *_missed(review))


def _where(choice: Candidate) -> str:
    pool = choice.pools[0]
    degrees = {
        "replicas": pool.replicas,
        "tensor parallel": pool.tensor_parallel,
        "pipeline parallel": pool.pipeline_parallel,
        "data parallel": pool.data_parallel,
        "expert parallel": pool.expert_parallel,
    }
    said = [f"{name} {degree}" for name, degree in degrees.items() if degree > 1]
    said += [f"KV cache {choice.kv_cache_dtype}"] if choice.kv_cache_dtype != "auto" else []
    layout = ", ".join(said)
    where = f"on {pool.count} x {pool.accelerator} with {choice.engine} {choice.engine_version}"
    return f"{where} ({layout})" if layout else where


def _cost(choice: Candidate) -> str:
    price = choice.estimates.get("price_usd_per_month")
    if price is None:
        return "at a cost that nobody knows, because no trusted price of the accelerator is known"
    return f"for {short(price.value)} $ a month ({price.basis} price)"


def _meets(review: Review) -> str:
    """The second sentence: margins to the objectives and to the tolerance."""
    worst = max(review.families, key=lambda family: family.loss.value - family.tolerated_pct, default=None)
    loss = ""
    if worst is not None:
        loss = f"loses {short(worst.loss.value)} % in {worst.name} where {short(worst.tolerated_pct)} % are tolerated"
    held = [_margin(objective) for objective in review.objectives]
    held += [f"{label(name)} within {amount(limit, 's')}" for name, limit in unprinted(review.plan).items()]
    if not held:
        return f"No latency objective was given; it {loss}." if loss else "No latency objective was given."
    margins = ", ".join(held)
    return f"It meets every objective ({margins})" + (f" and {loss}." if loss else ".")


def _margin(objective: Objective) -> str:
    value, limit = amount(objective.estimate.value, "s"), amount(objective.limit_s, "s")
    return f"{label(objective.name)} {value} of {limit}, {percent(objective.spare)} to spare"


def _missed(review: Review) -> Iterator[Block]:
    """What would no longer hold at the bad end of an interval."""
    late = [label(each.name) for each in review.objectives if each.spare_at_bad_end < 0]
    lossy = [each.name for each in review.families if each.loss.high > each.tolerated_pct]
    said = [f"the objective for {' and '.join(late)}"] if late else []
    said += [f"the tolerance for {' and '.join(lossy)}"] if lossy else []
    if said:
        yield warn(
            f"At the bad end of the 80 % intervals {' and '.join(said)} would be missed: measure before you sign."
        )


def _nothing(review: Review) -> tuple[Block, ...]:
    plan = review.plan
    families, rules = len(plan.refused), ", ".join(group.rule for group in review.refusals)
    what = f"Nothing that was asked about can serve {plan.request['model']} as requested."
    why = f"Every one of {families} combinations of lane, engine and accelerator was refused, by {rules}."
    lead = Paragraph(text=f"{what} {why}" if families else what, tone="lead")
    return (lead, *_reasons(review), *_ways_out(plan))


def _reasons(review: Review) -> tuple[Block, ...]:
    if not review.refusals:
        return tuple(say(finding.because) for finding in review.plan.findings)
    return (say("For example:"), Items(texts=tuple(f"{group.rule}: {group.because}" for group in review.refusals)))


def _ways_out(plan: Plan) -> tuple[Block, ...]:
    if not plan.ways_out:
        return (say("No single change that was tried makes it fit."),)
    rows = [
        (
            way.change,
            way.then,
            "unknown" if way.price_usd_per_month_delta is None else f"{way.price_usd_per_month_delta:+,.0f} $",
            "unknown" if way.quality_delta_pct is None else f"{way.quality_delta_pct:+.2g} %",
        )
        for way in plan.ways_out
    ]
    return (say("Ways out, the cheapest first:"), table("change | then | $/month | quality", rows, (2, 3)))


def _cautions(review: Review) -> Iterator[Block]:
    if not review.same_catalog:
        yield warn(
            "The catalogue has changed since this plan was made: the decision rests on "
            f"{review.plan.catalog_digest[:12]}, growth, N+1 and sensitivity below on today's {review.today[:12]}. "
            "Plan again before you sign."
        )


def tie(review: Review) -> Section:
    """Which candidates were within the margin, and what decided between them."""
    plan, objective = review.plan, settled_value(review.plan, "objective")
    if plan.choice is None:
        return Section(title="Tie", blocks=(say("Nothing fits, so nothing ties."),))
    if len(plan.tie) < 2:
        alone = f"No other lane, engine or accelerator came within 3 % of {spoken(plan.choice)} on {objective}."
        return Section(title="Tie", blocks=(say(alone),))
    first, second = plan.tie[:2]
    loser = f"{second.lane} ({second.engine}, {second.accelerator})"
    said = f"{len(plan.tie)} combinations came within 3 % of the best on {objective}. "
    said += f"{first.lane} goes before {loser}: {tie_breaker(first, second)}."
    rows = [
        (
            line.lane,
            line.engine,
            f"{line.devices} x {line.accelerator}",
            "unknown" if line.objective is None else short(line.objective),
            "yes" if line.slo_met_at_bad_end else "no",
            f"{short(line.loss_pct)} %",
            "yes" if line.published else "no",
            percent(line.headroom),
        )
        for line in plan.tie
    ]
    unit = "e2e p95, s" if objective == "latency" else "$/month"
    head = f"lane | engine | devices | {unit} | objectives met at the bad end | loss | published | headroom"
    order = "Tie-breakers in their order: objectives met at the bad end, loss, published weights, headroom, simplicity."
    return Section(title="Tie", blocks=(say(said), table(head, rows, (3, 5, 7), marked=0), say(order)))
