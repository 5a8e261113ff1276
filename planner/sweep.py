"""The array pass: every option on every layout, thousands at once.

For each row it finds the largest running batch that fits the memory and meets the objectives, hence the rate of one
replica, the replicas for the load, and the latencies at the planned load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from catalog import parameters
from catalog.engine import Engine, Kernel
from catalog.parameters import Parameters, Resolved, Setup
from planner import memory, speed
from planner.pairing import Option
from planner.plan import Finding
from planner.request import HOURS_PER_MONTH, Settled
from planner.rules import PLACED
from planner.rules.rule import Pairing, Placed
from planner.serving import Books, Demand, Room, Terms, Z, latency, pace, percentile, room
from planner.trace import Array
from planner.work import Layout, Shape, Weights, shape, weights

Mask = NDArray[np.bool_]
Block = TypeVar("Block")
LEAST = 0.02
"""Running sequences at hardly any load: what a layout can do at best."""
SLOTS = {"vllm": 1024, "llama.cpp": 4}
"""Most sequences that a search plans for at once: vLLM's largest default, llama-server's default. No measurement of
llama.cpp with more users is trusted."""
PEAK_SHARE = 0.85
"""Of the sustainable rate, where no latency objective says how full a server may run (assumed)."""
CHUNKS = {"vllm": (2048.0, 8192.0), "llama.cpp": (512.0,)}
"""Token budgets per step that a search tries: vLLM's two API-server defaults; llama.cpp's micro-batch."""
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 72)
DEPTHS = (1, 2, 3, 4, 6, 8)
BOOKS: tuple[Books, ...] = ("vllm", "llama.cpp")
HALVINGS = 18
"""Of the logarithm of the batch between LEAST and the seats: leaves less than 0.01 %."""


@dataclass(frozen=True)
class Rows:
    """One row per option, layout and token budget of one kind of engine."""

    books: Books
    options: list[Option]
    terms: Terms[Array]
    option: NDArray[np.intp]
    tensor: NDArray[np.intp]
    pipeline: NDArray[np.intp]
    expert: Mask
    price: Array
    """$/h of one device; NaN when unknown."""
    most: Array
    tdp: Array
    """Watts of one device; NaN when unknown."""
    bands: dict[str, Array]
    """Factor to the bad end of the interval per latency."""


@dataclass(frozen=True)
class Swept:
    """What each row came to. Latencies at the planned load."""

    rows: Rows
    room: Room[Array]
    """With hardly any load: what decides whether it starts."""
    starts: Mask
    holds: Mask
    """The longest context fits."""
    served: Mask
    """The objectives hold at hardly any load."""
    misses: dict[str, Array]
    """Per objective: value at hardly any load over limit."""
    rate: Array
    replicas: Array
    devices: Array
    most: Array
    """Running sequences that fit and meet the objectives on one replica."""
    batch: Array
    """Running sequences per replica at the planned load."""
    ttft_p95_s: Array
    tpot_p95_s: Array
    e2e_p95_s: Array
    slo_at_bad_end: Mask
    usd_per_month: Array
    headroom: Array
    """Share of a replica's sustainable rate that the planned load leaves."""
    tokens_per_joule: Array

    @property
    def feasible(self) -> Mask:
        return self.starts & self.holds & self.served & (self.devices <= self.rows.most)


def terms_of(option: Option, layout: tuple[int, int], chunk: float, fits: Fits) -> Terms[float]:
    """One candidate's terms as plain numbers."""
    pairing = option.pairing
    held = weights(pairing.model, pairing.method)
    return _terms(option, (demand(pairing.settled), shape(pairing.model), held), layout, (chunk, fits))


def _terms(
    option: Option,
    given: tuple[Demand[float], Shape[float], Weights[float]],
    layout: tuple[int, int],
    how: tuple[float, Fits],
) -> Terms[float]:
    pairing, (chunk, fits) = option.pairing, how
    resolved = fits.of(pairing)
    assert pairing.kernel is not None
    usable = pairing.device.memory or 0.0
    return Terms(
        demand=given[0],
        shape=given[1],
        weights=given[2],
        layout=Layout(tensor=float(layout[0]), pipeline=float(layout[1])),
        rates=speed.rates(pairing.device.accelerator, pairing.kernel, resolved, chunk),
        accounting=memory.accounting(pairing.engine),
        memory=usable,
        share=memory.claimable_share(pairing.device.accelerator, pairing.engine, usable)[0],
        cell_bytes=option.cell_bits / 8,
        request_s=resolved.request_s,
        arrival_s=resolved.arrival_s,
    )


def demand(settled: Settled) -> Demand[float]:
    """The load as formulas use it. A closed loop of users arrives as evenly as it is answered."""
    load = settled.load
    return Demand(
        prompt=load.prompt.mean,
        output=load.output.mean,
        prompt_cv2=load.prompt.variation,
        output_cv2=load.output.variation,
        context=float(load.context),
        prefix=float(min(load.shared_prefix, load.prompt.mean - 1)),
        burstiness=load.burstiness,
    )


class Fits:
    """The fitted parameters of pairings: few classes differ, so each is resolved once."""

    def __init__(self, fitted: Parameters) -> None:
        self.fitted = fitted
        self._resolved: dict[tuple[str, ...], Resolved] = {}
        self._pairings: dict[tuple[str, str, str, str], Resolved] = {}
        self._bands: dict[tuple[str, str, bool], tuple[float, float]] = {}

    def of(self, pairing: Pairing) -> Resolved:
        """The parameters of this engine version, kernel and device."""
        engine, kernel, device = pairing.engine, pairing.kernel, pairing.device.accelerator
        assert kernel is not None
        key = (engine.id, pairing.lane.id, kernel.name, device.id)
        if key not in self._pairings:
            self._pairings[key] = self._resolve(pairing, engine, kernel)
        return self._pairings[key]

    def _resolve(self, pairing: Pairing, engine: Engine, kernel: Kernel) -> Resolved:
        setup = Setup(
            engine=engine.id,
            generation=parameters.generation_of(engine.id, engine.version),
            lane=pairing.lane.id,
            moe=pairing.model.moe is not None,
        )
        classes = parameters.classes(setup, kernel, pairing.device.accelerator)
        if classes not in self._resolved:
            self._resolved[classes] = self.fitted.resolve(classes, parameters.family_of(engine.id))
        return self._resolved[classes]

    def band(self, pairing: Pairing, name: str) -> tuple[float, float]:
        """Factors to both ends of the 80 % interval of `ttft`, `tpot`, `e2e`; wider where nothing was measured."""
        key = (pairing.engine.id, name, self.of(pairing).basis == "assumed")
        if key not in self._bands:
            self._bands[key] = self._band(*key)
        return self._bands[key]

    def _band(self, engine: str, name: str, unseen: bool) -> tuple[float, float]:
        if engine == "llama.cpp":
            rate = "prefill_tok_s" if name == "ttft" else "decode_tok_s"
            low, high = self.fitted.band(engine, "batch1", rate, assumed=unseen)
            return 1 / high, 1 / low
        return self.fitted.band(engine, "closed", "ttft_ms" if name == "ttft" else "tpot_ms", assumed=unseen)


def books_of(pairing: Pairing) -> Books:
    return "llama.cpp" if pairing.engine.id == "llama.cpp" else "vllm"


def rows(options: Sequence[Option], fits: Fits) -> tuple[list[Rows], list[tuple[Pairing, Finding]]]:
    """Lay every option out; what a layout rule refuses is returned with its finding."""
    placements = Placements()
    made = []
    for books in BOOKS:
        chosen = [option for option in options if books_of(option.pairing) == books]
        if chosen:
            made.append(_rows(books, chosen, placements, fits))
    return made, placements.refused


def _rows(books: Books, options: list[Option], placements: Placements, fits: Fits) -> Rows:
    places = [placements.of(option, books) for option in options]
    index = np.repeat(np.arange(len(options)), [len(place) for place in places])
    laid = np.concatenate(places)
    budgets = len(CHUNKS[books])
    index, laid = np.repeat(index, budgets), np.repeat(laid, budgets, axis=0)
    chunk = np.tile(np.array(CHUNKS[books]), len(index) // budgets)
    tensor, pipeline, expert = laid[:, 0], laid[:, 1], laid[:, 2]
    plain = _plain(options, CHUNKS[books][0], fits)
    columns = cast(Terms[Array], stack(plain, index))
    devices = [option.pairing.device for option in options]
    return Rows(
        books=books,
        options=options,
        terms=_with_layout(columns, tensor.astype(float), pipeline.astype(float), chunk),
        option=index,
        tensor=tensor,
        pipeline=pipeline,
        expert=expert.astype(bool),
        price=np.array([np.nan if d.usd_per_hour is None else d.usd_per_hour for d in devices])[index],
        most=np.array([float(d.most) for d in devices])[index],
        tdp=np.array([float(d.accelerator.tdp or np.nan) for d in devices])[index],
        bands={
            name: np.array([fits.band(option.pairing, name)[1] for option in options])[index]
            for name in ("ttft", "tpot", "e2e")
        },
    )


def _plain(options: list[Option], chunk: float, fits: Fits) -> list[Terms[float]]:
    """Terms of every option; what options share is computed once."""
    first = options[0].pairing
    load, dimensions = demand(first.settled), shape(first.model)
    held: dict[tuple[str, str], Weights[float]] = {}
    made = []
    for option in options:
        method = option.pairing.method
        key = (option.pairing.lane.id, method.recipe.name)
        if key not in held:
            held[key] = weights(first.model, method)
        made.append(_terms(option, (load, dimensions, held[key]), (1, 1), (chunk, fits)))
    return made


class Placements:
    """Layouts per kind of option: few differ, so each is asked once."""

    def __init__(self) -> None:
        self.refused: list[tuple[Pairing, Finding]] = []
        self._known: dict[tuple[object, ...], NDArray[np.intp]] = {}

    def of(self, option: Option, books: Books) -> NDArray[np.intp]:
        """[layout, (tensor, pipeline, whole experts)] of the layouts within the device count that no rule refuses."""
        pairing = option.pairing
        key = (
            pairing.method.recipe.group_size,
            pairing.lane.family,
            pairing.device.per_node,
            pairing.device.most,
            books,
        )
        if key not in self._known:
            allowed = [place for place in _places(pairing, books) if self._allowed(pairing, place)]
            self._known[key] = np.array(allowed, dtype=np.intp).reshape(-1, 3)
        return self._known[key]

    def _allowed(self, pairing: Pairing, place: tuple[int, int, bool]) -> bool:
        placed = Placed(pairing=pairing, tensor=place[0], pipeline=place[1], expert=place[2])
        said = next((finding for rule in PLACED if (finding := rule(placed)) is not None), None)
        if said is not None:
            self.refused.append((pairing, said))
        return said is None


def _places(pairing: Pairing, books: Books) -> list[tuple[int, int, bool]]:
    most = pairing.device.most
    widths = WIDTHS if books == "vllm" else (1,)
    plain = [(t, p, False) for t in widths for p in DEPTHS if t * p <= most]
    whole = [(t, p, True) for t, p, _ in plain if pairing.model.moe is not None and t > 1]
    return plain + whole


def sweep(rows: Rows, settled: Settled) -> Swept:
    """Evaluate all rows."""
    least = np.full(rows.option.shape, LEAST)
    empty = room(rows.terms, least, rows.books)
    starts = empty.cache_bytes > 0
    holds = empty.cache_bytes >= np.maximum(empty.longest_bytes, empty.running_bytes)
    ok = _objectives(rows, settled)
    served = starts & holds & ok(least)
    most = _largest(lambda batch: ok(batch) & _fits(rows, batch), served, seats(rows.books, settled))
    rate = pace(rows.terms, most, rows.books).rate
    replicas = _replicas(settled, rate * usable_share(settled), most)
    batch = _running(rows, settled, replicas, most)
    at = pace(rows.terms, batch, rows.books)
    late = latency(rows.terms, batch, at, rows.books)
    devices = replicas * rows.terms.layout.tensor * rows.terms.layout.pipeline
    ends = {name: percentile(late, name, np.asarray(Z["p95"])) for name in ("ttft", "tpot", "e2e")}
    return Swept(
        rows=rows,
        room=empty,
        starts=starts,
        holds=holds,
        served=served,
        misses=_misses(rows, settled, least),
        rate=rate,
        replicas=replicas,
        devices=devices,
        most=most,
        batch=batch,
        ttft_p95_s=ends["ttft"],
        tpot_p95_s=ends["tpot"],
        e2e_p95_s=ends["e2e"],
        slo_at_bad_end=_meets(rows, settled, batch, bad_end=True),
        usd_per_month=devices * rows.price * HOURS_PER_MONTH,
        headroom=1 - at.rate / rate,
        tokens_per_joule=at.rate * replicas * rows.terms.demand.output / (devices * rows.tdp),
    )


def seats(books: Books, settled: Settled) -> float:
    """The mean batch that fills the slots: with its spread for open arrivals, exactly for a fixed number of users."""
    slots = SLOTS[books]
    return float(slots) if settled.load.users is not None else float((np.sqrt(slots + 1) - 1) ** 2)


def usable_share(settled: Settled) -> float:
    """Objectives decide how full a server may run; without any, PEAK_SHARE does, and batch work fills it."""
    open_ended = settled.objectives.slo_s or settled.request.workload.batch is not None
    return 1.0 if open_ended else PEAK_SHARE


def _objectives(rows: Rows, settled: Settled) -> Callable[[Array], Mask]:
    return lambda batch: _meets(rows, settled, batch, bad_end=settled.objectives.strict)


def _meets(rows: Rows, settled: Settled, batch: Array, *, bad_end: bool) -> Mask:
    """Whether every latency objective holds while `batch` sequences run."""
    met = np.ones(batch.shape, bool)
    if not settled.objectives.slo_s:
        return met
    late = latency(rows.terms, batch, pace(rows.terms, batch, rows.books), rows.books)
    for objective, limit in settled.objectives.slo_s.items():
        name, quantile, _ = objective.split("_")
        value = percentile(late, name, np.asarray(Z[quantile]))
        met &= value * (rows.bands[name] if bad_end else 1.0) <= limit
    return met


def _misses(rows: Rows, settled: Settled, least: Array) -> dict[str, Array]:
    """Per objective: its value at hardly any load over its limit; above 1 it is missed however little is asked."""
    if not settled.objectives.slo_s:
        return {}
    late = latency(rows.terms, least, pace(rows.terms, least, rows.books), rows.books)
    made = {}
    for objective, limit in settled.objectives.slo_s.items():
        name, quantile, _ = objective.split("_")
        value = percentile(late, name, np.asarray(Z[quantile]))
        made[objective] = value * (rows.bands[name] if settled.objectives.strict else 1.0) / limit
    return made


def _fits(rows: Rows, batch: Array) -> Mask:
    at = room(rows.terms, batch, rows.books)
    return at.cache_bytes >= np.maximum(at.longest_bytes, at.running_bytes)


def _largest(ok: Callable[[Array], Mask], possible: Mask, seats: float) -> Array:
    """The largest batch between LEAST and `seats` that is still ok, by halving its logarithm."""
    low = np.full(possible.shape, np.log(LEAST))
    high = np.full(possible.shape, np.log(seats))
    low = np.where(ok(np.exp(high)) & possible, high, low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        good = ok(np.exp(middle)) & possible
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return np.asarray(np.exp(low))


def _replicas(settled: Settled, rate: Array, batch: Array) -> Array:
    if settled.load.users is not None:
        return np.asarray(np.ceil(settled.load.users / np.maximum(np.floor(batch), 1.0)), dtype=float)
    return np.asarray(np.ceil((settled.load.rate or 0.0) / rate))


def _running(rows: Rows, settled: Settled, replicas: Array, most: Array) -> Array:
    """Sequences that run on each replica at the planned load: where the rate at that batch is the replica's share."""
    if settled.load.users is not None:
        return np.asarray(settled.load.users / replicas)
    wanted = (settled.load.rate or 0.0) / replicas
    low, high = np.full(most.shape, np.log(LEAST / 20)), np.log(most)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = pace(rows.terms, np.exp(middle), rows.books).rate < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(np.exp(high))


def stack(items: Sequence[object], index: NDArray[np.intp]) -> object:
    """Equal structures of numbers as one structure of arrays, one element per row; equal numbers stay one number."""
    first = items[0]
    made = {}
    for field in fields(cast(Terms[float], first)):
        values = [getattr(item, field.name) for item in items]
        if is_dataclass(values[0]):
            made[field.name] = stack(values, index)
        else:
            column = np.array(values, dtype=float)
            made[field.name] = column[index] if (column != column[0]).any() else np.asarray(column[0])
    return cast(type, type(first))(**made)


def _with_layout(columns: Terms[Array], tensor: Array, pipeline: Array, chunk: Array) -> Terms[Array]:
    rates = {field.name: getattr(columns.rates, field.name) for field in fields(columns.rates)}
    made = {field.name: getattr(columns, field.name) for field in fields(columns)}
    made["layout"] = Layout(tensor=tensor, pipeline=pipeline)
    made["rates"] = speed.Rates(**{**rates, "chunk": chunk})
    return Terms(**made)


__all__ = ["Rows", "Shape", "Swept", "Weights", "rows", "sweep", "terms_of"]
