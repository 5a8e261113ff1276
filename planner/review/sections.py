"""A review as fourteen short sections, in the order in which people decide."""

from __future__ import annotations

from collections.abc import Iterator

from planner.plan import Plan
from planner.review import decision, numbers, outlook
from planner.review.blocks import Block, Figure, Items, Notes, Section, say, table
from planner.review.content import Review
from planner.review.reading import bases

LANES_NAMED = 6


def sections(review: Review) -> tuple[Section, ...]:
    """Every section, also those that have little to say."""
    return (
        decision.decision(review),
        decision.tie(review),
        numbers.cost(review),
        numbers.memory(review),
        numbers.speed(review),
        numbers.quality(review),
        numbers.proof(review),
        numbers.alternatives(review),
        refusals(review),
        outlook.growth(review),
        outlook.spare(review),
        outlook.sensitivity(review),
        basis(review),
        sign_off(review),
    )


def refusals(review: Review) -> Section:
    """What was sent away, by rule; the rules' own words below."""
    if not review.refusals:
        return Section(title="Refusals", blocks=(say("Nothing was refused."),))
    rows = [
        (
            group.rule,
            f"{group.families}",
            f"{group.candidates:,}",
            _lanes(group.lanes),
            group.because + (f" (one of {group.reasons} reasons)" if group.reasons > 1 else ""),
        )
        for group in review.refusals
    ]
    head = "rule | combinations | candidates | lanes | for example"
    notes = Notes(notes=tuple((group.rule, group.page) for group in review.refusals))
    return Section(title="Refusals", blocks=(Figure(chart="refusals"), table(head, rows, (1, 2)), notes))


def _lanes(lanes: tuple[str, ...]) -> str:
    more = f" and {len(lanes) - LANES_NAMED} more" if len(lanes) > LANES_NAMED else ""
    return ", ".join(lanes[:LANES_NAMED]) + more


def basis(review: Review) -> Section:
    """What all of this rests on: assumptions, findings, kinds of estimates, versions, sources."""
    plan = review.plan
    assumed = [(each.path, _plain(each.value), each.because) for each in review.assumptions]
    versions = [(name, version) for name, version in sorted(plan.versions.items())]
    versions += [("catalogue of the plan", plan.catalog_digest), ("catalogue today", review.today)]
    blocks: tuple[Block, ...] = (
        table("assumed | value | because", assumed),
        *_findings(plan),
        *_bases(plan),
        table("version of | is", versions),
        *_dates(plan),
        say("Sources:"),
        Items(texts=plan.sources or ("none",)),
    )
    return Section(title="Assumptions and sources", blocks=blocks)


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {share}" for name, share in value.items())
    return "none" if value is None else str(value)


def _findings(plan: Plan) -> Iterator[Block]:
    """What the rules said of the choice, warnings first; without a choice, of everything."""
    said = dict.fromkeys(
        (each.effect, each.rule, each.because, each.source)
        for each in (*(plan.choice.findings if plan.choice else ()), *plan.findings)
    )
    if said:
        order = {"refuse": 0, "warn": 1, "prefer": 2, "note": 3}
        rows = sorted(said, key=lambda line: (order[line[0]], line[1]))
        yield table("effect | rule | finding | source", rows)


def _bases(plan: Plan) -> Iterator[Block]:
    if plan.choice is not None:
        counts = ", ".join(f"{count} {name}" for name, count in bases(plan).items())
        yield say(f"The choice's estimates by basis: {counts}.")


def _dates(plan: Plan) -> Iterator[Block]:
    """When what carries the decision was last looked at."""
    choice = plan.choice
    if choice is None:
        return
    if isinstance(choice.offer, dict) and choice.offer.get("provider"):
        yield say(f"Price: {choice.offer.get('as_of') or 'undated'}; {choice.offer.get('source') or 'no source'}")
    if choice.artifact is not None:
        seen = f"seen {choice.artifact.checked}" if choice.artifact.checked else "not checked"
        terms = choice.artifact.license or "licence unknown"
        yield say(f"Weights: {choice.artifact.repo} ({terms}, {seen}); {choice.artifact.source}")


def sign_off(review: Review) -> Section:
    """Who agrees; to be filled in by hand."""
    roles = ("Service owner", "Platform", "Finance", "Quality")
    rows = [(role, "", "") for role in roles]
    said = f"Plan {review.plan.id}. Whoever signs agrees to the decision and to the assumptions above."
    return Section(title="Sign-off", blocks=(say(said), table("role | name | date", rows)))
