"""What one version of an inference engine supports on which hardware: kernels, cache formats, flags, defaults.

The engine's own priority order is kept: the first row that matches decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from msgspec import Struct

from catalog.accelerator import Accelerator, Math
from catalog.errors import Unsupported
from catalog.source import Confidence
from catalog.units import Bytes


def release(version: str) -> tuple[int, ...]:
    """A version as numbers that compare: "0.33" < "0.33.1" < "0.34"."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


class Match(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which devices a row speaks of; an empty condition is no condition."""

    vendors: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    """`compute_capability` exactly as the vendor prints it; the way to name AMD chips (gfx942)."""
    from_capability: float | None = None
    below_capability: float | None = None
    """CUDA compute capability; a device without one matches neither bound."""

    def fits(self, device: Accelerator) -> bool:
        capability = device.cuda_capability
        if (self.from_capability is not None or self.below_capability is not None) and capability is None:
            return False
        return (
            (not self.vendors or device.vendor in self.vendors)
            and (not self.kinds or device.kind in self.kinds)
            and (not self.architectures or device.architecture in self.architectures)
            and (not self.capabilities or device.compute_capability in self.capabilities)
            and (self.from_capability is None or (capability or 0) >= self.from_capability)
            and (self.below_capability is None or (capability or 0) < self.below_capability)
        )


EVERY_CPU = Match(kinds=("cpu",))


class Dated(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row that holds for some versions of the engine."""

    since: str | None = None
    """First version known to have it; None: every version we know."""
    until: str | None = None
    """First version known to lack it; None: still there. Kept so that a flag is refused by name."""

    def exists(self, version: str) -> bool:
        """Whether `version` has it."""
        if self.since is None and self.until is None:
            return True
        now = release(version)
        return (self.since is None or release(self.since) <= now) and (self.until is None or now < release(self.until))


class Kernel(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The kernel that a lane's linear layers get, or why they get none (`refuse`)."""

    lanes: tuple[str, ...]
    """Lane ids; `gguf` stands for every llama.cpp type, `*` for every lane."""
    recipes: tuple[str, ...] = ()
    """Recipe names this row is limited to; empty for all."""
    on: Match = Match()
    name: str = ""
    math: Math = "bf16"
    """Number format of the matrix units: which peak rate applies."""
    path: str = ""
    """Family of kernels that share fitted speed parameters: w16, fp8, fp8-emulated, fp8-weight-only, int8,
    int8-weight-only, int4-weight-only, fp4, fp4-weight-only, gguf."""
    refuse: str | None = None
    refuse_experts: str | None = None
    """Why a mixture gets none where a dense model does."""
    note: str | None = None
    experts: str | None = None
    """What the experts of a mixture run on, where that differs: a sentence …"""
    experts_kernel: str | None = None
    """… and its name."""
    source: str
    confidence: Confidence = "A"


class CacheFormat(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A KV-cache number format and where it works."""

    dtype: str
    """As the engine's flag spells it: auto, fp8, f16, q8_0 …"""
    bits: float
    """Bits per cached value, block scales included."""
    on: Match = Match()
    refuse: str | None = None
    refuse_above: int = 0
    """Tokens of context from which `refuse` holds; 0 for all."""
    note: str | None = None
    source: str


class Flag(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command-line flag that launch files may write."""

    name: str
    negation: str | None = None
    source: str


class Build(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published image of one engine version: what it was compiled for, and what it needs to start."""

    image: str
    on: Match = Match()
    """Devices it is made for."""
    capabilities: tuple[str, ...] = ()
    """Compute capabilities it has code for; empty where nobody looked."""
    cuda: str | None = None
    min_driver: str | None = None
    """Oldest NVIDIA driver that can run it on these devices."""
    note: str | None = None
    source: str
    confidence: Confidence = "A"

    def made_for(self, device: Accelerator) -> bool:
        """Whether it has code for the device: of its own capability, or of a lower one of the same generation."""
        capability = device.cuda_capability
        if not self.on.fits(device):
            return False
        if not self.capabilities or capability is None:
            return True
        return any(int(float(own)) == int(capability) and float(own) <= capability for own in self.capabilities)

    def starts_with(self, driver: str | None) -> bool:
        """Whether this NVIDIA driver is new enough; an unknown one is taken to be."""
        if self.min_driver is None or driver is None:
            return True
        return release(driver) >= release(self.min_driver)


class Epoch(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory accounting of some versions, planned or not: what differs from the constants that hold for all."""

    except_capabilities: tuple[str, ...] = ()
    """NVIDIA devices that it does not hold for."""
    capabilities: tuple[str, ...] = ()
    """Devices that it holds for alone, `cpu` among them; empty for all."""
    constants: dict[str, float]
    source: str

    def holds(self, version: str, capability: str | None) -> bool:
        """Whether it speaks of a version on a device with that `Accelerator.accounted_as`."""
        alone = not self.capabilities or capability in self.capabilities
        return alone and self.exists(version) and capability not in self.except_capabilities


class Budget(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults of one class of devices: sequences that run at once, and tokens per step."""

    from_memory: Bytes = Bytes(0.0)
    """Of one device."""
    except_capabilities: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    """Devices that it holds for alone, `cpu` among them; empty for all."""
    sequences: int
    tokens: int | None = None
    """None: as many as the longest context has."""
    source: str

    def holds(self, version: str, memory: float, capability: str | None) -> bool:
        """Whether it speaks of a version on a device of that many bytes, with that `Accelerator.accounted_as`."""
        named = capability not in self.except_capabilities
        named &= not self.capabilities or capability in self.capabilities
        return named and self.exists(version) and memory >= self.from_memory


Part = Literal["weights", "activation", "outside", "graphs", "claim", "pages", "file", "cache", "compute", "process"]
"""What memory goes to: vLLM's lines, and llama.cpp's since "file"."""


class Spread(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Half of the 80 % interval of one part of the memory, for some versions and, with `when`, in some cases."""

    part: Part
    when: str = ""
    """A tag of planner/spread.py; empty for every case."""
    ln: float = 0.0
    """Relative."""
    gib: float = 0.0
    """Absolute, GiB."""
    source: str
    """`assumed: …` where too few models have logs."""


class Start(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds of one part of a start with their 80 % interval."""

    part: Literal["process", "copy", "compile", "cached", "profile", "capture"]
    """`copy` is per GiB of a device, `compile` and `cached` per layer, `capture` per layer of a graph."""
    on: Match = Match()
    value: float
    low: float
    high: float
    source: str
    """`assumed: …` where nothing is published."""


class Draft(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way to draft tokens, and how likely one is kept given that all before it were, with an 80 % interval."""

    method: Literal["ngram", "eagle3", "mtp", "draft"]
    flag: str
    """The engine's own word for it."""
    acceptance: float
    low: float
    high: float
    step_seconds: float
    """What a step takes longer beside drafting and checking: rejection sampling, preparing drafts on the host."""
    source: str
    """`assumed: …` where nothing is published."""


class Assumed(Dated, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Speed on devices that no measurement covers: shares of another engine's, seconds of host time, and how far off
    that may be."""

    on: Match
    like: Literal["llama.cpp"]
    """The engine whose shares of bandwidth and arithmetic are taken, on the same device."""
    step_s: float
    layer_s: float
    """Host time of one step and of one layer."""
    emulated_flops: float
    """Scalar operations to fetch and convert one weight where no unit of the device takes its format."""
    decode_factor: float
    prefill_factor: float
    """Decoding and prompts may take so many times longer, or shorter: 80 %."""
    source: str
    """`assumed: …`."""


class Engine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One engine version. What was looked up is kept beside the fields, by the traits of the device."""

    id: Literal["vllm", "llama.cpp", "sglang", "tensorrt-llm"]
    version: str
    source: str
    planned: bool
    """May be a choice, with launch files; otherwise estimated only."""
    builds: tuple[Build, ...] = ()
    """Published images, the preferred one first."""
    online: dict[str, str] = {}
    """Recipe -> value of the flag that quantizes weights while they load."""
    memory_share: float = 0.92
    """Default share of device memory the engine claims (gpu_memory_utilization)."""
    block_tokens: int = 16
    """Tokens that the cache is handed out by …"""
    latent_block_tokens: int | None = None
    """… and under latent attention, where its kernels want another number …"""
    host_block_tokens: int | None = None
    """… and on a CPU."""
    kernels: tuple[Kernel, ...] = ()
    caches: tuple[CacheFormat, ...] = ()
    flags: tuple[Flag, ...] = ()
    constants: dict[str, float] = {}
    """Memory-accounting constants of this version, SI units, named in planner/memory.py."""
    constant_sources: dict[str, str] = {}
    accounting: tuple[Epoch, ...] = ()
    """Constants that hold for some versions only; also of versions that can no longer be planned."""
    budgets: tuple[Budget, ...] = ()
    """Defaults by class of device; the first that fits decides."""

    spread: tuple[Spread, ...] = ()
    """How far the memory estimates may be off."""
    starts: tuple[Start, ...] = ()
    """How long the parts of a start take; the first row of a part that holds for the version decides."""

    drafts: tuple[Draft, ...] = ()
    """Ways of speculative decoding that are planned."""
    assumed: tuple[Assumed, ...] = ()
    """Speed where nothing was measured."""

    def block(self, *, latent: bool, host: bool = False) -> int:
        """Tokens of a block of the cache; `host` on a CPU."""
        if host and self.host_block_tokens is not None:
            return self.host_block_tokens
        return self.latent_block_tokens or self.block_tokens if latent else self.block_tokens

    def assumption(self, device: Accelerator) -> Assumed | None:
        """What is assumed of the speed on a device; None where its class was measured."""
        return next((row for row in self.assumed if row.exists(self.version) and row.on.fits(device)), None)

    def start_rows(self, device: Accelerator) -> dict[str, Start]:
        """The parts of a start on a device: the first row of each that holds."""
        found: dict[str, Start] = {}
        for row in self.starts:
            if row.exists(self.version) and row.on.fits(device):
                found.setdefault(row.part, row)
        return found

    def constants_at(self, version: str, capability: str | None) -> dict[str, float]:
        """The memory-accounting constants of any version on a device of that compute capability."""
        found = dict(self.constants)
        for epoch in self.accounting:
            found |= epoch.constants if epoch.holds(version, capability) else {}
        return found

    def sources_at(self, version: str, capability: str | None) -> dict[str, str]:
        """Where those constants come from; `*` for the ones without a source of their own."""
        found = dict(self.constant_sources)
        for epoch in self.accounting:
            found |= dict.fromkeys(epoch.constants, epoch.source) if epoch.holds(version, capability) else {}
        return found

    def budget(self, version: str, memory: float, capability: str | None) -> Budget:
        """The defaults of a device of that many bytes. Raises Unsupported where no row speaks of it."""
        for row in self.budgets:
            if row.holds(version, memory, capability):
                return row
        raise Unsupported(f"no defaults of {self.id} {version} are known", f"engines/{self.id}")

    @cached_property
    def _kernels(self) -> dict[tuple[object, ...], Kernel | None]:
        return {}

    @cached_property
    def _caches(self) -> dict[tuple[object, ...], CacheFormat | None]:
        return {}

    @cached_property
    def _builds(self) -> dict[tuple[object, ...], tuple[Build, ...]]:
        return {}

    def kernel(self, lane: str, recipe: str, device: Accelerator) -> Kernel | None:
        """The first kernel row for this lane and recipe on this device; None when no row speaks of it."""
        key = (lane, recipe, device.traits)
        if key not in self._kernels:
            self._kernels[key] = next(self._kernels_for(lane.partition(":")[0], recipe, device), None)
        return self._kernels[key]

    def _kernels_for(self, lane: str, recipe: str, device: Accelerator) -> Iterator[Kernel]:
        for row in self.kernels:
            if (
                (lane in row.lanes or "*" in row.lanes)
                and (not row.recipes or recipe in row.recipes)
                and row.on.fits(device)
                and row.exists(self.version)
            ):
                yield row

    def never_on_cpus(self, lane: str) -> str:
        """Why this lane runs on no CPU at all; "" where some have a kernel for it."""
        rows = (row for row in self.kernels if lane in row.lanes and row.exists(self.version))
        return next((row.refuse for row in rows if row.refuse and row.on == EVERY_CPU), "")

    def made_for(self, device: Accelerator) -> tuple[Build, ...]:
        """The images with code for this device."""
        if device.traits not in self._builds:
            self._builds[device.traits] = tuple(build for build in self.builds if build.made_for(device))
        return self._builds[device.traits]

    def image(self, device: Accelerator, driver: str | None = None) -> Build | None:
        """The first image with code for this device that starts with this NVIDIA driver."""
        return next((build for build in self.made_for(device) if build.starts_with(driver)), None)

    def cache(self, dtype: str, device: Accelerator) -> CacheFormat | None:
        """The first row for this cache format on this device; None when no row speaks of it."""
        key = (dtype, device.traits)
        if key not in self._caches:
            rows = (row for row in self.caches if row.dtype == dtype and row.exists(self.version))
            self._caches[key] = next((row for row in rows if row.on.fits(device)), None)
        return self._caches[key]

    def flag(self, name: str) -> Flag:
        """The row of a flag this version has; Unsupported when it has none, or has it no longer or not yet."""
        for row in self.flags:
            if row.name == name and row.exists(self.version):
                return row
        fate = next((f"; gone since {row.until}" for row in self.flags if row.name == name and row.until), "")
        raise Unsupported(f"{self.id} {self.version} has no flag {name}{fate}", f"engines/{self.id}-{self.version}")
