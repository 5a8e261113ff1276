"""Weights held against the original's: the law of what a format may lose, and what breaks it.

Of each quantized weight some rows are dequantized. Two numbers are held against the original's same rows:
- the relative error, at most ERROR times that of rounding the original itself to nearest in this format, with scales
  from the original's own largest values in the same groups (bits and group size are in that number);
- the slope of each group of inputs that shares a scale (what the original has to be multiplied by to be nearest): its
  deviation from one, at most SLOPE times what that rounding noise allows in a group of this size, plus SHRINK.
Scales of another tensor leave the error within the first law where tensors are alike; they break the second.
Rows where everything is zero and the original's are not, are faults by themselves, over all rows.

SmoothQuant and AWQ move factors between a norm (or an earlier weight's rows) and a weight's columns. A weight that
breaks the law is tried again with the ratio of each norm of its layer, and the pairs (v, o) and (up, down) with factors
that stand in both the opposite way; norms may differ from the original's only where weights carry the ratio.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tensor_files import E2M1, PLAIN, TABLES, Block, Checkpoint
from tensor_formats import AWQ_ORDER, Layout, layouts, unpacked, values

ERROR, SLOPE = 4.0, 3.0
"""Assumed: GPTQ moves a column's error into later ones."""
SHRINK = {4: 0.05, 8: 0.01}
"""By bits (assumed): clipped and learned scales shrink groups."""
MOST_ERROR = 0.9
"""Of what a format may lose, however few bits it has: a tensor of noise is beyond it."""
ROWS = 128
"""Of a weight, in runs of eight; all where it has fewer."""
PAIRS = (("v_proj", "o_proj"), ("up_proj", "down_proj"))
SIXTEEN = 2.0**-7
"""Relative difference of 16-bit tensors that were cast from one 16-bit type to another."""
LAYER = re.compile(r"(.*?layers\.\d+\.)")


@dataclass
class Law:
    """What one weight came to."""

    error: float
    allowed: float
    slope: float
    sloped: float

    @property
    def kept(self) -> bool:
        return self.error <= self.allowed and self.slope <= self.sloped

    def __str__(self) -> str:
        if self.error > self.allowed:
            return f"relative error {self.error:.3g} to the original, {self.allowed:.3g} is the most this format leaves"
        return f"groups are off by {self.slope:.1%} of their size, {self.sloped:.1%} at most: scales of another tensor?"


@dataclass
class Found:
    """Faults, and what was seen."""

    faults: list[dict[str, str]] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)

    def fault(self, what: str, where: str) -> None:
        self.faults.append({"what": what, "where": where})


def sample(count: int, most: int = ROWS) -> Block:
    """Rows in runs of eight from the first to the last, always the same."""
    if count <= most or count % 8:
        return np.arange(count)
    starts = np.unique(np.linspace(0, count // 8 - 1, most // 8).round().astype(int)) * 8
    return np.asarray((starts[:, None] + np.arange(8)).ravel())


def law(of: Layout, made: Block, base: Block) -> Law:
    """Both numbers of one weight, rows of the original as `base`."""
    power = float((base.astype(np.float64) ** 2).sum()) or 1.0
    error = float(np.sqrt(((made - base).astype(np.float64) ** 2).sum() / power))
    group = of.group or of.shape[1]
    nearest = float(np.sqrt(((rounded(of, base, group) - base).astype(np.float64) ** 2).sum() / power))
    parts = [each.reshape(len(base), -1, group).astype(np.float64) for each in (made, base)]
    weight = (parts[1] ** 2).sum(-1)
    slope = (parts[0] * parts[1]).sum(-1) / np.where(weight > 0, weight, 1.0)
    off = float(np.sqrt(((slope - 1) ** 2 * weight).sum() / power))
    return Law(error, min(MOST_ERROR, ERROR * nearest), off, SLOPE * min(1.0, nearest) / group**0.5 + SHRINK[of.bits])


def rounded(of: Layout, base: Block, group: int) -> Block:
    """The original rounded to nearest in this format, scales from its own groups."""
    parts = base.reshape(len(base), -1, group)
    top = np.abs(parts).max(-1, keepdims=True)
    if of.float_:
        grid = np.unique(E2M1 if of.bits == 4 else TABLES["F8_E4M3"][:127])
        scale = np.where(top > 0, top, 1.0) / grid.max()
        scaled = np.abs(parts / scale)
        place = np.clip(np.searchsorted((grid[1:] + grid[:-1]) / 2, scaled), 0, len(grid) - 1)
        return np.asarray((np.sign(parts) * grid[place] * scale).reshape(base.shape))
    scale = np.where(top > 0, top, 1.0) / (2 ** (of.bits - 1) - 0.5)
    return np.asarray((np.round(parts / scale) * scale).reshape(base.shape))


def compare(made: Checkpoint, original: Checkpoint, found: Found, quantized: dict[str, Layout]) -> None:
    """Every weight of both sides; `quantized` = layouts by the name of the weight that they stand for."""
    failing: dict[str, Law] = {}
    for name, of in quantized.items():
        if name not in original or original.entries[name].shape != of.shape:
            continue
        zero_rows(made, original, found, (name, of))
        rows = sample(of.shape[0])
        said = law(of, values(made, of, rows), original.floats(name, rows))
        if not said.kept:
            failing[name] = said
    moved = ratios(made, original, found)
    smoothed = dict(explained(made, original, {name: quantized[name] for name in failing}, moved))
    used = {norm for norms in smoothed.values() for norm in norms}
    for name in failing.keys() - smoothed.keys():
        found.fault(f"its values are not the original's: {failing[name]}", name)
    for norm in sorted(moved.keys() - used):
        if not beside_weight(norm, smoothed) and not carried(made, original, (norm, moved[norm]), quantized):
            found.fault("differs from the original's, and no weight carries the ratio", norm)
    found.seen["compared_weights"] = sum(name in original for name in quantized)
    found.seen["smoothed_weights"] = len(smoothed)


def beside_weight(norm: str, smoothed: dict[str, tuple[str, ...]]) -> bool:
    """A bias of a weight whose rows were scaled."""
    return norm.endswith(".bias") and norm.removesuffix("bias") + "weight" in smoothed


def carried(made: Checkpoint, original: Checkpoint, norm: tuple[str, Block], quantized: dict[str, Layout]) -> bool:
    """Whether a weight of the same layer is nearer to the original's with the ratio than without."""
    name, ratio = norm
    layer = LAYER.match(name)
    for weight, of in quantized.items():
        if not layer or not weight.startswith(layer[1]) or of.shape[1] != len(ratio) or weight not in original:
            continue
        rows = sample(of.shape[0])
        own, base = values(made, of, rows), original.floats(weight, rows)
        if ((own - base * ratio) ** 2).sum() < ((own - base) ** 2).sum():
            return True
    return False


def zero_rows(made: Checkpoint, original: Checkpoint, found: Found, what: tuple[str, Layout]) -> None:
    """Rows of zeros that the original has not: told by their packed bytes first, all rows of them."""
    name, of = what
    rows = np.flatnonzero(uniform(made.raw(of.codes), of))
    if not len(rows):
        return
    rows = rows if not of.zero else np.unique((rows[:, None] // 8 * 8 + np.arange(8)).ravel())
    rows = rows[rows < of.shape[0]]
    base = original.floats(name, rows)
    dead = (np.abs(values(made, of, rows)).max(1) == 0) & (np.abs(base).max(1) > least_step(of, base))
    if dead.any():
        found.fault(f"{int(dead.sum())} of {of.shape[0]} rows are zero, the original's are not", name)


def uniform(raw: Block, of: Layout) -> Block:
    """Rows of the weight whose packed values are all the same: only they can be zero throughout."""
    if of.kind == "awq":
        changed = np.bitwise_or.reduce(raw ^ raw[:1], axis=0, keepdims=True)
        return np.asarray(unpacked(changed, 4).reshape(-1, 8)[:, AWQ_ORDER].ravel() == 0)
    return np.asarray((raw == raw[:1]).all(0) if of.kind == "gptq" else (raw == raw[:, :1]).all(1))


def least_step(of: Layout, base: Block) -> float:
    """What a scale of the whole tensor may round to zero."""
    return 0.0 if of.group else float(np.abs(base).max()) / 2**of.bits


def ratios(made: Checkpoint, original: Checkpoint, found: Found) -> dict[str, Block]:
    """Unquantized tensors that differ from the original's; what is no vector of a layer is a fault at once."""
    moved = {}
    for name, entry in made.entries.items():
        if entry.dtype not in PLAIN or name not in original or original.entries[name].dtype not in PLAIN:
            continue
        if entry.shape != original.entries[name].shape:
            continue
        rows = sample(entry.shape[0]) if len(entry.shape) == 2 else None
        own, base = made.floats(name, rows), original.floats(name, rows)
        most = np.abs(base).max(initial=0.0)
        if np.allclose(own, base, rtol=SIXTEEN, atol=SIXTEEN * 2**-8 * float(most)):
            continue
        if len(entry.shape) == 1 and LAYER.match(name):
            with np.errstate(divide="ignore", invalid="ignore"):
                moved[name] = np.where(own != 0, base / own, 1.0)
        else:
            found.fault("stays in 16 bits and differs from the original's", name)
    return moved


def explained(
    made: Checkpoint, original: Checkpoint, failing: dict[str, Layout], moved: dict[str, Block]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Weights that keep the law once factors are moved back, with the norms that carry them."""
    columns = {name: by_norm(made, original, (name, of), moved) for name, of in failing.items()}
    for name, norm in columns.items():
        if norm is not None:
            yield name, (norm,)
    layers = {match[1] for name in failing if (match := LAYER.match(name))}
    for layer in layers:
        for first, second in PAIRS:
            names = [
                next((n for n in made_names(made, original, layer) if n.endswith(f"{each}.weight")), "")
                for each in (first, second)
            ]
            if all(names) and any(name in failing and columns.get(name) is None for name in names):
                yield from pair(made, original, (names[0], names[1]), moved)


def made_names(made: Checkpoint, original: Checkpoint, layer: str) -> Iterator[str]:
    """Weights of a layer as the original calls them."""
    return (name for name in original.entries if name.startswith(layer) and name.endswith(".weight"))


def by_norm(made: Checkpoint, original: Checkpoint, what: tuple[str, Layout], moved: dict[str, Block]) -> str | None:
    """The norm of the same layer whose ratio explains a weight's columns."""
    name, of = what
    layer = LAYER.match(name)
    rows = sample(of.shape[0])
    for norm, ratio in moved.items():
        if not layer or not norm.startswith(layer[1]) or len(ratio) != of.shape[1]:
            continue
        if law(of, values(made, of, rows), original.floats(name, rows) * ratio).kept:
            return norm
    return None


def pair(
    made: Checkpoint, original: Checkpoint, names: tuple[str, str], moved: dict[str, Block]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Two weights, the first one's rows divided by what the second one's columns are multiplied with."""
    known = {f"{each.module}.weight": each for each in layouts(made)}
    if not all(name in known for name in names) or known[names[0]].shape[0] != known[names[1]].shape[1]:
        return
    first, second = known[names[0]], known[names[1]]
    every = np.arange(first.shape[0])
    own, base = values(made, first, every), original.floats(names[0])
    layer = LAYER.match(names[0])
    norms = [
        norm for norm, ratio in moved.items() if layer and norm.startswith(layer[1]) and len(ratio) == first.shape[1]
    ]
    for norm in (None, *norms):
        given = base if norm is None else base * moved[norm]
        factor = (own * given).sum(1) / np.maximum((given * given).sum(1), np.finfo(np.float32).tiny)
        rows = sample(second.shape[0])
        back = original.floats(names[1], rows) / np.where(factor == 0, 1.0, factor)
        kept = law(first, own, given * factor[:, None]).kept and law(second, values(made, second, rows), back).kept
        if kept:
            norm_names = () if norm is None else (norm,)
            yield names[0], norm_names
            yield names[1], ()
            return
