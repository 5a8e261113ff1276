"""Macs: the chip, its GPU, and how much memory the GPU may use, from programs that every macOS has."""

from __future__ import annotations

import json

from probes.cpu import PROGRAM_S, Cpu, matter, with_problems
from probes.world import World

SYSTEM_PROFILER_S = 30.0
"""It may take ten seconds on a busy machine: assumed."""
ARM_FEATURES = {
    "AdvSIMD": "neon", "FEAT_FP16": "fp16", "FEAT_DotProd": "dotprod", "FEAT_I8MM": "i8mm", "FEAT_BF16": "bf16",
    "FEAT_SME": "sme",
}  # fmt: skip
"""Names below `hw.optional.arm`."""
NO_WORKING_SET = (
    "GPU working set: macOS chooses it (Metal's recommendedMaxWorkingSetSize, two thirds to five sixths of the RAM) "
    "and no program tells; `sudo sysctl iogpu.wired_limit_mb=…` sets it"
)


def read(world: World) -> Cpu:
    """The chip with its GPU."""
    facts = _sysctl(world)
    limit = _number(facts.get("iogpu.wired_limit_mb"))
    gpu_cores = _gpu_cores(world)
    problems = (
        *(() if limit else (NO_WORKING_SET,)),
        *(() if gpu_cores else ("GPU cores: system_profiler does not say",)),
    )
    found = Cpu(
        name=facts.get("machdep.cpu.brand_string"),
        sockets=_number(facts.get("hw.packages")),
        cores=_number(facts.get("hw.physicalcpu")),
        flags=_flags(facts),
        gpu_cores=gpu_cores,
        gpu_working_set=limit * 2.0**20 if limit else None,
        problems=problems,
    )
    return with_problems(found, {"memory channels": "macOS does not say"})


def _sysctl(world: World) -> dict[str, str]:
    """All that is asked, in one call; a name that this system lacks is left out of the answer."""
    names = ("machdep.cpu", "hw", "iogpu")
    rows = (line.partition(":") for line in world.run(("sysctl", *names), PROGRAM_S).out.splitlines())
    return {key.strip(): value.strip() for key, _, value in rows}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and int(text) else None


def _flags(facts: dict[str, str]) -> tuple[str, ...]:
    """Features of Apple's own chips, or the flag words of Intel's."""
    words = f"{facts.get('machdep.cpu.features', '')} {facts.get('machdep.cpu.leaf7_features', '')}".lower().split()
    own = [flag for name, flag in ARM_FEATURES.items() if facts.get(f"hw.optional.arm.{name}") == "1"]
    return matter([*own, *(word.replace("avx1.0", "avx") for word in words)])


def _gpu_cores(world: World) -> int | None:
    ran = world.run(("system_profiler", "SPDisplaysDataType", "-json"), SYSTEM_PROFILER_S)
    try:
        displays = json.loads(ran.out)["SPDisplaysDataType"]
        return next((_number(str(display["sppci_cores"])) for display in displays if "sppci_cores" in display), None)
    except (ValueError, KeyError, TypeError):
        return None
