"""The NVIDIA devices of this machine. NVML is asked in a process of its own, because a query may never return."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from catalog.inventory import Gpu, Process
from probes import known
from probes.known import Accelerators
from probes.nvml import Driver, Line, Seen, Wired
from probes.world import Owner, Ran, World

DEADLINE_S = 60.0
"""For all queries together: a driver without persistence mode starts each device anew, seconds per device. Assumed."""
COMMAND = (
    "import sys; sys.path.insert(0, sys.argv[1]); from probes.nvml import main; main()",
    str(Path(__file__).parent.parent),
)


class Devices(Struct, frozen=True, kw_only=True):
    """The devices and their driver."""

    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problems: tuple[str, ...] = ()


def read(world: World, accelerators: Accelerators, deadline_s: float = DEADLINE_S) -> Devices:
    """What the driver says, with catalogue keys and the owners of processes. Never raises for what a driver does."""
    if world.system == "darwin":
        return Devices(problems=("NVIDIA devices: macOS has no driver for them",))
    ran = world.run((sys.executable, "-P", "-c", *COMMAND), deadline_s)
    lines = tuple(_lines(ran.out))
    driver = next((line for line in lines if isinstance(line, Driver)), Driver())
    gpus = tuple(_complete(gpu, world, accelerators) for gpu in _wired(lines))
    return Devices(
        driver=driver.version,
        cuda=driver.cuda,
        gpus=gpus,
        problems=(*driver.problems, *_failure(ran, deadline_s), *_missing(driver, lines)),
    )


def _lines(out: str) -> Iterator[Line]:
    """What was said. A last line that was cut off is none, nor is what the driver's library prints itself."""
    for line in out.splitlines():
        with contextlib.suppress(msgspec.DecodeError):
            yield msgspec.json.decode(line, type=Line)


def _failure(ran: Ran, deadline_s: float) -> tuple[str, ...]:
    """How the process that asks the driver ended, unless it ended well."""
    said = ran.err.strip().splitlines()
    last = said[-1] if said else "its start"
    if ran.code is None:
        return (f"the NVIDIA driver did not answer within {deadline_s:g} s; last asked: {last}",)
    if ran.code < 0:
        return (f"the NVIDIA driver's library crashed (signal {-ran.code}); last asked: {last}",)
    return (f"the NVIDIA devices were not read: {last}",) if ran.code else ()


def _missing(driver: Driver, lines: Sequence[Line]) -> tuple[str, ...]:
    """What an early end left unread."""
    seen = [line.gpu for line in lines if isinstance(line, Seen)]
    wired = [line for line in lines if isinstance(line, Wired)]
    reached = sum(1 for gpu in seen if gpu.name)
    devices = f"{driver.devices - len(seen)} of {driver.devices} NVIDIA devices were not read"
    links = reached > 1 and reached > len(wired) and "links between devices were not read"
    return (*([devices] if len(seen) < driver.devices else []), *([links] if links else []))


def _wired(lines: Sequence[Line]) -> Iterator[Gpu]:
    """Every device with its links."""
    wired = {line.index: line for line in lines if isinstance(line, Wired)}
    for gpu in (line.gpu for line in lines if isinstance(line, Seen)):
        own = wired.get(gpu.index, Wired(index=gpu.index, links=()))
        yield msgspec.structs.replace(gpu, links=own.links, problems=(*gpu.problems, *own.problems))


def _complete(gpu: Gpu, world: World, accelerators: Accelerators) -> Gpu:
    """The device with what only the machine around it knows."""
    if not gpu.name:
        return gpu
    gpu = _owned(_with_shared_memory(gpu, world, accelerators), world)
    match = known.gpu(gpu, accelerators)
    return msgspec.structs.replace(
        gpu, accelerator=match.key, problems=(*gpu.problems, *([match.because] if match.because else ()))
    )


def _with_shared_memory(gpu: Gpu, world: World, accelerators: Accelerators) -> Gpu:
    """GB10 and Jetson have no memory of their own, and their drivers do not say: the host's is theirs."""
    named = known.entries_named(gpu.name, accelerators)
    if gpu.memory_bytes is not None or not any(entry.kind == "unified" for entry in named):
        return gpu
    ram = world.ram()
    said = "memory is shared with the host: total and free are those of its RAM"
    return msgspec.structs.replace(
        gpu, memory_bytes=ram.total, free_bytes=ram.available, problems=(*gpu.problems, said)
    )


def _owned(gpu: Gpu, world: World) -> Gpu:
    """The device with the names of the processes on it, and whether they are ours."""
    owners = {process.pid: world.owner(process.pid) for process in gpu.processes}
    hidden = [str(pid) for pid, owner in owners.items() if owner.name is None]
    said = (f"process {', '.join(hidden)} cannot be seen from here: it has ended or is another container's",)
    return msgspec.structs.replace(
        gpu,
        processes=tuple(_with_owner(process, owners[process.pid]) for process in gpu.processes),
        problems=(*gpu.problems, *(said if hidden else ())),
    )


def _with_owner(process: Process, owner: Owner) -> Process:
    return msgspec.structs.replace(process, name=owner.name, ours=owner.ours)
