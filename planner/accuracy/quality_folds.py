"""Measured recoveries beside estimates that never saw their source: the law fitted anew without each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from catalog.errors import BadInput
from catalog.load import Catalog
from catalog.quality_parameters import SeverityParameters
from planner import measured, severity
from planner.accuracy import predict_quality, quality_board, quality_fit, quality_truth, spellings
from planner.accuracy.quality_board import Score
from planner.measured import Described
from planner.quality import T75, T80


class Measured(Struct, frozen=True, kw_only=True):
    """A row with its recovery in percent."""

    row: Described
    lane: str
    """Family of lanes."""
    recovery: float
    sized: bool = True


class Scored(Struct, frozen=True, kw_only=True):
    """The rows of a table with their estimates."""

    known: list[Score]
    """Of sources that the catalogue has too: estimated without them."""
    outside: list[Score]
    """Of sources that it has not: estimated with its parameters as they are."""
    unscored: dict[str, int]
    """Rows that were left out, by the reason."""


def published(catalog: Catalog) -> list[Measured]:
    """The catalogue's rows that count and are no distances; models of unknown size are scored, not fitted to."""
    rows = [row for row in catalog.evidence if row.counts and not row.own and row.task_family != "kld"]
    return [
        Measured(
            row=measured.described(row, catalog.benchmarks), lane=spellings.group_of(row.method),
            recovery=row.recovery, sized=row.params is not None,
        )
        for row in rows
        if row.recovery is not None and (row.params is None or measured.usable(row))
    ]  # fmt: skip


def left_out(catalog: Catalog) -> list[Score]:
    """Every row of the catalogue, estimated without its source."""
    rows = published(catalog)
    return _without(rows, rows)


def bare(catalog: Catalog) -> list[Score]:
    """The same rows without estimates: what lane medians are taken from."""
    return [_score(row) for row in published(catalog)]


def of_table(path: Path, catalog: Catalog) -> Scored:
    """The rows of a table that have a recovery and count. Raises BadInput naming file, row and column."""
    lines = quality_truth.read(path)
    rows = quality_truth.rows(lines, catalog, str(path))
    unscored: Counter[str] = Counter()
    found: list[Measured] = []
    for line, row in zip(lines, rows, strict=True):
        recovery = None if row.refused else quality_truth.measured(line, str(path))
        reason = row.refused or ("grade C does not count" if not row.row.counts else "") or (
            "no two scores above zero" if recovery is None else "")  # fmt: skip
        if reason or recovery is None:
            unscored[reason] += 1
            continue
        described = measured.described(row.row, catalog.benchmarks)
        found.append(Measured(row=described, lane=row.group, recovery=recovery, sized=row.sized))
    if not found:
        raise BadInput("no row with a recovery that counts", str(path))
    own = published(catalog)
    sources = {one.row.source for one in own}
    outside = [one for one in found if one.row.source not in sources]
    return Scored(
        known=_without([one for one in found if one.row.source in sources], own),
        outside=[_score(one, catalog.severity) for one in outside],
        unscored=dict(sorted(unscored.items())),
    )


def _without(rows: Sequence[Measured], known: Sequence[Measured]) -> list[Score]:
    """Each row with the law fitted to what is `known` from other sources."""
    laws = {name: _law([one for one in known if one.row.source != name]) for name in {one.row.source for one in rows}}
    return [_score(one, laws[one.row.source]) for one in rows]


def _law(known: Sequence[Measured]) -> SeverityParameters:
    fitted = [one for one in known if one.sized]
    rows = [one.row for one in fitted]
    return quality_fit.parameters(quality_fit.fit(rows, [100 - one.recovery for one in fitted]), rows)


def _score(one: Measured, fitted: SeverityParameters | None = None) -> Score:
    row = one.row
    score = Score(
        id=row.id, source=row.source, lane=one.lane, method=row.lane, kind=row.what.kind, family=row.where.family,
        size=quality_board.SIZES[severity.bucket(row.where.params)],
        context=quality_board.context_of(row.where.context), measured=one.recovery,
    )  # fmt: skip
    return score if fitted is None else _with_estimate(score, *predict_quality.expected(row, fitted, sized=one.sized))


def _with_estimate(score: Score, loss: float, spread: float) -> Score:

    middle = 100 - loss
    return replace(
        score, predicted=middle, likely=middle - T75 * spread, low=max(0.0, middle - T80 * spread),
        high=middle + T80 * spread,
    )  # fmt: skip
