"""What a lane loses on the user's kinds of task: the fitted law, who measured it, and what the user measured.

The median and its interval come from the law (`planner/severity.py`); the evidence beside it says how many sources
speak of exactly this, and which; the user's own measurements move the estimate towards what they found.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct

from catalog.evidence import Evidence
from catalog.load import Catalog
from catalog.quality_parameters import SeverityParameters
from planner import severity
from planner.lanes import Lane
from planner.measured import Described, described, stale, usable
from planner.ownlosses import Own, moved
from planner.plan import Basis, Estimate, Evidenced, Recipe
from planner.remembered import remembered
from planner.severity import Setting, Treatment
from planner.spread import between

T80 = 1.5332062741
"""Quantile of Student's t with four degrees of freedom at the ends of an 80 % interval."""
T75 = 0.7406970841
"""The same where the loss stays below with three chances of four."""
LONG_CONTEXT = 16384
"""Tokens above which long documents are a task family of their own."""
PROXIES = {
    "rag": "knowledge", "classification": "knowledge", "summarization": "chat", "tool_use": "instruction",
}  # fmt: skip
"""Families without rows of their own, and whose rows stand in for them."""
FINE_CACHE = 8.0
"""Bits of a cached value from which formats are pooled: none lost more than 0.7 % within 16k tokens."""
MOSTLY = 0.5
"""Share of the unknown from which own measurements stand for a source (assumed)."""
FOREIGN = 0.05
"""Share of other languages from which a plan is judged on them too (assumed)."""
CACHES = {"fp8": ("fp8", "uncalibrated"), "q8_0": ("q8_0", ""), "q4_0": ("q4_0", "rotation")}
"""Cache formats of engines as the evidence names them: vLLM's scales are 1.0 unless a checkpoint brings its own."""
OUTDATED = "assumed: evidence has changed since the law was fitted to it (lanewise fit-quality)"
CITED = 5
"""Sources that an estimate names."""


class Loss(Struct, frozen=True, kw_only=True):
    """Expected loss in percent of the baseline's score, with its 80 % interval."""

    value: float
    """The median."""
    low: float
    high: float
    likely: float
    """What the loss stays below with three chances of four: tolerances are judged by it."""
    sources: int
    """That measured these formats on models of this size for this family."""
    citations: tuple[str, ...]
    own: bool = False
    """Stated by the request."""
    proxy: str | None = None
    own_share: float = 0.0
    """Of what was unknown, how much the user's own measurements settle."""

    @property
    def unverified(self) -> bool:
        """Fewer than two sources, and nothing of the user's own: verify before shipping."""
        return self.sources < 2 and self.own_share < MOSTLY

    def bound(self, strict: bool) -> float:
        """What a tolerance is compared with: the interval's bad end where the user asks for confidence."""
        return self.high if strict else self.likely


NOTHING = Loss(value=0.0, low=0.0, high=0.0, likely=0.0, sources=2, citations=("the original weights",))


@dataclass(frozen=True)
class Known:
    """Everything that estimates rest on."""

    fitted: SeverityParameters
    speak: Mapping[tuple[str, ...], tuple[str, ...]]
    """Sources by kind; kind and family; kind, size and family (`_keys`). One's own come first."""
    own: tuple[Own, ...]
    stale: bool
    """The law was fitted to other rows than the catalogue's."""


class Asked(Struct, frozen=True, kw_only=True):
    """A model as estimates see it, and how long its sequences are."""

    params: float
    model: str = ""
    context: float = 0.0
    """Tokens that can be served: what long documents fill."""
    typical: float = 0.0
    """Tokens of a usual prompt and answer: what everything else fills."""


@remembered(4)
def known(catalog: Catalog) -> Known:
    """What this catalogue knows of losses."""
    rows = [row for row in catalog.evidence if row.counts and usable(row)]
    speak: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in rows:
        each = described(row, catalog.benchmarks)
        if each.where.family == "ppl" and each.what.kind not in ("gguf", "kv"):
            continue
        for key in _keys(each.what, each.where):
            speak[key].add(row.citation)
    own = [(described(row, catalog.benchmarks), row) for row in rows if row.own]
    mine = {row.citation for _, row in own}
    return Known(
        fitted=catalog.severity,
        speak={key: tuple(sorted(names, key=lambda name: (name not in mine, name))) for key, names in speak.items()},
        own=tuple(_own(each, row, catalog.severity) for each, row in own),
        stale=stale(catalog),
    )


def _keys(what: Treatment, where: Setting) -> tuple[tuple[str, ...], ...]:
    """From the narrowest to the widest. A cache loses by its bits and by what is attended to, whatever the task."""
    if what.kind == "kv":
        fine, far = str(what.cache_bits >= FINE_CACHE), str(where.context > LONG_CONTEXT)
        return (what.kind, fine, far), (what.kind, fine), (what.kind,)
    size = str(severity.bucket(where.params))
    return (what.kind, size, where.family), (what.kind, where.family), (what.kind,)


def _own(each: Described, row: Evidence, fitted: SeverityParameters) -> Own:
    return Own.of(each, 100 - (row.recovery or 0.0), severity.severity(fitted, each.what, each.where), fitted.noise)


def families(mix: Mapping[str, float], context: int, foreign: float = 0.0) -> tuple[str, ...]:
    """The families a plan is judged on: those of the mix, other languages where they are asked, and long documents
    where the context reaches them."""
    named = [name for name, share in mix.items() if share > 0]
    if foreign >= FOREIGN and "multilingual" not in named:
        named.append("multilingual")
    if context > LONG_CONTEXT and "long_context" not in named:
        named.append("long_context")
    return tuple(named)


def weight_loss(about: Known, lane: Lane, recipe: Recipe, asked: Asked, family: str) -> Loss:
    """The expected loss of this lane, made by this recipe, for one task family."""
    if lane.family == "16-bit":
        return NOTHING
    return loss(about, severity.of_lane(lane, recipe), asked, family)


def cache_loss(about: Known, kv_dtype: str, asked: Asked, family: str) -> Loss:
    """The loss of a cache format alone; it grows with what is attended to."""
    what = severity.of_cache(*CACHES.get(kv_dtype, ("", "")))
    return NOTHING if what is None else loss(about, what, asked, family)


def loss(about: Known, what: Treatment, asked: Asked, family: str) -> Loss:
    """The law's estimate, moved by the user's own measurements, with those who measured it."""
    proxy = PROXIES.get(family)
    where = setting(about.fitted, asked, proxy or family)
    found = severity.severity(about.fitted, what, where)
    middle, spread, settled = moved(about.own, what, where, found)
    keys = _keys(what, where)
    exact, cited = about.speak.get(keys[0], ()), next((about.speak[key] for key in keys if key in about.speak), ())
    return Loss(
        value=_percent(middle),
        low=_percent(middle - T80 * spread),
        high=_percent(middle + T80 * spread),
        likely=_percent(middle + T75 * spread),
        sources=len(exact) if proxy is None else 0,
        citations=(*(OUTDATED for _ in range(about.stale)), *cited[:CITED])
        or (f"assumed: no measured row of {what.kind}; the law of losses by its bits",),
        proxy=proxy,
        own_share=round(settled, 3),
    )


def _percent(loss: float) -> float:
    """Gains are not promised, and nobody loses more than everything."""
    return round(min(100.0, max(0.0, loss)), 3)


def setting(fitted: SeverityParameters, asked: Asked, family: str) -> Setting:
    """The family's usual benchmarks, at the length that the workload gives it."""
    context = asked.context if family == "long_context" else asked.typical if family != "multilingual" else 0.0
    return Setting(params=asked.params, model=asked.model, family=family, context=context, hard=fitted.hard(family))


def native(citation: str) -> Loss:
    """A lane in which the publisher trained or ships the model is its own baseline."""
    return Loss(value=0.0, low=0.0, high=0.0, likely=0.0, sources=2, citations=(citation,))


def together(weights: Loss, cache: Loss) -> Loss:
    """Losses of weights and cache add until they are measured together (quality evidence, rule R7); how far they may
    be off adds as independent errors do."""
    if cache is NOTHING:
        return weights
    value = weights.value + cache.value
    return Loss(
        value=_percent(value),
        low=_percent(value - math.hypot(weights.value - weights.low, cache.value - cache.low)),
        high=_percent(value + math.hypot(weights.high - weights.value, cache.high - cache.value)),
        likely=_percent(value + math.hypot(weights.likely - weights.value, cache.likely - cache.value)),
        sources=min(weights.sources, cache.sources),
        citations=weights.citations + cache.citations[:1],
        proxy=weights.proxy,
        own=weights.own,
        own_share=min(weights.own_share, cache.own_share),
    )


def stated(loss_pct: float) -> Loss:
    """A loss that the user measured."""
    return Loss(
        value=loss_pct, low=loss_pct, high=loss_pct, likely=loss_pct, sources=2, citations=("the request",), own=True
    )


def worst(losses: Iterable[Loss]) -> Loss:
    """The family that loses most decides."""
    return max(losses, key=lambda each: each.value)


def expected(loss: Loss) -> Estimate:
    """A loss as plans state it."""
    return between(loss.low, loss.value, loss.high, _basis(loss), "%")


def _basis(loss: Loss) -> Basis:
    """Measured where the user's own measurements settle most of it; fitted where somebody measured this cell; what its
    publisher ships loses nothing."""
    if loss.own or loss.own_share >= MOSTLY:
        return "overridden" if loss.own else "measured"
    if loss.high == 0:
        return "published"
    return "fitted" if loss.sources else "assumed"


def evidenced(loss: Loss) -> Evidenced:
    """What a loss rests on, as plans state it."""
    return Evidenced(
        likely_pct=loss.likely,
        sources=loss.sources,
        citations=loss.citations,
        proxy=loss.proxy,
        own_share=loss.own_share,
    )
