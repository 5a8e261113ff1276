"""Measured quality of quantized models, one published number per row."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

TASK_FAMILIES = (
    "chat", "code", "math", "reasoning", "knowledge", "long_context", "rag", "classification", "summarization",
    "multilingual", "instruction", "tool_use",
)  # fmt: skip
METRICS = ("ppl", "kld")
"""Families of rows that score the model's distribution instead of a task; lower is better."""
Grade = Literal["A", "B", "C"]
"""A: seen in the measurer's own artefact. B: a third party's measurement, or seen in part. C: does not count."""


class Evidence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`recovery` = 100 · quantized ÷ baseline (inverted for perplexity), recomputed from the two values."""

    id: str
    citation: str
    url: str
    model: str
    params: float | None = None
    method: str
    """The lane as the source's row spells it; lane, recipe and training follow from lane_spellings.csv."""
    lane: str
    """Lane id, or `kv:…` for cache formats, or `-` where the spelling maps to nothing we plan."""
    recipe: str = ""
    training: str = "ptq"
    """ptq, qat, qad or native."""
    weight_bits: float | None = None
    kv_bits: float | None = None
    task: str
    task_family: str
    context_tokens: int | None = None
    """Tokens of prompt and answer; None where the source says "short". A range is written as its middle."""
    baseline: float
    quantized: float
    higher_is_better: bool
    recovery: float | None = None
    """Percent. None for KLD, and for differences of scores, which have no ratio."""
    stderr: float | None = None
    """Standard error of `quantized`, in its unit, where the source prints one."""
    group_size: str = ""
    activation_bits: str = ""
    context: str = ""
    """The context as the source words it."""
    table: str = ""
    """Where in the citation the number stands."""
    note: str = ""
    grade: Grade
    own: bool = False
    """Measured by the user: set by whoever reads the user's folder or store, never by the row itself."""

    @property
    def counts(self) -> bool:
        """Grade C (a secondary quote, or a baseline known to be bad) is kept to be seen and never counted."""
        return self.grade != "C"


def recovery(baseline: float, quantized: float, *, higher_is_better: bool) -> float | None:
    """Percent of the baseline that is left, to two digits as in the shipped table; None where there is no ratio."""
    over, under = (quantized, baseline) if higher_is_better else (baseline, quantized)
    return round(100 * over / under, 2) if baseline > 0 and under > 0 else None


def owned(row: Evidence) -> Evidence:
    """The row as its user's own."""
    return replace(rescored(row), own=True)


def rescored(row: Evidence) -> Evidence:
    """The row with its recovery computed from the two values, whatever it said."""
    return replace(row, recovery=recovery(row.baseline, row.quantized, higher_is_better=row.higher_is_better))
