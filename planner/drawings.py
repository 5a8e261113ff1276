"""What each chart of a review shows: functions from a review to a figure. Called by `planner/charts.py` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from catalog.units import GIB
from planner.plan import Candidate, Estimate
from planner.review import Review
from planner.review.content import Growth, Memory
from planner.review.settled import TIMES, label, limits_s
from planner.sketch import FAINT, INK, Draw, Sketch
from planner.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, SKY, GREEN, ORANGE, RED, PURPLE, LIGHT = (
    "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#e5e5e5",
)  # fmt: skip
CROWDED = 0.25
"""Share of the dearest candidate's cost within which labels at one height would cover each other."""
PLOT_HEIGHT, LABEL_HEIGHT, LABEL_RISE = 150.0, 11.0, 4.0
"""Points of type: the cost and quality plot, a line of its labels, a label above its point."""
LEGIBLE = 0.06
"""Share of the widest bar below which a part has no room for its number."""
WIDTH = 7.4
"""Inches: the text width of an A4 page."""
PARTS = {
    "weights": BLUE, "activations": ORANGE, "KV cache needed": GREEN, "KV cache spare": "#a6dcc9",
    "engine": PURPLE, "free": LIGHT,
}  # fmt: skip


def sheet(height: float, columns: int = 1, rows: int = 1, **more: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **more)


def memory(review: Review) -> Sketch | None:
    """A stacked bar for one device of the choice and of each alternative."""
    if not review.memory:
        return None
    bars = review.memory
    figure, axes = sheet(0.95 + 0.42 * len(bars))
    for row, bar in enumerate(bars):
        _stack(axes, row, bar, max(sum(each.parts.values()) for each in bars) / GIB)
    axes.set_yticks(
        range(len(bars)), [("choice: " if not row else "") + _named(bar.candidate) for row, bar in enumerate(bars)]
    )
    axes.invert_yaxis()
    axes.set_xlabel("GiB of one device")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    handles = [_swatch(colour) for part, colour in PARTS.items() if any(part in bar.parts for bar in bars)]
    names = [part for part in PARTS if any(part in bar.parts for bar in bars)]
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), columnspacing=1.2, handlelength=1)
    said = "; ".join(f"{part} {short(size / GIB)} GiB" for part, size in bars[0].parts.items())
    return Sketch(figure=figure, title="Memory of one device", description=f"The choice: {said}.")


def _stack(axes: Axes, row: int, bar: Memory, widest: float) -> None:
    left = 0.0
    for part, size in bar.parts.items():
        width = size / GIB
        axes.barh(row, width, left=left, height=0.62, color=PARTS[part], edgecolor="white", linewidth=0.8)
        if width > LEGIBLE * widest:
            axes.text(left + width / 2, row, short(width), ha="center", va="center", color=_on(PARTS[part]))
        left += width


def _on(colour: str) -> str:
    """Ink that can be read on a colour."""
    return "white" if colour in (BLUE, GREEN) else INK


def _swatch(colour: str) -> Any:
    return Patch(facecolor=colour)


def _named(candidate: Candidate) -> str:
    pool = candidate.pools[0]
    return f"{candidate.lane}, {pool.count} x {pool.accelerator}"


def candidates(review: Review) -> Sketch | None:
    """Cost against quality; the line joins what nothing beats in both."""
    plan = review.plan
    if plan.choice is None:
        return None
    priced = [each for each in (plan.choice, *plan.alternatives) if "price_usd_per_month" in each.estimates]
    if not priced:
        return None
    points = [(each.estimates["price_usd_per_month"].value, each.estimates["loss_pct"]) for each in priced]
    figure, axes = sheet(2.9)
    front = _front([(cost, loss.value) for cost, loss in points])
    axes.plot(*zip(*front, strict=True), color=FAINT, linewidth=1, linestyle="--", drawstyle="steps-post", zorder=1)
    dearest = max(cost for cost, _ in points)
    above = _label_places(points)
    for candidate, (cost, loss), rise in zip(priced, points, above, strict=True):
        chosen = candidate is plan.choice
        _dot(axes, cost, loss, vertical=True, colour=RED if chosen else BLUE, marker="D" if chosen else "o")
        text = ("choice: " if chosen else "") + _named(candidate)
        axes.annotate(text, (cost, loss.value), xytext=(7, rise), textcoords="offset points", color=INK)
    axes.set(xlabel="$ a month", ylabel="expected loss, %")
    axes.set_xlim(0, 1.35 * dearest or 1)
    axes.set_ylim(bottom=min(0, -0.04 * axes.get_ylim()[1]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(visible=True)
    said = "; ".join(
        f"{_named(each)}: {short(cost)} $, {short(loss.value)} %"
        for each, (cost, loss) in zip(priced, points, strict=True)
    )
    return Sketch(
        figure=figure, title="Cost and quality of the candidates", description=f"{said}. The first is the choice."
    )


def _label_places(points: list[tuple[float, Estimate]]) -> list[float]:
    """How far above its point each label stands, in points of type: the lowest label first, no two on each other."""
    dearest, tallest = max(cost for cost, _ in points) or 1.0, max(loss.high for _, loss in points) or 1.0
    heights = [PLOT_HEIGHT * loss.value / tallest for _, loss in points]
    placed: list[tuple[float, float]] = []
    above = [0.0] * len(points)
    for place in sorted(range(len(points)), key=lambda place: heights[place]):
        cost, height = points[place][0], heights[place] + LABEL_RISE
        for other, taken in placed:
            if abs(cost - other) < CROWDED * dearest and abs(height - taken) < LABEL_HEIGHT:
                height = taken + LABEL_HEIGHT
        placed.append((cost, height))
        above[place] = height - heights[place]
    return above


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other beats in cost and loss, the cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, loss in sorted(set(points)):
        if not front or loss < front[-1][1]:
            front.append((cost, loss))
    return front


def _dot(axes: Axes, x: float, estimate: Estimate, *, vertical: bool, colour: str, marker: str = "o") -> None:
    """A value with its interval as a line through it; `x` is the place on the other axis."""
    reach = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
    place = (x, estimate.value) if vertical else (estimate.value, x)
    errors: dict[str, Any] = {"yerr" if vertical else "xerr": reach}
    axes.errorbar(*place, **errors, fmt=marker, color=colour, ecolor=colour, elinewidth=1.6, capsize=3, markersize=6)


def quality(review: Review) -> Sketch | None:
    """A dot with its interval per task family, and the tolerance."""
    if not review.families:
        return None
    families = review.families
    figure, axes = sheet(0.95 + 0.42 * len(families))
    for row, family in enumerate(families):
        _dot(axes, row, family.loss, vertical=False, colour=BLUE)
        axes.plot([family.tolerated_pct] * 2, [row - 0.36, row + 0.36], color=RED, linewidth=2)
    axes.plot([], [], color=RED, linewidth=2, label="tolerated")
    axes.errorbar(
        [], [], xerr=[], fmt="o", color=BLUE, elinewidth=1.6, capsize=3, label="expected, with its 80 % interval"
    )
    axes.set_yticks(range(len(families)), [family.name for family in families])
    axes.set_ylim(len(families) - 0.5, -0.5)
    axes.set_xlim(left=min(0.0, *(family.loss.low for family in families)) - 0.02)
    axes.set_xlabel("loss, % of the unquantized model's score")
    axes.grid(visible=True, axis="x")
    figure.legend(loc="outside upper center", ncols=2)
    said = "; ".join(
        f"{each.name} {short(each.loss.value)} % of {short(each.tolerated_pct)} % tolerated" for each in families
    )
    return Sketch(figure=figure, title="Quality loss by task family", description=f"{said}.")


def latency(review: Review) -> Sketch | None:
    """Percentiles with intervals, a panel per latency, and the objectives."""
    choice = review.plan.choice
    if choice is None:
        return None
    limits = limits_s(review.plan)
    figure, panels = sheet(2.4, columns=3)
    said = []
    for axes, (name, title) in zip(panels, TIMES.items(), strict=True):
        scale, unit = (1.0, "s") if name == "e2e" else (1e3, "ms")
        for row, quantile in enumerate(("p50", "p95", "p99")):
            estimate = choice.estimates[f"{name}_{quantile}_s"]
            _dot(axes, row, _scaled(estimate, scale), vertical=True, colour=BLUE)
            said.append(f"{label(f'{name}_{quantile}_s')} {short(scale * estimate.value)} {unit}")
            limit = limits.get(f"{name}_{quantile}_s")
            if limit is not None:
                axes.plot([row - 0.36, row + 0.36], [scale * limit] * 2, color=RED, linewidth=2)
        axes.set_xticks(range(3), ["p50", "p95", "p99"])
        axes.set_xlim(-0.6, 2.6)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{title}, {unit}", loc="left", fontsize=9)
        axes.grid(visible=True, axis="y")
    figure.legend(
        [_line(BLUE), _line(RED)], ["estimate with its 80 % interval", "objective"], loc="outside upper center", ncols=2
    )
    return Sketch(figure=figure, title="Latency percentiles and objectives", description=f"{'; '.join(said)}.")


def _scaled(estimate: Estimate, scale: float) -> Estimate:
    low, value, high = (scale * part for part in (estimate.low, estimate.value, estimate.high))
    return Estimate(value=value, low=low, high=high, basis=estimate.basis, unit=estimate.unit)


def _line(colour: str) -> Any:
    return Line2D([], [], color=colour, linewidth=2)


def growth(review: Review) -> Sketch | None:
    """Devices and money month by month, as steps."""
    grown = review.growth
    if grown is None:
        return None
    figure, (left, right) = sheet(2.5, columns=2)
    _devices(left, grown)
    _money(right, grown, review)
    for axes in (left, right):
        axes.set_xlim(0, grown.months[-1].number)
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
        axes.set_xticks([month.number for month in grown.months if month.number % 6 == 0])
        axes.set_xlabel("month")
        axes.grid(visible=True)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    said = (
        "; ".join(f"{step.devices} devices from month {step.number}" for step in grown.steps)
        or "no further device is due"
    )
    title = f"Growth of {grown.pct_per_quarter:g} % a quarter"
    return Sketch(figure=figure, title=title, description=f"With the choice kept: {said}.")


def _devices(axes: Axes, grown: Growth) -> None:
    placed = [(month.number, month.devices) for month in grown.months if month.devices is not None]
    axes.step(*zip(*placed, strict=True), where="post", color=BLUE, linewidth=2)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title("devices, the choice kept", loc="left", fontsize=9)
    if grown.choice_limit is not None:
        axes.axvline(grown.choice_limit.month, color=RED, linewidth=1.5)
        axes.annotate("request's limit", (grown.choice_limit.month, 0), xytext=(-4, 4), textcoords="offset points", ha="right", color=RED)  # fmt: skip  # noqa: E501


def _money(axes: Axes, grown: Growth, review: Review) -> None:
    """Money of the choice kept, and of the request decided anew where that is another choice."""
    paid = [(month.number, month.usd_per_month) for month in grown.months if month.usd_per_month is not None]
    if paid:
        axes.step(*zip(*paid, strict=True), where="post", color=BLUE, linewidth=2, label="choice kept")
    anew = [(3 * each.number, each.choice) for each in grown.quarters if each.choice is not None]
    spent = [
        (month, each.estimates["price_usd_per_month"].value)
        for month, each in anew
        if "price_usd_per_month" in each.estimates
    ]
    if spent:
        axes.plot(
            *zip(*spent, strict=True), "D", color=ORANGE, markersize=5, label="decided anew", clip_on=False, zorder=3
        )
    if not paid and not spent:
        axes.annotate("no price is known", (0.5, 0.5), xycoords="axes fraction", ha="center", color=FAINT)
    else:
        axes.legend(loc="upper left", handlelength=1.2)
    axes.set_title("$ a month", loc="left", fontsize=9)


def refusals(review: Review) -> Sketch | None:
    """Candidates by the rule that sent them away."""
    if not review.refusals:
        return None
    groups = review.refusals
    figure, axes = sheet(0.7 + 0.34 * len(groups))
    sizes = [group.candidates for group in groups]
    axes.barh([group.rule for group in groups], sizes, color=BLUE, height=0.6)
    for row, size in enumerate(sizes):
        axes.annotate(f"{size:,}", (size, row), xytext=(4, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(sizes))
    axes.set_xlabel("refused candidates")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    said = "; ".join(f"{group.rule} {group.candidates:,}" for group in groups)
    return Sketch(figure=figure, title="Refused candidates by rule", description=f"{said}.")


DRAWINGS: dict[str, Draw] = {
    "memory": memory,
    "latency": latency,
    "quality": quality,
    "candidates": candidates,
    "refusals": refusals,
    "growth": growth,
}
"""A chart by the name of its place in the review."""
