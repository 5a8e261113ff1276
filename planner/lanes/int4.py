"""INT4 weights with 16-bit activations: AWQ, GPTQ and compressed-tensors checkpoints."""

from __future__ import annotations

from planner.lanes.lane import GROUPS, Lane, Method, blocks, made
from planner.plan import Recipe


def _awq(rows: int, columns: int, group: int) -> float:
    """AutoAWQ "gemm": packed words, 4-bit zero points and fp16 scales per group (shapes of vLLM auto_awq.py)."""
    return rows * columns / 2 + blocks(columns, group) * (rows / 2 + 2.0 * rows)


def _gptq(rows: int, columns: int, group: int) -> float:
    """AutoGPTQ: as AWQ, and a 4-byte group index per input, which vLLM drops while loading (auto_gptq.py)."""
    return _awq(rows, columns, group) + 4.0 * columns


def _packed_symmetric(rows: int, columns: int, group: int) -> float:
    """Packed words, a 16-bit scale per group, a shape of 16 bytes (compressed-tensors W4A16, exact)."""
    return 4.0 * rows * blocks(columns * 4, 32) + 2.0 * rows * blocks(columns, group) + 16


def _packed_asymmetric(rows: int, columns: int, group: int) -> float:
    """The same with zero points packed along the outputs (compressed-tensors W4A16_ASYM, exact)."""
    return _packed_symmetric(rows, columns, group) + 4.0 * blocks(rows * 4, 32) * blocks(columns, group)


AWQ = Lane(
    id="awq-int4",
    family="4-bit integer",
    bits=4.156,
    methods=(
        Method(
            recipe=made("awq", "AWQ", symmetric=False, group_size=GROUPS[0]),
            matrix_bytes=_packed_asymmetric,
            published=_awq,
            groups=GROUPS,
            tool="llm-compressor",
            scheme="W4A16_ASYM",
        ),
    ),
    asks="memory or single-stream latency is the limit and the work is chat-like",
)
GPTQ = Lane(
    id="gptq-int4",
    family="4-bit integer",
    bits=4.156,
    methods=(
        Method(
            recipe=made("gptq", "GPTQ", symmetric=True, group_size=GROUPS[0]),
            matrix_bytes=_packed_symmetric,
            published=_gptq,
            published_loaded=_awq,
            groups=GROUPS,
            tool="llm-compressor",
            scheme="W4A16",
        ),
    ),
    asks="a GPTQ checkpoint is already published and its quality suffices",
)
W4A16 = Lane(
    id="w4a16",
    family="4-bit integer",
    bits=4.125,
    methods=(
        Method(
            recipe=made("gptq", "GPTQ", symmetric=True, group_size=GROUPS[0]),
            matrix_bytes=_packed_symmetric,
            groups=GROUPS,
            tool="llm-compressor",
            scheme="W4A16",
        ),
        Method(
            recipe=made("autoround", "AutoRound", symmetric=True, group_size=GROUPS[0]),
            matrix_bytes=_packed_symmetric,
            groups=GROUPS,
            tool="llm-compressor",
            scheme="W4A16",
        ),
        Method(
            recipe=Recipe(name="qat", algorithm="QAT", training="qat", symmetric=True, group_size=32),
            matrix_bytes=_packed_symmetric,
            tool="none",
            scheme="W4A16",
            only=("expert",),
        ),
    ),
    asks="as AWQ and GPTQ, in the format that llm-compressor writes and vLLM loads without conversion",
)


def _nf4(rows: int, columns: int, _group: int) -> float:
    """4-bit codes and an fp32 scale per block of 64 (bitsandbytes, without double quantization)."""
    return rows * columns / 2 + rows * columns / 64 * 4


NF4 = Lane(
    id="nf4",
    family="4-bit integer",
    bits=4.5,
    methods=(Method(recipe=made("nf4", "bitsandbytes NF4"), matrix_bytes=_nf4, tool="bitsandbytes", scheme="nf4"),),
    asks="fine-tuning with QLoRA; it exists here to be refused for serving",
)
