"""What settles whether quality holds: limits by tolerance, the statistics behind sample sizes, benchmarks by family."""

from __future__ import annotations

import tomllib
from typing import Literal

import msgspec
from msgspec import Struct, field

from catalog.errors import BadInput

FILE = "gates.toml"
Grade = Literal["strict", "normal", "loose"]
Bound = Literal["upper", "lower", "value"]
"""Which one-sided 95 % bound of a statistic is compared; `value` where it is counted, not estimated."""
Relation = Literal["<=", ">="]


class Scoring(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How token statistics are taken, and what is known of their spread."""

    window_tokens: int
    """Of a short window."""
    scored_share: float
    """Part of a window whose tokens are scored, after the others gave them a context."""
    least_windows: int
    """Short ones of each text, however few would do."""
    served_windows: int
    """The same, as long as the served context."""
    smoke_prompts: int
    smoke_prompt_tokens: int
    smoke_answer_tokens: int
    neutral_text: str
    neutral_tokens: int
    logit_floor: float
    """KL divergence that logits stored in 16 bits show against themselves."""
    variation: float
    """Standard deviation over mean of one token's KL divergence."""
    discordant_share: float
    """Of items that one of two equally good models answers rightly and the other wrongly."""
    most_repeats: int
    """Answers to one item."""
    least_points: float
    """The finest difference that is asked about."""
    source: str
    sources: dict[str, str] = {}

    def source_of(self, name: str) -> str:
        """The citation of one field."""
        return self.sources.get(name, self.source)


class Tolerance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class of limits and the tolerances that it covers."""

    id: Grade
    up_to_pct: float
    suits: str
    source: str


class Limit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one statistic of a gate has to keep in each class; None where the class sets nothing."""

    gate: str
    statistic: str
    unit: str
    bound: Bound
    relation: Relation
    strict: float
    normal: float
    loose: float | None = None
    against: float | None = None
    """Sample sizes resolve a true value of this share of the limit (assumed); None: no difference at all."""
    assumed: bool = False
    source: str

    def at(self, grade: Grade) -> float | None:
        """The limit of a class."""
        return {"strict": self.strict, "normal": self.normal, "loose": self.loose}[grade]


class Benchmark(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What measures a task family; without `items` it is the user's own and as long as the workload."""

    family: str
    name: str
    items: int | None = None
    prompt_tokens: float | None = None
    """None: the workload's prompts, or the served context where answers alone are stated."""
    answer_tokens: float | None = None
    baseline: float | None = None
    """Typical score of an unquantized model, percent: the median of `rows`."""
    rows: tuple[str, ...] = ()
    """Of evidence.csv."""
    note: str = ""
    source: str


class Gates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    scoring: Scoring
    tolerances: tuple[Tolerance, ...] = field(name="tolerance")
    """The strictest first."""
    limits: tuple[Limit, ...] = field(name="limit")
    benchmarks: tuple[Benchmark, ...] = field(name="benchmark")

    def covering(self, tolerance_pct: float) -> Tolerance | None:
        """The strictest class that covers a tolerance; None where it is wider than all of them."""
        return next((each for each in self.tolerances if tolerance_pct <= each.up_to_pct), None)

    def of(self, gate: str) -> tuple[Limit, ...]:
        """The limits of a gate."""
        return tuple(each for each in self.limits if each.gate == gate)

    def measuring(self, family: str) -> tuple[Benchmark, ...]:
        """What measures a family, the one to run first."""
        return tuple(each for each in self.benchmarks if each.family == family)


def decode(data: bytes, name: str) -> Gates:
    """Strictly read the text of the file. Raises BadInput naming file and field."""
    try:
        read = msgspec.convert(tomllib.loads(data.decode()), Gates)
    except ValueError as error:
        raise BadInput(str(error), name) from error
    for fault in _faults(read):
        raise BadInput(fault, name)
    return read


def _faults(read: Gates) -> list[str]:
    """What types cannot say: classes and limits in order, positive counts, a baseline with its rows."""
    bounds = [each.up_to_pct for each in read.tolerances]
    found = [] if bounds == sorted(set(bounds)) and bounds else ["tolerances: expected wider ones after stricter ones"]
    found += [
        f"limit {each.gate} {each.statistic}: a looser class is stricter" for each in read.limits if _crossed(each)
    ]
    own = read.scoring
    counts = (own.window_tokens, own.least_windows, own.served_windows, own.most_repeats, own.least_points)
    found += ["scoring: expected positive counts"] if min(counts) <= 0 else []
    shares = (own.scored_share, own.discordant_share)
    found += [] if all(0 < each <= 1 for each in shares) else ["scoring: expected shares above 0, at most 1"]
    for each in read.benchmarks:
        if (each.baseline is None) != (not each.rows) or (each.items is not None and each.items <= 0):
            found.append(f"benchmark {each.name}: expected a baseline with its rows, and at least one item")
    return found


def _crossed(limit: Limit) -> bool:
    values = [each for each in (limit.strict, limit.normal, limit.loose) if each is not None]
    return values != sorted(values, reverse=limit.relation == ">=")
