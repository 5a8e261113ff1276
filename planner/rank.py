"""From swept rows to an order: the objective, the tie rule, and the Pareto view over cost, latency and quality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from planner.pairing import Option
from planner.plan import Tie
from planner.rules.checkpoints import recorded
from planner.rules.rule import Pairing
from planner.settle import Objectives
from planner.sweep import Swept
from planner.trace import Array

TIE = 0.03
"""Candidates within this share of the best objective tie (contract)."""
EQUAL_QUALITY = 0.2
"""Points of loss within which the cheapest wins under the objective quality (contract)."""
ALTERNATIVES = 5
ENOUGH = 3
SENSIBLE = 4.0
"""Times the choice's cost (assumed): what costs more is shown only where nothing else differs."""
Name = tuple[str, str, str]
Blocks = list[tuple[Swept, NDArray[np.intp]]]


@dataclass(frozen=True)
class Row:
    """One candidate: a row of one swept block."""

    swept: Swept
    index: int

    @property
    def option(self) -> Option:
        return self.swept.rows.options[int(self.swept.rows.option[self.index])]

    @property
    def own_rate(self) -> float:
        """Requests/s of one replica as the user states it; NaN where nothing is stated."""
        rows = self.swept.rows
        return float(rows.cases.own_rate[rows.case[self.index]])

    def at(self, column: Array) -> float:
        return float(column[self.index])


@dataclass(frozen=True)
class Ranking:
    """All feasible rows within the budget as columns; each element is one row."""

    objectives: Objectives
    rows: Blocks
    """Blocks, and the indices of their rows in column order."""
    cost: Array
    latency: Array
    loss: Array
    energy: Array
    """Joules per token; infinite where the power limit is unknown."""
    planned: NDArray[np.bool_]
    """What may be chosen."""

    @classmethod
    def of(cls, swept: Sequence[Swept], objectives: Objectives) -> Ranking:
        """Collect the columns of every block."""
        rows = [(block, np.flatnonzero(block.feasible & block.affordable)) for block in swept]
        return cls(
            objectives=objectives,
            rows=rows,
            cost=np.nan_to_num(_column(rows, lambda block: block.usd_per_month), nan=np.inf),
            latency=_column(rows, lambda block: block.e2e_p95_s),
            loss=_per_option(rows, lambda option: option.loss.value),
            energy=np.nan_to_num(1 / _column(rows, lambda block: block.tokens_per_joule), nan=np.inf),
            planned=_planned(rows),
        )

    @cached_property
    def objective(self) -> Array:
        """Lower is better."""
        if self.objectives.objective == "quality":
            best = self.loss[self.planned].min(initial=np.inf)
            return np.where(self.loss <= best + EQUAL_QUALITY, self.cost, np.inf)
        return {"latency": self.latency, "energy": self.energy, "cost": self.cost}[self.objectives.objective]

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        return np.lexsort((self.loss, self.latency, self.objective))

    def row(self, position: int) -> Row:
        """The row at a position of the columns."""
        for block, index in self.rows:
            if position < len(index):
                return Row(block, int(index[position]))
            position -= len(index)
        raise IndexError(position)

    def tied(self) -> list[Row]:
        """Every plannable candidate within the tie margin of the best, the winner first."""
        if not self.planned.any():
            return []
        best = self.objective[self.planned].min()
        near = self.planned & ((self.objective <= best * (1 + TIE)) | (self.objective == best))
        return sorted((self.row(int(position)) for position in np.flatnonzero(near)), key=tie_breakers)

    def alternatives(self, choice: Row | None) -> list[Row]:
        """Rows that nothing feasible dominates and that differ from the choice and each other: in lane family, engine
        or accelerator generation; where fewer than three do, in lane or accelerator."""
        if choice is None:
            return []
        paid = choice.at(choice.swept.usd_per_month)
        sensible = self.cost <= (np.inf if np.isnan(paid) else SENSIBLE * paid)
        chosen = self._best_of_each([choice], family_of, sensible, ALTERNATIVES)
        chosen = self._best_of_each(chosen, name_of, sensible, ENOUGH)
        return self._best_of_each(chosen, name_of, self.cost >= 0, ENOUGH)[1:]

    def _best_of_each(
        self, shown: list[Row], name: Callable[[Pairing], Name], among: NDArray[np.bool_], most: int
    ) -> list[Row]:
        """The choice and `most` others: add the best undominated row of every name that is not shown yet."""
        if len(shown) > most:
            return shown
        codes, names = self._codes(name)
        order = self._order[among[self._order]]
        taken = {names[name(row.option.pairing)] for row in shown}
        found = list(shown)
        for code, positions in _grouped(codes[order], order):
            if len(found) > most:
                break
            row = self._undominated(positions) if code not in taken else None
            found += [row] if row is not None else []
        return found

    def _codes(self, name: Callable[[Pairing], Name]) -> tuple[NDArray[np.intp], dict[Name, int]]:
        """A number per distinct name for every row, and the numbers by name."""
        names: dict[Name, int] = {}
        codes = _per_option(self.rows, lambda option: names.setdefault(name(option.pairing), len(names)))
        return codes.astype(np.intp), names

    def _undominated(self, positions: NDArray[np.intp]) -> Row | None:
        """The first of `positions` (best objective, lowest latency, lowest loss) on the Pareto front."""
        tries = [positions[0], positions[self.latency[positions].argmin()], positions[self.loss[positions].argmin()]]
        for position in dict.fromkeys(int(each) for each in tries):
            if self._front[position]:
                return self.row(position)
        return None

    @cached_property
    def _front(self) -> NDArray[np.bool_]:
        """The Pareto front: rows that no other beats in cost, latency or loss without losing in another.

        What is first by all three in turn is on it; what that one beats is not; the rest is looked at again.
        """
        front = np.zeros(self.cost.size, bool)
        left = np.lexsort((self.loss, self.latency, self.cost))
        while left.size:
            cost, latency, loss = self.cost[left], self.latency[left], self.loss[left]
            equal = (cost == cost[0]) & (latency == latency[0]) & (loss == loss[0])
            front[left[equal]] = True
            left = left[(cost < cost[0]) | (latency < latency[0]) | (loss < loss[0])]
        return front


def _grouped(codes: NDArray[np.intp], order: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """(Code, the places in `order` that have it), by first appearance."""
    together = np.argsort(codes, kind="stable")
    parts = np.split(together, np.flatnonzero(np.diff(codes[together])) + 1) if codes.size else []
    for part in sorted(parts, key=lambda places: int(places[0])):
        yield int(codes[part[0]]), order[part]


def _column(rows: Blocks, column: Callable[[Swept], Array]) -> Array:
    made = [column(block)[index] for block, index in rows]
    return np.concatenate(made) if made else np.empty(0)


def _per_option(rows: Blocks, value: Callable[[Option], float]) -> Array:
    made = [_of_options(block, block.rows.option[index], value) for block, index in rows]
    return np.concatenate(made) if made else np.empty(0)


def _of_options(block: Swept, option: NDArray[np.intp], value: Callable[[Option], float]) -> Array:
    """The value of each row's option, asked of those that occur."""
    column = np.zeros(len(block.rows.options))
    occurs = np.zeros(column.size, bool)
    occurs[option] = True
    for place in np.flatnonzero(occurs):
        column[place] = value(block.rows.options[place])
    return column[option]


def _planned(rows: Blocks) -> NDArray[np.bool_]:
    """Engines that we launch, and of those what no rule prefers something else to, where any of that is feasible."""
    launched = _per_option(rows, lambda option: float(option.pairing.engine.planned)) > 0
    preferred = launched & (_per_option(rows, lambda option: float(option.second_best)) == 0)
    return preferred if preferred.any() else launched


def family_of(pairing: Pairing) -> Name:
    """What makes an alternative a different kind of answer."""
    return pairing.lane.family, pairing.engine.id, pairing.device.accelerator.architecture


def name_of(pairing: Pairing) -> Name:
    """Lane, engine and device."""
    return pairing.lane.id, pairing.engine.id, pairing.device.accelerator.id


def tie_breakers(row: Row) -> tuple[object, ...]:
    """The contract's order: objectives met at the interval's bad end, lower loss, published (by somebody with a record
    first), more headroom, simpler; then names, so that the same inputs always give the same plan."""
    option, swept = row.option, row.swept
    pairing, rows = option.pairing, swept.rows
    return (
        not bool(swept.slo_at_bad_end[row.index]),
        round(option.loss.value, 3),
        pairing.artifact is None,
        not recorded(pairing),
        -round(row.at(swept.headroom), 1),
        *simplicity(row),
        pairing.lane.id,
        pairing.device.accelerator.id,
        float(rows.chunk[row.index]),
    )


def simplicity(row: Row) -> tuple[float, ...]:
    """Fewer devices, fewer moving parts, an unquantized cache."""
    rows = row.swept.rows
    return (
        row.at(row.swept.devices),
        float(rows.pipeline[row.index]),
        float(rows.data[row.index]),
        float(rows.tensor[row.index]),
        float(rows.expert[row.index]),
        float(row.option.cell_bits != 16),
    )


def tie_line(row: Row, objectives: Objectives) -> Tie:
    """The row's place in every tie-breaker, for people."""
    option, swept = row.option, row.swept
    value = row.at(swept.e2e_p95_s if objectives.objective == "latency" else swept.usd_per_month)
    return Tie(
        lane=option.pairing.lane.id,
        engine=option.pairing.engine.id,
        accelerator=option.pairing.device.accelerator.id,
        objective=None if np.isnan(value) else round(value, 4),
        slo_met_at_bad_end=bool(swept.slo_at_bad_end[row.index]),
        loss_pct=round(option.loss.value, 3),
        published=option.pairing.artifact is not None,
        recorded=recorded(option.pairing),
        headroom=round(row.at(swept.headroom), 1),
        devices=int(row.at(swept.devices)),
    )
