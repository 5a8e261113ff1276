"""What an engine logs while it starts, from what its command line says: the planner's own formulas, for any version.

The same formulas and constants make plans; here they answer for versions that can no longer be planned too. Bytes
per device unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from catalog.engine import Engine
from catalog.model import Model
from planner import lanes, memory, pages
from planner.lanes import Method, gguf
from planner.memory import Accounting
from planner.work import Layout, Shape, Weights, cache_bytes_fixed, cache_bytes_per_token, device_weight_bytes

CELLS_PADDED = 256
"""llama.cpp pads the cells of a cache to this number (llama-context.cpp)."""
FUSED_GATES = 5780
"""First build whose gate and product are one operation (`ggml_swiglu_split`; assumed from its date)."""
SLOT_OUTPUTS = 10068
"""First llama.cpp build seen whose server has logits for one token per slot alone, after b8672 (pull request 23861)."""
DIVIDED_CACHES = 6123
"""First build seen whose slots see their own part of the cache (`kv_unified = false`), after b5671."""
HOST = ("CPU", "AMX", "CUDA_Host", "Vulkan_Host", "SYCL_Host", "ROCm_Host")
"""How the names of llama.cpp's host buffers begin."""
WINDOWED_CACHES = 5400
"""First llama.cpp build that gives windowed layers a smaller cache (between b5300 and b5500; assumed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What decides the memory of one replica beside its model."""

    layout: Layout[float]
    cell_bytes: float
    context: float
    """max_model_len; all slots together under llama.cpp."""
    slots: float
    """max_num_seqs."""
    chunk: float
    """max_num_batched_tokens, n_ubatch."""
    memory: float
    """Of one device; 0 where no device is named."""
    share: float
    """gpu_memory_utilization."""
    divided: bool = False
    """Whether each slot of llama.cpp sees its own part of the cache alone."""

    @property
    def seen(self) -> float:
        """Tokens that one token may see."""
        return self.context / self.slots if self.divided else self.context


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """vLLM's lines, before they are rounded."""

    weights: float
    activation: float
    """Of the first stage, which prints it."""
    sampling: float
    """Of the last stage, which samples; the same without a pipeline."""
    outside: float
    graphs: float
    claimed: float
    cache: float
    tokens: float
    concurrency: float
    starts: bool


def vllm(model: Shape[float], held: Weights[float], fixed: Accounting[float], use: Settings, block: float) -> Log:
    """The lines of one start. `block` = tokens per block as set or by default."""
    weights, outside = device_weight_bytes(held, model, use.layout), memory.non_torch_bytes(model, use.layout, fixed)
    graphs = memory.cuda_graphs_bytes(model, use.layout, fixed)
    first, last = peaks(model, fixed, use)
    claimed = memory.claimed_bytes(use.memory, use.share)
    taken = memory.claimed_graphs_bytes(graphs, fixed)
    left = [memory.vllm_cache_bytes(claimed, weights, peak, taken, outside) for peak in (first, last)]
    block = pages.block_tokens(model, use.cell_bytes, use.layout, block)
    size = pages.block_bytes(model, use.cell_bytes, use.layout, block)
    flight = pages.tokens_in_flight(fixed, use.layout, use.chunk)
    each = pages.sequence_blocks(model, fixed, block, use.context, flight)
    blocks = pages.pool_blocks(min(left), size)
    fits = pages.concurrency(blocks, each)
    return Log(
        weights=weights,
        activation=first,
        sampling=last,
        outside=outside,
        graphs=graphs,
        claimed=claimed,
        cache=left[0],
        tokens=pages.printed_tokens(model, fixed, (blocks, block), fits, use.context),
        concurrency=fits,
        starts=min(left) > 0 and fits >= 1,
    )


def peaks(model: Shape[float], fixed: Accounting[float], use: Settings) -> tuple[float, float]:
    """Activation peak of the first stage of a pipeline and of the last; the same number where there is one stage."""
    forward = memory.forward_bytes(model, use.layout, fixed, use.chunk)
    if model.latent_width:
        sizes = (use.slots, use.chunk, use.context)
        forward = max(forward, memory.latent_pass_bytes(model, use.layout, fixed, sizes))
    lasting = memory.lasting_bytes(model, use.layout, fixed, use.chunk)
    logits = memory.logits_bytes(model, fixed, use.slots, use.chunk)
    whole = memory.activation_bytes(logits, memory.sampler_bytes(model, fixed, use.chunk), forward, lasting)
    return (whole if use.layout.pipeline == 1 else forward + lasting), whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """llama.cpp's lines, summed over devices."""

    file: float
    """Tensors in the GGUF file."""
    model: float
    """Tensors on the devices: the embedding of a model with an output matrix of its own stays with the host."""
    cache: float
    compute: float


def llamacpp(model: Model, shape: Shape[float], method: Method, fixed: Accounting[float], use: Settings) -> Buffers:
    """The buffers of a model that is wholly on its devices."""
    sizes = {part: size for part, size in lanes.part_bytes(model, method).items() if gguf.in_file(part, model)}
    file = sum(sizes.values())
    beside = sizes.get("mtp", 0.0) + (0.0 if model.tied else sizes["embedding"])
    chunk = min(use.chunk, use.context)
    compute = memory.llamacpp_graph_bytes(shape, use.layout, fixed, (use.seen, chunk, use.slots))
    return Buffers(
        file=file,
        model=file - beside,
        cache=llamacpp_cache(shape, use),
        compute=compute * use.layout.pipeline,
    )


def llamacpp_cache(model: Shape[float], use: Settings) -> float:
    """Cells padded to 256; windowed layers keep their window and one micro-batch."""
    whole = replace(use, layout=Layout(tensor=1.0, pipeline=1.0))
    window = padded(min(use.context, model.window_tokens + use.chunk)) if model.window_values else 0.0
    windowed = replace(model, window_tokens=window)
    fixed = cache_bytes_fixed(windowed, use.cell_bytes, whole.layout, padded(use.context))
    return cache_bytes_per_token(model, use.cell_bytes, whole.layout) * padded(use.context) + fixed


def held(buffers: Collection[tuple[str, float]], file: float = 0.0) -> float:
    """What llama.cpp holds on its devices, of (name, size) of buffers; what the host keeps beside them is left out.

    `file`: of weights, what the tensors of the file take, in the unit of the buffers; 0 where it is not known. Weights
    on the host are no more than that: CPU_Mapped is the file from its first to its last tensor, and what CPU_REPACK or
    AMX keep in another order lies between them too (llama.cpp@0c1e57098 src/llama-model.cpp, `get_mapping_range`).
    """
    devices = [size for name, size in buffers if not name.startswith(HOST)]
    whole = sum(size for _, size in buffers)
    twice = file and any(name.endswith("_Mapped") for name, _ in buffers)
    return sum(devices) or (min(whole, file) if twice else whole)


def padded(cells: float) -> float:
    """Cells as llama.cpp allocates them."""
    return float(CELLS_PADDED * -(-cells // CELLS_PADDED))


def unfused(fixed: Accounting[float]) -> Accounting[float]:
    """Without flash attention scores and mask are stored in 32 bits (llama-graph.cpp; exact for the logged 560 MiB)."""
    return replace(fixed, graph_context_bytes=4.0, graph_score_bytes=4.0)


def in_place(fixed: Accounting[float]) -> Accounting[float]:
    """Builds without a fused gate work in place: no log of theirs shows an MLP that is larger than the logits."""
    return replace(fixed, graph_ffn_bytes=0.0)


def process_bytes(engine: Engine, backend: str, *, fused: bool) -> float:
    """What a process on a device that shares its memory holds beside tensors, cache and graph."""
    given: Mapping[str, float] = engine.constants
    extra = 0.0 if fused else given["unfused_hip_bytes" if backend == "hip" else "unfused_vulkan_bytes"]
    return given[f"process_{backend}_bytes"] + extra
