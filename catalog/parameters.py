"""Fitted speed parameters: values with their uncertainty, what they rest on, and how the unseen inherits.

A parameter is a global value times deviations for the classes a case belongs to (`generation=vllm-2026`,
`path=fp8`). A class that no measurement covered takes the global value, the wider spread of `level=*` and basis
`assumed`.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from catalog.accelerator import Accelerator
from catalog.engine import Kernel
from catalog.errors import BadInput

HEAD = """\
# Fitted by `lanewise fit-speed`; do not edit: change the measurements, the priors or the formulas and refit.
# A global value is physical (shares 0..1, `_s` seconds); with `of` it is the factor of a class.
"""
FILE = Path(__file__).parent / "data" / "speed" / "parameters.toml"
Family = Literal["serving", "llama.cpp"]
Basis = Literal["fitted", "assumed"]
Scale = Literal["share", "cost", "plain"]
"""On which scale deviations multiply: a share's odds x/(1-x) (it stays within 0..1), what a cost has above one, or the
value itself."""
SCALES: Mapping[str, Scale] = {
    "weight_efficiency": "share", "cache_efficiency": "share", "matrix_efficiency": "share",
    "attention_efficiency": "share", "link_efficiency": "share", "routing_spread": "share", "bunching": "share",
    "pool_share": "share", "steady_share": "share", "slo_share": "share", "expert_cost": "cost",
}  # fmt: skip


class Parameter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number of the file. `of` is empty for a global value, `level=class` for a deviation (a plain factor)."""

    family: Family
    name: str
    of: str = ""
    value: float
    sd_ln: float
    """Standard deviation of the logarithm, on the parameter's scale."""
    groups: int
    """Groups of measurements that speak to it."""
    basis: Basis


class Interval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """80 % of left-out measurements lie between `low_ln` and `high_ln` around the logarithm of the prediction."""

    engine: str
    load: str
    metric: str
    low_ln: float
    high_ln: float
    rows: int
    groups: int


class Excluded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows shown to be wrong by internal evidence: never fitted, still predicted and scored."""

    ids: tuple[str, ...]
    because: str


class Seen(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Architecture families that measurements of a family of engines cover."""

    family: Family
    architectures: tuple[str, ...]


class Resolved(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of one case. Shares and costs are counts, `_s` are seconds."""

    weight_efficiency: float
    cache_efficiency: float
    matrix_efficiency: float
    attention_efficiency: float
    link_efficiency: float
    step_s: float
    layer_s: float
    sequence_s: float
    exchange_s: float
    expert_cost: float
    routing_spread: float
    unpack_flops: float
    request_s: float
    arrival_s: float
    bunching: float
    pool_share: float
    steady_share: float
    slo_share: float
    drain: float
    basis: Basis
    assumed: tuple[str, ...]
    """What no measurement covered: `name of level class`, or `all on architecture …`."""


NAMES = tuple(name for name in Resolved.__struct_fields__ if name not in ("basis", "assumed"))


class Parameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """The parameter file."""

    source: str
    rows: int
    groups: int
    unseen_widening: float
    """Intervals of a case with an uncovered class are this many times wider: leave-class-out over in-sample spread."""
    parameter: tuple[Parameter, ...]
    interval: tuple[Interval, ...]
    seen: tuple[Seen, ...] = ()
    excluded: tuple[Excluded, ...] = ()

    def resolve(self, of: Iterable[str], family: Family) -> Resolved:
        """Global values times the deviations of these classes (`level=class`, from `classes`)."""
        table, found = self._tables[family], tuple(of)
        assumed: list[str] = []
        values = {name: _resolve(name, table[name], found, assumed) for name in NAMES}
        assumed += [f"all on {entry.replace('=', ' ')}" for entry in found if self._unseen(entry, family)]
        return Resolved(**values, basis="assumed" if assumed else "fitted", assumed=tuple(assumed))

    def band(self, engine: str, load: str, metric: str, *, assumed: bool = False) -> tuple[float, float]:
        """Factors from a prediction to the ends of its 80 % interval; the engine's widest where a cell is missing."""
        rows = [row for row in self.interval if row.engine == engine and row.metric == metric]
        exact = (
            [row for row in rows if row.load == load] or rows or [row for row in self.interval if row.metric == metric]
        )
        if not exact:
            raise BadInput(f"no interval for {engine}, {load}, {metric}", str(FILE))
        wide = self.unseen_widening if assumed else 1.0
        return math.exp(wide * min(r.low_ln for r in exact)), math.exp(wide * max(r.high_ln for r in exact))

    def _unseen(self, entry: str, family: Family) -> bool:
        level, _, name = entry.partition("=")
        return level == "architecture" and not any(
            row.family == family and name in row.architectures for row in self.seen
        )

    @cached_property
    def _tables(self) -> dict[str, dict[str, dict[str, Parameter]]]:
        """Family to name to `of` to row."""
        tables: dict[str, dict[str, dict[str, Parameter]]] = {}
        for row in self.parameter:
            tables.setdefault(row.family, {}).setdefault(row.name, {})[row.of] = row
        return tables


def generation_of(engine: str, version: str) -> str:
    """The generation of an engine whose host code and kernels share a fit; a blank version is the middle one."""
    number = re.search(r"(\d+)\.(\d+)", version)
    minor = int(number[2]) if number else 0
    build = re.match(r"b(\d+)", version)
    if engine == "vllm":
        late = number is not None and (int(number[1]) > 0 or minor >= 14)
        return "vllm-2026" if late else "vllm-2024" if number and minor < 8 else "vllm-2025"
    if engine == "tensorrt-llm":
        old = "2024" in version or re.match(r"0\.1|TensorRT (9|10\.[12])\b", version)
        return "tensorrt-llm-2024" if old else "tensorrt-llm-2025"
    if engine == "llama.cpp":
        first = int(build[1]) if build else 0
        return (
            "llama.cpp-2024"
            if "2024" in version or 0 < first < 4500
            else "llama.cpp-2025"
            if 0 < first < 7000
            else "llama.cpp-2026"
        )
    return f"{engine}-2025"


class Setup(Struct, frozen=True, kw_only=True):
    """What decides the classes of a case beside its device and kernel."""

    engine: str
    generation: str
    lane: str
    moe: bool
    backend: str = ""
    """llama.cpp: cuda, hip, vulkan, metal, cpu; empty for the device's usual one."""
    flash_attention: bool = True
    hipblaslt: bool | None = None


def family_of(engine: str) -> Family:
    """llama.cpp runs one sequence at a time on kernels of its own; the others batch."""
    return "llama.cpp" if engine == "llama.cpp" else "serving"


def classes(setup: Setup, kernel: Kernel, device: Accelerator) -> tuple[str, ...]:
    """The `level=class` entries that apply; the file decides which parameters they move."""
    levels = _llama_levels(setup, device) if setup.engine == "llama.cpp" else _serving_levels(setup, kernel, device)
    return tuple(f"{level}={name}" for level, name in levels.items() if name)


def architecture_family(device: Accelerator) -> str:
    """`cdna` of cdna3, `apple` of apple-m4."""
    return re.split(r"[-\d]", device.architecture)[0]


def halves_accumulation(device: Accelerator) -> bool:
    """GeForce cards run the matrix units at half rate when they accumulate in fp32. The catalogue states that half
    rate; kernels come closer to it than to the full rate of a data-centre card.
    """
    return device.name.startswith("GeForce")


def _serving_levels(setup: Setup, kernel: Kernel, device: Accelerator) -> dict[str, str]:
    older = kernel.name.startswith("marlin") and device.architecture in ("hopper", "blackwell")
    return {
        "engine": setup.engine,
        "generation": setup.generation,
        "path": kernel.path,
        "architecture": architecture_family(device),
        "accumulation": "halved" if halves_accumulation(device) else "",
        "experts": f"{setup.generation}/{kernel.path}" if setup.moe else "",
        "instructions": "ampere on newer" if older else "",
    }


def _llama_levels(setup: Setup, device: Accelerator) -> dict[str, str]:
    usual = {"nvidia": "cuda", "amd": "hip", "apple": "metal"}.get(device.vendor, "vulkan")
    backend = setup.backend or ("cpu" if device.kind == "cpu" else usual)
    memory = backend + ("-hbm" if backend == "cuda" and "HBM" in device.memory_type else "")
    weights = "16-bit" if setup.lane in ("gguf:F16", "gguf:BF16") else "blocks"
    blas = {True: "hipblaslt", False: "rocblas", None: ""}[setup.hipblaslt] if backend == "hip" else ""
    return {
        "backend": memory,
        "weights": weights,
        "multiply": f"{memory}/{weights}",
        "attention": f"{backend}/{'flash' if setup.flash_attention else 'plain'}",
        "build": f"{backend}/{setup.generation[-4:]}" if backend in ("hip", "vulkan") else "",
        "blas": blas,
        "mixture": "moe" if setup.moe else "",
        "architecture": architecture_family(device),
    }


def to_scale(name: str, value: float) -> float:
    """From the value people read to the number that deviations multiply."""
    scale = SCALES.get(name, "plain")
    return value / (1 - value) if scale == "share" else value - 1 if scale == "cost" else value


def from_scale(name: str, x: float) -> float:
    """The way back: always within the bounds of the parameter."""
    scale = SCALES.get(name, "plain")
    return x / (1 + x) if scale == "share" else 1 + x if scale == "cost" else x


@cache
def load(path: Path = FILE) -> Parameters:
    """Strictly read a parameter file. Raises BadInput naming file and field."""
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise BadInput(str(error), str(path)) from error


def decode(data: bytes, name: str) -> Parameters:
    """Strictly read the text of a parameter file. Raises BadInput naming file and field."""
    try:
        return msgspec.convert(tomllib.loads(data.decode()), Parameters)
    except ValueError as error:
        raise BadInput(str(error), name) from error


def text(fitted: Parameters) -> str:
    """The parameter file."""
    tables = ("parameter", "interval", "seen", "excluded")
    head = [f"{name} = {_literal(getattr(fitted, name))}" for name in fitted.__struct_fields__ if name not in tables]
    rows = (_table(name, row) for name in tables for row in getattr(fitted, name))
    return "\n\n".join([HEAD + "\n".join(head), *rows]) + "\n"


def _table(name: str, row: Struct) -> str:
    fields = ((field, getattr(row, field)) for field in row.__struct_fields__)
    return "\n".join([f"[[{name}]]", *(f"{field} = {_literal(value)}" for field, value in fields if value != "")])


def _literal(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _resolve(name: str, of: Mapping[str, Parameter], classes: tuple[str, ...], assumed: list[str]) -> float:
    x = to_scale(name, of[""].value)
    for entry in classes:
        if entry in of:
            x *= of[entry].value
        elif (level := entry.partition("=")[0]) + "=*" in of:
            assumed.append(f"{name} of {level} {entry.partition('=')[2]}")
    return from_scale(name, x)
