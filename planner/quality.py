"""What a lane loses, from published measurements: pooled by lane, model size, task family and context.

First depth: medians per source, each level drawn towards the one above it (lane, then size, then family) by a prior
worth `PRIOR` sources. The interval is the spread between sources, so it says what one more source might find.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median

from msgspec import Struct

from catalog.evidence import Evidence
from planner.lanes import Lane
from planner.remembered import remembered

PRIOR = 1.0
"""Sources that a parent level counts for (assumed: a broader cell says as much as one more source would)."""
NARROWEST = 0.5
"""Percent: no interval is narrower than the test-retest noise of one benchmark (mean 0.35 points, 80 scores)."""
Z80 = 1.2815515655446004
"""Normal quantile of an 80 % interval's ends."""
LONG_CONTEXT = 16384
"""Tokens above which long documents are a task family of their own."""
PROXIES = {
    "rag": "knowledge", "classification": "knowledge", "summarization": "chat", "tool_use": "instruction",
}  # fmt: skip
"""Families without rows of their own, and whose rows stand in for them."""
SIZES = (1.0e9, 4.5e9, 15e9, 50e9, 120e9)
"""Bounds of the size buckets, parameters (assumed)."""
UNMEASURED = 95.0
"""Recovery in percent of a lane without any row (assumed)."""
WIDEST = 4.0
"""Standard deviation in percent where fewer than two sources speak (assumed, as wide as 4-bit float's)."""
GGUF_ORDER = (
    "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q4_0", "Q3_K_L", "Q3_K_M",
    "Q3_K_S", "Q2_K",
)  # fmt: skip
"""File types from fine to coarse, by llama.cpp's own perplexity table."""
FULL_BASELINE = 10.0
"""Percent: ratios of scores below it are noise (assumed)."""


class Loss(Struct, frozen=True, kw_only=True):
    """Expected loss in percent of the baseline's score, with its 80 % interval."""

    value: float
    low: float
    high: float
    sources: int
    """Sources that speak of exactly this lane, size and family."""
    citations: tuple[str, ...]
    own: bool = False
    """Stated by the request."""
    proxy: str | None = None

    @property
    def unverified(self) -> bool:
        """Fewer than two sources: verify before shipping."""
        return self.sources < 2


class Pool(Struct, frozen=True, kw_only=True):
    """Medians of recovery per source at one level."""

    medians: dict[str, float]

    def drawn(self, parent: float) -> float:
        """The mean of the sources, drawn towards the parent level."""
        return (sum(self.medians.values()) + PRIOR * parent) / (len(self.medians) + PRIOR)


Key = tuple[object, ...]
Pools = Mapping[Key, Pool]
NOTHING = Loss(value=0.0, low=0.0, high=0.0, sources=2, citations=("the original weights",))


def group(lane: Lane | str) -> str:
    """Lanes whose measured losses do not differ beyond their recipes are pooled: AWQ, GPTQ and W4A16 at 4 bits.

    Source: 91 paired rows of 4 sources, AWQ better in 51, GPTQ in 32, median difference 0.4 points.
    """
    name = lane if isinstance(lane, str) else lane.id
    return "int4" if name in ("awq-int4", "gptq-int4", "w4a16") else name


FOREIGN = 0.05
"""Share of other languages from which a plan is judged on them too (assumed)."""


def families(mix: Mapping[str, float], context: int, foreign: float = 0.0) -> tuple[str, ...]:
    """The families a plan is judged on: those of the mix, other languages where they are asked, and long documents
    where the context reaches them."""
    named = [name for name, share in mix.items() if share > 0]
    if foreign >= FOREIGN and "multilingual" not in named:
        named.append("multilingual")
    if context > LONG_CONTEXT and "long_context" not in named:
        named.append("long_context")
    return tuple(named)


def weight_loss(pools: Pools, lane: Lane, params: float, family: str) -> Loss:
    """The expected loss of this lane on a model of `params` parameters for one task family."""
    if lane.family == "16-bit":
        return NOTHING
    own = _loss(pools, group(lane), bucket(params), family)
    return own if lane.family != "gguf" else _no_better_than_finer(pools, lane, own, params, family)


def cache_loss(pools: Pools, kv_dtype: str, family: str) -> Loss:
    """The loss of a cache format alone: long documents apart, because errors of the cache grow with the context."""
    name = {"fp8": "kv:fp8", "q8_0": "kv:q8_0", "q4_0": "kv:q4_0"}.get(kv_dtype)
    return NOTHING if name is None else _loss(pools, cache_group(name, far=family == "long_context"), None, family)


def cache_group(lane: str, *, far: bool) -> str:
    """Within 16k tokens the 8-bit cache formats are pooled (few rows, none beyond 0.7 %); beyond, each stands alone."""
    if far:
        return lane + ":long"
    return "kv:8-bit" if lane in ("kv:fp8", "kv:int8", "kv:q8_0") else lane


def native(citation: str) -> Loss:
    """A lane in which the publisher trained or ships the model is its own baseline."""
    return Loss(value=0.0, low=0.0, high=0.0, sources=2, citations=(citation,))


def bucket(params: float) -> int:
    """The size bucket of a model: <=1B, 1-4.5B, 4.5-15B, 15-50B, 50-120B, above."""
    return sum(params > bound for bound in SIZES)


def _loss(pools: Pools, lane: str, size: int | None, family: str) -> Loss:
    proxy = PROXIES.get(family)
    whole, sized, exact = pools.get((lane,)), pools.get((lane, size)), pools.get((lane, size, proxy or family))
    recovery = median(whole.medians.values()) if whole else UNMEASURED
    for level in (sized, exact):
        recovery = level.drawn(recovery) if level else recovery
    spread = Z80 * _spread(whole, exact)
    expected, cited = max(0.0, 100 - recovery), exact or sized or whole
    return Loss(
        value=round(expected, 3),
        low=round(max(0.0, 100 - recovery - spread), 3),
        high=round(max(expected, 100 - recovery + spread), 3),
        sources=len(exact.medians) if exact and proxy is None else 0,
        citations=tuple(sorted(cited.medians))[:5] if cited else (f"assumed: no measured row of {lane}",),
        proxy=proxy,
    )


@remembered(4)
def pools(evidence: tuple[Evidence, ...]) -> Pools:
    """Every level's medians per source: lane; lane and size; lane, size and family."""
    rows: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in evidence:
        if _usable(row):
            far = row.task_family == "long_context" or (row.context_tokens or 0) > LONG_CONTEXT
            cache = row.lane.startswith("kv:")
            lane, size = cache_group(row.lane, far=far) if cache else group(row.lane), bucket(row.params or 0)
            for key in ((lane,), (lane, size), (lane, size, row.task_family)):
                rows[key][row.citation].append(row.recovery or 0)
    return {
        key: Pool(medians={citation: median(values) for citation, values in sources.items()})
        for key, sources in rows.items()
    }


def _usable(row: Evidence) -> bool:
    """Ratios of real scores by recipes that we would ship, on a model whose size is stated.

    Perplexity counts for GGUF alone, where hardly any task was measured beside a 16-bit baseline.
    """
    if not row.counts or row.recovery is None or row.params is None or row.recipe == "rtn":
        return False
    if row.task_family in ("ppl", "kld"):
        return row.task_family == "ppl" and row.lane.startswith("gguf:")
    percent = row.baseline if row.baseline > 1.5 else 100 * row.baseline
    return row.lane != "-" and percent >= FULL_BASELINE


def _spread(whole: Pool | None, exact: Pool | None) -> float:
    """Standard deviation between sources, in percent: of this cell where three speak, of the lane otherwise."""
    chosen = exact if exact and len(exact.medians) >= 3 else whole
    if chosen is None or len(chosen.medians) < 2:
        return WIDEST
    middle = median(chosen.medians.values())
    return max(NARROWEST, 1.4826 * median(abs(value - middle) for value in chosen.medians.values()))


def _no_better_than_finer(pools: Pools, lane: Lane, own: Loss, params: float, family: str) -> Loss:
    """A coarser file type never loses less than a finer one that was measured: the rows are few and noisy."""
    order = GGUF_ORDER[: GGUF_ORDER.index(lane.id[5:]) + 1] if lane.id[5:] in GGUF_ORDER else (lane.id[5:],)
    measured = [name for name in order if (f"gguf:{name}",) in pools]
    if not measured:
        return own
    losses = [_loss(pools, f"gguf:{name}", bucket(params), family) for name in measured]
    return max((*losses, own) if f"gguf:{order[-1]}" in measured else losses, key=lambda each: each.value)


def together(weights: Loss, cache: Loss) -> Loss:
    """Losses of weights and cache add until they are measured together (quality evidence, rule R7)."""
    if cache is NOTHING:
        return weights
    return Loss(
        value=weights.value + cache.value,
        low=weights.low + cache.low,
        high=weights.high + cache.high,
        sources=min(weights.sources, cache.sources),
        citations=weights.citations + cache.citations[:1],
        proxy=weights.proxy,
        own=weights.own,
    )


def stated(loss_pct: float) -> Loss:
    """A loss that the user measured."""
    return Loss(value=loss_pct, low=loss_pct, high=loss_pct, sources=2, citations=("the request",), own=True)


def worst(losses: Iterable[Loss]) -> Loss:
    """The family that loses most decides."""
    return max(losses, key=lambda each: each.value)
