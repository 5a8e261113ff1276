"""Accelerators: what a device can hold, move and compute. Rates are dense; memory is per device."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from catalog.source import Sourced
from catalog.units import Bytes, BytesPerSecond, FlopPerSecond, Hertz, Watts

Vendor = Literal["nvidia", "amd", "intel", "apple", "huawei"]
Kind = Literal["gpu", "unified", "cpu"]
"""`unified`: GPU and CPU share the memory (Apple, GB10, Jetson, Strix Halo). `cpu`: a host socket."""
Math = Literal["fp32", "bf16", "fp16", "fp8", "int8", "fp4"]


class Accelerator(Sourced, frozen=True, kw_only=True, dict=True):
    """One device (per GCD, per socket). A blank rate means that no source states it."""

    name: str
    vendor: Vendor
    kind: Kind
    architecture: str
    """Architecture family: turing, volta, ampere, ada, hopper, blackwell, cdna2 … ; kernels and fits follow it."""
    chip: str = ""
    compute_capability: str | None = None
    """NVIDIA "9.0", AMD "gfx942"; None where the vendor has no such number."""
    form: str = ""
    memory: Bytes | None = None
    """As sold. None: the host's RAM decides (CPUs), or the request must say (`memory_gib`)."""
    reported_memory: Bytes | None = None
    """What the driver reports; planned on where known."""
    memory_type: str = ""
    bandwidth: BytesPerSecond
    fp32: FlopPerSecond | None = None
    bf16: FlopPerSecond | None = None
    fp16: FlopPerSecond | None = None
    fp8: FlopPerSecond | None = None
    int8: FlopPerSecond | None = None
    fp4: FlopPerSecond | None = None
    native: tuple[str, ...] = ()
    """Number formats with a tensor-core path: bf16, fp16, fp8, fp8-fnuz, fp6, fp4, int8, int4."""
    link: str | None = None
    link_bandwidth: BytesPerSecond | None = None
    """One direction, per device."""
    pcie: str | None = None
    """"<generation>x<lanes>", for example 5.0x16."""
    tdp: Watts | None = None
    mig_slices: int = 0
    sms: int | None = None
    boost: Hertz | None = None
    achieved_bf16: FlopPerSecond | None = None
    """Highest matrix rate measured in public (MAMF)."""
    achieved_fp8: FlopPerSecond | None = None
    per_node: int = 8
    """Devices that share the fast link in the usual server."""
    nvml_names: tuple[str, ...] = ()

    def peak(self, math: Math) -> float | None:
        """Dense peak in flop/s of one number format, None where no source states it."""
        rate: float | None = getattr(self, math)
        return rate

    @property
    def usable_memory(self) -> float | None:
        """Bytes the driver hands out: reported where known, as sold otherwise."""
        return self.reported_memory or self.memory

    @cached_property
    def in_doubt(self) -> bool:
        """Whether any field rests on confidence C."""
        return bool(self.doubts())

    @cached_property
    def traits(self) -> tuple[str, str, str, str | None]:
        """All that `engine.Match` looks at: devices with the same traits have the same kernels and cache formats."""
        return self.vendor, self.kind, self.architecture, self.compute_capability

    @property
    def accounted_as(self) -> str | None:
        """What engines' memory accounting tells devices apart by: the compute capability, and `cpu` for a socket."""
        return "cpu" if self.kind == "cpu" else self.compute_capability

    @property
    def cuda_capability(self) -> float | None:
        """NVIDIA compute capability as a number, None for other vendors."""
        is_cuda = self.vendor == "nvidia" and self.compute_capability is not None
        return float(self.compute_capability or 0) if is_cuda else None
