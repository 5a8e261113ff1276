"""Quantities as the data files write them ("80 GB", "3.35 TB/s", "989 TFLOP/s"), read into SI base units.

The only place that converts a unit: everything after it is in byte, byte/s, flop/s, hertz, watt.
"""

from __future__ import annotations

import re

GIB = 2**30
"""Bytes."""


class Quantity(float):
    """A number in the SI base unit of its class; `units` maps every accepted spelling to its factor."""

    units: dict[str, float] = {}

    @classmethod
    def parse(cls, text: object) -> Quantity:
        """Read `"<number> <unit>"`. Raises ValueError naming the units that are accepted."""
        found = re.fullmatch(r"\s*([0-9][0-9_.]*(?:e[+-]?\d+)?)\s*([^\s\d].*?)\s*", str(text))
        if found is None or found[2] not in cls.units:
            accepted = ", ".join(cls.units)
            raise ValueError(f"expected a number with one of the units {accepted}, got {text!r}")
        return cls(float(found[1].replace("_", "")) * cls.units[found[2]])


class Bytes(Quantity):
    units = {
        "B": 1,
        "KB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "TB": 1e12,
        "KiB": 2**10,
        "MiB": 2**20,
        "GiB": GIB,
        "TiB": 2**40,
    }


class BytesPerSecond(Quantity):
    units = {"GB/s": 1e9, "TB/s": 1e12, "Gbit/s": 1.25e8}


class FlopPerSecond(Quantity):
    """Dense rates only: a sparse figure never enters the catalogue."""

    units = {"TFLOP/s": 1e12, "PFLOP/s": 1e15}


class Hertz(Quantity):
    units = {"MHz": 1e6, "GHz": 1e9}


class Watts(Quantity):
    units = {"W": 1, "kW": 1e3}


def quantity(kind: type, value: object) -> Quantity:
    """msgspec's hook for types that it does not know: quantities are ours, any other is a fault of the code."""
    if not issubclass(kind, Quantity):
        raise NotImplementedError(kind)
    return kind.parse(value)


SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
SMALLEST, LARGEST = 1e6, 1e14
"""Parameters of what may be called a language model."""
MOST_TOKENS = 1 << 30


def parameters(text: object) -> float:
    """A number of parameters: 8B, 0.5b, 70e9. Raises ValueError."""
    found = re.fullmatch(r"\s*(\d+\.?\d*(?:e\+?\d{1,2})?)\s*([kmbt]?)\s*", str(text).lower())
    value = float(found[1]) * SCALES[found[2]] if found else 0.0
    if not SMALLEST <= value <= LARGEST:
        raise ValueError(f"expected a number of parameters like 8B, 0.5b or 70e9, got {text!r}")
    return value


def tokens(text: object) -> int:
    """A number of tokens: 32k (of 1024), 32768. Raises ValueError."""
    found = re.fullmatch(r"\s*(\d{1,10})(\.0)?\s*(k?)\s*", str(text).lower())
    value = int(found[1]) * (1024 if found[3] else 1) if found else 0
    if not 1 <= value <= MOST_TOKENS:
        raise ValueError(f"expected a number of tokens like 32k or 32768, got {text!r}")
    return value
