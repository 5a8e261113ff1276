"""What one machine has and has free at one moment: the answer of a probe, sendable from another host.

SI units throughout. None means "could not be read": `problems` then says why in a sentence.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

INVENTORY_SCHEMA = 1


class Process(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process that holds memory of a device."""

    pid: int
    name: str | None = None
    used_bytes: float | None = None
    ours: bool = False
    """Runs as the user who probed."""


class Link(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one device reaches another of the same machine."""

    to: int
    """Index of the other device."""
    kind: Literal["nvlink", "pcie-switch", "pcie-host", "numa", "system"]
    nvlinks: int = 0
    """Active NVLink lanes between the two."""
    peer_access: bool | None = None
    """Whether the driver allows direct reads and writes (P2P)."""


class Slice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A MIG instance: a device of its own that cannot exchange data with others."""

    profile: str
    """As nvidia-smi names it: 3g.40gb."""
    uuid: str
    memory_bytes: float | None = None
    free_bytes: float | None = None
    compute_slices: int | None = None


class Gpu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device as its driver describes it."""

    index: int
    name: str
    uuid: str = ""
    accelerator: str | None = None
    """Catalogue key; None for a device that the catalogue does not know."""
    memory_bytes: float | None = None
    free_bytes: float | None = None
    compute_capability: str | None = None
    sm_clock_max_hz: float | None = None
    memory_clock_max_hz: float | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None
    ecc: bool | None = None
    uncorrected_errors: int | None = None
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
    sockets: int | None = None
    cores: int | None = None
    """Physical cores of the machine."""
    usable_cpus: float | None = None
    """Logical CPUs that affinity and cgroup quota leave."""
    flags: tuple[str, ...] = ()
    """Instruction sets that matter to inference: avx2, avx512f, avx512_bf16, amx_int8, neon, sve …"""
    memory_channels: int | None = None
    ram_bytes: float | None = None
    ram_available_bytes: float | None = None
    """What may still be allocated: the smaller of the system's and the cgroup's."""
    cgroup_memory_bytes: float | None = None
    """Limit of the container or service; None where there is none."""
    container: str | None = None
    """docker, podman, kubernetes, lxc …; None on a plain machine."""
    disk_path: str | None = None
    """Where model files go."""
    disk_free_bytes: float | None = None
    gpu_working_set_bytes: float | None = None
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
    probed_at: str
    """UTC, ISO 8601 to the second: 2026-11-21T10:00:00Z."""
    host: Host = Host()
    driver: str | None = None
    """NVIDIA driver version, for example 580.65.06."""
    cuda: str | None = None
    """Newest CUDA version the driver supports, for example 13.0."""
    gpus: tuple[Gpu, ...] = ()
    engines: tuple[InstalledEngine, ...] = ()
    problems: tuple[str, ...] = ()
