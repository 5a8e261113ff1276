"""Every option on every layout and token budget, as rows of arrays.

Terms are computed once per option as plain numbers and stacked; layouts are asked of the rules once per kind.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from catalog import tensors
from catalog.model import Model
from planner import drafting, energy, memory, pages, speed, waiting
from planner.fits import Fits
from planner.pairing import Option
from planner.plan import Finding
from planner.rooms import Books, Demand, Terms
from planner.rules import PLACED, UNRANKED
from planner.rules.rule import Pairing, Placed
from planner.trace import Array, present
from planner.work import Layout, Shape, Weights, replaced, shape, weights

Mask = NDArray[np.bool_]
CHUNKS = {"vllm": (2048.0, 8192.0), "llama.cpp": (512.0,)}
"""Token budgets per step that a search tries: vLLM's two API-server defaults; llama.cpp's micro-batch."""
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 72)
"""Tensor parallel sizes."""
DEPTHS = (1, 2, 3, 4, 6, 8)
"""Pipeline stages."""
RANKS = [(data, tensor) for data in (2, 4, 8, 16) for tensor in (1, 2, 4, 8)]
"""Ranks of data-parallel attention, and devices of each; their experts are whole."""
LAYOUTS = np.array(
    [(tensor, pipeline, whole, 1) for whole in (0, 1) for tensor in WIDTHS for pipeline in DEPTHS]
    + [(tensor, 1, 1, data) for data, tensor in RANKS]
)
"""[layout, (tensor, pipeline, whole experts, ranks)]"""
Place = tuple[int, int] | tuple[int, int, bool] | tuple[int, int, bool, int]
"""The same of one candidate; slices of experts and one rank where it does not say."""
BOOKS: tuple[Books, ...] = ("vllm", "llama.cpp")


@dataclass(frozen=True)
class Cases:
    """What formulas see of the rows of one kind of engine. Instances of one accelerator differ in price and in how many
    devices share a link, so their rows are one case, which is evaluated once."""

    books: Books
    terms: Terms[Array]
    own_rate: Array
    """Requests/s of one replica as the user states it; NaN where nothing is stated."""
    most: Array
    """Devices that may be used."""
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

    @property
    def size(self) -> int:
        return int(self.most.size)

    def at(self, chosen: NDArray[np.intp]) -> Cases:
        """Some of them: what is out at one stage does not burden the next."""
        return cast(Cases, picked(self, chosen))


@dataclass(frozen=True)
class Rows:
    """One row per option, layout and token budget of one kind of engine."""

    options: list[Option]
    cases: Cases
    case: NDArray[np.intp]
    """Which case a row is."""
    option: NDArray[np.intp]
    tensor: NDArray[np.intp]
    pipeline: NDArray[np.intp]
    expert: Mask
    data: NDArray[np.intp]
    """Ranks of data-parallel attention."""
    chunk: Array
    """Token budget of a step."""
    price: Array
    """$/h of one device; NaN when unknown."""
    per_instance: Array

    @property
    def books(self) -> Books:
        return self.cases.books


def terms_of(option: Option, layout: Place, chunk: float, fits: Fits) -> Terms[float]:
    """One candidate's terms as plain numbers; `layout` = tensor, pipeline parallel, whole experts, ranks."""
    pairing = option.pairing
    given = (demand(pairing), shape(pairing.model), held_by(pairing), books_kept(pairing))
    return _terms(option, given, layout, (chunk, fits))


Given = tuple[Demand[float], Shape[float], Weights[float], memory.Accounting[float]]
"""What options of one model, lane and engine share."""


def _terms(
    option: Option,
    given: Given,
    layout: Place,
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
        layout=_layout(*layout),
        rates=speed.rates(pairing.device.accelerator, pairing.kernel, resolved, chunk),
        accounting=given[3],
        memory=usable,
        share=memory.claimable_share(pairing.device.accelerator, pairing.engine, usable, pairing.device.free)[0],
        block_tokens=own_block(pairing),
        adapter_bytes=adapters_of(pairing),
        cell_bytes=option.cell_bits / 8,
        drafter=drafting.drafter(pairing),
        request_s=resolved.request_s,
        arrival_s=resolved.arrival_s,
    )


@lru_cache(maxsize=512)
def _layout(tensor: int, pipeline: int, expert: bool = False, data: int = 1) -> Layout[float]:
    return Layout(tensor=float(tensor), pipeline=float(pipeline), expert=float(expert), data=float(data))


def own_block(pairing: Pairing) -> float:
    """Tokens of a block of the engine's cache, before a model's layers make it larger."""
    latent, host = pairing.model.mla is not None, pairing.device.accelerator.kind == "cpu"
    return float(pairing.engine.block(latent=latent, host=host))


def books_kept(pairing: Pairing) -> memory.Accounting[float]:
    """The memory constants of the pairing's engine version and lane."""
    return memory.accounting(pairing.engine, pairing.device.accelerator.accounted_as, lane=pairing.lane.id)


def held_by(pairing: Pairing) -> Weights[float]:
    """The weights of the pairing's lane, of the size that the user states where one is stated."""
    held, own = weights(pairing.model, pairing.method), pairing.own
    if own is not None and own.weight_bytes is not None:
        return replaced(held, own.weight_bytes)
    return on_the_host(held) if _hosted(pairing) else held


def on_the_host(held: Weights[float]) -> Weights[float]:
    """Without the embedding: llama.cpp looks tokens up on the host. A tied one is copied as the output matrix."""
    return replace(held, embedding_bytes=0.0, head_bytes=held.head_read_bytes)


def _hosted(pairing: Pairing) -> bool:
    """Whether the host has a memory of its own, and the engine keeps weights there."""
    return books_of(pairing) == "llama.cpp" and pairing.device.accelerator.kind == "gpu"


def adapters_of(pairing: Pairing) -> float:
    """Bytes of the adapters that stay loaded; merged ones are part of the weights."""
    lora = pairing.settled.load.lora
    return 0.0 if lora is None or lora.merged else adapter_bytes(pairing.model, lora.adapters, lora.max_rank)


ADAPTED = ("attention.", "mlp.", "shared.")
"""Parts whose matrices an adapter changes; experts are left out."""


def adapter_bytes(model: Model, adapters: int, rank: int) -> float:
    """16-bit LoRA pairs of `rank` beside every attention and MLP matrix: rank x (inputs + outputs) values each."""
    matrices = [each for each in tensors.inventory(model) if each.part.startswith(ADAPTED) and each.columns > 1]
    return 2.0 * adapters * rank * sum(each.count * (each.rows + each.columns) for each in matrices)


def demand(pairing: Pairing) -> Demand[float]:
    """The load as formulas use it. Users in a closed loop find each other, and nobody else. Of a common prefix the
    engine keeps whole blocks."""
    load, block = pairing.settled.load, cache_block(pairing)
    prefix = min(load.shared_prefix, load.prompt.mean - 1) // block * block
    fresh, fresh_cv2 = load.prompt.beyond(prefix)
    return Demand(
        prompt=load.prompt.mean,
        output=load.output.mean,
        prompt_cv2=load.prompt.variation,
        output_cv2=load.output.variation,
        context=float(load.context),
        prefix=prefix,
        fresh=fresh,
        fresh_cv2=fresh_cv2,
        burstiness=load.burstiness,
        company=waiting.company(load.burstiness, load.output.variation) if load.users is None else 0.0,
    )


def cache_block(pairing: Pairing) -> float:
    """Tokens of a block of vLLM's cache, which linear layers make large; with 16-bit values on one device."""
    if books_of(pairing) == "llama.cpp":
        return 1.0
    one = Layout(tensor=1.0, pipeline=1.0)
    return pages.block_tokens(shape(pairing.model), 2.0, one, own_block(pairing))


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
    budgets = len(CHUNKS[books])
    option = np.repeat(np.arange(len(options)), [budgets * len(place) for place in places])
    place = np.repeat(np.concatenate(places), budgets)
    budget = np.tile(np.arange(budgets), len(option) // budgets)
    like, first = _alike(options)
    seen, case = _distinct((like[option] * len(LAYOUTS) + place) * budgets + budget)
    devices = [each.pairing.device for each in options]
    tensor, pipeline, expert, data = LAYOUTS[place].T
    return Rows(
        options=options,
        cases=_cases(books, [options[each] for each in first], seen, fits),
        case=case,
        option=option,
        tensor=tensor,
        pipeline=pipeline,
        expert=expert.astype(bool),
        data=data,
        chunk=np.array(CHUNKS[books])[budget],
        price=np.array([np.nan if d.usd_per_hour is None else d.usd_per_hour for d in devices])[option],
        per_instance=np.array([float(d.per_instance) for d in devices])[option],
    )


def _cases(books: Books, options: list[Option], codes: NDArray[np.intp], fits: Fits) -> Cases:
    """`codes` count options, then layouts, then token budgets."""
    place, budget = np.divmod(codes, len(CHUNKS[books]))
    option, place = np.divmod(place, len(LAYOUTS))
    tensor, pipeline, expert, data = np.ascontiguousarray(LAYOUTS[place].T, dtype=float)
    paired, pair = _paired(options)
    each = pair[option]
    columns = cast(Terms[Array], stack(_plain(paired, CHUNKS[books][0], fits), each))
    devices, bands = [one.pairing.device for one in paired], [fits.bands(one.pairing) for one in paired]
    return Cases(
        books=books,
        terms=replace(
            columns,
            layout=Layout(tensor=tensor, pipeline=pipeline, expert=expert, data=_one_number(data)),
            rates=replace(columns.rates, chunk=np.array(CHUNKS[books])[budget]),
            cell_bytes=np.array([one.cell_bits / 8 for one in options])[option],
        ),
        own_rate=np.array([_own_rate(one.pairing) for one in paired])[each],
        most=np.array([float(d.most) for d in devices])[each],
        watts=np.array([(energy.device_watts(d) or (np.nan,))[0] for d in devices])[each],
        bands={name: np.array([band[name][1] for band in bands])[each] for name in ("ttft", "tpot", "e2e")},
        kept=np.array([drafting.least(one.pairing) for one in paired])[each],
    )


def _one_number(column: Array) -> Array:
    """A column that is the same everywhere as one number, which formulas can look at in passing."""
    return column if (column != column[:1]).any() else np.asarray(column[0] if column.size else 1.0)


def _distinct(codes: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(Each of these small numbers once, which of them every element is)."""
    found = np.zeros(codes.max(initial=0) + 1, dtype=np.intp)
    found[codes] = 1
    return np.flatnonzero(found), (np.cumsum(found) - 1)[codes]


def _own_rate(pairing: Pairing) -> float:
    own = pairing.own
    return np.nan if own is None or own.requests_per_s is None else own.requests_per_s


def _alike(options: list[Option]) -> tuple[NDArray[np.intp], list[int]]:
    """(For every option a number that those which formulas cannot tell apart share, the first option of each)."""
    numbers: dict[tuple[int, str], int] = {}
    first: list[int] = []
    made = np.empty(len(options), dtype=np.intp)
    for place, option in enumerate(options):
        key = id(option.like), option.cached.dtype
        if key not in numbers:
            numbers[key] = len(first)
            first.append(place)
        made[place] = numbers[key]
    return made, first


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
    load, dimensions = demand(first), shape(first.model)
    held: dict[tuple[object, ...], Weights[float]] = {}
    kept: dict[tuple[object, ...], memory.Accounting[float]] = {}
    made = []
    for option in options:
        paired = option.pairing
        own = paired.own.weight_bytes if paired.own else None
        key = (paired.lane.id, paired.method.recipe.name, paired.artifact is None, own, _hosted(paired))
        if key not in held:
            held[key] = held_by(paired)
        int8, capability = paired.lane.id == memory.QUANTIZED_ACTIVATIONS, paired.device.accelerator.accounted_as
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
        self._alike: dict[tuple[int, int], NDArray[np.intp]] = {}

    def of(self, option: Option, books: Books) -> NDArray[np.intp]:
        """The layouts within the device count that no rule refuses, as places in LAYOUTS."""
        key = id(option.like), option.pairing.device.per_node
        if key not in self._alike:
            self._alike[key] = self._of(option.pairing, books)
        return self._alike[key]

    def _of(self, pairing: Pairing, books: Books) -> NDArray[np.intp]:
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
            self._known[key] = np.array(allowed, dtype=np.intp)
        return self._known[key]

    def _allowed(self, pairing: Pairing, place: int) -> bool:
        tensor, pipeline, expert, data = LAYOUTS[place].tolist()
        placed = Placed(pairing=pairing, tensor=tensor, pipeline=pipeline, expert=bool(expert), data=data)
        rules = UNRANKED if data == 1 else PLACED
        said = next((finding for rule in rules if (finding := rule(placed)) is not None), None)
        if said is not None:
            self.refused.append((pairing, said))
        return said is None


def _places(pairing: Pairing, books: Books) -> list[int]:
    tensor, pipeline, expert, data = LAYOUTS.T
    possible = (tensor * pipeline * data <= pairing.device.most) & (pipeline <= pairing.model.layers)
    possible &= (tensor * data == 1) | (books == "vllm")
    possible &= (expert == 0) | ((tensor * data > 1) & (pairing.model.moe is not None))
    # ranks pay where tensor parallel over as many devices would hold the same cache several times
    possible &= (data == 1) | (tensor * data > shape(pairing.model).kv_heads)
    return [int(place) for place in np.flatnonzero(possible)]


def stack(items: Sequence[object], index: NDArray[np.intp]) -> object:
    """Equal structures of numbers as one structure of arrays, one element per row; equal numbers stay one number."""
    first, made = items[0], {}
    names = _names(cast(Hashable, type(first)))
    parts = [name for name in names if is_dataclass(getattr(first, name))]
    for name in parts:
        made[name] = stack(*_shared([getattr(item, name) for item in items], index))
    plain = [name for name in names if name not in made]
    table = np.array([[getattr(item, name) for name in plain] for item in items], dtype=float)
    varies = (table != table[0]).any(axis=0).tolist()
    for name, column, several in zip(plain, np.ascontiguousarray(table.T), varies, strict=True):
        made[name] = column[index] if several else np.asarray(column[0])
    return cast(type, type(first))(**made)


def _shared(parts: Sequence[object], index: NDArray[np.intp]) -> tuple[list[object], NDArray[np.intp]]:
    """The same with every part once: few differ, because lanes, engines and kernels are shared."""
    distinct = {id(part): part for part in parts}
    place = {part: number for number, part in enumerate(distinct)}
    return list(distinct.values()), np.array([place[id(part)] for part in parts], dtype=np.intp)[index]


def picked(columns: object, chosen: NDArray[np.intp]) -> object:
    """The same structure with some of its rows; what is one number for all rows stays one."""
    if isinstance(columns, np.ndarray):
        return columns[chosen] if columns.ndim else columns
    if is_dataclass(columns):
        made = {name: picked(getattr(columns, name), chosen) for name in _names(cast(Hashable, type(columns)))}
        return cast(type, type(columns))(**made)
    if isinstance(columns, dict):
        return {name: picked(column, chosen) for name, column in columns.items()}
    return columns


@lru_cache(maxsize=64)
def _names(kind: Hashable) -> tuple[str, ...]:
    """Of a dataclass's fields; `fields` looks through them anew each time."""
    return tuple(field.name for field in fields(cast(Any, kind)))
