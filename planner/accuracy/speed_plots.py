"""Drawings of a fit beside its page: predicted against measured, and where the errors lie. Needs the extra `review`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from planner.accuracy.speed_board import weighted
from planner.accuracy.speed_fit import Refit
from planner.accuracy.truth import Row
from planner.drawings import BLUE, GREEN, ORANGE, PURPLE
from planner.sketch import FAINT, INK, Sketch
from planner.trace import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENGINES = {"vllm": BLUE, "sglang": GREEN, "tensorrt-llm": ORANGE, "llama.cpp": PURPLE}
PANELS: dict[str, tuple[str, ...]] = {
    "time per token, ms": ("tpot_ms",),
    "time to the first token, ms": ("ttft_ms",),
    "tokens/s of the deployment": ("output_tok_s", "total_tok_s"),
    "one stream: prompt, answer, tokens/s": ("prefill_tok_s", "decode_tok_s"),
}
FACTOR = 1.5
"""Dashed lines: the 90th percentile of repeats of one measurement is 1.49x."""
SPLITS: dict[str, Callable[[Row], str]] = {
    "accelerator": lambda row: row.accelerator,
    "lane": lambda row: "gguf blocks" if row.lane.startswith("gguf:") and "16" not in row.lane else row.lane,
    "prompt tokens": lambda row: _bin(row.prompt, (128, 512, 2048, 8192)),
    "users": lambda row: _bin(row.users, (1, 8, 64, 256)) if row.users else "all queued",
}
LEAST = 5
"""Groups that a line of the second drawing rests on."""


def sketches(found: Refit) -> dict[str, Sketch]:
    """By file name without ending; predictions without the row's accelerator."""
    return {"speed-measured": against(found), "speed-residuals": residuals(found)}


def against(found: Refit) -> Sketch:
    """One point per group of rows, load and metric: their mean logarithms."""
    figure = Figure(figsize=(7.2, 7.2), layout="constrained")
    for axes, (title, metrics) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        _panel(axes, title, metrics, found)
    handles = [_dot(name, colour) for name, colour in ENGINES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return Sketch(
        figure=figure,
        title="Predicted against measured",
        description="One point per group of rows, predicted without the row's accelerator; dashed: 1.5 times off.",
    )


def _panel(axes: Axes, title: str, metrics: tuple[str, ...], found: Refit) -> None:
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for place, one in enumerate(found.table.rows):
        if one.row.metric in metrics:
            key = (one.row.engine, one.row.load, one.row.metric, found.table.groups[place])
            groups.setdefault(key, []).append(place)
    measured = [float(found.table.measured.log[at].mean()) for at in groups.values()]
    predicted = [float(found.left_out["accelerator"][at].mean()) for at in groups.values()]
    ends = [math.exp(edge(measured + predicted)) for edge in (min, max)]
    axes.plot(ends, ends, color=INK, linewidth=0.8)
    for factor in (1 / FACTOR, FACTOR):
        axes.plot(ends, [end * factor for end in ends], color=FAINT, linewidth=0.6, linestyle="--")
    for name, colour in ENGINES.items():
        at = [place for place, key in enumerate(groups) if key[0] == name]
        _points(axes, np.exp(_take(measured, at)), np.exp(_take(predicted, at)), colour)
    axes.set(xscale="log", yscale="log", title=title, xlabel="measured", ylabel="predicted")
    axes.set_title(title, fontsize=9)
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _points(axes: Axes, x: Array, y: Array, colour: str) -> None:
    """Dots as one path: shortest strokes with round ends, a fifth of the bytes of markers."""
    ends = (
        np.array([x, 1.01 * x, np.full(len(x), np.nan)]).T.ravel(),
        np.array([y, y, np.full(len(y), np.nan)]).T.ravel(),
    )
    axes.plot(*ends, color=colour, linewidth=2.6, solid_capstyle="round")


def residuals(found: Refit) -> Sketch:
    """Median and the middle 80 % of the error of times and rates, as if all were rates."""
    figure = Figure(figsize=(7.2, 8.4), layout="constrained")
    for axes, (name, split) in zip(figure.subplots(2, 2).flat, SPLITS.items(), strict=True):
        _spans(axes, name, split, found)
    return Sketch(
        figure=figure,
        title="Where the errors lie",
        description="ln(predicted/measured) without the row's accelerator: median and middle 80 %, groups count once.",
    )


def _spans(axes: Axes, name: str, split: Callable[[Row], str], found: Refit) -> None:
    error, weight = found.left_out["accelerator"] - found.table.measured.log, found.table.measured.weight
    places: dict[str, list[int]] = {}
    for place, one in enumerate(found.table.rows):
        if one.row.metric != "ttft_ms":
            places.setdefault(split(one.row), []).append(place)
    kept = {key: at for key, at in places.items() if len({found.table.groups[place] for place in at}) >= LEAST}
    for height, key in enumerate(sorted(kept, key=_natural, reverse=True)):
        at = kept[key]
        sign = np.array([-1.0 if found.table.rows[place].row.metric.endswith("_ms") else 1.0 for place in at])
        low, middle, high = (weighted(sign * error[at], weight[at], share) for share in (0.1, 0.5, 0.9))
        axes.plot([low, high], [height, height], color=BLUE, linewidth=1.2)
        axes.plot([middle], [height], "o", color=INK, markersize=3.5)
    axes.axvline(0, color=FAINT, linewidth=0.6)
    axes.set_yticks(range(len(kept)), sorted(kept, key=_natural, reverse=True), fontsize=7.5)
    axes.set(xlim=(-1.2, 1.2), xlabel="too slow            ln            too fast")
    axes.set_title(f"by {name} (time to first token aside)", fontsize=9)


def _bin(value: float, edges: Sequence[int]) -> str:
    """The range that holds a number, in words."""
    above = next((edge for edge in edges if value <= edge), None)
    return f"above {edges[-1]}" if above is None else f"up to {above}"


def _natural(name: str) -> tuple[str, int]:
    word, _, number = name.rpartition(" ")
    return (word.replace("up to", "a").replace("above", "b"), int(number)) if number.isdigit() else (name, 0)


def _take(values: list[float], at: list[int]) -> list[float]:
    return [values[place] for place in at]


def _dot(name: str, colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", marker="o", color=colour, label=name)
