"""From swept rows to an order: the objective, the tie rule, and the Pareto view over cost, latency and quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.pairing import Option
from planner.plan import Tie
from planner.request import Objectives
from planner.sweep import Swept
from planner.trace import Array

TIE = 0.03
"""Candidates within this share of the best objective tie (contract)."""
EQUAL_QUALITY = 0.2
"""Points of loss within which the cheapest wins under the objective quality (contract)."""
ALTERNATIVES = 5


@dataclass(frozen=True)
class Row:
    """One candidate: a row of one swept block."""

    swept: Swept
    index: int

    @property
    def option(self) -> Option:
        return self.swept.rows.options[int(self.swept.rows.option[self.index])]

    def at(self, column: Array) -> float:
        return float(column[self.index])

    @property
    def family(self) -> tuple[str, str, str]:
        """What makes an alternative different: lane family, engine, accelerator architecture."""
        pairing = self.option.pairing
        return pairing.lane.family, pairing.engine.id, pairing.device.accelerator.architecture


class Ranking:
    """All feasible rows within the budget as columns, in ranked order on demand."""

    def __init__(self, swept: Sequence[Swept], objectives: Objectives) -> None:
        self.objectives = objectives
        self.rows: list[tuple[Swept, NDArray[np.intp]]] = []
        for block in swept:
            limit = objectives.usd_per_month
            affordable = np.ones(block.devices.shape, bool) if limit is None else ~(block.usd_per_month > limit)
            self.rows.append((block, np.flatnonzero(block.feasible & affordable)))
        self.cost = np.nan_to_num(self._column(lambda block: block.usd_per_month), nan=np.inf)
        self.latency = self._column(lambda block: block.e2e_p95_s)
        self.loss = self._per_option(lambda option: option.loss.value)
        self.planned = self._planned()
        self.objective = self._objective()

    def _column(self, column: object) -> Array:
        made = [column(block)[index] for block, index in self.rows]  # type: ignore[operator]
        return np.concatenate(made) if made else np.empty(0)

    def _per_option(self, value: object) -> Array:
        def column(block: Swept) -> Array:
            values = np.array([value(option) for option in block.rows.options])  # type: ignore[operator]
            return np.asarray(values[block.rows.option])

        return self._column(column)

    def _planned(self) -> NDArray[np.bool_]:
        """What may be chosen: engines that we launch, and of those the preferred ones where any is feasible."""
        launched = self._per_option(lambda option: float(option.pairing.engine.planned)) > 0
        preferred = launched & (self._per_option(lambda option: float(not option.second_best)) > 0)
        return preferred if preferred.any() else launched

    def _objective(self) -> Array:
        """Lower is better."""
        if self.objectives.objective == "latency":
            return self.latency
        if self.objectives.objective == "quality":
            best = self.loss[self.planned].min(initial=np.inf)
            return np.where(self.loss <= best + EQUAL_QUALITY, self.cost, np.inf)
        if self.objectives.objective == "energy":
            energy = self._column(lambda block: block.tokens_per_joule)
            return np.where(np.isfinite(energy), 1 / energy, np.inf)
        return self.cost

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

    def alternatives(self, choice: Row) -> list[Row]:
        """The best row of every other family that nothing feasible dominates, in ranked order."""
        chosen: dict[tuple[str, str, str], Row] = {}
        order = np.lexsort((self.loss, self.latency, np.where(np.isfinite(self.objective), self.objective, np.inf)))
        keys = self._keys()
        seen = {keys[key] for key in keys if key == choice.family}
        codes = self._codes(keys)
        for code in dict.fromkeys(codes[order].tolist()):
            if code in seen:
                continue
            mine = order[codes[order] == code]
            found = self._undominated(mine, choice)
            if found is not None:
                chosen[found.family] = found
            if len(chosen) == ALTERNATIVES:
                break
        return list(chosen.values())

    def _keys(self) -> dict[tuple[str, str, str], int]:
        names: dict[tuple[str, str, str], int] = {}
        for block, _ in self.rows:
            for option in block.rows.options:
                names.setdefault(_family(option), len(names))
        return names

    def _codes(self, keys: dict[tuple[str, str, str], int]) -> NDArray[np.intp]:
        made = []
        for block, index in self.rows:
            codes = np.array([keys[_family(option)] for option in block.rows.options], dtype=np.intp)
            made.append(codes[block.rows.option][index])
        return np.concatenate(made) if made else np.empty(0, np.intp)

    def _undominated(self, positions: NDArray[np.intp], choice: Row) -> Row | None:
        """The first of `positions` (best objective, lowest latency, lowest loss) on the Pareto front."""
        tries = [positions[0], positions[self.latency[positions].argmin()], positions[self.loss[positions].argmin()]]
        for position in dict.fromkeys(int(each) for each in tries):
            if not self._dominated(position):
                return self.row(position)
        return None

    def _dominated(self, position: int) -> bool:
        cost, latency, loss = self.cost[position], self.latency[position], self.loss[position]
        no_worse = (self.cost <= cost) & (self.latency <= latency) & (self.loss <= loss)
        better = (self.cost < cost) | (self.latency < latency) | (self.loss < loss)
        return bool((no_worse & better).any())


def _family(option: Option) -> tuple[str, str, str]:
    pairing = option.pairing
    return pairing.lane.family, pairing.engine.id, pairing.device.accelerator.architecture


def tie_breakers(row: Row) -> tuple[object, ...]:
    """The contract's order: objectives met at the interval's bad end, lower loss, published, more headroom, simpler;
    then names, so that the same inputs always give the same plan."""
    option, swept = row.option, row.swept
    pairing, rows = option.pairing, swept.rows
    return (
        not bool(swept.slo_at_bad_end[row.index]),
        round(option.loss.value, 3),
        pairing.artifact is None,
        -round(row.at(swept.headroom), 1),
        *simplicity(row),
        pairing.lane.id,
        pairing.device.accelerator.id,
        float(rows.terms.rates.chunk[row.index]),
    )


def simplicity(row: Row) -> tuple[float, ...]:
    """Fewer devices, fewer moving parts, an unquantized cache."""
    rows = row.swept.rows
    return (
        row.at(row.swept.devices),
        float(rows.pipeline[row.index]),
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
        headroom=round(row.at(swept.headroom), 3),
        devices=int(row.at(swept.devices)),
    )
