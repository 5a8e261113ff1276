"""What is known of a lane's losses, for people: the estimate, the rows, and a line per source. Layout only."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from planner.evidence import Answer, Expected, Known, Question, Source
from planner.report import console
from planner.wording import short

LINES = 24
"""Sources that are drawn; the others stand in `--json`."""
NARROWEST = 20
"""Columns of the drawing in a very narrow terminal."""
BEYOND = 10.0
"""Percent that the axis goes on beyond the outermost median: single rows farther off are cut, and marked so."""


def show(found: Answer, out: Console | None = None) -> None:
    """Estimate, assumptions, rows, a line per source, citations."""
    out = out or console()
    _headline(out, found)
    if not found.total:
        out.print("No row passes: leave a filter out, or measure and `lanewise evidence --add` it.")
        return
    numbers = _numbers(found)
    out.print(f"\n{len(found.rows)} of {found.total:,} rows {found.selection}")
    out.print(_table(found, numbers))
    drawing = Drawing(found, out.width)
    for line in drawing.lines(numbers):
        out.print(line, no_wrap=True, overflow="ignore", crop=False)
    for (citation, url), number in numbers.items():
        out.print(Padding(f"\\[{number}] {escape(citation)}{f' <{escape(url)}>' if url else ''}", (0, 0, 0, 1)))


def _headline(out: Console, found: Answer) -> None:
    out.print(f"[bold]{escape(_asked(found.question))}[/]")
    grid = Table.grid(padding=(0, 2, 0, 0))
    for label, text in [
        *_estimate(found.estimate),
        *map(_beside, found.beside),
        *(("assumed", each) for each in found.assumed),
    ]:
        grid.add_row(f"  {label}", escape(text))
    if grid.row_count:
        out.print(grid)


def _asked(question: Question) -> str:
    """The question in words."""
    parts = [question.lane or "every lane", f"for {question.task or 'every task'}"]
    parts += [f"at {_size(question.size)}"] if question.size else []
    parts += [f"with {question.context:,} tokens of context"] if question.context else []
    filters = {"model": question.model, "recipe": question.recipe, "source": question.source}
    parts += [f"({name} {value})" for name, value in filters.items() if value]
    return " ".join([*parts, *(["(own rows)"] if question.own else [])])


def _estimate(expected: Expected | None) -> Iterator[tuple[str, str]]:
    if expected is None:
        return
    loss = expected.loss_pct
    yield "loss", f"{short(loss.value)} % ({short(loss.low)} to {short(loss.high)}, 80 % interval, {loss.basis})"
    yield "3 in 4", f"below {short(expected.likely_pct)} %: tolerances are judged by it"
    if expected.own_share:
        yield "own", f"your own measurements settle {expected.own_share:.0%} of what was unknown"
    thin = ": unverified, fewer than two" if expected.unverified else ""
    yield "sources", f"{expected.sources} of this lane, size and family{thin}"
    judged = expected.family + (f", by its proxy {expected.proxy}" if expected.proxy else "")
    yield "judged on", judged


def _beside(expected: Expected) -> tuple[str, str]:
    loss = expected.loss_pct
    between = f"{short(loss.low)} to {short(loss.high)}, 3 in 4 below {short(expected.likely_pct)}"
    return "beside", f"{expected.family} {short(loss.value)} % ({between} %)"


def _numbers(found: Answer) -> dict[tuple[str, str], int]:
    """A number for each source that is shown, those of the drawing first; an address each, where rows differ in it."""
    drawn = [source.citation for source in found.sources[:LINES]]
    pairs = dict.fromkeys((source.citation, source.url) for source in found.sources if source.citation in drawn)
    pairs |= dict.fromkeys((row.citation, row.url) for row in found.rows if row.citation not in drawn)
    known: dict[str, tuple[str, str]] = {}
    for pair in pairs:
        known.setdefault(pair[0], pair)
    return {pair: number for number, pair in enumerate(known.values(), start=1)}


def _numbered(numbers: dict[tuple[str, str], int], citation: str) -> str:
    return next(f"[{number}]" for (cited, _), number in numbers.items() if cited == citation)


def _table(found: Answer, numbers: dict[tuple[str, str], int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("id", "model"):
        table.add_column(name, overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for name in ("lane", "task"):
        table.add_column(name, overflow="fold")
    for name in ("context", "from → to", "recovery"):
        table.add_column(name, justify="right")
    for name in ("gr.", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        cells = [*_cells(row, found.question.task), _numbered(numbers, row.citation)]
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _cells(row: Known, task: str | None) -> list[str]:
    made = [word for word in (row.recipe, row.training) if word and word != "ptq" and word not in row.lane]
    return [
        row.id + ("*" if row.own else ""),
        row.model,
        _size(row.params),
        " ".join([row.lane, *made]),
        row.task if row.task_family == task else f"{row.task_family}: {row.task}",
        "short" if row.context_tokens is None else f"{row.context_tokens:,}",
        f"{row.baseline:g} → {row.quantized:g}",
        "-" if row.recovery is None else f"{row.recovery:.1f} %",
        row.grade,
    ]


def _size(params: float | None) -> str:
    if params is None:
        return "-"
    return f"{params / 1e9:.3g}B" if params < 1e12 else f"{params / 1e12:.3g}T"


class Drawing:
    """A line per source on one axis of recoveries in percent, the estimate's interval above them."""

    def __init__(self, found: Answer, width: int) -> None:
        self.estimate = found.estimate
        self.sources = found.sources[:LINES]
        self.left = len(found.sources) - len(self.sources)
        self.low, self.high = _axis(found.estimate, self.sources)
        self.columns = max(NARROWEST, width - len(_label("[00]", "000", (100.0, 100.0, 100.0))))

    def lines(self, numbers: dict[tuple[str, str], int]) -> Iterator[str]:
        """Drawn with characters alone, so that it needs no colour."""
        if not self.sources:
            return
        yield f"{'':<6}{'rows':>4}{'median':>8}  {'low to high':<14}recovery in %"
        if self.estimate is not None:
            loss = self.estimate.loss_pct
            ends = 100 - loss.high, 100 - loss.value, 100 - loss.low
            yield escape(_label("estim.", "", ends) + self._bar(*ends, "╞═╡◆"))
        for source in self.sources:
            label = _numbered(numbers, source.citation) + ("*" if source.own else "")
            ends = source.low, source.median, source.high
            yield escape(_label(label, str(source.rows), ends) + self._bar(*ends, "├─┤●"))
        yield escape(" " * len(_label("", "", (0, 0, 0))) + self._ruler())
        if self.left:
            yield f"and {self.left} more sources: --json"

    def _place(self, value: float) -> int:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(share * (self.columns - 1))

    def _bar(self, low: float, middle: float, high: float, marks: str) -> str:
        """`marks`: left end, between, right end, middle; ‹ and › where the axis ends first."""
        cells = [" "] * self.columns
        cells[self._place(100.0)] = "│"
        first, last = self._place(low), self._place(high)
        if first < last:
            cells[first : last + 1] = [marks[1]] * (last + 1 - first)
            cells[first], cells[last] = marks[0], marks[2]
        if low < self.low:
            cells[0] = "‹"
        if high > self.high:
            cells[-1] = "›"
        cells[self._place(middle)] = marks[3]
        return "".join(cells).rstrip()

    def _ruler(self) -> str:
        """The ends of the axis, and 100 where there is room between them."""
        left, right, at = f"{self.low:g}", f"{self.high:g}", self._place(100.0)
        cells = list(left + " " * (self.columns - len(left) - len(right)) + right)
        if len(left) + 1 < at < self.columns - len(right) - 3:
            cells[at - 1 : at + 2] = "100"
        return "".join(cells)


def _axis(estimate: Expected | None, sources: tuple[Source, ...]) -> tuple[float, float]:
    """Whole percents that hold every median, the estimate and 100, and single rows not far beyond."""
    middles = [100.0, *(source.median for source in sources)]
    if estimate is not None:
        middles += [100 - estimate.loss_pct.high, 100 - estimate.loss_pct.low]
    lowest = max(min((*middles, *(source.low for source in sources))), min(middles) - BEYOND)
    highest = min(max((*middles, *(source.high for source in sources))), max(middles) + BEYOND)
    return float(int(lowest) - 1), float(int(highest) + 1)


def _label(name: str, rows: str, ends: tuple[float, float, float]) -> str:
    low, middle, high = ends
    between = f"{low:.1f} to {high:.1f}" if low < high else ""
    return f"{name:<6}{rows:>4}{middle:>8.1f}  {between:<14}"
