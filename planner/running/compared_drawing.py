"""Size against divergence of the lanes that were compared, as SVG. Needs the extra `review`."""

from __future__ import annotations

from catalog.units import MIB
from planner import charts
from planner.drawings import BLUE, RED, sheet
from planner.proving import compared
from planner.proving.compared import Comparison, Lane
from planner.sketch import FAINT, INK, Sketch
from planner.wording import short


def svg(made: Comparison) -> str | None:
    """The drawing as a file; None where fewer than two lanes were measured."""
    points = [(lane, found) for lane in made.lanes if (found := compared.point(lane)) is not None and found[1] > 0]
    if len(points) < 2:
        return None
    with charts.styled():
        return charts.document("lanes", _sketch(made, points))


def _sketch(made: Comparison, points: list[tuple[Lane, tuple[float, float]]]) -> Sketch:
    figure, axes = sheet(3.4)
    kept = sorted(found for lane, found in points if lane.undominated)
    axes.plot(
        [size / MIB for size, _ in kept], [loss for _, loss in kept],
        color=FAINT, linewidth=1, linestyle="--", drawstyle="steps-post", zorder=1,
    )  # fmt: skip
    for lane, (size, loss) in points:
        check = lane.divergence
        assert check is not None
        low, high = (loss if end is None else end for end in (check.lower, check.upper))
        reach = [[max(0.0, loss - low)], [max(0.0, high - loss)]]
        colour = RED if lane.verdict == "fail" else BLUE
        axes.errorbar(
            size / MIB, loss, yerr=reach, fmt="D" if lane.undominated else "o", color=colour, ecolor=colour,
            elinewidth=1.6, capsize=3, markersize=6,
        )  # fmt: skip
        axes.annotate(lane.lane, (size / MIB, loss), xytext=(7, 4), textcoords="offset points", color=INK)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.margins(x=0.15)
    axes.set(xlabel="MiB of weights", ylabel="mean KL divergence, nat")
    axes.grid(visible=True)
    said = "; ".join(f"{lane.lane}: {short(size / MIB)} MiB, {loss:.2g} nat" for lane, (size, loss) in points)
    return Sketch(figure=figure, title=f"Size and divergence of the lanes of {made.model}", description=f"{said}.")
