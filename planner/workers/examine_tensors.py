"""Every tensor by itself: finite values, scales that can be multiplied with."""

from __future__ import annotations

import numpy as np
from examine_weights import Found
from tensor_files import Block, Checkpoint
from tensor_formats import Layout

SIGNED = ("packed", "gptq", "awq")
"""Kinds whose scales may be negative: AutoRound turns a group over so that the longer side of the integers is used."""
PART = 1 << 24
"""Values that are looked at at once."""
ONES = {"F16": 0x7C00, "BF16": 0x7F80}
"""Bits of the exponent: all of them set is an infinity or no number."""


def tensor_faults(made: Checkpoint, known: dict[str, Layout], found: Found) -> None:
    """Faults of values and of scales."""
    scales = {name: each for each in known.values() for name in each.scales}
    for name, entry in made.entries.items():
        count = broken(made, name)
        if count:
            found.fault(f"{count} values are not finite", name)
        if name in scales or name.endswith(("k_scale", "v_scale", "input_scale")):
            signed = name in scales and scales[name].kind in SIGNED
            scale_faults(made, name, found, signed=signed)
        if entry.dtype == "F8_E4M3" and f"{name}_scale" in made and not np.any(made.raw(name) & 0x7F):
            found.fault("every value is zero", name)
    found.seen["scales"] = len(scales)


def broken(made: Checkpoint, name: str) -> int:
    """How many values are infinite or no number, by their bits."""
    entry = made.entries[name]
    flat = made.raw(name).reshape(-1)
    count = 0
    for start in range(0, flat.size, PART):
        part = flat[start : start + PART]
        if entry.dtype in ONES:
            count += exponents(part.view(np.uint16), ONES[entry.dtype])
        elif entry.dtype == "F8_E4M3":
            count += int(np.count_nonzero((part & 0x7F) == 0x7F))
        elif entry.dtype in ("F32", "F64"):
            count += int(np.count_nonzero(~np.isfinite(part)))
    return count


def exponents(bits: Block, ones: int) -> int:
    return int(np.count_nonzero((bits & ones) == ones))


def scale_faults(made: Checkpoint, name: str, found: Found, *, signed: bool) -> None:
    """A scale is a positive number; those of MX formats are powers of two by their byte."""
    entry = made.entries[name]
    if entry.dtype == "U8":
        bad = int(np.count_nonzero(made.raw(name) == 255))
        if bad:
            found.fault(f"{bad} of its exponents are no number", name)
        return
    values = made.floats(name)
    negative, zero = int(np.count_nonzero(values < 0)), int(np.count_nonzero(values == 0))
    if negative and signed:
        found.seen["negative_scales"] = found.seen.get("negative_scales", 0) + negative
    elif negative:
        found.fault(f"{negative} of {values.size} scales are negative", name)
    if zero == values.size or (zero and entry.dtype != "F8_E4M3"):
        found.fault(f"{zero} of {values.size} scales are zero", name)
