"""From a request to a settled load and settled objectives: what was left out is filled in, and said.

Times come in milliseconds (`_ms`) as the contract allows and leave this module in seconds.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from catalog.errors import BadInput
from catalog.model import Model
from catalog.units import GIB
from planner import arrivals
from planner.cost import HOURS_PER_MONTH, MONTHS, PUE
from planner.plan import Assumption
from planner.request import PLANNED_ENGINES, Budget, Hardware, Lora, Objective, Quality, Request, Slo, Spread, Workload

GBIT = 1e9 / 8
NETWORK, DISK = 2.0, 1.0
"""Gbit/s and GiB/s where nothing is stated (assumed). Published loads read 0.3 GiB/s from network volumes (NVIDIA
Run:ai streamer post, gp3 and io2), 1.2 in a serverless pod (vllm issue 44881), 3.9 from NVMe (llama.cpp 19191)."""


class Load(Struct, frozen=True, kw_only=True):
    """The settled workload, SI units. Exactly one of `rate` and `users` is set."""

    rate: float | None
    """Peak requests per second."""
    users: int | None
    prompt: Spread
    output: Spread
    context: int
    shared_prefix: int
    burstiness: float
    mix: dict[str, float]
    languages: dict[str, float]
    """Share of each language by its two-letter code."""
    lora: Lora | None
    spares: int
    """Replicas beyond those that the load needs."""
    mean_rate: float | None
    """Requests per second over the whole day: what the price of a token is spread over. None where `rate` is."""

    @property
    def foreign(self) -> float:
        """Share of the work in languages other than English."""
        return 1.0 - self.languages.get("en", 0.0)


class Objectives(Struct, frozen=True, kw_only=True):
    """Settled limits; seconds and percent."""

    slo_s: dict[str, float]
    """{"ttft_p95_s": 1.0, …}"""
    max_loss_pct: float
    per_family: dict[str, float]
    usd_per_month: float | None
    objective: Objective
    strict: bool
    """confidence "high": limits hold at the interval's bad end."""


class Settled(Struct, frozen=True, kw_only=True):
    """A request with nothing left open, and every default that was used."""

    request: Request
    load: Load
    objectives: Objectives
    engines: tuple[str, ...]
    lanes: tuple[str, ...] | None
    as_of: str
    """ISO date: the only "now" there is; "" when the catalogue has no date either."""
    network: float
    disk: float
    """byte/s at which a checkpoint reaches a machine, and is read there."""
    guessed: tuple[str, ...]
    """Of these two, what nobody stated."""
    draft: Model | None
    """The smaller model that drafts tokens."""
    assumptions: tuple[Assumption, ...]


def settle(request: Request, max_position: int, newest: str, draft: Model | None = None) -> Settled:
    """Fill what was left out and say so.

    `max_position` is the longest context the model was made for, `newest` the newest date in the catalogue (ISO),
    `draft` the smaller model that `speculative` names.
    """
    used: list[Assumption] = []

    def default(path: str, given: Any, value: Any, because: str) -> Any:
        if given is not None:
            return given
        used.append(Assumption(path=path, value=value, because=because))
        return value

    load = _settle_load(_described(request.workload, max_position, used), max_position, default)
    if request.availability is not None:
        load = replace(load, spares=request.availability.spares)
    _say_owned(request, default)
    if not (request.slo and (request.slo.ttft_ms or request.slo.tpot_ms or request.slo.e2e_ms)):
        default("slo", None, "at most 85 % of the sustainable rate", "no latency objective is given")
    hardware = request.hardware or Hardware()
    network = default("hardware.network_gbit_per_s", hardware.network_gbit_per_s, NETWORK, "for `ready_cold_s`")
    disk = default("hardware.disk_gib_per_s", hardware.disk_gib_per_s, DISK, "for `ready_s`: an NVMe volume")
    return Settled(
        draft=draft,
        network=network * GBIT,
        disk=disk * GIB,
        guessed=tuple(
            name
            for name, given in (("network", hardware.network_gbit_per_s), ("disk", hardware.disk_gib_per_s))
            if given is None
        ),
        request=request,
        load=load,
        objectives=_settle_objectives(request, default),
        engines=default("engines", request.engines, PLANNED_ENGINES, "the engines that Lanewise launches"),
        lanes=request.lanes,
        as_of=default("as_of", request.as_of, newest, "the newest date in the catalogue"),
        assumptions=tuple(used),
    )


def _say_owned(request: Request, default: Any) -> None:
    """Name what is assumed of devices that were bought; `planner/owned.py` prices them."""
    asks = request.hardware.accelerators if request.hardware else None
    for index, ask in enumerate(asks or ()):
        path = f"hardware.accelerators[{index}].owned"
        if ask.owned is not None:
            default(f"{path}.months", ask.owned.months, MONTHS, "written off in three years")
            default(f"{path}.pue", ask.owned.pue, PUE, "the mean of data centres in 2023 (Uptime Institute)")


def _described(work: Workload, max_position: int, used: list[Assumption]) -> Workload:
    """The same work with its trace, if it has one, said as a rate and lengths; what was read off is said."""
    if work.trace is None:
        return work
    if isinstance(work.trace, str):
        raise BadInput("expected rows (arrival_s, prompt_tokens, output_tokens), not a file's name", "$.workload.trace")
    found = arrivals.described(work.trace)
    if found.longest > min(max_position, work.context_tokens_max or max_position):
        raise BadInput(f"its longest request has {found.longest} tokens, more than the context", "$.workload.trace")
    read: dict[str, tuple[Any, str]] = {
        "qps": (found.peak, f"the trace's busiest {arrivals.PEAK_S:g} s"),
        "qps_mean": (found.mean, "the trace, from its first request to its last"),
        "burstiness": (found.burstiness, "the gaps of the trace"),
        "prompt_tokens": (found.prompt, "log-normal with the trace's mean and variance"),
        "output_tokens": (found.output, "log-normal with the trace's mean and variance"),
    }
    reach = min(max_position, 1 << math.ceil(math.log2(found.longest)))
    if work.context_tokens_max is None:
        read["context_tokens_max"] = (reach, "the next power of two above the trace's longest request")
    for name, (value, because) in read.items():
        used.append(Assumption(path=f"workload.{name}", value=to_builtins(value), because=because))
    return replace(work, trace=None, **{name: value for name, (value, _) in read.items()})


def _settle_load(work: Workload, max_position: int, default: Any) -> Load:
    prompt = _settle_spread("prompt_tokens", work.prompt_tokens, 1000, default)
    output = _settle_spread("output_tokens", work.output_tokens, 250, default)
    reach = min(max_position, 1 << math.ceil(math.log2((prompt.p95 or 0) + (output.p95 or 0))))
    context = default(
        "workload.context_tokens_max",
        work.context_tokens_max,
        reach,
        "the next power of two above p95 prompt + p95 output, within the model's limit",
    )
    if context < prompt.mean + output.mean:
        raise BadInput(
            f"expected room for the mean prompt and output ({prompt.mean + output.mean:g} tokens), got {context}",
            "$.workload.context_tokens_max",
        )
    rate = work.qps if work.batch is None else work.batch.requests / work.batch.deadline_s
    return Load(
        rate=rate,
        users=work.users,
        prompt=prompt,
        output=output,
        context=context,
        shared_prefix=default("workload.shared_prefix_tokens", work.shared_prefix_tokens, 0, "no common prefix"),
        burstiness=default("workload.burstiness", work.burstiness, 1.0, "Poisson arrivals"),
        mix=default("workload.mix", work.mix, {"chat": 1.0}, "plain chat"),
        languages=default("workload.languages", work.languages, {"en": 1.0}, "English alone"),
        lora=_settle_lora(work.lora, default),
        spares=0,
        mean_rate=default("workload.qps_mean", work.qps_mean, work.qps, "always at its peak") if work.qps else rate,
    )


def _settle_lora(asked: bool | Lora | None, default: Any) -> Lora | None:
    if not asked:
        return None
    if isinstance(asked, Lora):
        return asked
    because = "one adapter of the usual rank, loaded while serving"
    return Lora(max_rank=default("workload.lora.max_rank", None, 16, because))


def _settle_spread(name: str, given: Spread | None, mean: float, default: Any) -> Spread:
    spread = given or Spread(mean=default(f"workload.{name}.mean", None, float(mean), "the contract's default"))
    p95 = default(f"workload.{name}.p95", spread.p95, 3 * spread.mean, "p95 = 3 x mean (log-normal)")
    return Spread(mean=spread.mean, p95=p95)


def _settle_objectives(request: Request, default: Any) -> Objectives:
    slo, quality, budget = request.slo or Slo(), request.quality or Quality(), request.budget or Budget()
    monthly = [limit for limit in (budget.usd_per_month, _month(budget.usd_per_hour)) if limit is not None]
    times = (("ttft", slo.ttft_ms), ("tpot", slo.tpot_ms), ("e2e", slo.e2e_ms))
    return Objectives(
        slo_s={f"{name}_{p}_s": limit / 1000 for name, limits in times for p, limit in sorted(limits.items())},
        max_loss_pct=default(
            "quality.max_loss_pct", quality.max_loss_pct, 2.0, "a loss most teams accept without a review"
        ),
        per_family=quality.per_family,
        usd_per_month=min(monthly, default=None),
        objective=default("objective", request.objective, "cost", "the cheapest that meets the objectives"),
        strict=request.confidence == "high",
    )


def _month(usd_per_hour: float | None) -> float | None:
    return None if usd_per_hour is None else usd_per_hour * HOURS_PER_MONTH
