"""Rows of measured quality in the terms of the law, without what was measured: never the quantized score, the recovery
or the note.
"""

from __future__ import annotations

import hashlib
import math
import re
from operator import attrgetter

import msgspec
from msgspec import Struct

from catalog.benchmarks import Benchmark, named, relative_error
from catalog.evidence import Evidence
from catalog.load import Catalog
from planner import severity
from planner.lanes import BY_ID
from planner.remembered import remembered
from planner.severity import Setting, Treatment

PERPLEXITY_NOISE = 0.3
"""Percent: spread of perplexity between runs on the same text (assumed)."""
SEEN = attrgetter(
    "id", "citation", "model", "params", "lane", "method", "recipe", "training", "weight_bits", "kv_bits",
    "activation_bits", "group_size", "task", "task_family", "context_tokens", "baseline", "recovery",
)  # fmt: skip
"""What of a row a fit sees."""


class Described(Struct, frozen=True, kw_only=True):
    """One measured number without the number."""

    id: str
    source: str
    lane: str
    """As the row spells it."""
    what: Treatment
    where: Setting
    noise: float
    """Standard error of one run of the benchmark, percent of the score."""


def described(row: Evidence, benchmarks: tuple[Benchmark, ...]) -> Described:
    """A row of the catalogue."""
    found = named(row.task, benchmarks)
    where = Setting(
        params=row.params or severity.TYPICAL_PARAMS,
        model=row.model,
        family=row.task_family,
        context=float(row.context_tokens or 0),
        hard=float(found is not None and found.hard),
    )
    perplexity = row.task_family == "ppl"
    noise = PERPLEXITY_NOISE if perplexity else relative_error(row.task, row.baseline, benchmarks)
    return Described(id=row.id, source=row.citation, lane=row.method, what=treated(row), where=where, noise=noise)


def treated(row: Evidence) -> Treatment:
    """What was done, from the row's lane where it is one of ours, and from its bits."""
    if row.lane.startswith("kv:") or row.method.startswith("KV_"):
        return _cache(row)
    lane = row.lane if row.lane != "-" else row.method
    bits = severity.bits_of(BY_ID[lane]) if lane in BY_ID else row.weight_bits or _spelled_bits(lane)
    recipe = row.recipe or _spelled_recipe(row.method)
    training = "qat" if row.lane == "-" and row.method.startswith("QAT") else row.training
    group = severity.WHOLE_ROW if row.group_size == "channel" else _number(row.group_size) or severity.USUAL_GROUP
    return severity.treatment(lane, recipe, training, bits, _number(row.activation_bits), group)


def _cache(row: Evidence) -> Treatment:
    known = severity.of_cache(row.lane.removeprefix("kv:"), row.recipe)
    if known is not None:
        return known
    bits = row.kv_bits if row.kv_bits is not None and row.kv_bits < 16 else _spelled_bits(row.method)
    return Treatment(kind="kv", way=f"kv:{row.method}", cache_bits=bits)


def _number(text: str) -> float | None:
    found = re.match(r"\d+(\.\d+)?", text)
    return float(found[0]) if found else None


def _spelled_bits(method: str) -> float:
    """Bits that a spelling of no lane of ours states; four where it states none."""
    found = re.search(r"(?:INT|IQ|Q|W|FP|KIVI|turbo|_)(\d(?:\.\d)?)", method)
    return float(found[1]) if found else 4.0


def _spelled_recipe(method: str) -> str:
    lowered = method.lower()
    return next((name for name in ("rtn", "hqq", "quanto", "gptq", "awq", "autoround") if name in lowered), "")


def of_catalog(catalog: Catalog) -> tuple[list[Described], list[float]]:
    """The rows that the law is fitted to, and the loss of each in percent."""
    rows = published(catalog)
    return [described(row, catalog.benchmarks) for row in rows], [100 - (row.recovery or 0.0) for row in rows]


def published(catalog: Catalog) -> list[Evidence]:
    """What others measured, counts and has a recovery. Distances have none."""
    return [row for row in catalog.evidence if row.counts and not row.own and usable(row)]


def digest(catalog: Catalog) -> str:
    """sha256 of everything that a fit to this catalogue's evidence sees."""
    seen = msgspec.json.encode([*map(SEEN, published(catalog)), catalog.benchmarks], order="deterministic")
    return hashlib.sha256(seen).hexdigest()


@remembered(4)
def stale(catalog: Catalog) -> bool:
    """Whether the parameters of losses were fitted to other rows than this catalogue holds."""
    return catalog.severity.evidence != digest(catalog)


def usable(row: Evidence) -> bool:
    """Whether the row is a ratio of two scores: distances between distributions and differences are none."""
    known = row.recovery is not None and math.isfinite(row.recovery) and row.params is not None and row.params > 0
    return known and row.task_family != "kld"
