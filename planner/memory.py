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
from planner.ranks import all_of, beyond_one, several
from planner.remembered import remembered
from planner.trace import N, ceiling, largest, positive, power, present, root, smallest, step, whole
from planner.work import Layout, Shape, Weights


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
    int8_ffn_bytes: N
    """More of the same for the quantized activations of an int8 lane."""
    expert_value_bytes: N
    """Mixture of experts: bytes per batched token, expert per token and widest row."""
    latent_bytes: N
    """Latent attention: bytes per token of its workspace and unit of unpacked keys and values on the device."""
    image_value_bytes: N
    """Bytes per value of the profiled pictures."""
    stage_hidden_bytes: N
    """Pipelines: bytes per batched token and hidden unit between stages."""
    graph_bytes: N
    graph_layer_bytes: N
    graph_head_bytes: N
    """CUDA graphs: bytes per attention unit (heads x head_dim) on the device."""
    graphs_claimed: N
    """1 where the graphs are taken from the cache, 0 where they come on top of the share."""
    outside_bytes: N
    """Outside the tensor allocator on one device: kernels' own buffers."""
    group_bytes: N
    """More of the same as soon as devices talk to each other."""
    group_hidden_bytes: N
    """And per hidden unit …"""
    group_power: N
    """… times half the group size to this power."""
    stage_bytes: N
    """On a pipeline without tensor parallelism instead of that: what it needs more, or less."""
    size_by_concurrency: N
    """1 where the printed cache size is concurrency x longest context, 0 where it is the blocks of one group."""
    steps_in_flight: N
    """Scheduled steps, on one stage, whose tokens a window must hold too."""
    group_blocks: N
    """1 where windowed layers give back what left their window, 0 where every layer keeps the whole context."""
    state_blocks: N
    """Pages of one sequence in a group of linear layers: its state, and copies that prefix caching keeps."""
    pool_in_gib: N
    """1 where the cache's size is stated, in whole GiB (a CPU's); 0 where it is what is left."""
    vocabulary_copies: N
    """Copies of embedding and output matrix beside the weights: a CPU kernel packs them, and the originals are kept."""
    margin_bytes: N
    """Left free on purpose (llama.cpp `--fit-target`)."""
    graph_context_bytes: N
    """llama.cpp: bytes per token of context and batched token in the attention mask."""
    graph_score_bytes: N
    """The same per attention unit where scores are stored: without flash attention."""
    graph_index_bytes: N
    """And per token and value where values are cached transposed: newer builds without flash attention."""
    graph_ffn_bytes: N
    """And per batched token and MLP unit."""
    graph_copies: N
    """Copies of a graph's inputs where devices work as a pipeline."""
    graph_slot_outputs: N
    """1 where a graph has logits for one token of every slot, 0 where it has them for all of a micro-batch."""
    graph_embeds: N
    """1 where the graph of the layers embeds the tokens as well: without a device beside the CPU."""


QUANTIZED_ACTIVATIONS = "int8-w8a8"
"""The lane whose MLP keeps 8-bit activations beside the 16-bit ones."""


@remembered(512)
def accounting(engine: Engine, capability: str | None, version: str | None = None, lane: str = "") -> Accounting[float]:
    """The constants of a version (without one the engine's own) on a device; one that the file leaves out is 0."""
    given = engine.constants_at(version or engine.version, capability)
    made = {name: float(given.get(name, 0.0)) for name in Accounting.__dataclass_fields__}
    made["int8_ffn_bytes"] *= lane == QUANTIZED_ACTIVATIONS
    return Accounting(**made)


@step
def slots_for(batch: N) -> N:
    """The running batch fluctuates like a Poisson number: slots for its mean and two standard deviations."""
    return ceiling(batch + 2 * root(batch))


@step
def forward_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N], chunk: N) -> N:
    """The forward pass of a full token budget (`chunk` = max_num_batched_tokens), attention skipped as vLLM does."""
    ffn = (fixed.forward_ffn_bytes + fixed.int8_ffn_bytes) * chunk * model.ffn / layout.tensor
    return ffn + fixed.forward_hidden_bytes * chunk * model.hidden + fixed.forward_bytes


@step
def latent_pass_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N], sizes: tuple[N, N, N]) -> N:
    """Latent attention unpacks keys and values of part of the cache: of eight contexts, of at most 65,536 tokens, and
    of one block of 64 per sequence. From vLLM's code; no log has it.

    `sizes` = max_num_seqs, max_num_batched_tokens, max_model_len.
    """
    slots, chunk, context = sizes
    unpacked = largest(smallest(largest(8 * context, 256 * slots), 65536.0), 64 * slots)
    held = fixed.forward_hidden_bytes * chunk * model.hidden + fixed.forward_bytes
    return held + fixed.latent_bytes * unpacked * model.latent_width / layout.tensor


@step
def sampler_bytes(model: Shape[N], fixed: Accounting[N], chunk: N) -> N:
    """What sampling needs however few sequences run: hidden states of the step, and workspaces."""
    return fixed.sampler_hidden_bytes * chunk * model.hidden + fixed.sampler_bytes


@step
def lasting_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N], chunk: N) -> N:
    """What stays allocated through the whole profiled step: the experts' workspace, pictures, tensors between stages.

    Experts from the fused kernel's workspace shapes, unfitted.
    """
    width, seen = model.expert_width / layout.tensor, chunk
    if several(layout.data):
        width, seen = gathered_width(model, layout), chunk * layout.data
    rows = largest(width, model.hidden) + largest(2 * width, model.hidden)
    experts = fixed.expert_value_bytes * seen * model.experts_per_token * rows
    pictures = largest(whole(chunk / model.image_tokens), 1.0) * fixed.image_value_bytes * model.image_values
    passed = fixed.stage_hidden_bytes * chunk * model.hidden * smallest(layout.pipeline - 1, 1.0)
    lasting = experts + pictures + passed
    return lasting + gathered_rows_bytes(model, layout, chunk) if several(layout.data) else lasting


def gathered_width(model: Shape[N], layout: Layout[N]) -> N:
    """Of an expert on one device: a slice, or all of it where attention is data parallel."""
    sliced = model.expert_width / layout.tensor
    return sliced + beyond_one(layout.data) * (model.expert_width - sliced)


@step
def gathered_rows_bytes(model: Shape[N], layout: Layout[N], chunk: N) -> N:
    """Hidden vectors of the other ranks' tokens, and what the device's experts make of them; 0 with one rank."""
    return 2 * (layout.data - 1) * chunk * model.hidden * model.value_bytes


@step
def activation_bytes(logits: N, sampler: N, forward: N, lasting: N) -> N:
    """The peak of one profiled step: sampling all sequences at once, or the forward pass of a full token budget.

    Source: research on 43 start-up logs of vLLM 0.19, whose sampler keeps 14 bytes per logit.
    """
    return largest(logits + sampler, forward) + lasting


@step
def logits_bytes(model: Shape[N], fixed: Accounting[N], slots: N, chunk: N) -> N:
    """Logits, probabilities and noise of every sequence (`slots` = max_num_seqs, at most one per batched token)."""
    return fixed.logit_bytes * smallest(slots, chunk) * model.vocab


@step
def cuda_graphs_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N]) -> N:
    """CUDA graphs of the decode step."""
    heads = fixed.graph_head_bytes * model.heads_width / layout.tensor
    return positive(fixed.graph_bytes + fixed.graph_layer_bytes * model.layers / layout.pipeline + heads)


@step
def claimed_graphs_bytes(graphs: N, fixed: Accounting[N]) -> N:
    """What vLLM subtracts from the cache for its CUDA graphs since 0.21."""
    return graphs * fixed.graphs_claimed


@step
def non_torch_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N]) -> N:
    """What libraries hold outside the tensor allocator: more as soon as devices exchange data."""
    talking = all_of(layout.data, layout.tensor)
    grown = power(talking / 2, fixed.group_power)
    group = fixed.group_bytes + fixed.group_hidden_bytes * model.hidden * grown
    wide = smallest(talking - 1, 1.0)
    return fixed.outside_bytes + group * wide + fixed.stage_bytes * smallest(layout.pipeline - 1, 1.0) * (1 - wide)


@step
def packed_vocabulary_bytes(held: Weights[N], layout: Layout[N], fixed: Accounting[N]) -> N:
    """Embedding and output matrix once more, as a CPU kernel reads them."""
    return fixed.vocabulary_copies * (held.embedding_bytes + held.head_bytes) / layout.tensor


def outside_bytes(held: Weights[N], model: Shape[N], layout: Layout[N], fixed: Accounting[N]) -> N:
    """Everything of the engine's that is neither weights nor activation nor cache."""
    made = non_torch_bytes(model, layout, fixed)
    return made + packed_vocabulary_bytes(held, layout, fixed) if present(fixed.vocabulary_copies) else made


def given_bytes(left: N, fixed: Accounting[N]) -> N:
    """What of it the cache may be given."""
    return whole_gib_bytes(left, fixed) if present(fixed.pool_in_gib) else left


@step
def whole_gib_bytes(left: N, fixed: Accounting[N]) -> N:
    """Of what is left for the cache as much as can be asked for: whole GiB, or all of it."""
    return left + fixed.pool_in_gib * (GIB * whole(left / GIB) - left)


@step
def vllm_cache_bytes(claimed: N, weights: N, activation: N, graphs: N, outside: N) -> N:
    """vLLM gives the cache what is left of its share of the memory."""
    return claimed - weights - activation - graphs - outside


@step
def llamacpp_mask_bytes(model: Shape[N], fixed: Accounting[N], context: N, chunk: N) -> N:
    """Which cached token each token of a micro-batch may see: once for the context, once for a window."""
    windowed = smallest(model.window_values, 1.0) * smallest(model.window_tokens + chunk, context)
    return fixed.graph_context_bytes * chunk * (context + windowed)


@step
def llamacpp_index_bytes(model: Shape[N], fixed: Accounting[N], chunk: N) -> N:
    """Without flash attention the values lie transposed in the cache: every one of a micro-batch has its own place."""
    kinds = smallest(model.window_values, 1.0) + 1
    return fixed.graph_index_bytes * chunk * kinds * (1 - smallest(model.latent_width, 1.0)) * model.layer_values / 2


@step
def llamacpp_mlp_bytes(model: Shape[N], fixed: Accounting[N], chunk: N) -> N:
    """An MLP's gate, its way up and their product; of experts what each token's experts make of it."""
    dense = fixed.graph_ffn_bytes * model.ffn
    experts = fixed.logit_bytes * model.experts_per_token * (model.hidden + 2 * model.expert_width)
    return chunk * (largest(dense, experts) + fixed.logit_bytes * model.heads_width)


@step
def llamacpp_graph_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N], sizes: tuple[N, N, N]) -> N:
    """llama.cpp reserves one worst-case graph per device, as large as its largest moment: its logits, a layer's
    attention over the cache, or its MLP while the mask waits for the next layer.

    `sizes` = tokens that one token may see, n_ubatch, sequences whose logits are wanted at once. Exact for the logged
    Llama-3-8B buffers, within 16 % of llama-fit-params on eleven architectures; of llama-server on a CPU exact for MLPs
    of more than twice the hidden width whose queries have that width, else above it.
    """
    context, chunk, slots = sizes
    several = smallest(layout.pipeline - 1, 1.0)
    row = fixed.logit_bytes * chunk * model.hidden
    outputs = chunk - fixed.graph_slot_outputs * (chunk - smallest(slots, chunk))
    logits = fixed.logit_bytes * outputs * model.vocab + row
    inputs = llamacpp_inputs_bytes(model, layout, fixed, context, chunk)
    scores = fixed.graph_score_bytes * context * chunk * model.heads
    attention = scores + 2 * fixed.logit_bytes * chunk * llamacpp_query_width(model)
    widest = largest(attention, llamacpp_mlp_bytes(model, fixed, chunk))
    return largest(logits + several * inputs, inputs + (1 + several + fixed.graph_embeds) * row + widest)


def llamacpp_query_width(model: Shape[N]) -> N:
    """Values of a token's queries in one layer; latent attention brings every head to the cached width."""
    latent = smallest(model.latent_width, 1.0)
    return (1 - latent) * model.heads_width + latent * model.heads * model.layer_values


@step
def llamacpp_inputs_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N], context: N, chunk: N) -> N:
    """What a graph begins with: hidden states, masks, places in the cache. Pipelined devices keep several copies."""
    copies = 1 + smallest(layout.pipeline - 1, 1.0) * (fixed.graph_copies - 1)
    row = fixed.logit_bytes * chunk * model.hidden
    masks = llamacpp_mask_bytes(model, fixed, context, chunk)
    return copies * (masks + row + llamacpp_index_bytes(model, fixed, chunk))


@step
def llamacpp_host_bytes(model: Shape[N], layout: Layout[N], fixed: Accounting[N], context: N, chunk: N) -> N:
    """The graph's inputs in the host's memory, and embedded tokens."""
    return llamacpp_inputs_bytes(model, layout, fixed, context, chunk) + fixed.logit_bytes * chunk * model.hidden


@step
def llamacpp_host_experts_bytes(model: Shape[N], fixed: Accounting[N], context: N, chunk: N) -> N:
    """The moment of experts that stay with the host: what each makes of its tokens, gates and ways up and products.

    Part of the masks' room is used again by then; half is a guess that llama-fit-params bears out to 15 %.
    """
    width = model.experts_per_token * (model.hidden + 3 * model.expert_width) + 2 * model.hidden
    return fixed.logit_bytes * chunk * width + llamacpp_mask_bytes(model, fixed, context, chunk) / 2


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
    if engine.id != "llama.cpp" and device.kind != "cpu":
        return engine.memory_share, f"{engine.id} {engine.version} default"
    if device.vendor == "apple":
        small = memory <= 36 * GIB
        return (0.667, "Metal working set of 16 and 32 GB Macs (logs)") if small else (0.75, "Metal working set: exactly 75 % of 192 GiB (log)")  # fmt: skip  # noqa: E501
    if device.kind == "gpu":
        return 1.0, "a dedicated device"
    return 0.9, "assumed: the system keeps a tenth"
