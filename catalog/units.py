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
