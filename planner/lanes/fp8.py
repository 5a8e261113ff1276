"""FP8 (E4M3) weights, with FP8 activations where the device has FP8 units and weight-only elsewhere."""

from __future__ import annotations

from planner.lanes.lane import Lane, Method, blocks, made
from planner.plan import Recipe


def _per_channel(rows: int, columns: int, _group: int) -> float:
    """One 16-bit scale per output row (compressed-tensors FP8_DYNAMIC, exact)."""
    return rows * columns + 2.0 * rows


def _per_block(rows: int, columns: int, _group: int) -> float:
    """One 16-bit scale per 128 x 128 block (compressed-tensors FP8_BLOCK, exact)."""
    return rows * columns + 2.0 * blocks(rows, 128) * blocks(columns, 128)


def _per_channel_loaded(rows: int, columns: int, _group: int) -> float:
    """vLLM widens the scales to 32 bits while loading (compressed_tensors_w8a8_fp8.py, fp8.py)."""
    return rows * columns + 4.0 * rows


def _per_block_loaded(rows: int, columns: int, _group: int) -> float:
    """The same per block."""
    return rows * columns + 4.0 * blocks(rows, 128) * blocks(columns, 128)


def _per_tensor(rows: int, columns: int, _group: int) -> float:
    """A weight scale and an input scale per tensor (compressed-tensors FP8, exact)."""
    return rows * columns + 4.0


FP8 = Lane(
    id="fp8",
    family="8-bit float",
    bits=8,
    methods=(
        Method(
            recipe=Recipe(name="fp8-online", algorithm="round to nearest", symmetric=True, online=True),
            matrix_bytes=_per_channel,
            loaded_bytes=_per_channel_loaded,
            row_scale_bytes=4.0,
            tool="vllm",
            scheme="fp8_per_channel",
        ),
        Method(
            recipe=made("fp8-dynamic", "round to nearest", symmetric=True),
            matrix_bytes=_per_channel,
            loaded_bytes=_per_channel_loaded,
            row_scale_bytes=4.0,
            tool="llm-compressor",
            scheme="FP8_DYNAMIC",
        ),
        Method(
            recipe=made("fp8-block", "round to nearest", symmetric=True, group_size=128),
            matrix_bytes=_per_block,
            loaded_bytes=_per_block_loaded,
            tool="llm-compressor",
            scheme="FP8_BLOCK",
        ),
        Method(
            recipe=made("fp8-static", "calibrated per tensor", symmetric=True),
            matrix_bytes=_per_tensor,
            tool="llm-compressor",
            scheme="FP8",
        ),
    ),
    asks="the device has FP8 units, or memory is short and nothing may be lost",
)
