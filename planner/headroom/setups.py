"""From a question about memory to the setups it speaks of: lane, engine, device, layout and flags all settled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from msgspec import structs

from catalog.engine import CacheFormat
from catalog.errors import BadInput, Unsupported
from catalog.load import Catalog
from catalog.model import Model
from planner import hardware, memory, pairing
from planner.fits import Fits, fits_of
from planner.headroom.picture import Ask
from planner.lanes.gguf import UNSLOTH_BITS
from planner.lanes.named import named
from planner.offload import Split
from planner.pairing import Losses, Option
from planner.plan import Assumption
from planner.request import PLANNED_ENGINES, Request, Spread, Workload
from planner.rows import books_of
from planner.rules import PLACED
from planner.rules.rule import Cached, Device, Pairing, Placed
from planner.settle import Settled, settle

MICRO_BATCH = 512
"""llama.cpp: tokens of one pass (n_ubatch)."""
WIDEST = 128
"""Tensor parallel sizes that are tried."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One engine start, every flag settled."""

    pairing: Pairing
    cached: Cached
    tensor: int
    pipeline: int
    expert: bool
    data: int
    slots: int
    chunk: int
    fits: Fits
    chosen: bool
    """The layout is the user's own."""
    utilization: float | None
    """The user's own."""
    split: Split | None = None
    """llama.cpp: what lies where, where the user says so; None: layers in equal runs, all on devices."""

    @property
    def context(self) -> int:
        return self.pairing.settled.load.context

    @property
    def placed(self) -> Placed:
        return placed_at(self.pairing, self.place)

    @property
    def place(self) -> Place:
        """(tensor, pipeline, whole experts, ranks)."""
        return self.tensor, self.pipeline, self.expert, self.data

    @property
    def devices(self) -> int:
        """Of the replica."""
        return self.tensor * self.pipeline * self.data

    @property
    def option(self) -> Option:
        """With its cache format; the bits of an unknown one are those of 16-bit values."""
        bits = self.cached.format.bits if self.cached.format is not None else 16.0
        own = self.pairing
        return Option(pairing=own, cached=self.cached, cell_bits=bits, findings=(), like=own)

    @property
    def share(self) -> float:
        """Part of the memory that the engine claims: as asked, or its default as far as that is free."""
        return self._claimable(None) if self.utilization is None else self.utilization

    @property
    def largest_share(self) -> float:
        """The largest share that is free; on a device that nobody looked at, all but what the driver keeps."""
        return self._claimable(1.0)

    def _claimable(self, share: float | None) -> float:
        device, engine = self.pairing.device, self.pairing.engine
        total, free = device.memory or 0.0, device.free
        if share is not None:
            engine, free = structs.replace(engine, memory_share=share), total if free is None else free
        return memory.claimable_share(device.accelerator, engine, total, free)[0]

    @property
    def usual_split(self) -> Split | None:
        """Where llama.cpp puts what; None for other engines, host-only kernels and models without a list of tensors."""
        paired, kind = self.pairing, self.pairing.method.scheme
        if books_of(paired) != "llama.cpp" or paired.kernel is None or paired.kernel.name == "ggml-cpu":
            return None
        if not named(paired.model) or kind in UNSLOTH_BITS:
            return None
        return self.split or Split(shares=(1.0,) * self.pipeline)

    def at(self, context: int) -> Setup:
        """The same with another longest context."""
        settled = self.pairing.settled
        load = structs.replace(settled.load, context=context)
        return self.on(structs.replace(self.pairing, settled=structs.replace(settled, load=load)))

    def on(self, changed: Pairing) -> Setup:
        """The same flags for a changed pairing."""
        return replace(self, pairing=changed, cached=structs.replace(self.cached, pairing=changed))

    def holding(self, dtype: str) -> Setup:
        """The same with another cache format."""
        return replace(self, cached=_cached(self.pairing, dtype))


def request_of(ask: Ask, context: int) -> Request:
    """The question as a plan's request: sequences that fill the longest context."""
    prompt = float(max(context - 1, 1))
    return Request(
        model=ask.model,
        workload=Workload(
            users=1,
            prompt_tokens=Spread(mean=prompt, p95=prompt),
            output_tokens=Spread(mean=1.0, p95=1.0),
            context_tokens_max=context,
            lora=ask.lora,
        ),
        hardware=ask.hardware,
        engines=(ask.engine,) if ask.engine else None,
        engine_versions=ask.engine_versions,
        lanes=(ask.lane,) if ask.lane else None,
    )


def setups(ask: Ask, catalog: Catalog) -> tuple[list[Setup], tuple[Assumption, ...]]:
    """Every setup that the question leaves open, and the defaults that were used.

    Raises BadInput and its children for what cannot be asked of any of them.
    """
    model = catalog.model(ask.model)
    if ask.tensor_split is not None:
        ask = structs.replace(ask, pipeline_parallel=len(ask.tensor_split))
    context = ask.context or model.max_position
    settled = settle(request_of(ask, context), model.max_position, catalog.as_of)
    devices = _wide_enough(hardware.devices(settled.request, catalog), ask, model)
    fits, losses = fits_of(catalog), Losses(catalog, model, settled)
    paired = [each for alike in pairing.pairings(settled, model, devices, catalog, losses) for each in alike]
    kept = [each for each in paired if _serves(each, ask)]
    if not kept:
        raise _nothing_left(ask, paired)
    return [setup(each, ask, fits) for each in kept], _assumed(ask, context, settled)


def setup(paired: Pairing, ask: Ask, fits: Fits) -> Setup:
    """One pairing with the flags of the question, and the engine's defaults for the others."""
    tensor, pipeline, expert, data = layout(paired, ask)
    chunk, slots = defaults(paired)
    return Setup(
        pairing=paired,
        cached=_cached(paired, ask.kv_cache or pairing.CACHES[paired.engine.id][0]),
        tensor=tensor,
        pipeline=pipeline,
        expert=expert,
        data=data,
        slots=ask.sequences or slots,
        chunk=ask.batched_tokens or chunk,
        fits=fits,
        chosen=ask.tensor_parallel is not None or ask.pipeline_parallel is not None,
        utilization=ask.utilization if books_of(paired) == "vllm" else None,
        split=_split(ask, tensor * pipeline),
    )


def _split(ask: Ask, devices: int) -> Split | None:
    if ask.gpu_layers is None and ask.tensor_split is None and not ask.cpu_experts:
        return None
    shares = ask.tensor_split or (1.0,) * devices
    return Split(shares=shares, layers=ask.gpu_layers, cpu_experts=ask.cpu_experts or 0)


def _cached(paired: Pairing, dtype: str) -> Cached:
    row: CacheFormat | None = paired.engine.cache(dtype, paired.device.accelerator)
    return Cached(pairing=paired, dtype=dtype, format=row, losses={})


def defaults(paired: Pairing) -> tuple[int, int]:
    """(tokens of one step, slots) where no flag says: vLLM's by version and device, llama.cpp's micro-batch and one
    slot."""
    if books_of(paired) == "llama.cpp":
        return MICRO_BATCH, 1
    engine, device = paired.engine, paired.device
    usual = engine.budget(engine.version, device.memory or 0.0, device.accelerator.accounted_as)
    return usual.tokens or paired.settled.load.context, usual.sequences


Place = tuple[int, int, bool, int]


def placed_at(paired: Pairing, place: Place) -> Placed:
    """The pairing on a layout, as rules see it."""
    tensor, pipeline, expert, data = place
    return Placed(pairing=paired, tensor=tensor, pipeline=pipeline, expert=expert, data=data)


def layout(paired: Pairing, ask: Ask) -> Place:
    """(tensor, pipeline, whole experts, ranks): the asked one, or the most devices in the widest way that no rule
    refuses; ranks of data-parallel attention only where they are asked for."""
    ranks = ask.data_parallel or 1
    places = list(_places(paired, ask) if ranks == 1 else _among_ranks(paired, ask, ranks))
    for place in places:
        if all(rule(placed_at(paired, place)) is None for rule in PLACED):
            return place
    return places[0]


def _among_ranks(paired: Pairing, ask: Ask, ranks: int) -> Iterator[Place]:
    """The asked ranks, of as many devices as they may have."""
    widest = _widest(paired, paired.device.most // ranks)
    for tensor in (ask.tensor_parallel,) if ask.tensor_parallel else range(widest, 0, -1):
        yield tensor, 1, True, ranks


def _places(paired: Pairing, ask: Ask) -> Iterator[Place]:
    most, layers = paired.device.most, paired.model.layers
    if ask.tensor_parallel is not None:
        sizes = [(ask.tensor_parallel, ask.pipeline_parallel or 1)]
    elif ask.pipeline_parallel is not None:
        sizes = [(t, ask.pipeline_parallel) for t in range(_widest(paired, most // ask.pipeline_parallel), 0, -1)]
    else:
        wide = ((t, min(most // t, layers)) for t in range(1, _widest(paired, most) + 1))
        sizes = sorted(wide, key=lambda size: (-size[0] * size[1], -size[0]))
    for tensor, pipeline in sizes:
        yield tensor, pipeline, False, 1
        if paired.model.moe is not None and tensor > 1:
            yield tensor, pipeline, True, 1


def _widest(paired: Pairing, devices: int) -> int:
    return 1 if books_of(paired) == "llama.cpp" else max(1, min(devices, WIDEST))


def _wide_enough(devices: tuple[Device, ...], ask: Ask, model: Model) -> tuple[Device, ...]:
    tensor, stages, ranks = ask.tensor_parallel or 1, ask.pipeline_parallel or 1, ask.data_parallel or 1
    if ranks > 1 and model.moe is None:
        raise BadInput(f"{model.id} has no experts to share: replicas do the same", "$.data_parallel")
    if ranks > 1 and stages > 1:
        raise Unsupported("data-parallel attention over pipeline stages is not planned", "$.pipeline_parallel")
    if stages > model.layers:
        raise BadInput(f"{stages} pipeline stages for {model.layers} layers", "$.pipeline_parallel")
    kept = tuple(device for device in devices if device.most >= tensor * stages * ranks)
    if not kept:
        most = max(device.most for device in devices)
        path = "$.tensor_parallel" if ask.tensor_parallel else "$.pipeline_parallel"
        path, product = ("$.data_parallel", "data x tensor") if ranks > 1 else (path, "tensor x pipeline")
        raise BadInput(f"{product} parallel needs {tensor * stages * ranks} devices, there are {most}", path)
    return kept


def _serves(paired: Pairing, ask: Ask) -> bool:
    """Whether the engine has the flags at all: llama.cpp splits no tensors, cache formats have their own names."""
    llama = books_of(paired) == "llama.cpp"
    formats = {row.dtype for row in paired.engine.caches}
    split = (ask.tensor_parallel or 1) * (ask.data_parallel or 1) > 1
    if _split(ask, 1) is not None and not (llama and paired.lane.id.startswith("gguf:")):
        return False
    return (ask.kv_cache is None or ask.kv_cache in formats) and not (llama and (split or ask.utilization is not None))


def _nothing_left(ask: Ask, paired: list[Pairing]) -> BadInput:
    """Why no engine is left for the question."""
    if not paired:
        return Unsupported(f"{ask.engine} does not serve the lane {ask.lane or 'asked for'}", "$.engine")
    names = " and ".join(dict.fromkeys(each.engine.id for each in paired))
    known = sorted({row.dtype for each in paired for row in each.engine.caches})
    if ask.kv_cache is not None and ask.kv_cache not in known:
        return BadInput(f"{names} has no cache format {ask.kv_cache!r}; known are {', '.join(known)}", "$.kv_cache")
    if _split(ask, 1) is not None:
        return Unsupported(f"{names} has no layers or experts to keep with the host: llama.cpp has", "$.engine")
    if ask.utilization is not None:
        return Unsupported(f"{names} has no share of memory to set: it takes what it needs", "$.utilization")
    path = "$.tensor_parallel" if (ask.tensor_parallel or 1) > 1 else "$.data_parallel"
    return Unsupported(f"{names} splits layers over devices, nothing else: ask for pipeline_parallel", path)


def _assumed(ask: Ask, context: int, settled: Settled) -> tuple[Assumption, ...]:
    """The defaults that decide memory; what a plan assumes besides (rates, prices) plays no part here."""
    used = []
    if ask.context is None:
        used.append(Assumption(path="context", value=context, because="the model's own limit, as engines take it"))
    if ask.sequences is None:
        because = "the engine's default: vLLM's by device, one slot of llama.cpp"
        used.append(Assumption(path="sequences", value="default", because=because))
    if ask.engine is None and ask.lane is None:
        names = list(PLANNED_ENGINES)
        used.append(Assumption(path="engine", value=names, because="the engines that Lanewise launches"))
    return (*used, *(each for each in settled.assumptions if each.path.startswith("workload.lora")))
