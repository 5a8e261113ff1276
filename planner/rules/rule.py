"""What a rule is: a function from a case to a finding or nothing, with a code, an effect and a page in its docstring.

Codes: H hardware and engine, Q quality, L latency and load, C cost. A rule looks at nothing but its case, changes
nothing, and answers the same every time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from msgspec import Struct, structs

from catalog.accelerator import Accelerator
from catalog.artifact import Artifact
from catalog.engine import CacheFormat, Engine, Kernel
from catalog.inventory import Gpu, Inventory
from catalog.model import Model
from catalog.price import Offer
from planner.lanes import Lane, Method
from planner.plan import Effect, Finding, Make, Simulated, Verification
from planner.quality import Loss
from planner.request import AcceleratorAsk, OwnEstimate
from planner.settle import Settled


class Device(Struct, frozen=True, kw_only=True):
    """One alternative of the request's hardware, resolved."""

    accelerator: Accelerator
    most: int
    """Devices that may be used."""
    memory: float | None
    """Bytes of one device; None when neither catalogue nor request says."""
    per_node: int
    """Devices that share a fast link: tensor parallel groups stay within."""
    per_instance: int = 1
    """Devices that are paid for together."""
    usd_per_hour: float | None
    """Per device; None when no trusted price is known."""
    price_source: str
    offer: Offer | None = None
    doubtful_usd_per_hour: float | None = None
    """The cheapest unconfirmed price where no other is known: shown, never used."""
    ask: AcceleratorAsk | None = None
    free: float | None = None
    """Bytes of one device that nothing else holds; None: nobody looked, all of it."""
    machine: Inventory | None = None
    """The probed machine that it is part of."""
    gpus: tuple[Gpu, ...] = ()
    """The devices as their driver describes them."""
    pins: tuple[str, ...] = ()
    """What `CUDA_VISIBLE_DEVICES` calls them: indices, or UUIDs of MIG slices."""
    slice: str | None = None
    """MIG profile, where the device is a slice of one."""

    def unpriced(self) -> tuple[object, ...]:
        """Everything but price, instance size and node: devices with the same are one device to engines and formulas.

        Parts are compared by identity, which is quick and never takes two for one.
        """
        parts = (self.accelerator, self.ask, self.machine, self.gpus)
        return (*map(id, parts), self.most, self.memory, self.free, self.pins, self.slice)

    @property
    def driver(self) -> str | None:
        """NVIDIA driver of the probed machine."""
        return self.machine.driver if self.machine is not None and self.accelerator.vendor == "nvidia" else None


class Pairing(Struct, frozen=True, kw_only=True):
    """A model in a lane made one way, on an engine, on a device."""

    settled: Settled
    model: Model
    params: float
    """Of the decoder."""
    lane: Lane
    method: Method
    artifact: Artifact | None
    engine: Engine
    device: Device
    kernel: Kernel | None
    losses: dict[str, Loss]
    """Expected loss of the weights per task family the plan is judged on."""
    known: tuple[Engine, ...] = ()
    """Every engine version with facts."""
    own: OwnEstimate | None = None
    """What the user knows better about it."""
    passed_over: Artifact | None = None
    """The published checkpoint that is not taken because it loses more than is tolerated."""
    timed: bool = False
    """Whether the user's own measurements of speed, with this engine on this device, are kept."""
    remade: dict[str, Loss] = {}
    """The loss of the family that loses most, by the algorithm with which this lane could be made anew."""


class Placed(Struct, frozen=True, kw_only=True):
    """A pairing on a layout of devices."""

    pairing: Pairing
    tensor: int
    pipeline: int
    expert: bool
    """Whole experts per device instead of slices of every expert."""
    data: int = 1
    """Ranks whose attention is data parallel, of `tensor` devices each, which share the experts."""


class Cached(Struct, frozen=True, kw_only=True):
    """A pairing with a cache format."""

    pairing: Pairing
    dtype: str
    format: CacheFormat | None
    """What the engine's facts say of this format on this device; None when they say nothing."""
    losses: dict[str, Loss]
    """Weights and cache together."""


class Measured(Struct, frozen=True, kw_only=True):
    """A placed pairing with the numbers that decide it. Bytes per device, seconds, dollars."""

    placed: Placed
    cache: str
    weight_bytes: float
    claimed_bytes: float
    cache_bytes: float
    """What is left for the cache with one running sequence."""
    longest_bytes: float
    """Cache of one sequence of the longest context."""
    served: bool
    """Whether a replica meets the objectives at all."""
    broken: str
    """The objective that fails first, for example ttft_p95_s; "" when none does."""
    value_s: float
    limit_s: float
    rate: float
    """Requests/s of one replica within the objectives."""
    devices: float
    usd_per_month: float | None


class Shown(Struct, frozen=True, kw_only=True):
    """A candidate that is shown, at its planned load."""

    pairing: Pairing
    cache: str
    make: Make | None
    tensor: int
    batch: float
    """Running sequences per replica."""
    rate: float
    """Requests/s of one replica at that batch."""
    plain_rate: float | None
    """The same with 16-bit weights, whether or not those fit; None where the lane is 16-bit or the engine has none."""
    cache_bytes: float
    """Of one device, for the cache of all slots."""
    needed_bytes: float
    """What the running sequences, or one of the longest context, take of it."""
    simulated: Simulated | None = None
    """What the event simulation came to, where one was asked for."""
    replicas: int = 0
    """Spares included; 0 where none are planned."""
    kernels: dict[str, str] = {}
    """Kernel per kind of layer."""
    plain_slower_from: float | None = None
    """Running sequences from which on 16-bit weights serve more; None where they never do."""
    undrafted_rate: float | None = None
    """Requests/s at that batch without speculative decoding; None where nothing drafts."""
    undrafted_slower_from: float | None = None
    """Running sequences from which on more is served without it; None where it never is."""
    ready_s: float | None = None
    ready_cold_s: float | None = None
    """Until a new replica serves, with its checkpoint on the disk and without; None where nothing is known."""
    verification: Verification | None = None
    """What would settle its quality; None where nothing is lost."""


Case = TypeVar("Case")
HEADINGS = ("Why", "Articles", "Source", "Fires", "Silent")
"""What a rule's page says below its first sentence, in this order; `Articles` only where one speaks of it."""


class Says(Struct, frozen=True, kw_only=True):
    """What a rule's function answers when it fires; code and effect are the rule's own."""

    because: str
    facts: dict[str, Any] = {}
    source: str = ""


@dataclass(frozen=True)
class Rule(Generic[Case]):
    """A coded rule; its page is the docstring of `says`."""

    code: str
    effect: Effect
    says: Callable[[Case], Says | None]

    def __call__(self, case: Case) -> Finding | None:
        said = self.says(case)
        return None if said is None else self.finding(said)

    def finding(self, said: Says) -> Finding:
        """What is said, under the rule's code and effect."""
        return Finding(rule=self.code, effect=self.effect, because=said.because, facts=said.facts, source=said.source)

    @property
    def name(self) -> str:
        """What the rule refuses or says, as its function is called."""
        return self.says.__name__

    @property
    def page(self) -> str:
        """The docstring: what it does, why, its source, and two requests: one in which it speaks, one in which not."""
        return inspect.cleandoc(self.says.__doc__ or "")

    @property
    def sections(self) -> dict[str, str]:
        """The page by heading; "" holds what it does. Lines of a section are joined."""
        made: dict[str, list[str]] = {"": []}
        for line in self.page.splitlines():
            heading, colon, rest = line.partition(": ")
            if colon and heading in HEADINGS:
                made[heading] = [rest]
            else:
                made[list(made)[-1]].append(line.strip())
        return {heading: " ".join(part for part in lines if part) for heading, lines in made.items()}


def ask(
    rules: Iterable[Rule[Case]], case: Case, waived: frozenset[str] = frozenset()
) -> tuple[list[Finding], Finding | None]:
    """What the rules say of a case in their order, up to the first refusal, and that refusal.

    A `waived` rule still speaks, and decides nothing.
    """
    found: list[Finding] = []
    for each in rules:
        said = each.says(case)
        if said is None:
            continue
        finding = each.finding(said)
        if each.code in waived:
            found.append(overridden(finding))
            continue
        if each.effect == "refuse":
            return found, finding
        found.append(finding)
    return found, None


def listed(kernels: dict[str, str]) -> str:
    """Kinds of layers by the kernel they share: `attention, mlp: machete weight-only; head: cublas-bf16`."""
    layers: dict[str, list[str]] = {}
    for layer, kernel in kernels.items():
        layers.setdefault(kernel, []).append(layer)
    return "; ".join(f"{', '.join(names)}: {kernel}" for kernel, names in layers.items())


def whole(batch: float | None) -> int | None:
    """A batch as findings state it."""
    return None if batch is None else round(batch)


def overridden(finding: Finding) -> Finding:
    """The finding of a rule that the request waives: a warning which says what it would have done."""
    facts = {**finding.facts, "overridden": finding.effect}
    return structs.replace(finding, effect="warn", because=f"overridden: {finding.because}", facts=facts)


def rule(code: str, effect: Effect) -> Callable[[Callable[[Case], Says | None]], Rule[Case]]:
    """Make a rule of a function that answers with `Says` or nothing."""
    return lambda says: Rule(code=code, effect=effect, says=says)
