"""From a row of a start-up log to what our formulas say of it: the settings it states, the defaults it does not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from catalog.accelerator import Accelerator
from catalog.engine import Engine
from catalog.errors import BadInput, Unsupported
from catalog.load import Catalog
from catalog.model import Model
from catalog.units import GIB
from planner import memory, spread, startup
from planner.accuracy.truth import Start
from planner.lanes import BY_ID, as_published
from planner.lanes.lane import Lane, Method
from planner.startup import Buffers, Log, Settings
from planner.work import Layout, Shape, Weights, shape, weights

MIB = 2**20
YEARS = {"2023": "0.2", "2024": "0.6", "2025": "0.11", "2026": "0.21"}
"""The vLLM version of a log that states a date alone (assumed)."""
CELL_BITS = {
    "auto": 16, "bf16": 16, "fp16": 16, "f16": 16, "f32": 32, "fp8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8, "int8": 8,
    "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5, "iq4_nl": 4.5,
}  # fmt: skip
"""Bits of a cached value (engines' own cache layouts; block formats with their scales)."""
SCALED_BITS = {"int8_per_token_head": (8, 32), "tq3": (3, 24)}
"""Formats with scales per head and token: bits per value, and bits per head's vector (vllm 0.33 triton_attn.py:310,
turboquant/config.py)."""
BACKENDS = {"vulkan": "vulkan", "amdvlk": "vulkan", "radv": "vulkan", "rocwmma": "rocwmma", "hip": "hip"}
BUILD_WITHOUT_PIPELINE = 1800
"""First llama.cpp builds with several copies of a graph's inputs came after these logs (b2797 has them, b1691 not)."""
VLLM = (
    "weights_gib", "activation_peak_gib", "non_torch_gib", "cuda_graph_gib", "kv_cache_gib", "kv_cache_tokens",
    "max_concurrency", "starts",
)  # fmt: skip
LLAMACPP = ("gguf_file_bytes", "gguf_file_gib", "kv_mib", "model_buffer_mib", "compute_buffer_mib", "total_vram_mib")


@dataclass(frozen=True)
class Described:
    """A row with the catalogue's entries it names."""

    row: Start
    model: Model
    engine: Engine
    device: Accelerator | None
    lane: Lane
    method: Method
    scale: float = 1.0
    """Of the bits of an Unsloth file: the mean of other models over ours, where it is fitted anew."""

    @cached_property
    def version(self) -> str:
        """The engine's release, or the one that our newest facts speak of where the row does not say."""
        return release(self.row) or self.engine.version

    @property
    def capability(self) -> str | None:
        """What memory accounting tells devices apart by; None where the row names no device."""
        return self.device.accounted_as if self.device else None

    @cached_property
    def tags(self) -> frozenset[str]:
        """What widens an interval: see planner/spread.py, and settings that the row does not state."""
        row = self.row
        stated = {
            "share": not row.share, "version": not release(row),
            "budget": not (row.sequences and row.tokens) and not self._on("hopper"),
        }  # fmt: skip
        own = frozenset(name for name, given in stated.items() if given)
        return own | spread.tags(self.model, self.lane, self.layout, self.device)

    @cached_property
    def layout(self) -> Layout[float]:
        """Tensor parallel as printed; what is left of the devices is a pipeline. llama.cpp splits by layers."""
        devices = max(1, self.row.accelerators)
        if self.row.engine == "llama.cpp":
            return Layout(tensor=1.0, pipeline=float(devices))
        tensor = self.row.tensor or devices
        return Layout(tensor=float(tensor), pipeline=float(max(1, devices // tensor)))

    @cached_property
    def use(self) -> Settings:
        """Settings as stated, the engine's defaults for that device and version otherwise."""
        row, limit = self.row, float(self.model.max_position)
        total = self.device.usable_memory or 0.0 if self.device else 0.0
        context = row.context or (4096.0 if row.engine == "llama.cpp" else limit)
        if row.engine == "llama.cpp":
            sizes, share = (row.sequences or 1.0, 512.0), 1.0
        else:
            sizes = self._budget(total, context)
            share = row.share or self.engine.constants_at(self.version, self.capability)["memory_share"]
        return Settings(
            layout=self.layout, cell_bytes=cell_bits(row, self.model) / 8, context=context, slots=sizes[0],
            chunk=sizes[1], memory=total, share=share,
            divided=row.engine == "llama.cpp" and since(row, startup.DIVIDED_CACHES, self.engine),
        )  # fmt: skip

    def _on(self, architecture: str) -> bool:
        return self.device is not None and self.device.architecture == architecture

    def _budget(self, total: float, context: float) -> tuple[float, float]:
        usual = self.engine.budget(self.version, total, self.capability)
        tokens = self.row.tokens or usual.tokens or max(context, 2048.0)
        return min(self.row.sequences or usual.sequences, tokens), tokens

    @cached_property
    def shape(self) -> Shape[float]:
        return shape(self.model)

    @cached_property
    def log(self) -> Log:
        """vLLM's lines."""
        fixed = memory.accounting(self.engine, self.capability, self.version, self.lane.id)
        fixed = replace(fixed, state_blocks=fixed.state_blocks + self.drafted)
        block = float(self.engine.block(latent=self.model.mla is not None))
        return startup.vllm(self.shape, held(self), fixed, self.use, block)

    @property
    def drafted(self) -> int:
        """Tokens that the prediction layer drafts: its weights are loaded, and every draft keeps a linear state."""
        return int(self.row.note.get("drafted", "0"))

    @cached_property
    def fused(self) -> bool:
        """Flash attention: off by default in the builds that have logs here."""
        return self.row.note.get("fa", "0") == "1"

    @property
    def hosted(self) -> bool:
        """Whether there is no device beside the CPU."""
        return self.device is not None and self.device.kind == "cpu"

    @cached_property
    def buffers(self) -> Buffers:
        """llama.cpp's lines."""
        fixed = memory.accounting(self.engine, self.capability)
        fixed = startup.in_place(fixed) if 0 < build(self.row) < startup.FUSED_GATES else fixed
        if not since(self.row, startup.SLOT_OUTPUTS, self.engine):
            fixed = replace(fixed, graph_slot_outputs=0.0)
        old = 0 < build(self.row) < BUILD_WITHOUT_PIPELINE
        one = replace(self.use, layout=Layout(tensor=1.0, pipeline=1.0)) if old else self.use
        made = startup.llamacpp(
            self.model, self.shape, self.method, fixed if self.fused else startup.unfused(fixed), one
        )
        file = made.file * self.scale
        return replace(made, file=file, model=file if self.hosted else made.model * self.scale)


def describe(row: Start, catalog: Catalog, refitted: Refitted | None = None) -> Described:
    """Look up what the row names. Raises UnknownModel, BadInput or Unsupported with the reason of a refusal."""
    known = {"vllm": VLLM, "llama.cpp": LLAMACPP}
    if row.metric not in known.get(row.engine, ()):
        raise Unsupported(f"no formula for {row.metric!r} of engine {row.engine!r}", "$.metric")
    model, lane = catalog.model(row.model), BY_ID.get(row.lane)
    if model.unplanned:
        raise Unsupported(f"{model.id}: {model.unplanned}", "$.model")
    if lane is None or (lane.family == "gguf") != (row.engine == "llama.cpp"):
        raise Unsupported(f"no facts for engine {row.engine!r} with lane {row.lane!r}", "$.lane")
    recipe = model.native_recipe if model.native == lane.id else ""
    method = as_published(lane.method(recipe) or lane.methods[min(1, len(lane.methods) - 1)])
    engine = refitted.engine if refitted and row.engine == refitted.engine.id else catalog.engine(row.engine)
    engine = refitted.llamacpp if refitted and row.engine == "llama.cpp" else engine
    scale = refitted.scales.get(row.lane[5:], 1.0) if refitted else 1.0
    device = catalog.accelerator(row.accelerator) if row.accelerator else None
    return Described(row, model, engine, device, lane, method, scale)


@dataclass(frozen=True)
class Refitted:
    """Both engines with constants fitted to some rows only."""

    engine: Engine
    llamacpp: Engine
    scales: Mapping[str, float] = field(default_factory=dict)


def value(found: Described) -> float:
    """The number that the log would print, in the row's unit. Raises BadInput where the row leaves out what decides."""
    return _vllm_value(found) if found.row.engine == "vllm" else _llamacpp_value(found)


def _vllm_value(found: Described) -> float:
    metric = found.row.metric
    if metric != "weights_gib" and not found.use.memory:
        raise BadInput(f"{metric} needs an accelerator whose memory is known", "$.accelerator")
    log = found.log
    if metric == "cuda_graph_gib" and memory_before(found.version, "0.14"):
        raise Unsupported(
            "vLLM before 0.14 prints a difference of free memory as its graphs, mostly below zero", "$.metric"
        )
    if metric == "starts":
        return float(log.starts)
    lines = {
        "weights_gib": log.weights / GIB, "activation_peak_gib": log.activation / GIB,
        "non_torch_gib": log.outside / GIB, "cuda_graph_gib": log.graphs / GIB, "kv_cache_gib": log.cache / GIB,
        "kv_cache_tokens": log.tokens, "max_concurrency": log.concurrency,
    }  # fmt: skip
    if lines[metric] <= 0:
        raise BadInput(f"our accounting leaves no {metric}: {-log.cache / GIB:.1f} GiB too little memory", "$.truth")
    return lines[metric]


def _llamacpp_value(found: Described) -> float:
    made, metric = found.buffers, found.row.metric
    lines = {
        "gguf_file_bytes": made.file, "gguf_file_gib": made.file / GIB, "kv_mib": made.cache / MIB,
        "model_buffer_mib": made.model / MIB, "compute_buffer_mib": made.compute / MIB,
    }  # fmt: skip
    if metric != "total_vram_mib":
        return lines[metric]
    if "shared" not in found.tags:
        return (made.model + made.cache + made.compute) / MIB
    process = startup.process_bytes(found.engine, backend(found.row), fused=found.fused)
    return (made.file + made.cache + made.compute + process) / MIB


def backend(row: Start) -> str:
    """The GPU library of a build on a device that shares its memory. Raises BadInput where the row does not say."""
    named = row.engine_version.lower()
    for word, name in BACKENDS.items():
        if word in named or word in row.note.get("backend", ""):
            return name
    raise BadInput(
        "which backend the build used decides what its process holds: hip, rocwmma or vulkan", "$.engine_version"
    )


def release(row: Start) -> str | None:
    """The vLLM release of a row, from a number or a date in its version; None where there is neither."""
    text = row.engine_version
    found = re.search(r"(?<![\d.])\d+\.\d+(\.\d+)?", text)
    if found:
        return found[0]
    year = re.search(r"\b(202\d)\b", text)
    return YEARS.get(year[1]) if year else None


def build(row: Start) -> int:
    """The llama.cpp build number; 0 where the row has none."""
    found = re.search(r"\bb(\d{4,5})", row.engine_version)
    return int(found[1]) if found else 0


def since(row: Start, first: int, engine: Engine) -> bool:
    """Whether a llama.cpp build is this one or a later one; of a release without a number, whether it is the one that
    plans are made for or a later one. Where a row says nothing it is."""
    number, version = build(row), release(row)
    return number >= first if number else version is None or not memory_before(version, engine.version)


def memory_before(version: str, limit: str) -> bool:
    """Whether a version is older than another."""
    return [int(part) for part in re.findall(r"\d+", version)] < [int(part) for part in re.findall(r"\d+", limit)]


def cell_bits(row: Start, model: Model) -> float:
    """Bits of one cached value with its share of scales. Raises Unsupported for a format without facts."""
    if row.kv_dtype in SCALED_BITS:
        bits, vector = SCALED_BITS[row.kv_dtype]
        return bits + vector / model.head_dim
    if row.kv_dtype not in CELL_BITS:
        raise Unsupported(f"no facts for a cache of {row.kv_dtype!r}", "$.kv_dtype")
    return CELL_BITS[row.kv_dtype]


_KNOWN: dict[tuple[str, str, str], Weights[float]] = {}


def held(found: Described) -> Weights[float]:
    """Summing a model's tensors takes milliseconds; rows share the sums."""
    key = (found.model.id, found.lane.id, found.method.recipe.name)
    if key not in _KNOWN:
        _KNOWN[key] = weights(found.model, found.method)
    drafter = 2.0 * found.model.mtp_params if found.drafted else 0.0
    return replace(_KNOWN[key], split_bytes=_KNOWN[key].split_bytes + drafter)
