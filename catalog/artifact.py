"""Published quantized checkpoints."""

from __future__ import annotations

from msgspec import Struct

from catalog.source import Confidence


class Artifact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A repository that holds one base model in one lane (GGUF repositories hold many types: lane `gguf`)."""

    repo: str
    base: str
    publisher: str
    lane: str
    recipe: str = ""
    training: str = "ptq"
    format: str
    """As the source's row spells it; lane and recipe follow from lane_spellings.csv."""
    confidence: Confidence
    source: str
    revision: str | None = None
    license: str = ""
    gated: bool | None = None
    checked: str | None = None
    """ISO date on which the repository was seen to exist; None: never verified."""
    weight_bytes: float | None = None
    group_size: int | None = None
    """Weights that share a scale, where the source states it."""
    notes: str = ""
