"""Predicted against measured: a verdict for every estimate that serving measures, and which term was off.

An estimate is `inside` where the measured value lies in its 80 % interval, `beside` where only the measurement's own
interval reaches it, `off` where neither does, `open` where nothing decides: too few answers, another machine, no line
in the log.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct, structs

from catalog.units import GIB
from planner import startup
from planner.plan import Candidate, Estimate
from planner.proving import served
from planner.proving.loadtools import TOOLS, Driven
from planner.proving.ran import Ran
from planner.proving.served import Columns, Measured, Statistic, Sustained

Fit = Literal["inside", "beside", "off", "open"]
MIB = 2.0**20
LOGGED: dict[str, dict[str, tuple[str, float]]] = {
    "vllm": {
        "weight_bytes": ("weights_gib", GIB), "activation_bytes": ("activation_peak_gib", GIB),
        "kv_pool_bytes": ("kv_cache_gib", GIB),
    },
    "llama.cpp": {
        "weight_bytes": ("model_buffer_mib", MIB), "activation_bytes": ("compute_buffer_mib", MIB),
        "kv_needed_bytes": ("kv_mib", MIB),
    },
}  # fmt: skip
"""Estimate -> what the engine's log prints of it, and its unit in bytes. llama.cpp allocates what its slots need."""
PRINTED_TO = 0.005
"""Half of the last digit that both engines print of a size, in the unit of the line."""
LOGGED_BY = "the engine's log"
TIMES = tuple(f"{kind}_p{percent}_s" for kind in served.KINDS for percent in served.PERCENTILES)
GROUPS = {
    "memory": ("weight_bytes", "activation_bytes", "kv_pool_bytes", "kv_needed_bytes"),
    "start": ("ready_s",),
    "latency": TIMES,
    "rate": ("requests_per_s", "requests_per_s_max", "running_sequences"),
    "power": ("watts",),
}


class Printed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number of the engine's own log."""

    metric: str
    value: float
    unit: str
    of: str = ""
    place: str = ""


class Claim(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One estimate beside what was measured of it."""

    name: str
    group: str
    unit: str
    predicted: float
    low: float
    high: float
    basis: str
    measured: float | None = None
    measured_low: float | None = None
    measured_high: float | None = None
    ratio: float | None = None
    """Measured over predicted."""
    verdict: Fit
    because: str = ""
    by: str = ""
    """What measured it: the engine's log, the client, the clock, the probe."""


class Kept(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An objective beside what was measured of it."""

    name: str
    limit_s: float
    measured_s: float | None
    verdict: Literal["kept", "broken", "open"]
    because: str = ""


class Serving(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What serving came to: the outcome, every claim, and what the engine printed."""

    outcome: str
    """measured, not possible here, not run, or how it failed: port in use, died at start, out of memory, not ready,
    died under load, load tool failed, failed, cancelled."""
    because: str = ""
    elsewhere: str = ""
    """Why the plan's numbers and these cannot be compared; empty on a machine that has the planned devices."""
    requests: int = 0
    """Of all repeats …"""
    repeats: int = 0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    """… and their mean lengths, as the server counted them."""
    output_tokens_per_s: float = 0.0
    output_tokens_per_s_low: float | None = None
    output_tokens_per_s_high: float | None = None
    """The repeats' extremes."""
    errors: dict[str, int] = {}
    late_s: float = 0.0
    """By how much the client sent later than due (p99)."""
    memory_peak_bytes: float = 0.0
    """Of the server's processes, shared pages once."""
    gpu_peak_bytes: float = 0.0
    objectives: tuple[Kept, ...] = ()
    claims: tuple[Claim, ...] = ()
    off: dict[str, str] = {}
    """Group of claims -> the one that lies farthest outside its interval."""
    sustained: Sustained | None = None
    printed: tuple[Printed, ...] = ()
    kernels: dict[str, str] = {}
    """What the engine says that it took."""
    unread: int = 0
    """Lines of the log that hold a size in words that nobody knows."""
    load_tool: Driven | None = None
    """Who sent the repeats, where that was not our own client."""
    notes: tuple[str, ...] = ()
    ran: Ran | None = None
    """What was served under which load, for later plans."""


class Seen(Struct, frozen=True, kw_only=True):
    """Everything that was measured of one candidate."""

    measured: Measured
    printed: tuple[Printed, ...]
    replicas: int
    open_load: bool
    """Requests came at a rate: then the rate is given, not found."""


def claims(candidate: Candidate, seen: Seen, elsewhere: str = "") -> tuple[Claim, ...]:
    """Every estimate of the candidate that serving can measure; `elsewhere` = why this machine decides nothing."""
    found = {**_logged(candidate, seen), **_timed(seen)}
    made = []
    for group, names in GROUPS.items():
        for name in names:
            estimate = candidate.estimates.get(name)
            given = name == "requests_per_s" and seen.open_load
            printed_nowhere = group == "memory" and name not in LOGGED.get(candidate.engine, {})
            if estimate is not None and not given and not printed_nowhere:
                statistic, by = found.get(name, (None, ""))
                made.append(_claim((name, group), estimate, statistic, by, elsewhere))
    return tuple(made)


def off(made: Iterable[Claim]) -> dict[str, str]:
    """Group -> the claim that lies farthest outside its interval, in widths of it."""
    worst: dict[str, Claim] = {}
    for claim in made:
        if claim.verdict == "off" and (claim.group not in worst or _far(claim) > _far(worst[claim.group])):
            worst[claim.group] = claim
    return {group: claim.name for group, claim in worst.items()}


def serving(candidate: Candidate, seen: Seen, limits: Mapping[str, float], elsewhere: str = "") -> Serving:
    """The whole comparison; the engine's own words beside its numbers are added by whoever read them."""
    measured, made = seen.measured, claims(candidate, seen, elsewhere)
    lengths = [[n for each in measured.repeats for n in column(each) if n] for column in (_prompt, _output)]
    tokens = served.statistics(measured).get("output_tokens_per_s")
    return Serving(
        outcome="measured",
        elsewhere=elsewhere,
        requests=sum(len(each.due) for each in measured.repeats),
        repeats=len(measured.repeats),
        prompt_tokens=_mean(lengths[0]),
        output_tokens=_mean(lengths[1]),
        output_tokens_per_s=tokens.value if tokens else 0.0,
        output_tokens_per_s_low=tokens.low if tokens else None,
        output_tokens_per_s_high=tokens.high if tokens else None,
        errors=served.errors(measured),
        late_s=served.late_s(measured),
        memory_peak_bytes=measured.memory_peak_bytes,
        gpu_peak_bytes=measured.gpu_peak_bytes,
        objectives=objectives(limits, measured, elsewhere),
        claims=made,
        off=off(made),
        sustained=measured.sustained,
        printed=seen.printed,
        notes=tuple(filter(None, (served.behind(measured), SAME_MACHINE, VERBOSE.get(candidate.engine)))),
    )


VERBOSE = {"llama.cpp": "llama-server was started with `-lv 4` beside its launch file, so that it prints its buffers"}
OTHER_MACHINE = "not the planned machine"
SAME_MACHINE = "the client ran on the machine that served: it took its share of the CPU"


def _prompt(each: Columns) -> tuple[int, ...]:
    return each.prompt


def _output(each: Columns) -> tuple[int, ...]:
    return each.output


def _mean(found: list[int]) -> float:
    return sum(found) / len(found) if found else 0.0


def objectives(limits: Mapping[str, float], measured: Measured, elsewhere: str = "") -> tuple[Kept, ...]:
    """Whether the planned load kept the objectives: at both ends of what was measured, else open."""
    found = served.statistics(measured)
    return tuple(_objective(name, limit, found.get(name), elsewhere) for name, limit in limits.items())


def _objective(name: str, limit: float, value: Statistic | None, elsewhere: str) -> Kept:
    if value is None:
        return Kept(name=name, limit_s=limit, measured_s=None, verdict="open", because="no answer came whole")
    because = OTHER_MACHINE if elsewhere else value.open_because
    sure = value.high <= limit or value.low > limit
    if not because and not sure:
        because = f"its interval, {value.low:.3g} to {value.high:.3g} s, holds the limit"
    kept: Literal["kept", "broken"] = "kept" if value.value <= limit else "broken"
    return Kept(
        name=name, limit_s=limit, measured_s=value.value, verdict="open" if because else kept, because=because
    )  # fmt: skip


def _timed(seen: Seen) -> dict[str, tuple[Statistic | None, str]]:
    """What the client and the clock measured."""
    client = TOOLS[seen.measured.tool.id].name if seen.measured.tool else "the client"
    made: dict[str, tuple[Statistic | None, str]] = {
        name: (value, client) for name, value in served.statistics(seen.measured).items()
    }
    made["ready_s"] = (_exact(seen.measured.ready_s), "the clock")
    if "requests_per_s" in made and made["requests_per_s"][0] is not None:
        made["requests_per_s"] = (_scaled(made["requests_per_s"][0], seen.replicas), client)
    found = seen.measured.sustained
    if found is not None:
        made["requests_per_s_max"] = (_sustained(found, seen.replicas), "the client, by bisection")
    if seen.measured.watts is not None:
        made["watts"] = (_exact(seen.measured.watts * seen.replicas), "the driver")
    return made


def _sustained(found: served.Sustained, replicas: int) -> Statistic | None:
    """The limit lies between two rates; a search without one of them decides nothing."""
    tried = len(found.trials)
    if found.at_least is None and found.below is None:
        return None
    low, high = found.at_least or 0.0, found.below if found.below is not None else math.inf
    if found.below is None or found.at_least is None:
        said = f"at least {low:g}" if found.below is None else f"below {high:g}"
        near = low if found.below is None else high
        return Statistic(
            value=near * replicas, low=near * replicas, high=near * replicas, samples=tried,
            open_because=f"the time for the search ended with {said} requests/s per replica",
        )  # fmt: skip
    return Statistic(value=math.sqrt(low * high) * replicas, low=low * replicas, high=high * replicas, samples=tried)


def _logged(candidate: Candidate, seen: Seen) -> dict[str, tuple[Statistic | None, str]]:
    """Memory terms in bytes, of one device, as the log prints them."""
    made: dict[str, tuple[Statistic | None, str]] = {}
    file = sum(each.value for each in seen.printed if each.metric == "file_mib")
    for name, (metric, unit) in LOGGED.get(candidate.engine, {}).items():
        lines = [each for each in seen.printed if each.metric == metric]
        if lines:
            size = _size(candidate.engine, lines, file if name == "weight_bytes" else 0.0)
            made[name] = (_exact(size * unit, PRINTED_TO * unit), LOGGED_BY)
    return made


def _size(engine: str, lines: list[Printed], file: float) -> float:
    """Of all devices under llama.cpp, of the first rank under vLLM, where every rank prints its own."""
    if engine == "llama.cpp":
        return startup.held([(each.of, each.value) for each in lines], file)
    return min(lines, key=lambda each: each.of).value


def _claim(what: tuple[str, str], estimate: Estimate, value: Statistic | None, by: str, elsewhere: str) -> Claim:
    """One row. Another machine's numbers are shown and decide nothing."""
    name, group = what
    bare = Claim(
        name=name, group=group, unit=estimate.unit, predicted=estimate.value, low=estimate.low, high=estimate.high,
        basis=estimate.basis, verdict="open", because="not measured", by=by,
    )  # fmt: skip
    if value is None:
        return bare
    verdict, because = ("open", OTHER_MACHINE) if elsewhere else _fit(estimate, value, by)
    return structs.replace(
        bare, measured=value.value, measured_low=value.low, measured_high=value.high,
        ratio=value.value / estimate.value if estimate.value else None, verdict=verdict, because=because,
    )  # fmt: skip


def _fit(estimate: Estimate, value: Statistic, by: str) -> tuple[Fit, str]:
    if value.open_because:
        return "open", value.open_because
    if estimate.low <= value.value <= estimate.high:
        return "inside", ""
    if value.low <= estimate.high and value.high >= estimate.low:
        if by == LOGGED_BY:
            return "inside", "as far as the log prints it"
        return "beside", "the measurement's own interval reaches the estimate's"
    return "off", f"{_times(value.value, estimate.value)} the estimate"


def _times(value: float, predicted: float) -> str:
    return f"{value / predicted:.3g} x" if predicted else "nothing was predicted:"


def _exact(value: float, to: float = 0.0) -> Statistic:
    """A number that was read off once, to so much either way."""
    return Statistic(value=value, low=max(value - to, 0.0), high=value + to, samples=1)


def _scaled(value: Statistic | None, factor: int) -> Statistic | None:
    if value is None:
        return None
    return structs.replace(value, value=value.value * factor, low=value.low * factor, high=value.high * factor)


def _far(claim: Claim) -> float:
    """Distance beyond the interval, in logarithms, over the width of its near half."""
    assert claim.measured is not None
    end = claim.high if claim.measured > claim.high else claim.low
    least = 1e-12
    width = abs(math.log(max(end, least) / max(claim.predicted, least))) or 1e-3
    return abs(math.log(max(claim.measured, least) / max(end, least))) / width
