"""FP4: NVFP4 (groups of 16, FP8 scales) and MXFP4 (groups of 32, power-of-two scales)."""

from __future__ import annotations

from planner.lanes.lane import Lane, Method, made
from planner.plan import Recipe


def _nvfp4(rows: int, columns: int, _group: int) -> float:
    """Packed nibbles, an FP8 scale per 16, two 4-byte global scales (compressed-tensors NVFP4, exact)."""
    return rows * columns / 2 + rows * columns / 16 + 8


def _mxfp4(rows: int, columns: int, _group: int) -> float:
    """Packed nibbles and a one-byte scale per 32 (compressed-tensors MXFP4 and MXFP4A16, exact)."""
    return rows * columns / 2 + rows * columns / 32


NVFP4 = Lane(
    id="nvfp4",
    family="4-bit float",
    bits=4.5,
    methods=(
        Method(
            recipe=made("nvfp4", "calibrated NVFP4", symmetric=True, group_size=16),
            matrix_bytes=_nvfp4,
            tool="llm-compressor",
            scheme="NVFP4",
        ),
    ),
    asks="Blackwell's FP4 units, a model of 27B or more, and easy tasks",
)
MXFP4 = Lane(
    id="mxfp4",
    family="4-bit float",
    bits=4.25,
    methods=(
        Method(
            recipe=made("mxfp4", "MXFP4", symmetric=True, group_size=32),
            matrix_bytes=_mxfp4,
            tool="llm-compressor",
            scheme="MXFP4",
        ),
        Method(
            recipe=Recipe(name="mxfp4-native", algorithm="MXFP4", training="native", symmetric=True, group_size=32),
            matrix_bytes=_mxfp4,
            tool="none",
            scheme="MXFP4",
            only=("expert",),
            expert_multiple=64,
        ),
    ),
    asks="the model was published in MXFP4 (gpt-oss: 4-bit experts, the rest 16-bit); made afterwards it loses more "
    "than NVFP4",
)
