"""What is asked: the request as users write it. `planner/decode.py` reads and checks it."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catalog.evidence import TASK_FAMILIES
from catalog.inventory import Inventory

SCHEMA = 1
FAMILIES = TASK_FAMILIES
PLANNED_ENGINES = ("vllm", "llama.cpp")
ESTIMATED_ENGINES = ("sglang", "tensorrt-llm")
P95 = 1.6448536269514722
"""Standard normal quantile of 0.95."""


class Spread(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A log-normal length distribution by its mean and 95th percentile, in tokens."""

    mean: float
    p95: float | None = None

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm; the mean and p95 of a log-normal fix it."""
        ratio = math.log((self.p95 or self.mean) / self.mean)
        return P95 - math.sqrt(max(P95**2 - 2 * ratio, 0.0))

    @property
    def variation(self) -> float:
        """Squared coefficient of variation."""
        return math.exp(self.sigma**2) - 1

    def beyond(self, tokens: float) -> tuple[float, float]:
        """Mean and squared coefficient of variation of what exceeds `tokens`, at least one token of each length.

        Partial moments of the log-normal, as in the pricing of options (Black and Scholes 1973).
        """
        if not tokens or not self.sigma:
            return max(self.mean - tokens, 1.0), self.variation if not tokens else 0.0
        reach = (math.log(self.mean / tokens) - self.sigma**2 / 2) / self.sigma
        none, mean, square = (NormalDist().cdf(reach + order * self.sigma) for order in range(3))
        first = self.mean * mean - tokens * none
        second = self.mean**2 * (1 + self.variation) * square - 2 * tokens * self.mean * mean + tokens**2 * none
        first, second = first + 1 - none, second + 1 - none
        return first, max(second / first**2 - 1, 0.0)


class Batch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    requests: int
    deadline_s: float


class Lora(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """LoRA adapters: loaded beside the model while it serves, or `merged` into its weights beforehand."""

    adapters: int = 1
    max_rank: int = 16
    merged: bool = False


class Arrival(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request of a recorded run."""

    arrival_s: float
    """From any beginning."""
    prompt_tokens: int
    output_tokens: int


class Workload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `qps`, `users`, `batch`, `trace` says how much work there is."""

    qps: float | None = None
    qps_mean: float | None = None
    users: int | None = None
    batch: Batch | None = None
    trace: str | tuple[Arrival, ...] | None = None
    """Rows, or the name of a file that the command line reads."""
    burstiness: float | None = None
    prompt_tokens: Spread | None = None
    output_tokens: Spread | None = None
    context_tokens_max: int | None = None
    shared_prefix_tokens: int | None = None
    mix: dict[str, float] | None = None
    languages: dict[str, float] | None = None
    lora: bool | Lora | None = None
    thinking_tokens: Spread | None = None
    sessions: dict[str, Any] | None = None
    structured_share: float | None = None
    images: dict[str, Any] | None = None


Percentile = Literal["p50", "p90", "p95", "p99"]
Objective = Literal["cost", "latency", "quality", "energy"]


class Slo(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Latency objectives in milliseconds per percentile."""

    ttft_ms: dict[Percentile, float] = {}
    tpot_ms: dict[Percentile, float] = {}
    e2e_ms: dict[Percentile, float] = {}


class Quality(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tolerated loss in percent of the unquantized model's score."""

    max_loss_pct: float | None = None
    per_family: dict[str, float] = {}


class Owned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was paid for one device, and what its power costs; its share of the server belongs to the capital."""

    capital_usd: float
    usd_per_kwh: float
    months: float | None = None
    """Until it is written off."""
    pue: float | None = None
    """Power usage effectiveness: what the site draws per watt that the device draws."""
    watts: float | None = None
    """Of one device at full load, its share of the server included; None: the catalogue's board power."""


class AcceleratorAsk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One alternative; `count` is the most available."""

    id: str
    count: int
    memory_gib: float | None = None
    host_ram_gib: float | None = None
    per_node: int | None = None
    interconnect: str | None = None
    usd_per_hour: float | None = None
    owned: Owned | None = None


class AnyHardware(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whatever the catalogue can price."""

    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    market: Literal["on_demand", "spot", "reserved"] = "on_demand"
    max_accelerators: int = 16


class Reserved(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory of every device that something else keeps."""

    memory_gib: float


class Hardware(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    accelerators: tuple[AcceleratorAsk, ...] | None = None
    any: AnyHardware | None = None
    probe: bool | None = None
    inventory: Inventory | None = None
    inventory_id: str | None = None
    reserved: Reserved | None = None
    network_gbit_per_s: float | None = None
    """At which a checkpoint comes to the machine."""
    disk_gib_per_s: float | None = None
    """At which its disk is read from front to back."""


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    usd_per_month: float | None = None
    usd_per_hour: float | None = None
    watts: float | None = None


class OwnEstimate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Numbers that the user knows better, of the candidates that `lane`, `engine` and `accelerator` name."""

    lane: str | None = None
    engine: str | None = None
    accelerator: str | None = None
    loss_pct: dict[str, float] = {}
    """Per task family: the loss of the weights, measured."""
    weight_bytes: float | None = None
    """Of the whole model on one replica."""
    requests_per_s: float | None = None
    """What one replica carries within the objectives."""

    def about(self, lane: str, engine: str, accelerator: str) -> bool:
        """Whether it speaks of this candidate."""
        named = ((self.lane, lane), (self.engine, engine), (self.accelerator, accelerator))
        return all(asked is None or asked == own for asked, own in named)


class Overrides(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the user knows better: rules whose advice is not followed, numbers that replace ours."""

    waive: tuple[str, ...] = ()
    estimates: tuple[OwnEstimate, ...] = ()


class Availability(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replicas beyond those that the load needs."""

    spares: int


class Speculative(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens that something cheap drafts and the model checks."""

    method: Literal["ngram", "eagle3", "mtp", "draft"]
    tokens: int
    """Drafted in each step."""
    acceptance: float | None = None
    """Probability that a drafted token is kept, given that all before it were: measured on one's own traffic."""
    draft_model: str | None = None
    """Repository of an EAGLE-3 head; catalogue id of a smaller model."""


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /plan. A field left out is None until `settle` names its default."""

    model: str
    workload: Workload
    schema: int = SCHEMA
    slo: Slo | None = None
    quality: Quality | None = None
    hardware: Hardware | None = None
    budget: Budget | None = None
    objective: Objective | None = None
    confidence: Literal["typical", "high"] | None = None
    engines: tuple[str, ...] | None = None
    engine_versions: dict[str, str] | None = None
    lanes: tuple[str, ...] | None = None
    overrides: Overrides | None = None
    speculative: Speculative | None = None
    air_gapped: bool | None = None
    simulate: bool | None = None
    as_of: str | None = None
    availability: Availability | None = None
    current: dict[str, Any] | None = None
    classes: list[dict[str, Any]] | None = None
    allow_models: list[str] | None = None
    task: str | None = None


def canonical(asked: Struct) -> dict[str, Any]:
    """A request without what was left out: what the plan repeats and its id is made of."""
    built: dict[str, Any] = msgspec.to_builtins(asked)
    return {key: value for key, value in _without_none(built).items() if value != {}}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value
