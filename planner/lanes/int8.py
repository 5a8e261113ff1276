"""INT8: W8A8 with integer matrix units, W8A16 weight-only."""

from __future__ import annotations

from planner.lanes.lane import GROUPS, Lane, Method, blocks, made


def _per_channel(rows: int, columns: int, _group: int) -> float:
    """One 16-bit scale per output row (compressed-tensors W8A8, exact)."""
    return rows * columns + 2.0 * rows


def _per_channel_loaded(rows: int, columns: int, _group: int) -> float:
    """vLLM widens the scales to 32 bits while loading (compressed_tensors_w8a8_int8.py)."""
    return rows * columns + 4.0 * rows


def _packed_groups(rows: int, columns: int, group: int) -> float:
    """Packed words, a 16-bit scale per group, a shape of 16 bytes (compressed-tensors W8A16, exact)."""
    return 4.0 * rows * blocks(columns * 8, 32) + 2.0 * rows * blocks(columns, group) + 16


W8A8 = Lane(
    id="int8-w8a8",
    family="8-bit integer",
    bits=8,
    methods=(
        Method(
            recipe=made("smoothquant", "SmoothQuant + GPTQ", symmetric=True),
            matrix_bytes=_per_channel,
            loaded_bytes=_per_channel_loaded,
            row_scale_bytes=4.0,
            tool="llm-compressor",
            scheme="W8A8",
        ),
    ),
    asks="integer matrix units but no FP8 ones (Turing, Ampere) and the load is compute-bound",
)
W8A16 = Lane(
    id="int8-w8a16",
    family="8-bit integer",
    bits=8.125,
    methods=(
        Method(
            recipe=made("gptq", "GPTQ", symmetric=True, group_size=GROUPS[0]),
            matrix_bytes=_packed_groups,
            groups=GROUPS,
            tool="llm-compressor",
            scheme="W8A16",
        ),
    ),
    asks="the most faithful 8-bit lane on long documents where FP8 units are missing",
)
