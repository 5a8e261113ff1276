"""From bytes to a request: decoded strictly, checked value by value, refused with the path of the fault."""

from __future__ import annotations

import math
import re
import tomllib
from datetime import date
from typing import Any, Literal, TypeVar

import msgspec

from catalog import inventory as inventories
from catalog.errors import BadInput, Unsupported
from catalog.lane import is_lane
from planner.arrivals import fault_of
from planner.headroom.picture import Ask
from planner.request import (
    FAMILIES,
    PLANNED_ENGINES,
    SCHEMA,
    Hardware,
    Lora,
    Overrides,
    Owned,
    Quality,
    Request,
    Slo,
    Speculative,
    Spread,
    Workload,
)

MAX_RANK = 512
"""Largest `--max-lora-rank` (vllm 0.33 config/lora.py)."""
LARGEST = 1 << 30
"""Tokens, sequences or devices beyond which a number is a slip of the pen."""

NOT_PLANNED = {
    "workload.thinking_tokens": "reasoning models' hidden tokens are not planned yet: add them to output_tokens",
    "workload.sessions": "multi-turn sessions are not planned yet: state prompt_tokens with the history included",
    "workload.structured_share": "structured output is not planned yet",
    "workload.images": "images are not planned yet: add their tokens to prompt_tokens",
    "budget.watts": "a power budget is not planned yet",
    "current": "comparing with an existing deployment is not planned yet",
    "classes": "traffic classes are not planned yet: send one request per class",
    "allow_models": "offering other models is not planned yet",
}
"""Fields of the contract that are known, and refused by name until they are planned."""


def decode(data: bytes, kind: Literal["json", "toml"] = "json") -> Request:
    """Read a request. Raises BadInput with the path of the fault, Unsupported for a field not planned yet."""
    request = strictly(data, Request, kind)
    check(request)
    return request


def decode_ask(data: bytes) -> Ask:
    """Read a question about memory, in JSON. Raises BadInput with the path of the fault."""
    ask = strictly(data, Ask)
    check_ask(ask)
    return ask


def check_split(ask: Ask) -> None:
    """llama.cpp's numbers of layers may be 0, its shares may not."""
    for name in ("gpu_layers", "cpu_experts"):
        if (getattr(ask, name) or 0) < 0:
            raise BadInput(f"expected 0 or more, found {getattr(ask, name)}", f"$.{name}")
    shares = ask.tensor_split
    if shares is not None and (not shares or min(shares) <= 0):
        raise BadInput("expected one number above 0 per device, as in 3,1", "$.tensor_split")
    if shares is not None and ask.pipeline_parallel not in (None, len(shares)):
        raise BadInput(f"{len(shares)} shares for {ask.pipeline_parallel} devices", "$.tensor_split")


Read = TypeVar("Read")


def strictly(data: bytes, kind_of: type[Read], kind: Literal["json", "toml"] = "json") -> Read:
    """Bytes as a Struct; unknown fields and other types are faults. Raises BadInput with the path."""
    try:
        if kind == "json":
            return msgspec.json.decode(data, type=kind_of)
        return msgspec.convert(tomllib.loads(data.decode()), kind_of)
    except msgspec.ValidationError as fault:
        message, _, place = str(fault).partition(" - at ")
        path = re.search(r"`(\$[^`]*)`", place)
        raise BadInput(message, path[1] if path else "$") from None
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise BadInput(f"not {kind.upper()}: {fault}") from None


def check(request: Request) -> None:
    """Refuse what is known but not planned, and values that make no sense."""
    for path, reason in NOT_PLANNED.items():
        if _at(request, path) not in (None, False):
            raise Unsupported(f"`{path}`: {reason}", f"$.{path}")
    if request.task not in (None, "generate"):
        raise Unsupported(f"`task`: only generate is planned, got {request.task!r}", "$.task")
    _check_inventory(request.hardware)
    for path, wrong, expected in _limits(request):
        if wrong:
            raise BadInput(f"expected {expected}", f"$.{path}")


def check_ask(ask: Ask) -> None:
    """Refuse values of a question about memory that make no sense."""
    _check_inventory(ask.hardware)
    if ask.engine is not None and ask.engine not in PLANNED_ENGINES:
        raise Unsupported(f"memory is counted for {' and '.join(PLANNED_ENGINES)}, not for {ask.engine!r}", "$.engine")
    check_split(ask)
    for path, wrong, expected in _ask_limits(ask):
        if wrong:
            raise BadInput(f"expected {expected}", f"$.{path}")


def _ask_limits(ask: Ask) -> list[tuple[str, bool, str]]:
    """(path, whether it is wrong, what was expected) of every rule about single values of a question."""
    counts = {name: getattr(ask, name) for name in ("sequences", "batched_tokens")}
    counts |= {name: getattr(ask, name) for name in ("tensor_parallel", "pipeline_parallel", "data_parallel")}
    share, lora = ask.utilization, ask.lora
    return [
        ("schema", ask.schema != SCHEMA, f"schema {SCHEMA}, got {ask.schema}"),
        ("model", not ask.model.strip(), "a model id, folder or .gguf file"),
        ("lane", ask.lane is not None and not is_lane(ask.lane), f"a lane id, got {ask.lane!r}"),
        ("context", ask.context is not None and not 2 <= ask.context <= LARGEST, f"2 to {LARGEST} tokens"),
        *((name, n is not None and not 1 <= n <= LARGEST, f"1 to {LARGEST}, got {n}") for name, n in counts.items()),
        ("utilization", share is not None and not 0 < share <= 1, f"a share above 0, at most 1, got {share}"),
        ("hardware.any", ask.hardware.any is not None, "accelerators by name, or a machine"),
        ("lora.adapters", lora is not None and lora.adapters < 1, "at least 1 adapter"),
        ("lora.max_rank", lora is not None and not 1 <= lora.max_rank <= MAX_RANK, f"a rank from 1 to {MAX_RANK}"),
        *_hardware_limits(ask.hardware),
    ]


def _check_inventory(hardware: Hardware | None) -> None:
    if hardware is None or hardware.inventory is None:
        return
    try:
        inventories.check(hardware.inventory)
    except BadInput as fault:
        raise type(fault)(fault.message, f"$.hardware.inventory{fault.path.removeprefix('$')}") from None


def _limits(request: Request) -> list[tuple[str, bool, str]]:
    """(path, whether it is wrong, what was expected) of every rule about single values."""
    work, slo, quality = request.workload, request.slo or Slo(), request.quality or Quality()
    rates = [each is not None for each in (work.qps, work.users, work.batch, work.trace)]
    checks = [
        ("schema", request.schema != SCHEMA, f"schema {SCHEMA}, got {request.schema}"),
        ("model", not request.model.strip(), "a model id, folder or .gguf file"),
        ("workload", sum(rates) != 1, "exactly one of qps, users, batch, trace"),
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
    checks += _shares("workload.languages", work.languages) + _trace_limits(work)
    if isinstance(work.lora, Lora):
        checks += [
            ("workload.lora.adapters", work.lora.adapters < 1, "at least 1 adapter"),
            ("workload.lora.max_rank", not 1 <= work.lora.max_rank <= MAX_RANK, f"a rank from 1 to {MAX_RANK}"),
        ]
    if request.availability is not None:
        checks.append(("availability.spares", request.availability.spares < 0, "0 spares or more"))
    checks += _draft_limits(request.speculative)
    return checks + _named_limits(request) + _hardware_limits(request.hardware) + _own_limits(request.overrides)


MAX_DRAFTS = 32
"""Drafted tokens in one step beyond which nobody measured anything."""


def _draft_limits(asked: Speculative | None) -> list[tuple[str, bool, str]]:
    if asked is None:
        return []
    named, needed = asked.draft_model is not None, asked.method in ("eagle3", "draft")
    kept = asked.acceptance
    return [
        ("speculative.tokens", not 1 <= asked.tokens <= MAX_DRAFTS, f"1 to {MAX_DRAFTS} tokens"),
        ("speculative.acceptance", kept is not None and not 0 <= kept < 1, "a probability from 0 to below 1"),
        ("speculative.draft_model", needed and not named, f"the model that drafts, for method {asked.method}"),
        ("speculative.draft_model", named and not needed, f"no model for method {asked.method}"),
    ]


def _trace_limits(work: Workload) -> list[tuple[str, bool, str]]:
    """A trace says itself how long requests are and how they come; every row is possible."""
    if work.trace is None:
        return []
    named = [("prompt_tokens", work.prompt_tokens), ("output_tokens", work.output_tokens)]
    own = [*named, ("burstiness", work.burstiness)]
    checks = [(f"workload.{name}", given is not None, "nothing beside `trace`, which says it") for name, given in own]
    for index, row in enumerate(work.trace if isinstance(work.trace, tuple) else ()):
        if (wrong := fault_of(row)) is not None:
            checks.append((f"workload.trace[{index}].{wrong[0]}", True, wrong[1]))
    return checks


def _shares(path: str, shares: dict[str, float] | None) -> list[tuple[str, bool, str]]:
    given = shares or {}
    checks = [(f"{path}.{name}", not 0 <= share <= 1, "a share between 0 and 1") for name, share in given.items()]
    return [*checks, (path, bool(given) and abs(sum(given.values()) - 1) > 1e-6, "shares that add up to 1")]


def _own_limits(overrides: Overrides | None) -> list[tuple[str, bool, str]]:
    """Numbers of one's own: known names, possible values, at least one number each."""
    checks = []
    for index, own in enumerate(overrides.estimates if overrides else ()):
        path = f"overrides.estimates[{index}]"
        says = own.loss_pct or own.weight_bytes is not None or own.requests_per_s is not None
        checks += [
            (path, not says, "loss_pct, weight_bytes or requests_per_s"),
            (f"{path}.lane", own.lane is not None and not is_lane(own.lane), f"a lane id, got {own.lane!r}"),
            (f"{path}.weight_bytes", _not_positive(own.weight_bytes), "bytes above 0"),
            (f"{path}.requests_per_s", _not_positive(own.requests_per_s), "a rate above 0"),
        ]
        for family, loss in own.loss_pct.items():
            checks.append((f"{path}.loss_pct.{family}", family not in FAMILIES, f"one of {', '.join(FAMILIES)}"))
            checks.append((f"{path}.loss_pct.{family}", not 0 <= loss <= 100, "a loss from 0 to 100 %"))
    return checks


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
    checks += _shares("workload.mix", mix)
    checks += [("lanes", request.lanes == (), "at least one lane, or null")]
    for index, lane in enumerate(request.lanes or ()):
        checks.append((f"lanes[{index}]", not is_lane(lane), f"a lane id, got {lane!r}"))
    return checks


def _hardware_limits(hardware: Hardware | None) -> list[tuple[str, bool, str]]:
    if hardware is None:
        return []
    ways = [
        hardware.accelerators is not None,
        hardware.any is not None,
        bool(hardware.probe),
        hardware.inventory is not None,
        hardware.inventory_id is not None,
    ]
    checks = [("hardware", sum(ways) != 1, "exactly one of accelerators, any, probe, inventory, inventory_id")]
    if hardware.reserved is not None:
        kept = hardware.reserved.memory_gib
        checks.append(("hardware.reserved.memory_gib", not kept >= 0, "memory of 0 GiB or more"))
    for name in ("network_gbit_per_s", "disk_gib_per_s"):
        checks.append((f"hardware.{name}", _not_positive(getattr(hardware, name)), "a rate above 0"))
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
            (
                f"{path}.owned",
                bool(ask.owned) and ask.usd_per_hour is not None,
                "either usd_per_hour or owned, not both",
            ),
            (f"{path}.interconnect", ask.interconnect not in (None, "nvlink", "pcie"), "nvlink or pcie"),
            *_owned_limits(f"{path}.owned", ask.owned),
        ]
    if hardware.accelerators == ():
        checks.append(("hardware.accelerators", True, "at least one accelerator"))
    return checks


def _owned_limits(path: str, owned: Owned | None) -> list[tuple[str, bool, str]]:
    if owned is None:
        return []
    money = {"capital_usd": owned.capital_usd, "usd_per_kwh": owned.usd_per_kwh}
    return [
        *((f"{path}.{name}", not 0 <= paid < math.inf, "a price of 0 or more") for name, paid in money.items()),
        (f"{path}.months", _not_positive(owned.months), "months above 0"),
        (f"{path}.pue", owned.pue is not None and not 1 <= owned.pue < math.inf, "a PUE of 1 or more"),
        (f"{path}.watts", _not_positive(owned.watts), "watts above 0"),
    ]


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
