"""What one machine has and has free at one moment: the answer of a probe, sendable from another host.

SI units throughout. None means "could not be read": `problems` then says why in a sentence.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from catalog.errors import BadInput, Unsupported

INVENTORY_SCHEMA = 1
INSTANT = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"

Amount = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]


class Process(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process that holds memory of a device."""

    pid: Count
    name: str | None = None
    used_bytes: Amount | None = None
    ours: bool = False
    """Runs as the user who probed."""


class Link(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one device reaches another of the same machine."""

    to: Count
    """Index of the other device."""
    kind: Literal["nvlink", "pcie-switch", "pcie-host", "numa", "system"]
    nvlinks: Count = 0
    """Active NVLink lanes between the two."""
    peer_access: bool | None = None
    """Whether the driver allows direct reads and writes (P2P)."""


class Slice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A MIG instance: a device of its own that cannot exchange data with others."""

    profile: str
    """As nvidia-smi names it: 3g.40gb."""
    uuid: str
    memory_bytes: Amount | None = None
    free_bytes: Amount | None = None
    compute_slices: Count | None = None


class Gpu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device as its driver describes it."""

    index: Count
    name: str
    uuid: str = ""
    accelerator: str | None = None
    """Catalogue key; None for a device that the catalogue does not know."""
    memory_bytes: Amount | None = None
    free_bytes: Amount | None = None
    compute_capability: str | None = None
    sm_clock_max_hz: Amount | None = None
    memory_clock_max_hz: Amount | None = None
    power_limit_w: Amount | None = None
    power_default_w: Amount | None = None
    ecc: bool | None = None
    uncorrected_errors: Count | None = None
    """Since the driver was loaded."""
    needs_reset: bool | None = None
    """Pages wait for retirement or rows for remapping, or remapping has failed."""
    mig: bool = False
    slices: tuple[Slice, ...] = ()
    links: tuple[Link, ...] = ()
    processes: tuple[Process, ...] = ()
    problems: tuple[str, ...] = ()


class Host(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine around the devices, as the probing process may use it."""

    system: str = ""
    """linux, darwin, windows."""
    machine: str = ""
    """x86_64, aarch64, arm64."""
    cpu: str | None = None
    accelerator: str | None = None
    """Catalogue key of the CPU."""
    sockets: Count | None = None
    cores: Count | None = None
    """Physical cores of the machine."""
    usable_cpus: Amount | None = None
    """Logical CPUs that affinity and cgroup quota leave."""
    flags: tuple[str, ...] = ()
    """Instruction sets that matter to inference: avx2, avx512f, avx512_bf16, amx_int8, neon, sve …"""
    memory_channels: Count | None = None
    """Those with memory in them, over all sockets."""
    ram_bytes: Amount | None = None
    ram_available_bytes: Amount | None = None
    """What may still be allocated: the smaller of the system's and the cgroup's."""
    cgroup_memory_bytes: Amount | None = None
    """Limit of the container or service; None where there is none."""
    container: str | None = None
    """docker, podman, kubernetes, lxc …; None on a plain machine."""
    disk_path: str | None = None
    """Where model files go."""
    disk_free_bytes: Amount | None = None
    gpu_working_set_bytes: Amount | None = None
    """Apple: Metal's recommendedMaxWorkingSetSize."""


class InstalledEngine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An inference engine found on the machine."""

    id: str
    version: str | None = None
    found: str = ""
    """How: `python package`, `executable llama-server` …"""


class Inventory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine at `probed_at`."""

    schema: int = INVENTORY_SCHEMA
    probed_at: Annotated[str, Meta(pattern=INSTANT)]
    """UTC, ISO 8601 to the second: 2026-11-21T10:00:00Z."""
    host: Host = Host()
    driver: str | None = None
    """NVIDIA driver version, for example 580.65.06."""
    cuda: str | None = None
    """Newest CUDA version the driver supports, for example 13.0."""
    gpus: tuple[Gpu, ...] = ()
    engines: tuple[InstalledEngine, ...] = ()
    problems: tuple[str, ...] = ()


def decode(data: bytes) -> Inventory:
    """Read an inventory strictly. Raises BadInput with the path of the fault, Unsupported for another schema."""
    try:
        found = msgspec.json.decode(data, type=Inventory)
    except msgspec.ValidationError as fault:
        message, _, place = str(fault).partition(" - at ")
        path = re.search(r"`(\$[^`]*)`", place)
        raise BadInput(message, path[1] if path else "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadInput(f"not JSON: {fault}") from None
    check(found)
    return found


def check(inventory: Inventory) -> None:
    """Refuse what no probe answers."""
    if inventory.schema != INVENTORY_SCHEMA:
        raise Unsupported(f"inventories of schema {INVENTORY_SCHEMA} are read, not of {inventory.schema}", "$.schema")
    known = {gpu.index for gpu in inventory.gpus}
    if len(known) < len(inventory.gpus):
        raise BadInput("two devices have the same index", "$.gpus")
    for place, gpu in enumerate(inventory.gpus):
        if {link.to for link in gpu.links} - known:
            raise BadInput("a link leads to a device that is not listed", f"$.gpus[{place}].links")


def canonical(inventory: Inventory) -> bytes:
    """The document in one form: decoding it once makes whole numbers in float fields floats."""
    once = msgspec.json.decode(msgspec.json.encode(inventory), type=Inventory)
    return msgspec.json.encode(once, order="deterministic")


def identity(inventory: Inventory) -> str:
    """Sixteen hexadecimal digits that name this document and no other."""
    return hashlib.sha256(canonical(inventory)).hexdigest()[:16]
