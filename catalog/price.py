"""Offers: what a provider asks for an instance per hour."""

from __future__ import annotations

from datetime import date
from typing import Literal

from msgspec import Struct

from catalog.source import Confidence

STALE_DAYS = 30
"""Assumed: list prices of accelerators move within a month, spot prices within a day."""
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
    def name(self) -> str:
        """What makes an offer one: `provider/instance/region/market`."""
        return f"{self.provider}/{self.instance}/{self.region}/{self.market}"

    @property
    def usd_per_accelerator_hour(self) -> float:
        return self.usd_per_hour / self.count

    def age_days(self, as_of: str) -> int | None:
        """Days between this price and `as_of` (ISO date); None for an undated price."""
        return (date.fromisoformat(as_of) - date.fromisoformat(self.as_of)).days if self.as_of else None

    def stale(self, as_of: str) -> bool:
        """Undated, or older than `STALE_DAYS` at `as_of`: shown as such wherever the price carries a number."""
        age = self.age_days(as_of)
        return age is None or age > STALE_DAYS
