"""What comes next: growth, a failed replica, and what would flip the decision."""

from __future__ import annotations

from collections.abc import Iterator

from planner.review.blocks import Block, Figure, Section, say, table, warn
from planner.review.content import Flip, Growth, Month, Quarter, Review, Spare
from planner.review.reading import price_text
from planner.wording import percent, short, spoken


def growth(review: Review) -> Section:
    """Eight quarters: the choice kept, and the request decided anew."""
    grown = review.growth
    title = "Growth"
    if grown is None:
        return Section(title=title, blocks=(say("Nothing fits today, so growth is not planned."),))
    said = (
        f"The load grows by {grown.pct_per_quarter:g} % a quarter (see the assumptions). Kept: more replicas of the "
        "choice, exactly as configured. Anew: the request decided again at the end of the quarter, within its limits."
    )
    head = f"quarter | {grown.load_name} | devices kept | $/month kept | decided anew | $/month anew"
    rows = [_quarter(quarter, grown.months[3 * quarter.number]) for quarter in grown.quarters]
    blocks = (
        say(said),
        Figure(chart="growth"),
        table(head, rows, (1, 2, 3, 5)),
        say(_steps(grown)),
        *_limits(grown),
        *_drift(review, grown),
    )
    return Section(title=title, blocks=blocks)


def _quarter(quarter: Quarter, month: Month) -> tuple[str, ...]:
    devices = "unknown" if month.devices is None else f"{month.devices}"
    devices += " (beyond the request)" if month.because and month.devices is not None else ""
    money = "unknown" if month.usd_per_month is None else f"{short(month.usd_per_month)} $"
    anew = spoken(quarter.choice) if quarter.choice else "nothing fits"
    name = "now" if quarter.number == 0 else f"{quarter.number}"
    return name, short(quarter.load), devices, money, anew, price_text(quarter.choice) if quarter.choice else "–"


def _steps(grown: Growth) -> str:
    if not grown.steps:
        return f"No further device is due within {grown.months[-1].number} months."
    due = ", ".join(f"month {month.number} ({month.devices})" for month in grown.steps)
    return f"The next devices are due in {due}; in brackets the devices from then on."


def _limits(grown: Growth) -> Iterator[Block]:
    if grown.choice_limit is not None:
        limit = grown.choice_limit
        yield warn(f"In month {limit.month} the choice reaches what the request allows: {limit.because}.")
    if grown.request_limit is not None:
        limit = grown.request_limit
        yield warn(f"From month {limit.month} on nothing in the request fits any more: {limit.because}.")
    if grown.choice_limit is None and grown.request_limit is None:
        yield say("The request's own hardware and budget suffice throughout.")


def _drift(review: Review, grown: Growth) -> Iterator[Block]:
    """Where planning again today gives something else than the plan under review."""
    choice, again = review.plan.choice, grown.quarters[0].choice
    if choice is not None and (again is None or spoken(again) != spoken(choice)):
        now = spoken(again) if again else "nothing fits"
        yield warn(f"Planned again with today's catalogue the request gives: {now}.")


def spare(review: Review) -> Section:
    """N+1 in replicas of the choice's layout."""
    title = "One replica more (N+1)"
    extra = review.spare
    if extra is None:
        return Section(title=title, blocks=(say("Nothing fits, so there is no replica to spare."),))
    rows = [
        ("replicas now (N)", f"{extra.replicas}"),
        ("devices per replica", f"{extra.devices_per_replica}"),
        ("devices of N+1 replicas", f"{extra.devices}"),
        ("$/month of N+1 replicas", _money(extra.usd_per_month)),
        ("$/month of the spare", _money(extra.extra_usd_per_month)),
        ("planned load carried by N-1 replicas", percent(extra.share_left)),
        ("the same at the bad end of the interval", percent(extra.share_left_at_bad_end)),
    ]
    return Section(
        title=title, blocks=(table("what | value", rows, (1,)), say(_without_one(extra)), *_available(extra))
    )


def _money(value: float | None) -> str:
    return "unknown" if value is None else f"{short(value)} $"


def _without_one(extra: Spare) -> str:
    if extra.replicas == 1:
        return "There is one replica: when it fails nothing serves. With N+1 the other one carries the planned load."
    if extra.share_left >= 1:
        return f"When one of {extra.replicas} replicas fails, the others still carry all of the planned load."
    return (
        f"When one of {extra.replicas} replicas fails, the others carry {percent(extra.share_left)} of the planned "
        "load within the objectives; the rest waits or is turned away. With N+1 all of it is carried."
    )


def _available(extra: Spare) -> Iterator[Block]:
    if extra.available is not None and extra.devices > extra.available:
        yield warn(f"N+1 needs {extra.devices} devices; the request allows {extra.available}.")


def sensitivity(review: Review) -> Section:
    """One change at a time."""
    rows = [_flip(flip) for flip in review.flips]
    changed = [flip for flip in review.flips if flip.verdict in ("changes", "nothing fits")]
    said = "One field is changed at a time; all others stay as asked. " + _count(changed, len(review.flips))
    head = "field | from | to | decision | $/month | against the plan"
    return Section(title="Sensitivity", blocks=(say(said), table(head, rows, (1, 2, 4))))


def _count(changed: list[Flip], total: int) -> str:
    if not changed:
        return f"None of {total} changes moves the decision to another lane, engine or accelerator."
    names = ", ".join(dict.fromkeys(f"{flip.change} to {flip.after}" for flip in changed))
    return f"{len(changed)} of {total} changes move the decision: {names}."


def _flip(flip: Flip) -> tuple[str, ...]:
    then = spoken(flip.choice) if flip.choice else f"nothing fits; {flip.because}"
    price = price_text(flip.choice) if flip.choice else "–"
    return flip.change, flip.before, flip.after, then, price, flip.verdict
