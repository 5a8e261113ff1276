"""Every option on every layout and token budget, as rows of arrays.

Terms are computed once per option as plain numbers and stacked; layouts are asked of the rules once per kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from planner import drafting, energy, memory, speed
from planner.fits import Fits
from planner.pairing import Option
from planner.plan import Finding
from planner.rules import PLACED
from planner.rules.rule import Pairing, Placed
from planner.serving import Books, Demand, Terms
from planner.settle import Settled
from planner.trace import Array, present
from planner.work import Layout, Shape, Weights, adapter_bytes, on_the_host, replaced, shape, weights

Mask = NDArray[np.bool_]
CHUNKS = {"vllm": (2048.0, 8192.0), "llama.cpp": (512.0,)}
"""Token budgets per step that a search tries: vLLM's two API-server defaults; llama.cpp's micro-batch."""
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 72)
"""Tensor parallel sizes."""
DEPTHS = (1, 2, 3, 4, 6, 8)
"""Pipeline stages."""
BOOKS: tuple[Books, ...] = ("vllm", "llama.cpp")


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
    own_rate: Array
    """Requests/s of one replica as the user states it; NaN where nothing is stated."""
    per_instance: Array
    most: Array
    watts: Array
    """Of one device at full load; NaN when unknown."""
    bands: dict[str, Array]
    """Factor to the bad end of the interval per latency."""
    kept: Array
    """Acceptance of drafts at the bad end of its interval."""

    @property
    def at_bad_end(self) -> Terms[Array]:
        """The terms with as few drafts kept as may be."""
        if not present(self.terms.drafter.tokens):
            return self.terms
        return replace(self.terms, drafter=replace(self.terms.drafter, acceptance=self.kept))


def terms_of(option: Option, layout: tuple[int, int] | tuple[int, int, bool], chunk: float, fits: Fits) -> Terms[float]:
    """One candidate's terms as plain numbers; `layout` = tensor, pipeline parallel, and whether experts are whole."""
    pairing = option.pairing
    given = (demand(pairing.settled), shape(pairing.model), held_by(pairing), books_kept(pairing))
    return _terms(option, given, layout, (chunk, fits))


Given = tuple[Demand[float], Shape[float], Weights[float], memory.Accounting[float]]
"""What options of one model, lane and engine share."""


def _terms(
    option: Option,
    given: Given,
    layout: tuple[int, int] | tuple[int, int, bool],
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
        layout=Layout(tensor=float(layout[0]), pipeline=float(layout[1]), expert=float(any(layout[2:]))),
        rates=speed.rates(pairing.device.accelerator, pairing.kernel, resolved, chunk),
        accounting=given[3],
        memory=usable,
        share=memory.claimable_share(pairing.device.accelerator, pairing.engine, usable, pairing.device.free)[0],
        block_tokens=float(pairing.engine.block(latent=pairing.model.mla is not None)),
        adapter_bytes=adapters_of(pairing),
        cell_bytes=option.cell_bits / 8,
        drafter=drafting.drafter(pairing),
        request_s=resolved.request_s,
        arrival_s=resolved.arrival_s,
    )


def books_kept(pairing: Pairing) -> memory.Accounting[float]:
    """The memory constants of the pairing's engine version and lane."""
    return memory.accounting(pairing.engine, pairing.device.accelerator.compute_capability, lane=pairing.lane.id)


def held_by(pairing: Pairing) -> Weights[float]:
    """The weights of the pairing's lane, of the size that the user states where one is stated."""
    held, own = weights(pairing.model, pairing.method), pairing.own
    if own is not None and own.weight_bytes is not None:
        return replaced(held, own.weight_bytes)
    return on_the_host(held) if _hosted(pairing) else held


def _hosted(pairing: Pairing) -> bool:
    """Whether the host has a memory of its own, and the engine keeps weights there."""
    return books_of(pairing) == "llama.cpp" and pairing.device.accelerator.kind == "gpu"


def adapters_of(pairing: Pairing) -> float:
    """Bytes of the adapters that stay loaded; merged ones are part of the weights."""
    lora = pairing.settled.load.lora
    return 0.0 if lora is None or lora.merged else adapter_bytes(pairing.model, lora.adapters, lora.max_rank)


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
    paired, pair = _paired(options)
    row = pair[index]
    columns = cast(Terms[Array], stack(_plain(paired, CHUNKS[books][0], fits), row))
    cells = np.array([option.cell_bits / 8 for option in options])[index]
    devices = [option.pairing.device for option in paired]
    return Rows(
        books=books,
        options=options,
        terms=_with_choices(
            columns,
            Layout(tensor=tensor.astype(float), pipeline=pipeline.astype(float), expert=expert.astype(float)),
            chunk,
            cells,
        ),
        option=index,
        tensor=tensor,
        pipeline=pipeline,
        expert=expert.astype(bool),
        price=np.array([np.nan if d.usd_per_hour is None else d.usd_per_hour for d in devices])[row],
        own_rate=np.array([_own_rate(option.pairing) for option in paired])[row],
        per_instance=np.array([float(d.per_instance) for d in devices])[row],
        most=np.array([float(d.most) for d in devices])[row],
        watts=np.array([(energy.device_watts(d) or (np.nan,))[0] for d in devices])[row],
        bands={
            name: np.array([fits.band(option.pairing, name)[1] for option in paired])[row]
            for name in ("ttft", "tpot", "e2e")
        },
        kept=np.array([drafting.least(option.pairing) for option in paired])[row],
    )


def _own_rate(pairing: Pairing) -> float:
    own = pairing.own
    return np.nan if own is None or own.requests_per_s is None else own.requests_per_s


def _paired(options: list[Option]) -> tuple[list[Option], NDArray[np.intp]]:
    """One option of each pairing, and for every option which: options of a pairing differ in the cache alone."""
    first: dict[int, Option] = {}
    for option in options:
        first.setdefault(id(option.pairing), option)
    place = {pairing: number for number, pairing in enumerate(first)}
    return list(first.values()), np.array([place[id(option.pairing)] for option in options], dtype=np.intp)


def _plain(options: list[Option], chunk: float, fits: Fits) -> list[Terms[float]]:
    """Terms of every option; what options share is computed once."""
    first = options[0].pairing
    load, dimensions = demand(first.settled), shape(first.model)
    held: dict[tuple[object, ...], Weights[float]] = {}
    kept: dict[tuple[object, ...], memory.Accounting[float]] = {}
    made = []
    for option in options:
        paired = option.pairing
        own = paired.own.weight_bytes if paired.own else None
        key = (paired.lane.id, paired.method.recipe.name, paired.artifact is None, own, _hosted(paired))
        if key not in held:
            held[key] = held_by(paired)
        int8, capability = paired.lane.id == memory.QUANTIZED_ACTIVATIONS, paired.device.accelerator.compute_capability
        books = (paired.engine.id, paired.engine.version, int8, capability)
        if books not in kept:
            kept[books] = books_kept(paired)
        made.append(_terms(option, (load, dimensions, held[key], kept[books]), (1, 1), (chunk, fits)))
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
            pairing.device.slice,
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
    depths = [depth for depth in DEPTHS if depth <= pairing.model.layers]
    plain = [(t, p, False) for t in widths for p in depths if t * p <= most]
    whole = [(t, p, True) for t, p, _ in plain if pairing.model.moe is not None and t > 1]
    return plain + whole


def stack(items: Sequence[object], index: NDArray[np.intp]) -> object:
    """Equal structures of numbers as one structure of arrays, one element per row; equal numbers stay one number."""
    first = items[0]
    made = {}
    for field in fields(cast(Terms[float], first)):
        values = [getattr(item, field.name) for item in items]
        if is_dataclass(values[0]):
            shared = all(value is values[0] for value in values)
            made[field.name] = stack(values[:1] if shared else values, index)
        else:
            column = np.array(values, dtype=float)
            made[field.name] = column[index] if (column != column[0]).any() else np.asarray(column[0])
    return cast(type, type(first))(**made)


def _with_choices(columns: Terms[Array], layout: Layout[Array], chunk: Array, cells: Array) -> Terms[Array]:
    """The columns with what varies within a pairing: layout, token budget and cache format."""
    return replace(columns, layout=layout, rates=replace(columns.rates, chunk=chunk), cell_bytes=cells)
