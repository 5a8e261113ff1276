"""The processor: name, sockets, cores, instruction sets, memory channels."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from probes.world import World

MATTER = (
    "avx", "avx2", "f16c", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
    "neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip
"""Instruction sets that matter to inference, in the order they are listed."""
ARM_WORDS = {"asimd": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "advsimd": "neon"}
"""Linux's and macOS's words for what engines call otherwise."""
PROGRAM_S = 10.0
"""How long a small program may take: assumed."""


class Cpu(Struct, frozen=True, kw_only=True):
    """The processors of one machine; `problems` says what could not be read."""

    name: str | None = None
    sockets: int | None = None
    cores: int | None = None
    flags: tuple[str, ...] = ()
    memory_channels: int | None = None
    gpu_cores: int | None = None
    """Apple: of the GPU on the same chip."""
    gpu_working_set: float | None = None
    """Apple: bytes."""
    problems: tuple[str, ...] = ()


def linux(world: World) -> Cpu:
    """From /proc and /sys; `lscpu` knows the names of ARM cores."""
    processors = _processors(world.read("/proc/cpuinfo") or "")
    first = processors[0] if processors else {}
    words = (first.get("flags") or first.get("Features") or "").split()
    found = Cpu(
        name=first.get("model name") or _by_lscpu(world),
        sockets=_distinct(world, "physical_package_id") or _counted(processors, ("physical id",)),
        cores=_distinct(world, "thread_siblings_list") or _counted(processors, ("physical id", "core id")),
        flags=matter(words),
        memory_channels=_channels(world),
    )
    return with_problems(found, {"memory channels": "no EDAC driver describes them, and dmidecode needs root"})


def other(world: World) -> Cpu:
    """A system that is not read in detail."""
    return with_problems(Cpu(name=world.environ.get("PROCESSOR_IDENTIFIER")), {}, f"not read on {world.system}")


def with_problems(found: Cpu, because: dict[str, str], otherwise: str = "the system does not say") -> Cpu:
    """The same with a sentence for every blank."""
    values = {
        "CPU name": found.name,
        "sockets": found.sockets,
        "cores": found.cores,
        "instruction sets": found.flags or None,
        "memory channels": found.memory_channels,
    }
    said = (f"{what}: {because.get(what, otherwise)}" for what, value in values.items() if value is None)
    return msgspec.structs.replace(found, problems=(*found.problems, *said))


def matter(words: Iterable[str]) -> tuple[str, ...]:
    """Of a processor's flags those that matter, by our words."""
    present = {ARM_WORDS.get(word, word) for word in words}
    return tuple(flag for flag in MATTER if flag in present)


def _processors(cpuinfo: str) -> list[dict[str, str]]:
    """One table per logical CPU."""
    blocks = (block.splitlines() for block in cpuinfo.split("\n\n") if block.strip())
    tables = [{key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block)}
              for block in blocks]  # fmt: skip
    return [table for table in tables if "processor" in table]


def _counted(processors: list[dict[str, str]], keys: tuple[str, ...]) -> int | None:
    found = {tuple(table[key] for key in keys) for table in processors if all(key in table for key in keys)}
    return len(found) or None


def _distinct(world: World, name: str) -> int | None:
    """How many values one file of the topology has over all logical CPUs; -1 means that the firmware does not say."""
    found = set(world.texts(f"/sys/devices/system/cpu/cpu[0-9]*/topology/{name}").values())
    return len(found - {"-1", ""}) or None


def _by_lscpu(world: World) -> str | None:
    ran = world.run(("lscpu",), PROGRAM_S)
    rows = (line.partition(":") for line in ran.out.splitlines())
    names = [value.strip() for key, _, value in rows if key.strip() == "Model name"]
    return " / ".join(dict.fromkeys(names)) or None


def _channels(world: World) -> int | None:
    """Channels with memory in them, over all sockets, by the kernel's memory-error driver (EDAC)."""
    modules = "/sys/devices/system/edac/mc/mc[0-9]*/*"
    sizes = {path.parent: size for path, size in world.texts(f"{modules}/size").items()}
    found = set()
    for path, location in world.texts(f"{modules}/dimm_location").items():
        _, _, after = location.partition("channel ")
        if after and sizes.get(path.parent, "0") != "0":
            found.add((path.parent.parent, after.split()[0]))
    return len(found) or None
