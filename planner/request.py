"""What is asked: the request as users write it, decoded strictly and checked value by value."""

from __future__ import annotations

import math
import re
import tomllib
from datetime import date
from typing import Any, Literal

import msgspec
from msgspec import Struct

from catalog.errors import BadInput, Unsupported
from catalog.lane import is_lane

SCHEMA = 1
FAMILIES = (
    "chat", "code", "math", "reasoning", "knowledge", "long_context", "rag", "classification", "summarization",
    "multilingual", "instruction", "tool_use",
)  # fmt: skip
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


class Batch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    requests: int
    deadline_s: float


class Workload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `qps`, `users`, `batch` (or `trace`) says how much work there is."""

    qps: float | None = None
    qps_mean: float | None = None
    users: int | None = None
    batch: Batch | None = None
    trace: str | None = None
    burstiness: float | None = None
    prompt_tokens: Spread | None = None
    output_tokens: Spread | None = None
    context_tokens_max: int | None = None
    shared_prefix_tokens: int | None = None
    mix: dict[str, float] | None = None
    languages: dict[str, float] | None = None
    lora: bool | dict[str, Any] | None = None
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


class AcceleratorAsk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One alternative; `count` is the most available."""

    id: str
    count: int
    memory_gib: float | None = None
    host_ram_gib: float | None = None
    per_node: int | None = None
    interconnect: str | None = None
    usd_per_hour: float | None = None


class AnyHardware(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whatever the catalogue can price."""

    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    market: Literal["on_demand", "spot", "reserved"] = "on_demand"
    max_accelerators: int = 16


class Hardware(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    accelerators: tuple[AcceleratorAsk, ...] | None = None
    any: AnyHardware | None = None
    probe: bool | None = None
    inventory: dict[str, Any] | None = None
    reserved: dict[str, Any] | None = None


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    usd_per_month: float | None = None
    usd_per_hour: float | None = None
    watts: float | None = None


class Overrides(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the user knows better: codes of rules whose advice is not followed."""

    waive: tuple[str, ...] = ()
    estimates: dict[str, Any] | None = None


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
    air_gapped: bool | None = None
    simulate: bool | None = None
    as_of: str | None = None
    availability: dict[str, Any] | None = None
    current: dict[str, Any] | None = None
    classes: list[dict[str, Any]] | None = None
    allow_models: list[str] | None = None
    task: str | None = None


NOT_PLANNED = {
    "workload.trace": "traces are not planned yet: state qps or users and length distributions",
    "workload.thinking_tokens": "reasoning models' hidden tokens are not planned yet: add them to output_tokens",
    "workload.sessions": "multi-turn sessions are not planned yet: state prompt_tokens with the history included",
    "workload.structured_share": "structured output is not planned yet",
    "workload.images": "images are not planned yet: add their tokens to prompt_tokens",
    "hardware.probe": "probing this machine is not planned yet: name its accelerators",
    "hardware.inventory": "inventories are not planned yet: name the accelerators",
    "hardware.reserved": "reserved memory is not planned yet: lower memory_gib of the accelerator",
    "overrides.estimates": "overriding estimates is not planned yet",
    "budget.watts": "a power budget is not planned yet",
    "availability": "spare replicas are not planned yet",
    "current": "comparing with an existing deployment is not planned yet",
    "classes": "traffic classes are not planned yet: send one request per class",
    "allow_models": "offering other models is not planned yet",
}
"""Fields of the contract that are known, and refused by name until they are planned."""


def decode(data: bytes, kind: Literal["json", "toml"] = "json") -> Request:
    """Read a request. Raises BadInput with the path of the fault, Unsupported for a field not planned yet."""
    try:
        request = (
            msgspec.json.decode(data, type=Request)
            if kind == "json"
            else msgspec.convert(tomllib.loads(data.decode()), Request)
        )
    except msgspec.ValidationError as fault:
        message, _, place = str(fault).partition(" - at ")
        path = re.search(r"`(\$[^`]*)`", place)
        raise BadInput(message, path[1] if path else "$") from None
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise BadInput(f"not {kind.upper()}: {fault}") from None
    check(request)
    return request


def check(request: Request) -> None:
    """Refuse what is known but not planned, and values that make no sense."""
    for path, reason in NOT_PLANNED.items():
        if _at(request, path) not in (None, False):
            raise Unsupported(f"`{path}`: {reason}", f"$.{path}")
    others = sorted((request.workload.languages or {}).keys() - {"en"})
    if others:
        path = f"workload.languages.{others[0]}"
        reason = "losses per language are not planned yet: give `multilingual` its share of the mix"
        raise Unsupported(f"`{path}`: {reason}", f"$.{path}")
    if request.workload.lora:
        raise Unsupported("`workload.lora`: LoRA adapters are not planned yet: merge them first", "$.workload.lora")
    if request.simulate:
        raise Unsupported("`simulate`: the event simulation is not planned yet", "$.simulate")
    if request.task not in (None, "generate"):
        raise Unsupported(f"`task`: only generate is planned, got {request.task!r}", "$.task")
    for path, wrong, expected in _limits(request):
        if wrong:
            raise BadInput(f"expected {expected}", f"$.{path}")


def _limits(request: Request) -> list[tuple[str, bool, str]]:
    """(path, whether it is wrong, what was expected) of every rule about single values."""
    work, slo, quality = request.workload, request.slo or Slo(), request.quality or Quality()
    rates = [work.qps is not None, work.users is not None, work.batch is not None]
    checks = [
        ("schema", request.schema != SCHEMA, f"schema {SCHEMA}, got {request.schema}"),
        ("model", not request.model.strip(), "a model id, folder or .gguf file"),
        ("workload", sum(rates) != 1, "exactly one of qps, users, batch"),
        ("workload.qps", _not_positive(work.qps), "a rate above 0"),
        ("workload.qps_mean", _not_positive(work.qps_mean), "a rate above 0"),
        ("workload.qps_mean", work.qps_mean is not None and work.qps is None, "a peak `qps` beside it"),
        ("workload.qps_mean", (work.qps_mean or 0) > (work.qps or math.inf), "a mean rate not above the peak `qps`"),
        ("workload.users", _not_positive(work.users), "at least 1 user"),
        ("workload.batch.requests", work.batch is not None and work.batch.requests < 1, "at least 1 request"),
        ("workload.batch.deadline_s", work.batch is not None and work.batch.deadline_s <= 0, "a deadline above 0 s"),
        ("workload.burstiness", _not_positive(work.burstiness), "a burstiness above 0 (1 = Poisson)"),
        ("workload.context_tokens_max", _not_positive(work.context_tokens_max), "at least 1 token"),
        ("workload.shared_prefix_tokens", (work.shared_prefix_tokens or 0) < 0, "0 tokens or more"),
        ("as_of", not _is_date(request.as_of), "a date, for example 2026-11-21"),
        ("quality.max_loss_pct", (quality.max_loss_pct or 0) < 0, "a loss of 0 % or more"),
    ]
    for name, spread in (("prompt_tokens", work.prompt_tokens), ("output_tokens", work.output_tokens)):
        checks += _spread_limits(f"workload.{name}", spread)
    for name, limits in (("ttft_ms", slo.ttft_ms), ("tpot_ms", slo.tpot_ms), ("e2e_ms", slo.e2e_ms)):
        checks += [(f"slo.{name}.{p}", not _finite_positive(limit), "a time above 0 ms") for p, limit in limits.items()]
    return checks + _named_limits(request) + _hardware_limits(request.hardware)


def _spread_limits(path: str, spread: Spread | None) -> list[tuple[str, bool, str]]:
    if spread is None:
        return []
    longest = spread.p95 if spread.p95 is not None else spread.mean
    return [
        (f"{path}.mean", not _finite_positive(spread.mean), "a mean above 0 tokens"),
        (f"{path}.p95", not math.isfinite(longest) or longest < spread.mean, "a p95 not below the mean"),
    ]


def _named_limits(request: Request) -> list[tuple[str, bool, str]]:
    """Names that must be known: task families, lanes, engines."""
    quality, mix = request.quality or Quality(), request.workload.mix or {}
    known = ", ".join(FAMILIES)
    checks = [(f"workload.mix.{name}", name not in FAMILIES, f"one of {known}") for name in mix]
    checks += [(f"quality.per_family.{name}", name not in FAMILIES, f"one of {known}") for name in quality.per_family]
    checks += [(f"workload.mix.{name}", not 0 <= share <= 1, "a share between 0 and 1") for name, share in mix.items()]
    checks += [("workload.mix", bool(mix) and abs(sum(mix.values()) - 1) > 1e-6, "shares that add up to 1")]
    checks += [("lanes", request.lanes == (), "at least one lane, or null")]
    for index, lane in enumerate(request.lanes or ()):
        checks.append((f"lanes[{index}]", not is_lane(lane), f"a lane id, got {lane!r}"))
    return checks


def _hardware_limits(hardware: Hardware | None) -> list[tuple[str, bool, str]]:
    if hardware is None:
        return []
    ways = [hardware.accelerators is not None, hardware.any is not None]
    checks = [("hardware", sum(ways) != 1, "exactly one of accelerators, any (probe and inventory come later)")]
    if hardware.any is not None:
        checks.append(("hardware.any.max_accelerators", hardware.any.max_accelerators < 1, "at least 1"))
    for index, ask in enumerate(hardware.accelerators or ()):
        path = f"hardware.accelerators[{index}]"
        checks += [
            (f"{path}.count", not 1 <= ask.count <= 4096, "a count from 1 to 4096"),
            (f"{path}.memory_gib", _not_positive(ask.memory_gib), "memory above 0 GiB"),
            (f"{path}.host_ram_gib", _not_positive(ask.host_ram_gib), "memory above 0 GiB"),
            (f"{path}.per_node", _not_positive(ask.per_node), "at least 1"),
            (f"{path}.usd_per_hour", (ask.usd_per_hour or 0) < 0, "a price of 0 or more"),
            (f"{path}.interconnect", ask.interconnect not in (None, "nvlink", "pcie"), "nvlink or pcie"),
        ]
    if hardware.accelerators == ():
        checks.append(("hardware.accelerators", True, "at least one accelerator"))
    return checks


def canonical(request: Request) -> dict[str, Any]:
    """The request without what was left out: what the plan repeats and its id is made of."""
    built: dict[str, Any] = msgspec.to_builtins(request)
    return {key: value for key, value in _without_none(built).items() if value != {}}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value


def _at(request: Request, path: str) -> Any:
    value: Any = request
    for name in path.split("."):
        value = getattr(value, name, None)
    return value


def _is_date(value: str | None) -> bool:
    try:
        return value is None or date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _not_positive(value: float | None) -> bool:
    return value is not None and not _finite_positive(value)


def _finite_positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
