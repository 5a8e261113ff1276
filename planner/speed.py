"""Seconds of one decode step and of one prompt on one replica: bytes, operations and messages over what the device
can do, plus the host's time. Every formula takes a float, an array of candidates, or a traced number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic

from catalog.accelerator import Accelerator
from catalog.engine import Kernel
from catalog.errors import Unsupported
from catalog.parameters import Resolved, halves_accumulation
from catalog.speed_classes import halves_integers
from catalog.units import FlopPerSecond
from planner.ranks import fullest, several
from planner.remembered import remembered
from planner.trace import N, ceiling, largest, positive, power, present, root, smallest, step, worth


@dataclass(frozen=True, kw_only=True)
class Work(Generic[N]):
    """What one device of a replica must move and compute; SI units."""

    layers: N
    """Layers of the whole model: each costs the host a few kernel launches."""
    dense_bytes: N
    """Weights read every step on one device: everything but routed experts and the input embedding; the head counts."""
    expert_bytes: N
    """Routed experts on one device; 0 for a dense model."""
    expert_share: N
    """Experts per token over experts; 1 for a dense model."""
    flops_per_token: N
    """Two per active matrix parameter, over the devices of a rank."""
    expert_flops: N
    """Those of `flops_per_token` that routed experts do, over the devices of all ranks; 0 for a dense model."""
    attention_flops: N
    """Per token and per token of context, on one device."""
    cache_bytes_per_token: N
    """KV bytes that a sequence reads per token of its context, on one device."""
    cache_bytes_fixed: N
    """KV or state bytes a sequence reads whatever its context (windowed and linear layers), on one device."""
    exchange_bytes_per_token: N
    """Bytes each device sends for one token through all layers."""
    exchanges: N
    """Collectives in one step, each times the doublings of its group; 0 on one device."""
    pipeline: N
    """Stages that a token passes one after the other."""
    data: N = 1.0  # type: ignore[assignment]
    """Ranks whose attention is data parallel, and which share the routed experts; none of them has stages."""
    gathered_bytes_per_token: N = 0.0  # type: ignore[assignment]
    """Bytes each device sends and receives for one token of any rank on its way to the experts and back."""

    @cached_property
    def routed(self) -> bool:
        """Whether there are routed experts to reckon with."""
        return worth(self.expert_bytes) or worth(self.expert_flops)

    @cached_property
    def ranked(self) -> bool:
        """Whether any attention is data parallel."""
        return several(self.data)

    def seated(self, sequences: N) -> N:
        """Of these on the replica, those of the fullest rank, for which all others wait."""
        return fullest(self.data, sequences) if self.ranked else sequences


@dataclass(frozen=True, kw_only=True)
class Rates(Generic[N]):
    """What the device can do, and the fitted shares and times of engine and kernel."""

    bandwidth: N
    """Memory, byte/s."""
    matrix_peak: N
    """Dense flop/s of the number format that the lane's kernel computes in."""
    attention_peak: N
    """Dense 16-bit flop/s."""
    scalar_peak: N
    """Operations/s outside the matrix units: fp32, or integers where those run at half that rate."""
    link_bandwidth: N
    """One direction between devices, byte/s."""
    chunk: N
    """Prompt tokens of one forward pass: the engine's token budget."""
    weight_efficiency: N
    cache_efficiency: N
    matrix_efficiency: N
    attention_efficiency: N
    link_efficiency: N
    """Shares of the peaks above that kernels reach."""
    step_s: N
    """Host time of one step."""
    layer_s: N
    """Launch and synchronisation time of one layer."""
    sequence_s: N
    """Host time per running sequence in one step: scheduling, sampling, detokenizing."""
    exchange_s: N
    """Latency of one doubling of one collective."""
    expert_cost: N
    """Bytes of routed experts count this many times: scattered reads, small tiles; never below 1."""
    routing_spread: N
    """Share of a batch whose tokens choose experts independently; the others follow them."""
    tile_rows: N
    """Rows that each touched expert multiplies beyond its tokens: kernels compute whole tiles."""
    unpack_flops: N
    """Scalar operations to fetch and unpack one weight in a matrix-vector kernel; 0 where the matrix units do it."""

    @cached_property
    def weight_rate(self) -> N:
        """byte/s at which weights are read."""
        return self.bandwidth * self.weight_efficiency

    @cached_property
    def cache_rate(self) -> N:
        """byte/s at which caches are read."""
        return self.bandwidth * self.cache_efficiency

    @cached_property
    def matrix_rate(self) -> N:
        """flop/s of the lane's matrices."""
        return self.matrix_peak * self.matrix_efficiency

    @cached_property
    def attention_rate(self) -> N:
        """flop/s of attention over prompts."""
        return self.attention_peak * self.attention_efficiency

    @cached_property
    def link_rate(self) -> N:
        """byte/s between devices."""
        return self.link_bandwidth * self.link_efficiency

    @cached_property
    def unpacks(self) -> bool:
        """Whether any weights pass through the scalar units."""
        return present(self.unpack_flops)


@step
def expert_coverage(share: N, tokens: N) -> N:
    """Each token touches its own few experts; a batch touches the union of them, which must all be read.

    `share` experts per token over experts; `tokens` that choose independently. Between `share` and 1.
    """
    return 1 - power(1 - share, tokens)


@step
def weight_s(work: Work[N], rates: Rates[N], tokens: N) -> N:
    """A pass over a batch reads all dense weights once, and the experts that its tokens touch."""
    if not work.routed:
        return work.dense_bytes / rates.weight_rate
    touched = expert_coverage(work.expert_share, 1 + rates.routing_spread * positive(tokens - 1))
    moved = work.dense_bytes + rates.expert_cost * work.expert_bytes * touched
    return moved / rates.weight_rate


@step
def unpack_s(work: Work[N], rates: Rates[N]) -> N:
    """One token's weights pass through the scalar units, which fetch, unpack and multiply them."""
    return work.flops_per_token / 2 * rates.unpack_flops / rates.scalar_peak


@step
def matrix_s(work: Work[N], rates: Rates[N], tokens: N, most: N | None = None) -> N:
    """Every token of the batch is multiplied with every active weight, at the share of the peak the kernel reaches.

    Few tokens meet in one expert, so its tiles are part empty: each chosen expert multiplies `tile_rows` rows more.
    `1 / expert_share` tokens are enough to choose every expert once. `most` = those of the fullest rank; None: there is
    one, or `tokens` are as evenly dealt out as sequences.
    """
    multiplied = rank_flops(work, tokens, most)
    if not work.routed:
        return multiplied / rates.matrix_rate
    chosen = smallest(tokens, 1 / work.expert_share)
    padding = rates.tile_rows * chosen * work.expert_flops
    return (multiplied + padding) / rates.matrix_rate


def rank_flops(work: Work[N], tokens: N, most: N | None) -> N:
    """A rank multiplies its own tokens; the experts on its devices those of all ranks."""
    if not work.ranked:
        return work.flops_per_token * tokens
    own = work.seated(tokens) if most is None else most
    return work.flops_per_token * own + work.expert_flops * (tokens - work.data * own)


@step
def cache_s(work: Work[N], rates: Rates[N], batch: N, context: N) -> N:
    """Each sequence reads its own cache: nothing is shared, so this grows with batch times context."""
    read = work.cache_bytes_per_token * context + work.cache_bytes_fixed
    return batch * read / rates.cache_rate


@step
def collective_s(work: Work[N], rates: Rates[N], tokens: N) -> N:
    """Devices that share layers add up their partial results: a latency per collective and bytes per token."""
    return work.exchanges * rates.exchange_s + sent_s(work, rates, tokens, work.seated(tokens))


def sent_s(work: Work[N], rates: Rates[N], tokens: N, most: N) -> N:
    """Partial results of the tokens of the fullest rank, and the tokens of all ranks to their experts and back."""
    if not work.ranked:
        return work.exchange_bytes_per_token * tokens / rates.link_rate
    return (work.exchange_bytes_per_token * most + work.gathered_bytes_per_token * tokens) / rates.link_rate


@step
def stream_s(work: Work[N], rates: Rates[N], tokens: N) -> N:
    """Weights on their way to the units that multiply: unpacking overlaps with reading, so the slower of both counts,
    rounded where they are alike."""
    read = weight_s(work, rates, tokens)
    if not rates.unpacks:
        return read
    unpack = unpack_s(work, rates)
    return root(root(read * read * read * read + unpack * unpack * unpack * unpack))


@dataclass(frozen=True, slots=True)
class Decoding(Generic[N]):
    """What a step of decoding sequences takes on one stage whether or not it takes in prompts too."""

    beside: N
    """Sequences of one batch: a pipeline has one under way per stage …"""
    share: N
    """… and at least one sequence in it."""
    matrices_s: N


def decoding(work: Work[N], rates: Rates[N], batch: N) -> Decoding[N]:
    """`batch` sequences on the replica."""
    beside = batch / work.pipeline
    share = 1 + positive(beside - 1)
    return Decoding(beside, share, matrices_s(work, rates, share))


@step
def stage_s(work: Work[N], rates: Rates[N], own: Decoding[N], context: N) -> N:
    """One device's part of a step: its matrices, then the cache."""
    return own.matrices_s + cache_s(work, rates, work.seated(own.share), context)


@step
def matrices_s(work: Work[N], rates: Rates[N], tokens: N) -> N:
    """The slower of streaming weights and multiplying."""
    return largest(stream_s(work, rates, tokens), matrix_s(work, rates, tokens))


@step
def host_s(work: Work[N], rates: Rates[N], batch: N) -> N:
    """Launching kernels and scheduling costs time that no faster memory removes; it dominates small models."""
    return rates.step_s + work.layers * rates.layer_s + batch * rates.sequence_s


@step
def decode_step_s(work: Work[N], rates: Rates[N], batch: N, context: N, own: Decoding[N] | None = None) -> N:
    """Time between two tokens of every running sequence, prompts aside: host, device stages, messages.

    `batch` sequences on the replica with `context` tokens each on average; seconds. A token passes all stages. `own` =
    `decoding` of the batch, where somebody has it.
    """
    device = work.pipeline * stage_s(work, rates, own or decoding(work, rates, batch), context)
    return host_s(work, rates, work.seated(batch)) + device + collective_s(work, rates, batch)


@step
def prompt_token_s(work: Work[N], rates: Rates[N], context: N) -> N:
    """A prompt token is bound by arithmetic: the weights' operations, attention over what came before, and messages.

    Seconds on one stage, in passes that are full; `context` is the mean number of tokens it looks back on.
    """
    return pass_token_s(work, rates, rates.chunk, context)


@step
def pass_token_s(work: Work[N], rates: Rates[N], tokens: N, context: N) -> N:
    """A prompt token's share of a pass over `tokens` of them; seconds on one stage.

    All are on one rank, where attention is data parallel.
    """
    attention = work.attention_flops * context / rates.attention_rate
    moved = work.exchange_bytes_per_token
    sent = (moved + work.gathered_bytes_per_token if work.ranked else moved) / rates.link_rate
    return matrix_s(work, rates, tokens, tokens) / tokens + attention + sent / work.pipeline


@step
def prompt_attention_s(work: Work[N], rates: Rates[N], tokens: N, context: N) -> N:
    """Prompt tokens look back on `context` tokens each on average: arithmetic, on one stage."""
    return tokens * work.attention_flops * context / rates.attention_rate


@step
def mixed_step_s(work: Work[N], rates: Rates[N], running: tuple[N, N], prompts: tuple[N, N]) -> N:
    """A step that decodes and takes in prompts, which share one pass over the weights with the sequences beside them.

    `running` = sequences, and tokens of context each; `prompts` = their new tokens, and tokens each looks back on.
    Without prompts it is `decode_step_s`; one prompt alone is `prefill_s` where arithmetic binds (but for the last
    chunk's way through a pipeline, during which the next step runs already).
    """
    (batch, context), (new, behind) = running, prompts
    own = decoding(work, rates, batch)
    looked = cache_s(work, rates, work.seated(smallest(batch, own.share)), context)
    longer = lengthening_s(work, rates, own, (new, new), prompt_attention_s(work, rates, new, behind))
    device = work.pipeline * (own.matrices_s + looked) + longer
    sent = collective_s(work, rates, batch) + sent_s(work, rates, new, new) / work.pipeline
    return host_s(work, rates, work.seated(batch)) + device + sent


@step
def lengthening_s(work: Work[N], rates: Rates[N], own: Decoding[N], new: tuple[N, N], attention_s: N) -> N:
    """What prompts add to the matrices of one stage: they ride with one of the batches that a pipeline has under way.

    Their arithmetic hides behind the weights that are read anyway; experts that only they need are read for them. `new`
    tokens of prompts: of all ranks, and of the one that has most of them, with its attention.
    """
    wider = 1 + positive(own.beside + new[0] - 1)
    fuller = wider - (own.share - work.seated(own.share)) - (new[0] - new[1]) if work.ranked else wider
    multiplied = matrix_s(work, rates, wider, fuller) + attention_s
    return largest(stream_s(work, rates, wider), multiplied) - own.matrices_s


@step
def joining_s(work: Work[N], rates: Rates[N], tokens: N, longer_s: N, most: N | None = None) -> N:
    """What prompts add to a step: one with them less one without.

    `tokens` = their new ones, `longer_s` = `lengthening_s` of them; `most` = those of the rank that has most of them.
    """
    return longer_s + sent_s(work, rates, tokens, tokens if most is None else most) / work.pipeline


@step
def trail_s(work: Work[N], longer_s: N) -> N:
    """A chunk passes the stages of a pipeline one after another and is as much longer in each; its step counts one."""
    return (work.pipeline - 1) * longer_s


@step
def prefill_s(work: Work[N], rates: Rates[N], prompt: N, cached: N) -> N:
    """One prompt alone: its tokens' arithmetic or one pass over the weights per chunk, whichever is longer.

    `cached` tokens of the prompt are already in the cache and only looked at. Chunks follow each other through the
    stages of a pipeline, so the last one leaves `stages - 1` times of a full chunk later.
    """
    new = prompt - cached
    chunks = ceiling(new / rates.chunk)
    busy = new * pass_token_s(work, rates, new / chunks, cached + new / 2)
    stage = largest(busy, chunks * weight_s(work, rates, new / chunks))
    full = smallest(rates.chunk, new)
    later = (work.pipeline - 1) * largest(busy * full / new, weight_s(work, rates, full))
    return stage + later + chunks * (rates.step_s + work.layers * rates.layer_s + work.exchanges * rates.exchange_s)


def each_rank(work: Work[float]) -> Work[float]:
    """One rank as a replica of its own, while all others do just as much: prompts of all ranks share their passes."""
    if not work.ranked:
        return work
    return replace(
        work,
        data=1.0,
        expert_share=expert_coverage(work.expert_share, work.data),
        expert_flops=work.expert_flops * work.data,
        exchange_bytes_per_token=work.exchange_bytes_per_token + work.gathered_bytes_per_token * work.data,
        gathered_bytes_per_token=0.0,
    )


SHARED_FIELDS = (
    "weight_efficiency", "cache_efficiency", "matrix_efficiency", "attention_efficiency", "link_efficiency", "step_s",
    "layer_s", "sequence_s", "exchange_s", "expert_cost", "routing_spread", "tile_rows", "unpack_flops",
)  # fmt: skip
"""Fields that `Rates` takes over from the fitted parameters under the same name."""
HOST_FLOPS_PER_BYTE = 10.0
"""Arithmetic of a server socket per byte of its memory bandwidth (assumed: vendors state no matrix rate)."""
USUAL_REACH = 0.8
"""Best measured large multiplication over the stated peak: 0.87 on A100, 0.80 on H100, 0.84 on H200, 0.78 on B200."""
SCORE_INTENSITY = 64.0
"""Flops of attention per byte of its scores, written and read once in fp32, for heads of 128."""
PCIE_LANE = 1e9
"""byte/s of one PCIe 3.0 lane in one direction; each generation doubles it."""


@remembered(4096, facts=3)
def rates(device: Accelerator, kernel: Kernel, fitted: Resolved, chunk: float) -> Rates[float]:
    """The device's peaks beside the fitted parameters. `chunk` = prompt tokens of one pass.

    Raises Unsupported for a device without any matrix rate.
    """
    shared = {name: getattr(fitted, name) for name in SHARED_FIELDS}
    return Rates(**peaks(device, kernel), chunk=float(chunk), **shared)


def peaks(device: Accelerator, kernel: Kernel, *, fused_attention: bool = True) -> dict[str, float]:
    """The first five fields of `Rates`. Raises Unsupported for a device without any matrix rate.

    Attention that is not fused writes its scores to memory and reads them back, which bounds it by bandwidth.
    """
    sixteen = device.bf16 or device.fp16 or device.fp32
    if sixteen is None and device.kind == "cpu":
        sixteen = FlopPerSecond(HOST_FLOPS_PER_BYTE * device.bandwidth)
    if sixteen is None:
        raise Unsupported(f"no arithmetic rate is known for {device.id}", f"accelerators.{device.id}")
    accumulation = _accumulation(device, kernel)
    return {
        "bandwidth": float(device.bandwidth),
        "matrix_peak": float(device.peak(kernel.math) or sixteen) * reachable_share(device, kernel) * accumulation,
        "attention_peak": float(sixteen) * accumulation
        if fused_attention
        else min(float(sixteen) * accumulation, SCORE_INTENSITY * float(device.bandwidth)),
        "scalar_peak": float(device.fp32 or sixteen / 2) * (0.5 if halves_integers(device) else 1.0),
        "link_bandwidth": link_bandwidth(device),
    }


def reachable_share(device: Accelerator, kernel: Kernel) -> float:
    """Part of the stated matrix rate that counts: 1 where a large multiplication reaches USUAL_REACH of it or more.

    Only for llama.cpp, which calls the vendor's general library; engines for serving bring kernels of their own.
    """
    if kernel.path != "gguf" or not (device.bf16 and device.achieved_bf16):
        return 1.0
    return min(1.0, device.achieved_bf16 / device.bf16 / USUAL_REACH)


def link_bandwidth(device: Accelerator) -> float:
    """byte/s between two devices, one direction: their own link, or PCIe; 16 lanes of generation 3 where neither is
    known (assumed).
    """
    generation, _, lanes = (device.pcie or "3.0x16").partition("x")
    return float(device.link_bandwidth or float(lanes) * PCIE_LANE * 2 ** (float(generation) - 3))


def _accumulation(device: Accelerator, kernel: Kernel) -> float:
    """llama.cpp accumulates in fp16, at twice the rate that the catalogue states for GeForce cards."""
    return 2.0 if halves_accumulation(device) and kernel.path == "gguf" else 1.0
