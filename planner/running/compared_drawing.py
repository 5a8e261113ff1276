"""Size and speed against divergence of the lanes that were compared, as SVG. Needs the extra `review`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalog.units import MIB
from planner import charts
from planner.drawings import BLUE, RED, sheet
from planner.proving import compared
from planner.proving.compared import Comparison, Lane
from planner.sketch import FAINT, INK, Sketch
from planner.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def svg(made: Comparison) -> str | None:
    """The drawing as a file; None where fewer than two lanes were measured."""
    points = [(lane, found) for lane in made.lanes if (found := compared.point(lane)) is not None and found[1] > 0]
    if len(points) < 2:
        return None
    with charts.styled():
        return charts.document("lanes", _sketch(made, points))


Points = list[tuple[Lane, tuple[float, float]]]


def _sketch(made: Comparison, points: Points) -> Sketch:
    """Speed stands beside size where every lane that is drawn was served."""
    paces = [(lane, found) for lane, _ in points if (found := compared.pace(lane)) is not None]
    both = len(paces) == len(points)
    figure, axes = sheet(3.4, columns=2 if both else 1, sharey=True, squeeze=False)
    _draw(axes[0, 0], points, MIB)
    axes[0, 0].set(xlabel="MiB of weights", ylabel="mean KL divergence, nat")
    if both:
        _draw(axes[0, 1], paces, 1e-3)
        axes[0, 1].set(xlabel="ms per output token, median")
    said = "; ".join(
        f"{lane.lane}: {short(size / MIB)} MiB{_paced(lane)}, {loss:.2g} nat" for lane, (size, loss) in points
    )
    what = "Size, speed and divergence" if both else "Size and divergence"
    return Sketch(figure=figure, title=f"{what} of the lanes of {made.model}", description=f"{said}.")


def _paced(lane: Lane) -> str:
    found = compared.pace(lane)
    return "" if found is None else f", {short(found[0] * 1000)} ms a token"


def _draw(axes: Axes, points: Points, unit: float) -> None:
    """One panel; the line joins what nothing in it beats."""
    kept = sorted(own for _, own in points if not any(compared.beats(other, own) for _, other in points))
    axes.plot(
        [x / unit for x, _ in kept], [loss for _, loss in kept],
        color=FAINT, linewidth=1, linestyle="--", drawstyle="steps-post", zorder=1,
    )  # fmt: skip
    for lane, (x, loss) in points:
        check = lane.divergence
        assert check is not None
        low, high = (loss if end is None else end for end in (check.lower, check.upper))
        reach = [[max(0.0, loss - low)], [max(0.0, high - loss)]]
        colour = RED if lane.verdict == "fail" else BLUE
        axes.errorbar(
            x / unit, loss, yerr=reach, xerr=_reach(lane, x, unit), color=colour, ecolor=colour,
            fmt="D" if lane.undominated else "o", elinewidth=1.6, capsize=3, markersize=6,
        )  # fmt: skip
        axes.annotate(lane.lane, (x / unit, loss), xytext=(7, 4), textcoords="offset points", color=INK)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.margins(x=0.15)
    axes.grid(visible=True)


def _reach(lane: Lane, x: float, unit: float) -> list[list[float]] | None:
    """How far the measured time lies from the ends of its interval; sizes have none."""
    found = lane.speeds.get(compared.PACE)
    if found is None or found.value != x or found.low is None or found.high is None:
        return None
    return [[max(0.0, x - found.low) / unit], [max(0.0, found.high - x) / unit]]
