"""The nouns of "does it start, and how much fits?": the question, one way to serve with its memory, the answer.

Bytes of one device, tokens, sequences. The command line and REST take the same question and give the same document.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from planner.plan import Assumption, Estimate, Finding
from planner.request import SCHEMA, Hardware, Lora


class Ask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /fit: a model, hardware, and as many of the engine's flags as are known."""

    model: str
    hardware: Hardware
    schema: int = SCHEMA
    lane: str | None = None
    """None: every lane, one outcome each."""
    engine: str | None = None
    engine_versions: dict[str, str] | None = None
    context: int | None = None
    """Tokens of the longest sequence; None: the model's own limit, as engines do without a flag."""
    sequences: int | None = None
    """Slots (`--max-num-seqs`, `--parallel`); None: the engine's default on this device."""
    batched_tokens: int | None = None
    """Tokens of one step (`--max-num-batched-tokens`, `--ubatch-size`)."""
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    """Without either, all devices are used, in the widest layout that no rule refuses."""
    data_parallel: int | None = None
    """vLLM, models with experts: ranks that each hold all of attention and a cache of their own, and share the experts
    (`--data-parallel-size` with `--enable-expert-parallel`). Sequences and batched tokens are those of one rank."""
    kv_cache: str | None = None
    """As the engine's flag spells it: auto, fp8, f16, q8_0."""
    utilization: float | None = None
    """vLLM's share of the device's memory (`--gpu-memory-utilization`)."""
    lora: Lora | None = None
    """Adapters that are loaded beside the weights."""
    gpu_layers: int | None = None
    """llama.cpp: layers on devices, the output counted as one (`--n-gpu-layers`); None: all."""
    tensor_split: tuple[float, ...] | None = None
    """llama.cpp: one share of the layers per device (`--tensor-split`); None: equal ones."""
    cpu_experts: int | None = None
    """llama.cpp: first layers whose experts stay with the host (`--n-cpu-moe`)."""


class Part(Struct, frozen=True, kw_only=True):
    """One thing that takes memory of a device."""

    name: str
    bytes: Estimate


class Seats(Struct, frozen=True, kw_only=True):
    """How many sequences of one length fit at once, with as many slots."""

    context: int
    """Tokens of each."""
    sequences: int


class Flags(Struct, frozen=True, kw_only=True):
    """What the engine would be started with."""

    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: float
    """llama.cpp has no such flag: the share that it can use."""
    kv_cache_dtype: str
    tensor_parallel: int
    pipeline_parallel: int
    expert_parallel: bool
    data_parallel: int = 1
    gpu_layers: int | None = None
    tensor_split: tuple[float, ...] | None = None
    cpu_experts: int | None = None


class Held(Struct, frozen=True, kw_only=True):
    """What llama.cpp keeps in one place."""

    place: str
    """`device 0` and so on, or `host`."""
    weight_bytes: float
    """On the host mapped from the file: the system may drop and read them again."""
    cache_bytes: float
    compute_bytes: float
    """The worst-case graph; on the host its inputs."""


class Change(Struct, frozen=True, kw_only=True):
    """One change, and what it gives; the cheapest come first."""

    change: str
    flags: str
    """The same as flags of `lanewise fit`."""
    margin: Estimate
    longest_context: int
    sequences: int
    """Of the context that was asked for, or of the shorter one that the change is."""


class Picture(Struct, frozen=True, kw_only=True):
    """Where the memory of one device goes, and what fits into the rest."""

    device_bytes: float
    free_bytes: float | None
    """Of it, what nothing else holds; None: nobody looked."""
    claimed_bytes: float
    """What the engine may take."""
    parts: tuple[Part, ...]
    """Everything inside the claim, the cache last; they add up to it. A negative cache is what is missing."""
    unclaimed_bytes: float
    """Left to the driver, to other processes, to nobody."""
    needed_bytes: float
    """Cache without which the engine refuses to start: one sequence of the longest context (vLLM, which keeps a block
    empty besides), or all slots of it (llama.cpp)."""
    sequence_bytes: float
    """Cache of one sequence of the longest context."""
    margin: Estimate
    """Cache less what is needed; negative where the engine does not start."""
    first_missing: str
    """The first part that does not fit; "" where all do."""
    kv_tokens: int
    """Tokens that the cache holds, in whole blocks; 0 where there is none."""
    max_concurrency: float
    """Sequences of the longest context that the cache holds: what vLLM prints at its start."""
    longest_context: int
    """Tokens of the longest sequence for which these flags leave room, to a block; 0: none."""
    seats: tuple[Seats, ...]
    """At 8,192 tokens where the model goes as far, and at the context that was asked for."""

    def seats_at(self, context: int) -> int | None:
        """Sequences of so many tokens; None where nobody counted them."""
        return next((each.sequences for each in self.seats if each.context == context), None)


class Oracle(Struct, frozen=True, kw_only=True):
    """What the engine's own planner makes of the cache that our count leaves it."""

    program: str
    starts: bool
    """Whether it accepts the longest context with this cache."""
    kv_tokens: int | None
    max_concurrency: float | None
    said: str
    """Its own words where it refuses."""
    places: tuple[Held, ...] = ()
    """llama.cpp's own count of every place."""
    file_bytes: float | None = None
    """llama.cpp's own count of the quantized tensors."""


class Outcome(Struct, frozen=True, kw_only=True):
    """One lane on one engine and device: whether it starts, why not, and its memory."""

    lane: str
    recipe: str
    checkpoint: str
    """Repository or folder of the weights; "" where they have to be made."""
    engine: str
    engine_version: str
    accelerator: str
    devices: int
    flags: Flags
    starts: bool | None
    """None: nothing here can say, and `reasons` names what is missing."""
    reasons: tuple[Finding, ...]
    """Why it would not start; the rules' own codes."""
    findings: tuple[Finding, ...]
    picture: Picture | None
    """None where a reason leaves nothing to count."""
    places: tuple[Held, ...] = ()
    """llama.cpp: every device and the host; empty where we have no list of the model's tensors."""
    changes: tuple[Change, ...] = ()
    """What would make it start or, where it starts, what would give more room; of the lane that was asked for."""
    oracle: Oracle | None = None
    """The command line's `--oracle`; None where nobody asked, or it cannot be asked about this one."""


class Headroom(Struct, frozen=True, kw_only=True):
    """The answer. The same question, catalogue and inventory give the same bytes."""

    schema: int
    ask: dict[str, Any]
    """The question without what was left out."""
    starts: bool
    """Whether any outcome does."""
    outcomes: tuple[Outcome, ...]
    assumptions: tuple[Assumption, ...]
    probed_at: str | None
    catalog_digest: str
    versions: dict[str, str]
