"""Offers: what a provider asks for an instance per hour."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from catalog.source import Confidence

Market = Literal["on_demand", "spot", "reserved"]


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instance type in one region. `as_of` is an ISO date, or "" where the source is undated."""

    provider: str
    instance: str
    region: str
    accelerator: str
    count: int
    market: Market
    usd_per_hour: float
    """For the whole instance."""
    as_of: str
    confidence: Confidence
    source: str
    notes: str = ""
    vcpus: float | None = None
    ram_gib: float | None = None

    @property
    def usd_per_accelerator_hour(self) -> float:
        return self.usd_per_hour / self.count
