"""What a device's memory goes to, and what is left for the cache.

vLLM claims a share of the memory, loads the weights, measures one forward pass, and gives the rest to the cache;
llama.cpp loads the weights, reserves the cache and one worst-case graph. The constants of each engine version are
data (`constants` in catalog/data/engines). Bytes throughout; every formula takes a float, an array or a traced number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic

from catalog.accelerator import Accelerator
from catalog.engine import Engine
from catalog.units import GIB
from planner.trace import N, ceiling, largest, power, root, smallest, step
from planner.work import Layout, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting(Generic[N]):
    """The constants of one engine version; the names are those of the data file."""

    logit_bytes: N
    """Sampler: bytes per sequence and vocabulary entry (logits, probabilities, noise)."""
    sampler_hidden_bytes: N
    """Hidden states kept alive while sampling, per batched token and hidden unit."""
    sampler_bytes: N
    forward_ffn_bytes: N
    """Forward pass: bytes per batched token and MLP unit on the device."""
    forward_hidden_bytes: N
    """Forward pass: bytes per batched token and hidden unit."""
    forward_bytes: N
    expert_value_bytes: N
    """Mixture of experts: bytes per batched token, expert per token and widest row."""
    graph_bytes: N
    graph_layer_bytes: N
    graph_head_bytes: N
    """CUDA graphs: bytes per attention unit (heads x head_dim) on the device."""
    outside_bytes: N
    """Outside the tensor allocator on one device: kernels' own buffers."""
    group_bytes: N
    """More of the same as soon as devices talk to each other."""
    group_hidden_bytes: N
    """And per hidden unit …"""
    group_power: N
    """… times half the group size to this power."""
    margin_bytes: N
    """Left free on purpose (llama.cpp `--fit-target`)."""
    graph_context_bytes: N
    """llama.cpp: bytes per token of context and batched token in the attention mask."""


def accounting(engine: Engine) -> Accounting[float]:
    """The engine version's constants; one that the file leaves out is 0."""
    return Accounting(**{name: float(engine.constants.get(name, 0.0)) for name in Accounting.__dataclass_fields__})


@step
def slots_for(batch: N) -> N:
    """The running batch fluctuates like a Poisson number: slots for its mean and two standard deviations."""
    return ceiling(batch + 2 * root(batch))


@step
def activation_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N], slots: N, chunk: N) -> N:
    """The peak of one profiled step: sampling all sequences at once, or the forward pass of a full token budget.

    `slots` = max_num_seqs, `chunk` = max_num_batched_tokens. Source: research on 43 start-up logs of vLLM 0.19, whose
    sampler keeps 14 bytes per logit; mixture-of-experts workspace from the code, unfitted.
    """
    sampler = fixed.logit_bytes * slots * model.vocab + fixed.sampler_hidden_bytes * chunk * model.hidden
    ffn = fixed.forward_ffn_bytes * chunk * model.ffn / layout.tensor
    forward = ffn + fixed.forward_hidden_bytes * chunk * model.hidden + fixed.forward_bytes
    width = model.expert_width / layout.tensor
    rows = largest(width, model.hidden) + largest(2 * width, model.hidden)
    experts = fixed.expert_value_bytes * chunk * model.experts_per_token * rows
    return largest(sampler + fixed.sampler_bytes, forward) + experts


@step
def cuda_graphs_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N]) -> N:
    """CUDA graphs of the decode step, which vLLM subtracts from the cache since 0.21."""
    heads = fixed.graph_head_bytes * model.heads_width / layout.tensor
    return fixed.graph_bytes + fixed.graph_layer_bytes * model.layers / layout.pipeline + heads


@step
def non_torch_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N]) -> N:
    """What libraries hold outside the tensor allocator: more as soon as devices exchange data."""
    grown = power(layout.tensor / 2, fixed.group_power)
    group = fixed.group_bytes + fixed.group_hidden_bytes * model.hidden * grown
    return fixed.outside_bytes + group * smallest(layout.tensor - 1, 1.0)


@step
def vllm_cache_bytes(claimed: N, weights: N, activation: N, graphs: N, outside: N) -> N:
    """vLLM gives the cache what is left of its share of the memory."""
    return claimed - weights - activation - graphs - outside


@step
def llamacpp_graph_bytes(model: Shape[N], fixed: Accounting[N], context: N, chunk: N) -> N:
    """llama.cpp reserves one worst-case graph per device: all logits of a micro-batch, or its attention over the cache.

    `context` = tokens of the whole cache, `chunk` = n_ubatch. Exact for the logged Llama-3-8B buffers.
    """
    logits = fixed.logit_bytes * chunk * (model.vocab + model.hidden)
    attention = fixed.graph_context_bytes * context * chunk + 3 * fixed.logit_bytes * chunk * model.hidden
    return largest(logits, attention)


@step
def llamacpp_cache_bytes(usable: N, weights: N, graphs: N, margin: N) -> N:
    """llama.cpp can give the cache what weights, its worst-case graph and the free margin leave."""
    return usable - weights - graphs - margin


@step
def claimed_bytes(memory: N, share: N) -> N:
    """The engine takes its share of the device's memory."""
    return memory * share


CONTEXT_BYTES = 0.6 * GIB
"""What the driver keeps for a process before it can claim anything (assumed: 0.3 to 0.6 GiB in start-up logs)."""


def claimable_share(device: Accelerator, engine: Engine, memory: float, free: float | None = None) -> tuple[float, str]:
    """The share of `memory` bytes that the engine may use on this device, and where that comes from.

    Of `free` bytes, where somebody looked: an engine that asks for more than is free does not start.
    """
    share, source = _usual_share(device, engine, memory)
    if free is None or not memory:
        return share, source
    context = CONTEXT_BYTES if device.kind == "gpu" else 0.0
    most = math.floor(100 * max(0.0, free - context) / memory) / 100
    return (share, source) if most >= share else (most, "free memory when the machine was probed, or not reserved")


def _usual_share(device: Accelerator, engine: Engine, memory: float) -> tuple[float, str]:
    if engine.id != "llama.cpp":
        return engine.memory_share, f"{engine.id} {engine.version} default"
    if device.vendor == "apple":
        small = memory <= 36 * GIB
        return (0.667, "Metal working set of 16 and 32 GB Macs (logs)") if small else (0.75, "Metal working set: exactly 75 % of 192 GiB (log)")  # fmt: skip  # noqa: E501
    if device.kind == "gpu":
        return 1.0, "a dedicated device"
    return 0.9, "assumed: the system keeps a tenth"
