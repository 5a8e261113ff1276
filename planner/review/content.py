"""The nouns of a review: values with units, before anybody puts them into words."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from planner.plan import Assumption, Candidate, Estimate, Plan

Verdict = Literal["same", "more devices", "fewer devices", "other settings", "changes", "nothing fits"]


class Objective(Struct, frozen=True, kw_only=True):
    """One latency objective and the choice's estimate; `spare` is the unused share of the limit."""

    name: str
    """Of the estimate: ttft_p95_s, …"""
    limit_s: float
    estimate: Estimate

    @property
    def spare(self) -> float:
        return 1 - self.estimate.value / self.limit_s

    @property
    def spare_at_bad_end(self) -> float:
        return 1 - self.estimate.high / self.limit_s


class Family(Struct, frozen=True, kw_only=True):
    """What the choice loses in one task family; shares and losses in percent."""

    name: str
    share_pct: float | None
    """Of the mix; None for a family that is judged without being asked for."""
    loss: Estimate
    tolerated_pct: float
    doubt: str
    """What a rule said of the sources; "" when it was silent."""


class Memory(Struct, frozen=True, kw_only=True):
    """One device's memory by what holds it, bytes."""

    candidate: Candidate
    parts: dict[str, float]
    """In the order of the bar; `free` only where the device's memory is known."""
    device_bytes: float | None


class Contrast(Struct, frozen=True, kw_only=True):
    """An alternative beside the choice: what it would win and lose."""

    candidate: Candidate
    wins: tuple[str, ...]
    loses: tuple[str, ...]


class RuleGroup(Struct, frozen=True, kw_only=True):
    """Everything that one rule sent away."""

    rule: str
    page: str
    """The rule's own text."""
    families: int
    """Combinations of lane, engine and accelerator."""
    candidates: int
    lanes: tuple[str, ...]
    because: str
    """Of the first family."""
    reasons: int
    """How many different sentences the rule gave."""


class Month(Struct, frozen=True, kw_only=True):
    """More replicas of the choice's configuration under the load of one month."""

    number: int
    load: float
    devices: int | None
    """None where the catalogue no longer plans the configuration."""
    usd_per_month: float | None
    because: str
    """Why the request no longer allows it; "" while its counts and its budget do."""


class Quarter(Struct, frozen=True, kw_only=True):
    """The whole request decided anew under the load at the end of one quarter."""

    number: int
    load: float
    choice: Candidate | None


class Limit(Struct, frozen=True, kw_only=True):
    """The first month that is no longer feasible, and what the rules said."""

    month: int
    because: str


class Growth(Struct, frozen=True, kw_only=True):
    """Eight quarters of growing load."""

    pct_per_quarter: float
    load_name: str
    """What grows: requests/s, users, requests of a batch."""
    months: tuple[Month, ...]
    quarters: tuple[Quarter, ...]
    choice_limit: Limit | None
    """When the choice's configuration reaches what the request allows."""
    request_limit: Limit | None
    """When nothing in the request fits any more."""

    @property
    def steps(self) -> tuple[Month, ...]:
        """Months that need more devices than the month before."""
        pairs = zip(self.months, self.months[1:], strict=False)
        return tuple(now for before, now in pairs if (now.devices or 0) > (before.devices or 0))


class Spare(Struct, frozen=True, kw_only=True):
    """N+1: one more replica of the choice's layout, and what is left when one of N fails."""

    replicas: int
    devices_per_replica: int
    usd_per_month: float | None
    """Of N+1 replicas; None where no price is known."""
    extra_usd_per_month: float | None
    available: int | None
    """Devices that the request allows; None where it does not say."""
    share_left: float
    """Of the planned load that N - 1 replicas carry within the objectives, at most 1."""
    share_left_at_bad_end: float

    @property
    def devices(self) -> int:
        """Of N+1 replicas."""
        return (self.replicas + 1) * self.devices_per_replica


class Flip(Struct, frozen=True, kw_only=True):
    """One changed field of the request or the catalogue, and the decision that follows."""

    change: str
    before: str
    after: str
    choice: Candidate | None
    because: str
    """Why nothing fits; "" where something does."""
    verdict: Verdict


class Review(Struct, frozen=True, kw_only=True):
    """Everything a review says. Without a choice the fields about it are empty."""

    plan: Plan
    today: str
    """Digest of the catalogue that the re-planning used."""
    objectives: tuple[Objective, ...]
    families: tuple[Family, ...]
    memory: tuple[Memory, ...]
    """The choice first."""
    alternatives: tuple[Contrast, ...]
    refusals: tuple[RuleGroup, ...]
    growth: Growth | None
    spare: Spare | None
    flips: tuple[Flip, ...]
    assumptions: tuple[Assumption, ...]
    """The plan's, and the review's own."""

    @property
    def same_catalog(self) -> bool:
        return self.plan.catalog_digest == self.today
