"""What the NVIDIA driver says of its devices, through NVML. Runs as `python -m probes.nvml`, a process of its own.

A query can hang for good where a device has failed. So every fact leaves as a line of JSON on stdout as soon as it is
known, and the name of every query goes to stderr before it is made: `probes/gpus.py` reads both as far as they came.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import msgspec
import pynvml
from msgspec import Struct

from catalog.inventory import Gpu, Link, Process, Slice

Handle = Any
P2P_READ, P2P_WRITE = 0, 1
"""NVML's numbers; pynvml 13 has a tuple for the first one."""


class Driver(Struct, frozen=True, kw_only=True, tag=True):
    """The driver. `devices` counts what it manages."""

    version: str | None = None
    cuda: str | None = None
    devices: int = 0
    problems: tuple[str, ...] = ()


class Seen(Struct, frozen=True, kw_only=True, tag=True):
    """One device without its links; its name is empty where the driver cannot reach it."""

    gpu: Gpu


class Wired(Struct, frozen=True, kw_only=True, tag=True):
    """The links of one device."""

    index: int
    links: tuple[Link, ...]
    problems: tuple[str, ...] = ()


Line = Driver | Seen | Wired

NO_START = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver: its library libnvidia-ml is not on this machine",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed, but not loaded",
    pynvml.NVML_ERROR_NO_PERMISSION: "this user may not talk to the NVIDIA driver: no access to /dev/nvidia*",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was updated while an older one runs: restart the "
    "machine (driver and library versions differ)",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the NVIDIA driver is too old to be asked (before release 390)",
}
WHY = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "this device has no answer",
    pynvml.NVML_ERROR_NO_PERMISSION: "not permitted to this user",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "this driver is too old to say",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU is lost: it fell off the bus, restart the machine",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU needs a reset",
}
ABSENT = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
}
"""Answers that mean "there is none" of what a device need not have: MIG, NVLink, a further slice."""


class Ask:
    """Queries about one device, or about the driver, and what could not be read for which reason."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.unread: dict[str, list[str]] = {}
        self.said: list[str] = []

    def __call__(self, label: str, query: Callable[..., Any], *arguments: Any, may_lack: bool = False) -> Any:
        """The answer, or None: with a problem, unless the device `may_lack` it and does."""
        announce(f"{label} of {self.place}")
        try:
            return query(*arguments)
        except pynvml.NVMLError as error:
            if not (may_lack and error.value in ABSENT):
                labels = self.unread.setdefault(why(error), [])
                labels += [] if label in labels else [label]
            return None

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence per reason, in the order of the queries."""
        unread = (f"{', '.join(labels)}: {reason}" for reason, labels in self.unread.items())
        return (*unread, *self.said)


def announce(query: str) -> None:
    print(query, file=sys.stderr, flush=True)


def why(error: pynvml.NVMLError) -> str:
    """The reason in our words where we have some, in NVML's otherwise."""
    return WHY.get(error.value) or str(error).rstrip(".").lower()


def look() -> Iterator[Line]:
    """The driver, then each device, then the links of each."""
    announce("start of the driver's library")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield Driver(problems=(NO_START.get(error.value) or f"the NVIDIA driver cannot be asked: {why(error)}",))
        return
    ask = Ask("the driver")
    found = driver(ask)
    yield found
    handles: dict[int, Handle] = {}
    for index in range(found.devices):
        gpu, handle = device(index)
        yield Seen(gpu=gpu)
        handles |= {index: handle} if gpu.name else {}
    if len(handles) > 1:
        yield from wires(handles)


def driver(ask: Ask) -> Driver:
    """Versions and the number of devices."""
    cuda = ask("CUDA version", pynvml.nvmlSystemGetCudaDriverVersion_v2)
    version = ask("driver version", pynvml.nvmlSystemGetDriverVersion)
    count = ask("number of devices", pynvml.nvmlDeviceGetCount)
    if count == 0:
        ask.said.append("the NVIDIA driver runs, and sees no device")
    newest = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
    return Driver(version=version, cuda=newest, devices=count or 0, problems=ask.problems)


def device(index: int) -> tuple[Gpu, Handle]:
    """One device and its handle; the name is empty where the driver does not reach it."""
    ask = Ask(f"GPU {index}")
    handle = ask("device", pynvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return Gpu(index=index, name="", problems=ask.problems), None
    ask_it = partial(_about, ask, handle)
    total, free = memory(ask, handle)
    mode = ask_it("ECC mode", pynvml.nvmlDeviceGetEccMode)
    capability = ask_it("compute capability", pynvml.nvmlDeviceGetCudaComputeCapability)
    uncorrected = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
    mig = ask("MIG mode", pynvml.nvmlDeviceGetMigMode, handle, may_lack=True)
    found = Gpu(
        index=index,
        name=ask_it("name", pynvml.nvmlDeviceGetName) or "",
        uuid=ask_it("uuid", pynvml.nvmlDeviceGetUUID) or "",
        memory_bytes=total,
        free_bytes=free,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        sm_clock_max_hz=hertz(ask_it("SM clock", pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM)),
        memory_clock_max_hz=hertz(ask_it("memory clock", pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_MEM)),
        power_limit_w=watts(ask_it("power limit", pynvml.nvmlDeviceGetPowerManagementLimit)),
        power_default_w=watts(ask_it("default power limit", pynvml.nvmlDeviceGetPowerManagementDefaultLimit)),
        ecc=bool(mode[0]) if mode else None,
        uncorrected_errors=ask_it("uncorrected errors", pynvml.nvmlDeviceGetTotalEccErrors, *uncorrected),
        needs_reset=needs_reset(ask, handle),
        mig=bool(mig and mig[0]),
        slices=tuple(slices(ask, handle)) if mig and mig[0] else (),
        processes=processes(ask, handle),
    )
    return msgspec.structs.replace(found, problems=ask.problems), handle


def _about(ask: Ask, handle: Handle, label: str, query: Callable[..., Any], *arguments: Any) -> Any:
    return ask(label, query, handle, *arguments)


def hertz(megahertz: int | None) -> float | None:
    return None if megahertz is None else megahertz * 1e6


def watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1e3


def memory(ask: Ask, handle: Handle, label: str = "memory") -> tuple[float | None, float | None]:
    """(total, free) in bytes; a total of zero is no answer."""
    found = ask(label, pynvml.nvmlDeviceGetMemoryInfo, handle)
    if found is None:
        return None, None
    if found.total == 0:
        ask.said.append(f"{label}: the driver reports 0 bytes")
        return None, None
    return float(found.total), float(found.free)


def needs_reset(ask: Ask, handle: Handle) -> bool | None:
    """By row remapping (Ampere and newer), or by page retirement (before). A failed remapping is said, too."""
    rows = ask("row remapping", pynvml.nvmlDeviceGetRemappedRows, handle, may_lack=True)
    if rows is None:
        pending = ask("need of a reset", pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle)
        if pending:
            ask.said.append("memory pages wait for retirement: reset the GPU")
        return None if pending is None else bool(pending)
    _, _, pending, failed = rows
    if failed:
        ask.said.append("row remapping has failed: the GPU should be replaced")
    if pending:
        ask.said.append("memory rows wait for remapping: reset the GPU")
    return bool(pending or failed)


def slices(ask: Ask, handle: Handle) -> Iterator[Slice]:
    """The MIG instances of one device."""
    for number in range(ask("number of slices", pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        found = ask("slice", pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number, may_lack=True)
        if found is None:
            continue
        where = f"slice {number}"
        name = ask(f"{where} name", pynvml.nvmlDeviceGetName, found) or ""
        total, free = memory(ask, found, f"{where} memory")
        attributes = ask(f"{where} compute slices", pynvml.nvmlDeviceGetAttributes_v2, found)
        yield Slice(
            profile=name.rpartition(" MIG ")[2],
            uuid=ask(f"{where} uuid", pynvml.nvmlDeviceGetUUID, found) or "",
            memory_bytes=total,
            free_bytes=free,
            compute_slices=attributes.computeInstanceSliceCount if attributes else None,
        )


def processes(ask: Ask, handle: Handle) -> tuple[Process, ...]:
    """Who holds memory, by number; a process that both computes and draws is one."""
    used: dict[int, float | None] = {}
    for kind in ("Compute", "Graphics"):
        for process in ask(f"{kind.lower()} processes", partial(running, kind), handle) or ():
            bytes_now = process.usedGpuMemory
            used[process.pid] = max(used.get(process.pid) or 0.0, float(bytes_now)) if bytes_now is not None else None
    unknown = [str(pid) for pid, held in used.items() if held is None]
    if unknown:
        ask.said.append(f"memory of process {', '.join(unknown)}: the driver does not say")
    return tuple(Process(pid=pid, used_bytes=used[pid]) for pid in sorted(used))


def running(kind: Literal["Compute", "Graphics"], handle: Handle) -> Any:
    """NVML's list of processes, by the query of drivers before 510 where the newer one is missing."""
    try:
        return getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses_v3")(handle)
    except pynvml.NVMLError_FunctionNotFound:
        return getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses_v2")(handle)


# ---- links -----------------------------------------------------------------------------------------------------------


class Ends(Struct, frozen=True):
    """Where the active NVLink lanes of one device lead: to devices by bus id, or into a switch."""

    bus: str
    direct: Counter[str]
    switched: int


def wires(handles: dict[int, Handle]) -> Iterator[Wired]:
    """The links of every device to every other that the driver reaches."""
    asks = {index: Ask(f"GPU {index}") for index in handles}
    ends = {index: nvlink_ends(asks[index], handle) for index, handle in handles.items()}
    for index in handles:
        others = (other for other in handles if other != index)
        links = (link(asks[index], (index, other), handles, lanes(ends[index], ends[other])) for other in others)
        yield Wired(index=index, links=tuple(found for found in links if found), problems=asks[index].problems)


def nvlink_ends(ask: Ask, handle: Handle) -> Ends:
    """Counts of active lanes; the first index that the device does not have ends the list."""
    direct: Counter[str] = Counter()
    switched = 0
    own = ask("PCI address", pynvml.nvmlDeviceGetPciInfo_v3, handle)
    for lane in range(pynvml.NVML_NVLINK_MAX_LINKS):
        active = ask("NVLink state", pynvml.nvmlDeviceGetNvLinkState, handle, lane, may_lack=True)
        if active is None:
            break
        if not active:
            continue
        kind = ask("NVLink end", pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, lane, may_lack=True)
        if kind == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            switched += 1
        elif remote := ask("NVLink end", pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, lane):
            direct[bus(remote)] += 1
    return Ends(bus(own) if own else "", direct, switched)


def bus(info: Any) -> str:
    text: str = info.busId.decode() if isinstance(info.busId, bytes) else info.busId
    return text.lower()


def lanes(one: Ends, other: Ends) -> int:
    """NVLink lanes between two devices: their direct ones, and through a switch as many as both have into it."""
    return one.direct[other.bus] + min(one.switched, other.switched)


BY_ANCESTOR: dict[int, Literal["pcie-switch", "pcie-host", "numa", "system"]] = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "pcie-switch",
    pynvml.NVML_TOPOLOGY_SINGLE: "pcie-switch",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "pcie-switch",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "pcie-host",
    pynvml.NVML_TOPOLOGY_NODE: "numa",
    pynvml.NVML_TOPOLOGY_SYSTEM: "system",
}
"""What two devices have in common on the way through PCIe."""


def link(ask: Ask, pair: tuple[int, int], handles: dict[int, Handle], nvlinks: int) -> Link | None:
    """How the first of the pair reaches the second; None, with a problem, where the driver cannot say."""
    _, other = pair
    both = [handles[index] for index in pair]
    ancestor = ask("path to other GPUs", pynvml.nvmlDeviceGetTopologyCommonAncestor, *both, may_lack=nvlinks > 0)
    if ancestor not in BY_ANCESTOR and not nvlinks:
        return None
    asked = [ask("peer access", pynvml.nvmlDeviceGetP2PStatus, *both, way)
             for way in (P2P_READ, P2P_WRITE)]  # fmt: skip
    allowed = None if None in asked else all(status == pynvml.NVML_P2P_STATUS_OK for status in asked)
    kind = "nvlink" if nvlinks else BY_ANCESTOR[ancestor]
    return Link(to=other, kind=kind, nvlinks=nvlinks, peer_access=allowed)


def main() -> None:
    """Print every line as soon as it is known."""
    for line in look():
        print(msgspec.json.encode(line).decode(), flush=True)


if __name__ == "__main__":
    main()
