"""From a row of measurements to the deployment it describes: work per device, peaks, limits, classes of parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from catalog import parameters
from catalog.accelerator import Accelerator
from catalog.engine import Engine, Kernel
from catalog.errors import Unsupported
from catalog.load import Catalog
from catalog.model import Model
from catalog.parameters import Family, Setup
from catalog.units import GIB
from planner.accuracy.truth import Row
from planner.lanes import BY_ID, as_published
from planner.lanes.lane import Lane, Method
from planner.speed import Work, each_rank, peaks
from planner.work import Layout, Shape, Weights, device_weight_bytes, shape, stored_bytes, weights, work

LARGE = 70 * GIB
"""Memory from which vLLM's defaults are larger (arg_utils.py: devices of 70 GiB, except the A100)."""
CLAIMED = 0.91
"""Share of the memory that vLLM takes: its default was 0.90 and is 0.92."""
BESIDE = {8192.0: 4.0 * GIB, 2048.0: 1.5 * GIB}
"""Activations by token budget, bytes: about 4 and 1.5 GiB in vLLM's start-up logs. TensorRT-LLM's are fitted."""
UNTUNED_BLAS = 5.1 / 36.9
"""rocBLAS without hipBLASLt on RDNA 3.5 over with it: best bf16 multiplications found by mamf-finder, TFLOP/s
(llm-tracker.info/_TOORG/Strix-Halo)."""
PREFILL_TOKENS = {"sglang": 16384.0}
"""Prompt tokens that an engine computes in one pass of their own (SGLang server_args.py: max_prefill_tokens)."""
SGLANG_LIMITS = (
    (20.0, 2048.0, 8.0, 8.0),
    (35.0, 2048.0, 24.0, 80.0),
    (60.0, 4096.0, 32.0, 160.0),
    (160.0, 8192.0, 256.0, 512.0),
    (math.inf, 16384.0, 512.0, 512.0),
)
"""SGLang's limits (server_args.py since 0.5.4) on devices of less than so many GiB: tokens of a prompt chunk, then
sequences of its largest CUDA graph on fewer than four tensor-parallel devices and on more."""
TENSOR_PARALLEL = (1, 2, 4, 8)
"""Layouts tried where the row does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How the deployment is used, per replica; see planner.benchmark.Load."""

    prompt: float
    output: float
    depth: float
    users: float
    requests: float
    pool_bytes: float
    seats: float
    reserved_output: float
    varied: float
    mean_of_requests: float
    chunked: float
    prefill_tokens: float
    unreserved: float
    static: float
    replicas: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to run a row."""

    family: Family
    classes: tuple[str, ...]
    work: Work[float]
    peaks: dict[str, float]
    """The hardware fields of planner.speed.Rates."""
    use: Use


@dataclass(frozen=True)
class Described:
    """A row with the catalogue's entries it names."""

    row: Row
    model: Model
    device: Accelerator
    engine: Engine
    kernel: Kernel
    lane: Lane
    method: Method

    @cached_property
    def shape(self) -> Shape[float]:
        return shape(self.model)

    @cached_property
    def weights(self) -> Weights[float]:
        """As the lane stores them; of a GGUF file whose size the row states, scaled to that size."""
        held = _weights(self.model, self.lane, self.method)
        file = self.row.number("file_bytes") or self.row.number("file_gib") * GIB
        scale = min(max(file / stored_bytes(held), 0.6), 1.6) if file else 1.0
        sizes = {name: getattr(held, name) * scale for name in Weights.__dataclass_fields__ if name.endswith("_bytes")}
        return replace(held, **sizes)


_KNOWN: dict[tuple[str, str, str], Weights[float]] = {}


def _weights(model: Model, lane: Lane, method: Method) -> Weights[float]:
    """Summing a model's tensors takes milliseconds; thousands of rows share a few dozen sums."""
    key = (model.id, lane.id, method.recipe.name)
    if key not in _KNOWN:
        _KNOWN[key] = weights(model, method)
    return _KNOWN[key]


def describe(row: Row, catalog: Catalog) -> Described:
    """Look up what the row names. Raises UnknownModel, BadInput or Unsupported with the reason of a refusal."""
    model, device = catalog.model(row.model), catalog.accelerator(row.accelerator)
    if model.unplanned:
        raise Unsupported(f"{model.id}: {model.unplanned}", "$.model")
    lane = BY_ID.get(row.lane)
    if lane is None or not any(engine.id == row.engine for engine in catalog.engines):
        raise Unsupported(f"no facts for engine {row.engine!r} with lane {row.lane!r}", "$.lane")
    engine, recipe = catalog.engine(row.engine), model.native_recipe if model.native == lane.id else ""
    method = as_published(lane.method(recipe) or lane.methods[min(1, len(lane.methods) - 1)])
    kernel = engine.kernel(lane.id, method.recipe.name, device)
    if kernel is None or kernel.refuse:
        raise Unsupported(kernel.refuse if kernel and kernel.refuse else f"no kernel for {lane.id}", "$.lane")
    return Described(row, model, device, engine, kernel_then(row, kernel, device), lane, method)


def kernel_then(row: Row, kernel: Kernel, device: Accelerator) -> Kernel:
    """The kernel of the row's own time where today's is another: AWQ on Hopper ran Marlin before Machete."""
    earlier = parameters.generation_of(row.engine, row.engine_version) in ("vllm-2024", "vllm-2025")
    if earlier and row.lane == "awq-int4" and device.architecture == "hopper":
        return Kernel(
            lanes=kernel.lanes, name="marlin weight-only", math="bf16", path="int4-weight-only",
            source="vllm 0.9.2 model_executor/layers/quantization/awq_marlin.py calls the Marlin kernel directly",
        )  # fmt: skip
    return kernel


def cases(row: Row, catalog: Catalog) -> list[Case]:
    """The ways to run a row: one, or every tensor-parallel layout that holds the weights where none is published."""
    found = describe(row, catalog)
    made = [case(found, layout, replicas) for layout, replicas in layouts(row)]
    return [case for case in made if case.use.pool_bytes > least_pool(found.device)] or made[-1:]


def layouts(row: Row) -> Iterator[tuple[Layout[float], int]]:
    """Each layout with its number of replicas. llama.cpp gives each device a part of the layers."""
    if row.engine == "llama.cpp":
        yield Layout(tensor=1.0, pipeline=float(row.accelerators)), 1
    elif row.tensor:
        replicas = row.replicas or max(1, row.accelerators // row.tensor)
        yield Layout(tensor=float(row.tensor), pipeline=max(1.0, row.accelerators / (row.tensor * replicas))), replicas
    else:
        for tensor in TENSOR_PARALLEL:
            if row.accelerators % tensor == 0:
                yield Layout(tensor=float(tensor), pipeline=1.0), row.accelerators // tensor


def case(found: Described, layout: Layout[float], replicas: int) -> Case:
    """The row under one layout."""
    row, kernel, device = found.row, found.kernel, found.device
    ranks = replicas if found.model.moe and layout.tensor == 1 and row.replicas > 1 else 1
    chunk, _ = limits(row, device)
    asked = setup(found)
    return Case(
        family=parameters.family_of(row.engine),
        classes=parameters.classes(asked, kernel, device),
        work=work_of(found, layout, ranks),
        peaks={**peaks_of(found, asked), "chunk": chunk},
        use=use(found, layout, replicas, ranks),
    )


def peaks_of(found: Described, asked: Setup) -> dict[str, float]:
    """The device's peaks for the kernels that the row's build ran."""
    found_peaks = peaks(found.device, found.kernel, fused_attention=asked.flash_attention)
    if asked.hipblaslt is False and asked.backend != "vulkan":
        found_peaks["matrix_peak"] *= UNTUNED_BLAS
    return found_peaks


def setup(found: Described) -> Setup:
    """What the row says of its engine."""
    row = found.row
    generation = parameters.generation_of(row.engine, row.engine_version)
    backend = row.note.get("backend", "") + row.engine_version
    return Setup(
        engine=row.engine,
        generation=generation,
        lane=row.lane,
        moe=found.model.moe is not None,
        backend="vulkan" if "vulkan" in backend and row.engine == "llama.cpp" else "",
        flash_attention=row.engine != "llama.cpp" or row.note.get("fa") == "1",
        hipblaslt={"1": True, "0": False}.get(row.note.get("hipblaslt", "")),
    )


def work_of(found: Described, layout: Layout[float], ranks: int) -> Work[float]:
    """Bytes and operations of one device. `ranks` replicas that share one set of experts (data-parallel attention):
    each holds its part, and the batches of all touch them.
    """
    row = found.row
    context = row.number("depth") + row.prompt + row.output / 2
    done = work(found.weights, found.shape, among(layout, ranks), cell_bytes(row), context)
    if row.engine == "llama.cpp":
        return replace(done, exchanges=layout.pipeline - 1)
    return done if ranks == 1 else travelling(each_rank(done), found, ranks)


def travelling(done: Work[float], found: Described, ranks: int) -> Work[float]:
    """Tokens travel to their experts and back: counted like all-reduces of as many tensor-parallel ranks (assumed), as
    the parameters were fitted; vLLM's all-gather moves half of `ranks` times as much."""
    alike = work(found.weights, found.shape, Layout(tensor=float(ranks), pipeline=1.0), cell_bytes(found.row), 1.0)
    return replace(done, exchange_bytes_per_token=alike.exchange_bytes_per_token, exchanges=alike.exchanges)


def among(layout: Layout[float], ranks: int) -> Layout[float]:
    """The layout of a replica whose experts lie on all `ranks` of them; engines other than vLLM counted like it."""
    return replace(layout, data=float(ranks), expert=1.0) if ranks > 1 else layout


def use(found: Described, layout: Layout[float], replicas: int, ranks: int) -> Use:
    """Load and limits of one replica."""
    row = found.row
    _, seats = limits(row, found.device)
    requests = row.number("n_requests") / replicas
    varied = not row.prompt.is_integer()
    return Use(
        prompt=row.prompt,
        output=row.output,
        depth=row.number("depth"),
        users=(row.users or 1.0) / replicas,
        requests=requests,
        pool_bytes=max(pool_bytes(found, layout, ranks), least_pool(found.device)),
        seats=seats,
        reserved_output=1.0 if row.engine == "tensorrt-llm" else 0.5,
        varied=float(varied),
        mean_of_requests=float(varied and requests > 0 and row.stat != "p50"),
        chunked=float(row.engine == "vllm"),
        prefill_tokens=PREFILL_TOKENS.get(row.engine, 0.0),
        unreserved=float(row.engine == "tensorrt-llm"),
        static=row.number("static"),
        replicas=float(replicas),
    )


def pool_bytes(found: Described, layout: Layout[float], ranks: int) -> float:
    """Cache memory of one device: the engine's share less weights and activations (`reserve_bytes` in TensorRT-LLM)."""
    memory = found.device.usable_memory or math.inf
    held = device_weight_bytes(found.weights, dealt(found, layout), among(layout, ranks))
    if found.row.engine == "tensorrt-llm":
        return memory - held
    if found.row.engine == "sglang":
        return memory - held - sglang_reserve(memory, layout)
    return CLAIMED * memory - held - BESIDE[8192.0 if memory > LARGE else 2048.0]


def sglang_reserve(memory: float, layout: Layout[float]) -> float:
    """What SGLang leaves beside weights and cache (its `mem_fraction_static`), bytes.

    MiB: 512, 1.5 per token of a chunk, 2 per sequence of its largest graph, 1024 for every eight devices; 10 GiB at
    least on devices of more than 60.
    """
    _, chunk, few, many = next(row for row in SGLANG_LIMITS if memory < row[0] * GIB)
    graph = few if layout.tensor < 4 else many
    mib = 512 + 1.5 * chunk + 2 * graph + 1024 * layout.tensor * layout.pipeline / 8
    return max(mib, 10240.0 if memory > 60 * GIB else 0.0) * GIB / 1024


def dealt(found: Described, layout: Layout[float]) -> Shape[float]:
    """The shape as its layers come to the devices: stages of whole layers in vLLM and llama.cpp; the others deal
    experts and requests out to devices beyond the tensor-parallel ones, and none is fuller than another."""
    if found.row.engine in ("vllm", "llama.cpp"):
        return found.shape
    return replace(found.shape, layers=layout.pipeline, lead_layers=0.0)


def least_pool(device: Accelerator) -> float:
    """The run did start: where our accounting leaves nothing, a hundredth of the memory is taken (assumed)."""
    return 0.01 * (device.usable_memory or 0.0)


def limits(row: Row, device: Accelerator) -> tuple[float, float]:
    """(max_num_batched_tokens, max_num_seqs) where the row does not print them: the engine's defaults.

    vLLM: 8192 and 1024 on devices of 70 GiB except the A100, 2048 and 256 below (arg_utils.py since 0.8.0); before,
    256 sequences. The 0.9 rows show a thousand running sequences by Little's law: a raised limit.
    """
    large = (device.usable_memory or 0) > LARGE and device.chip != "GA100" and not device.id.startswith("a100")
    generation = parameters.generation_of(row.engine, row.engine_version)
    if row.engine == "llama.cpp":
        return 512.0, 1.0
    if row.engine != "vllm":
        return 8192.0, 2048.0
    raised = row.engine_version.startswith("0.9")
    chunk = row.number("chunk") or (8192.0 if large or raised else 2048.0)
    return chunk, 1024.0 if (large or raised) and generation != "vllm-2024" else 256.0


def cell_bytes(row: Row) -> float:
    """Bytes per cached value. TensorRT-LLM's FP8 and FP4 checkpoints carry an FP8 cache."""
    quantized = row.engine == "tensorrt-llm" and row.kv_dtype == "auto" and row.lane in ("fp8", "nvfp4")
    return 1.0 if row.kv_dtype.startswith("fp8") or quantized else 2.0
