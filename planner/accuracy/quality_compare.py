"""Estimates of losses beside lane medians and constants: what the board promises, and whether it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from planner.accuracy import quality_board, quality_rivals
from planner.accuracy.quality_board import Board, Cell, Gate, Score
from planner.accuracy.quality_rivals import ARTICLES, RIVAL, Constants

LEAST_WIN, LEAST_SHARP = 0.95, 0.85
"""Largest shares of the error and of the interval score of lane medians and quantiles."""
HELD = (0.72, 0.88)
"""Between these the share of cells in the 80 % interval has to lie."""
MOST_SAFE, MOST_ALARM = 0.05, 0.30
"""Largest shares of cells that are wrongly passed and wrongly held back."""


class Beside(Struct, frozen=True, kw_only=True):
    """Constants on the lanes that they name."""

    said: Constants
    rows: int
    sources: int
    ours: float
    theirs: float
    """Errors as means over sources, points."""
    lanes: tuple[tuple[str, int, int, float, float], ...]
    """The same by named lane: rows, sources, our error, theirs."""
    gates: tuple[tuple[Gate, ...], tuple[Gate, ...]]
    """Ours by the usual rule, and theirs, on the same cells."""


class Compared(Struct, frozen=True, kw_only=True):
    """Everything that the board says of one set of rows."""

    scores: list[Score]
    ours: Board
    ours_by_method: Board
    lanes: Board
    """Quantiles of families of lanes."""
    methods: Board
    """Quantiles of lanes as sources spell them."""
    beside: tuple[Beside, ...]
    gates: tuple[tuple[str, tuple[Gate, ...]], ...]

    @property
    def error(self) -> float:
        """Of the harder of the two baselines."""
        return min(self.lanes.error, self.methods.error)

    @property
    def cell_score(self) -> float:
        return min(self.lanes.cell_score, self.methods.cell_score)

    @property
    def row_score(self) -> float:
        return min(self.lanes.row_score, self.methods.row_score)


class Bar(Struct, frozen=True, kw_only=True):
    """One promise."""

    name: str
    asked: str
    reached: str
    met: bool


BOUNDS: tuple[tuple[str, Callable[[Cell], float]], ...] = (
    ("typical: three chances of four", lambda cell: cell.likely),
    ("high confidence: the interval's bad end", lambda cell: cell.low),
    ("the median alone", lambda cell: cell.predicted),
)
"""What a tolerance may be compared with; plans take the first two."""


def compare(scores: list[Score], known: Sequence[Score]) -> Compared:
    """Estimates beside those that the rows of the other sources in `known` give."""
    by_lane = quality_rivals.lane_quantiles(scores, known, quality_board.lane)
    by_method = quality_rivals.lane_quantiles(scores, known, quality_board.method)
    cells = quality_board.cells(scores)
    gates = [(f"law, {name}", quality_board.gates(cells, bound)) for name, bound in BOUNDS]
    for name, rival in (("families", by_lane), ("lanes", by_method)):
        plain = quality_board.cells(rival)
        gates += [(f"quantiles of {name}, {rule}", quality_board.gates(plain, bound)) for rule, bound in BOUNDS]
    found = (_beside(scores, said) for said in (ARTICLES, RIVAL))
    return Compared(
        scores=scores,
        ours=quality_board.board(scores),
        ours_by_method=quality_board.board(scores, quality_board.method),
        lanes=quality_board.board(by_lane),
        methods=quality_board.board(by_method),
        beside=tuple(one for one in found if one is not None),
        gates=tuple(gates),
    )


def _beside(scores: Sequence[Score], said: Constants) -> Beside | None:
    ours, theirs = quality_rivals.constant(scores, said)
    if not ours:
        return None
    cells, usual = (quality_board.cells(ours), quality_board.cells(theirs)), BOUNDS[0][1]
    lanes = []
    for name in said.recovery:
        rows = [(a, b) for a, b in zip(ours, theirs, strict=True) if quality_rivals.named(a, said) == name]
        if rows:
            one, other = (quality_board.board(list(side)) for side in zip(*rows, strict=True))
            lanes.append((name, one.rows, one.sources, one.error, other.error))
    one, other = quality_board.board(ours), quality_board.board(theirs)
    return Beside(
        said=said, rows=one.rows, sources=one.sources, ours=one.error, theirs=other.error, lanes=tuple(lanes),
        gates=(quality_board.gates(cells[0], usual), quality_board.gates(cells[1], usual)),
    )  # fmt: skip


def bars(found: Compared) -> list[Bar]:
    """Every promise with what was reached."""
    ours = found.ours
    made = [
        _at_most("source-mean error / lane medians", ours.error / found.error, LEAST_WIN),
        *(
            Bar(name=f"source-mean error beside {one.said.name}", asked=f"below {one.theirs:.2f}",
                reached=f"{one.ours:.2f}", met=one.ours < one.theirs)
            for one in found.beside
        ),
        Bar(name="cells (source x family of lanes) in the 80 % interval", asked=f"{HELD[0]:.0%} to {HELD[1]:.0%}",
            reached=f"{ours.coverage:.1%}", met=HELD[0] <= ours.coverage <= HELD[1]),
        _at_most("interval score of cells / lane quantiles", ours.cell_score / found.cell_score, LEAST_SHARP),
        _at_most("interval score of rows / lane quantiles", ours.row_score / found.row_score, LEAST_SHARP),
    ]  # fmt: skip
    for (name, gates), _ in zip(found.gates, BOUNDS[:2], strict=False):
        worst_safe, worst_alarm = max(g.false_safe for g in gates), max(g.false_alarm for g in gates)
        made.append(_at_most(f"wrongly passed, {name}", worst_safe, MOST_SAFE))
        made.append(_at_most(f"wrongly held back, {name}", worst_alarm, MOST_ALARM))
    return made


def _at_most(name: str, value: float, most: float) -> Bar:
    return Bar(name=name, asked=f"at most {most:.0%}", reached=f"{value:.1%}", met=value <= most)


def split(scores: Iterable[Score]) -> tuple[list[Score], list[Score]]:
    """Scores of tasks, and of perplexity, which is none."""
    both: tuple[list[Score], list[Score]] = ([], [])
    for one in scores:
        both[one.family == "ppl"].append(one)
    return both
