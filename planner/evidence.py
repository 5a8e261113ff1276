"""What is known of a lane's losses: the estimate, the rows nearest to the question, and their medians by source.

Pure: the same question and catalogue give the same bytes, on the command line and over REST.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from statistics import median
from typing import Annotated, NamedTuple, TypeVar

from msgspec import Meta, Struct

from catalog import units
from catalog.errors import BadInput
from catalog.evidence import METRICS, TASK_FAMILIES, Evidence
from catalog.load import Catalog
from planner import quality
from planner.lanes import BY_ID, Lane
from planner.plan import Estimate, Recipe
from planner.quality import LONG_CONTEXT, PROXIES, Loss
from planner.request import SCHEMA
from planner.severity import CACHE_BITS, kind_of

CACHES = {f"kv:{name}": name for name in quality.CACHES}
"""Cache formats that losses are estimated for, as engines name them."""
SHORT = 2048
"""Tokens of a row that states none (assumed: the usual harness setting)."""
A_DOUBLED_CONTEXT, A_STAND_IN, ANOTHER_TASK, ANOTHER_LANE, OWN = 0.5, 1.0, 2.0, 0.5, 4.0
"""What puts a row as far off as so many doublings of the size, or, measured by the user, nearer (assumed: an order)."""
ROWS = 12
"""Rows that are shown unasked."""
MOST_ROWS = 10_000
ENOUGH = 2
"""Sources from which on the search for rows is not widened."""
OPEN = math.inf
Number = TypeVar("Number", int, float)


class Question(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked: lane, task and size make an estimate; whatever is given alone is a filter."""

    lane: str | None = None
    task: str | None = None
    size: float | None = None
    """Parameters."""
    context: int | None = None
    """Tokens."""
    model: str | None = None
    recipe: str | None = None
    source: str | None = None
    own: bool = False
    limit: Annotated[int, Meta(ge=1)] = ROWS

    @property
    def full(self) -> bool:
        return None not in (self.lane, self.task, self.size)

    @property
    def families(self) -> tuple[str, ...]:
        """The task and what stands in for it; long documents too where the context reaches them."""
        if self.task is None:
            return ()
        far = self.full and (self.context or 0) > LONG_CONTEXT
        named = [self.task, PROXIES.get(self.task), "long_context" if far else None]
        return tuple(dict.fromkeys(name for name in named if name))


class Known(Struct, frozen=True, kw_only=True):
    """One measured row."""

    id: str
    model: str
    params: float | None
    lane: str
    recipe: str
    training: str
    task: str
    task_family: str
    context_tokens: int | None
    baseline: float
    quantized: float
    higher_is_better: bool
    recovery: float | None
    """Percent of the baseline."""
    stderr: float | None
    grade: str
    own: bool
    citation: str
    url: str


class Source(Struct, frozen=True, kw_only=True):
    """One source's rows among those selected: recoveries in percent."""

    citation: str
    url: str
    own: bool
    rows: int
    median: float
    low: float
    high: float


class Expected(Struct, frozen=True, kw_only=True):
    """What is expected to be lost, in percent of the baseline's score."""

    loss_pct: Estimate
    likely_pct: float
    """The loss stays below it three times of four: tolerances are judged by it."""
    own_share: float
    """Of what was unknown, how much own measurements settle."""
    family: str
    """The family that loses most: the task's, or long documents."""
    proxy: str | None
    """The family whose rows stand in for it."""
    sources: int
    unverified: bool
    """Fewer than two sources speak of exactly this."""
    citations: tuple[str, ...]


class Answer(Struct, frozen=True, kw_only=True):
    """`rows` are the first `limit` of `total`; `sources` sum up all of them."""

    schema: int
    question: Question
    estimate: Expected | None
    """Of the family that loses most: it decides."""
    beside: tuple[Expected, ...]
    """Of the other families that a plan would judge."""
    assumed: tuple[str, ...]
    selection: str
    rows: tuple[Known, ...]
    total: int
    sources: tuple[Source, ...]
    catalog_digest: str


class Reach(NamedTuple):
    """How far a row may be from the question: factors of size and context, and whether the task must be the same."""

    size: float
    context: float
    task: bool
    words: str


REACHES = (
    Reach(2.0, 2.0, True, "within a factor of two of the size and the context"),
    Reach(2.0, OPEN, True, "within a factor of two of the size, at any context"),
    Reach(4.0, OPEN, True, "within a factor of four of the size, at any context"),
    Reach(OPEN, OPEN, True, "of any size and context"),
    Reach(OPEN, OPEN, False, "of any task, size and context"),
)
"""From near to far; the first that reaches enough sources is taken."""


def question(catalog: Catalog, *, own: bool = False, limit: int = ROWS, **texts: str | None) -> Question:
    """The question that these texts spell. Raises BadInput that names what is known; its path is the field."""
    given = {name: text.strip() for name, text in texts.items() if text is not None and text.strip()}
    if not 1 <= limit <= MOST_ROWS:
        raise BadInput(f"expected 1 to {MOST_ROWS} rows, got {limit}", "limit")
    return Question(
        lane=_one_of(lanes(catalog), given.get("lane"), "lane"),
        task=_one_of((*TASK_FAMILIES, *METRICS), given.get("task"), "task"),
        size=_parsed(units.parameters, given.get("size"), "size"),
        context=_parsed(units.tokens, given.get("context"), "context"),
        model=given.get("model"),
        recipe=given.get("recipe"),
        source=given.get("source"),
        own=own,
        limit=limit,
    )


def lanes(catalog: Catalog) -> tuple[str, ...]:
    """Lanes that are planned, and whatever else was measured."""
    return tuple(dict.fromkeys([*BY_ID, *sorted({row.lane for row in catalog.evidence} - {"-"})]))


def _one_of(known: Iterable[str], text: str | None, field: str) -> str | None:
    """The known id that `text` is, in any case of letters."""
    if text is None:
        return None
    ids = {each.lower(): each for each in known}
    if text.lower() not in ids:
        raise BadInput(f"no {field} {text!r}; known are {', '.join(ids.values())}", field)
    return ids[text.lower()]


def _parsed(parse: Callable[[object], Number], text: str | None, field: str) -> Number | None:
    """Raises BadInput."""
    try:
        return None if text is None else parse(text)
    except ValueError as fault:
        raise BadInput(str(fault), field) from None


def answer(asked: Question, catalog: Catalog) -> Answer:
    """The estimate where lane, task and size are asked for; the rows nearest to it, or all that pass the filters."""
    found, assumed = _estimate(asked, catalog)
    passing = [row for row in catalog.evidence if _passes(asked, row)]
    rows, words = _nearest(asked, passing) if asked.full else (_listed(asked, passing), "that pass the filters")
    return Answer(
        schema=SCHEMA,
        question=asked,
        estimate=next(iter(found), None),
        beside=found[1:],
        assumed=assumed,
        selection=words,
        rows=tuple(map(_known, rows[: asked.limit])),
        total=len(rows),
        sources=_sources(rows),
        catalog_digest=catalog.digest,
    )


def expected_loss(asked: Question, catalog: Catalog) -> dict[str, Loss]:
    """What the plan would expect of lane, task and size, by family. The one place that asks planner/quality.py."""
    assert asked.lane is not None
    assert asked.task is not None
    assert asked.size is not None
    about, context = quality.known(catalog), float(asked.context or SHORT)
    where = quality.Asked(params=asked.size, model=asked.model or "", context=context, typical=context)
    families = quality.families({asked.task: 1.0}, asked.context or 0)
    if asked.lane in CACHES:
        return {family: quality.cache_loss(about, CACHES[asked.lane], where, family) for family in families}
    lane = BY_ID[asked.lane]
    return {family: quality.weight_loss(about, lane, _recipe(lane, asked.recipe), where, family) for family in families}


def _recipe(lane: Lane, name: str | None) -> Recipe:
    """The lane's way of that name, or its usual one."""
    ways = [method.recipe for method in lane.methods]
    return next((way for way in ways if name and name.lower() in f"{way.name} {way.training}"), ways[0])


def _estimate(asked: Question, catalog: Catalog) -> tuple[tuple[Expected, ...], tuple[str, ...]]:
    """The judged families, the one that loses most first, and what is assumed; none with the reason why."""
    if not asked.full or asked.lane is None:
        return (), _stand_in(asked)
    if asked.task in METRICS:
        return (), (f"no estimate: {asked.task} says how far the model moved, not how many answers it loses",)
    if asked.lane not in BY_ID and asked.lane not in CACHES:
        return (), (f"no estimate: {asked.lane} is measured, but no planned engine offers it",)
    losses = sorted(expected_loss(asked, catalog).items(), key=lambda each: -each[1].value)
    return tuple(_expected(*each) for each in losses), (*_stand_in(asked), *_assumed(asked, losses[0][1]))


def _stand_in(asked: Question) -> tuple[str, ...]:
    proxy = PROXIES.get(asked.task or "")
    return (f"{proxy} stands in for {asked.task}, of which nobody publishes paired scores",) if proxy else ()


def _assumed(asked: Question, loss: Loss) -> tuple[str, ...]:
    said = [citation for citation in loss.citations if citation.startswith("assumed")]
    if asked.context is None:
        said.append(f"a context of at most {LONG_CONTEXT:,} tokens: none was given")
    if kin := [lane for lane in _kin(asked.lane) if lane != asked.lane]:
        said.append(f"{', '.join(kin)} and {asked.lane} lose alike beyond their recipes")
    return tuple(said)


def _kin(lane: str | None) -> tuple[str, ...]:
    """Lanes that the law pools with this one: their measured losses differ less than recipes do."""
    name = lane or ""
    if name.startswith("kv:") and CACHE_BITS.get(name[3:], 0.0) >= quality.FINE_CACHE:
        return tuple(f"kv:{each}" for each, bits in CACHE_BITS.items() if bits >= quality.FINE_CACHE)
    kind = kind_of(name)
    return (name,) if kind in ("gguf", "other") else tuple(each for each in BY_ID if kind_of(each) == kind)


def _expected(family: str, loss: Loss) -> Expected:
    return Expected(
        loss_pct=quality.expected(loss),
        likely_pct=loss.likely,
        own_share=loss.own_share,
        family=family,
        proxy=loss.proxy,
        sources=loss.sources,
        unverified=loss.unverified,
        citations=loss.citations,
    )


def _passes(asked: Question, row: Evidence) -> bool:
    """Whether the row is of the model, recipe and source asked for, and own where own rows are."""
    return (
        (asked.own <= row.own)
        and (asked.model is None or _squeezed(asked.model) in _squeezed(row.model))
        and (asked.recipe is None or asked.recipe.lower() in f"{row.recipe} {row.training}")
        and (asked.source is None or asked.source.lower() in f"{row.citation} {row.url}".lower())
    )


def _squeezed(name: str) -> str:
    """A model's name without owner, case, hyphens and the word Meta, which sources add and leave out."""
    return re.sub(r"[^a-z0-9.]", "", name.rpartition("/")[2].lower()).removeprefix("meta")


def _listed(asked: Question, rows: list[Evidence]) -> list[Evidence]:
    """Rows of exactly the lane, of the task or its stand-in, within a factor of two of size and context."""
    reach = Reach(2.0 if asked.size else OPEN, 2.0 if asked.context else OPEN, asked.task is not None, "")
    return [row for row in rows if asked.lane in (None, row.lane) and _within(asked, row, reach)]


def _nearest(asked: Question, rows: list[Evidence]) -> tuple[list[Evidence], str]:
    """Rows that count, of the lane and its kin, from no farther than two sources demand, the nearest first."""
    able = [row for row in rows if row.lane in _kin(asked.lane) and row.counts and row.recovery is not None]
    chosen, words = able, REACHES[-1].words
    for reach in REACHES:
        near = [row for row in able if _within(asked, row, reach)]
        if len({row.citation for row in near}) >= ENOUGH:
            chosen, words = near, reach.words
            break
    return sorted(chosen, key=lambda row: (_distance(asked, row), row.id)), words


def _within(asked: Question, row: Evidence, reach: Reach) -> bool:
    if reach.task and row.task_family not in asked.families:
        return False
    return _apart(asked.size, row.params) <= math.log2(reach.size) and _apart(
        asked.context, row.context_tokens or SHORT
    ) <= math.log2(reach.context)


def _apart(asked: float | None, found: float | None) -> float:
    """Doublings between two amounts; none where nothing was asked."""
    if asked is None:
        return 0.0
    return abs(math.log2(asked / found)) if found else OPEN


def _distance(asked: Question, row: Evidence) -> float:
    """How far a row is from the question, in doublings of the size; own rows are nearer than they are."""
    far = A_DOUBLED_CONTEXT * _apart(asked.context, row.context_tokens or SHORT)
    stand_in = A_STAND_IN if row.task_family in asked.families else ANOTHER_TASK
    other = (row.task_family != asked.task) * stand_in + (row.lane != asked.lane) * ANOTHER_LANE
    return _apart(asked.size, row.params) + far + other - OWN * row.own


def _known(row: Evidence) -> Known:
    return Known(**{name: getattr(row, name) for name in Known.__struct_fields__})


def _sources(rows: Iterable[Evidence]) -> tuple[Source, ...]:
    """By source, those with the most rows first; rows that do not count or have no recovery are left out."""
    groups: dict[str, list[Evidence]] = {}
    for row in rows:
        if row.counts and row.recovery is not None:
            groups.setdefault(row.citation, []).append(row)
    return tuple(sorted(map(_source, groups.values()), key=lambda each: (-each.rows, each.citation)))


def _source(rows: list[Evidence]) -> Source:
    recoveries = [row.recovery for row in rows if row.recovery is not None]
    return Source(
        citation=rows[0].citation,
        url=rows[0].url,
        own=rows[0].own,
        rows=len(rows),
        median=round(median(recoveries), 2),
        low=min(recoveries),
        high=max(recoveries),
    )
