"""Where a fact comes from and how far it may be trusted."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Confidence = Literal["A", "B", "C"]
"""A: read in a primary or maintained machine-readable source. B: secondary, or derived by stated arithmetic.
C: from memory or a single mention; stays `unconfirmed` and never carries a choice."""


class Fact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The source of one field, where it differs from the source of the whole entry."""

    source: str
    confidence: Confidence


class Sourced(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the catalogue: every field has the entry's source unless `facts` names another."""

    id: str
    source: str
    confidence: Confidence
    facts: dict[str, Fact] = {}
    notes: str = ""

    def source_of(self, field: str) -> str:
        """The citation that carries `field`."""
        return self.facts[field].source if field in self.facts else self.source

    def confidence_of(self, *fields: str) -> Confidence:
        """The weakest confidence among `fields`."""
        return max(self.facts[field].confidence if field in self.facts else self.confidence for field in fields)

    def doubtful(self, field: str) -> bool:
        """Whether `field` rests on confidence C."""
        fact = self.facts.get(field)
        return (self.confidence if fact is None else fact.confidence) == "C"

    def doubts(self) -> dict[str, str]:
        """Fields that rest on confidence C, each with its source; `*` stands for the whole entry."""
        whole = {"*": self.source} if self.confidence == "C" else {}
        return whole | {name: fact.source for name, fact in self.facts.items() if fact.confidence == "C"}
