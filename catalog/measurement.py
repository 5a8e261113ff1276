"""Own measurements: what a user states of one, read strictly from CSV or JSON into a row of evidence.

Every fault is named with its place; a document with a fault gives no row at all.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from catalog.errors import BadInput
from catalog.evidence import METRICS, TASK_FAMILIES, Evidence, Grade, owned
from catalog.lane import SAFETENSORS_LANES
from catalog.load import Catalog, cache_lanes, lane_of
from catalog.units import parameters, tokens

Text = Annotated[str, Meta(max_length=512)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
CITATION = "own measurement"
"""Of rows that cite nothing: together they are one source."""
MOST = 200.0
"""Percent: a higher recovery says that the two values are not in one unit (assumed; the most published is 156)."""
NAMED = 20
"""Faults that one message names."""


class Measurement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured pair of scores, by the columns of the evidence table; most of them may be left out."""

    model: Text
    """A model of the catalogue, or any other with its `params`."""
    lane: Text | None = None
    """Lane id, or kv:… for a cache format. One of `lane` and `method`."""
    method: Text | None = None
    """The lane as the evidence table spells it: AWQ_INT4."""
    task: Text
    task_family: Text
    baseline: float
    """Score of the 16-bit model (perplexity, where the family is ppl) …"""
    quantized: float
    """… and of the quantized one in the same run."""
    higher_is_better: bool | None = None
    """Left out: true, except for the families ppl and kld."""
    params: float | str | None = None
    """8B, 70e9; left out: that of the catalogue's model."""
    context_tokens: int | str | None = None
    """32k, 32768; left out: short."""
    stderr: float | None = None
    """Standard error of `quantized`, in its unit."""
    recipe: Text | None = None
    training: Literal["ptq", "qat", "qad", "native"] | None = None
    weight_bits: float | None = None
    kv_bits: float | None = None
    group_size: Text = ""
    activation_bits: Text = ""
    context: Text = ""
    table: Text = ""
    note: Text = ""
    citation: Text = CITATION
    url: Text = ""
    grade: Grade = "A"
    id: Name | None = None
    """Left out: made from the content."""
    recovery: Any = None
    """Computed from the two values, never read."""


class Added(Struct, frozen=True, kw_only=True):
    """Ids of measurements that are new, and of those that were kept already."""

    added: tuple[str, ...]
    known: tuple[str, ...]


def read_csv(data: bytes, name: str, catalog: Catalog) -> tuple[Evidence, ...]:
    """The rows of a file. Raises BadInput that names every bad row with line and column."""
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [cell.strip() for cell in next(lines, [])]
        _check(header, name)
        stated = [(f"line {lines.line_num}", cells) for cells in lines if any(cell.strip() for cell in cells)]
    except (UnicodeDecodeError, csv.Error) as fault:
        raise BadInput(f"not a CSV file in UTF-8: {fault}", name) from None
    return _rows(((place, _cells(header, cells)) for place, cells in stated), catalog, name, strict=False)


def read_json(data: bytes, catalog: Catalog) -> tuple[Evidence, ...]:
    """The measurements of a JSON document, one or a list. Raises BadInput with the path of every fault."""
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise BadInput(f"not JSON: {fault}") from None
    if not isinstance(document, list):
        return _rows([("$", document)], catalog, "$", strict=True)
    return _rows(((f"$[{number}]", item) for number, item in enumerate(document)), catalog, "$", strict=True)


def _check(header: list[str], name: str) -> None:
    """Refuse a header that no row can be read by."""
    fields = {field.name: field for field in msgspec.structs.fields(Measurement)}
    if len(header) == 1 and ";" in header[0]:
        raise BadInput("columns are separated by commas, not by semicolons", name)
    if twice := sorted({column for column in header if header.count(column) > 1}):
        raise BadInput(f"line 1: the column {twice[0]!r} stands twice", name)
    if unknown := [column for column in header if column not in fields]:
        known = ", ".join(fields)
        raise BadInput(f"line 1: unknown column {unknown[0]!r}; known are {known}", name)
    missing = [field.name for field in fields.values() if field.required and field.name not in header]
    if not {"lane", "method"} & set(header):
        missing.insert(1, "lane")
    if missing:
        raise BadInput(f"line 1: without the columns {', '.join(missing)}", name)


def _cells(header: list[str], cells: list[str]) -> object:
    """A line by its columns, empty cells left out; a text where the line has another length."""
    if len(cells) != len(header):
        return f"expected {len(header)} cells, found {len(cells)}"
    return {column: cell.strip() for column, cell in zip(header, cells, strict=True) if cell.strip()}


def _rows(stated: Iterable[tuple[str, object]], catalog: Catalog, name: str, *, strict: bool) -> tuple[Evidence, ...]:
    """Each as a row of evidence, once. Raises BadInput with every fault."""
    found: dict[str, Evidence] = {}
    faults: list[tuple[str, str]] = []
    for place, item in stated:
        try:
            row = _row(item, catalog, strict=strict)
            if found.setdefault(row.id, row) != row:
                raise BadInput(f"{row.id!r} stands for two measurements", "id")
        except BadInput as fault:
            faults.append((_place(place, fault.path), fault.message))
    if faults:
        raise _refusal(faults, name)
    if not found:
        raise BadInput("no measurement in it", name)
    return tuple(found.values())


def _place(place: str, field: str) -> str:
    """`$[3].baseline`, or `line 4, baseline`."""
    if not field:
        return place
    return f"{place}.{field}" if place.startswith("$") else f"{place}, {field}"


def _refusal(faults: list[tuple[str, str]], name: str) -> BadInput:
    """A document is at fault where its first fault is; a file as a whole, its places being in the message."""
    if name == "$" and len(faults) == 1:
        return BadInput(faults[0][1], faults[0][0])
    told = "; ".join(f"{place}: {message}" for place, message in faults[:NAMED])
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    return BadInput(told + more, faults[0][0] if name == "$" else name)


def _row(item: object, catalog: Catalog, *, strict: bool) -> Evidence:
    """One measurement as evidence; the path of a fault is the field."""
    if isinstance(item, str) and not strict:
        raise BadInput(item, "")
    try:
        stated = msgspec.convert(item, Measurement, strict=strict)
    except msgspec.ValidationError as fault:
        message, _, field = str(fault).partition(" - at `$.")
        raise BadInput(message, field.rstrip("`")) from None
    return evidence(stated, catalog)


def evidence(stated: Measurement, catalog: Catalog) -> Evidence:
    """The measurement as a row of evidence. Raises BadInput, whose path is the field."""
    for field, holds, expected in _expectations(stated):
        if not holds:
            raise BadInput(f"expected {expected}, got {getattr(stated, field)!r}", field)
    lane, recipe, training = _lane(stated, catalog)
    row = Evidence(
        **{name: getattr(stated, name) for name in AS_STATED},
        id="",
        params=_params(stated, catalog),
        method=stated.method or stated.lane or "",
        lane=lane,
        recipe=stated.recipe or recipe,
        training=stated.training or training,
        context_tokens=_parsed(tokens, stated.context_tokens, "context_tokens"),
        higher_is_better=_higher(stated),
    )
    row = owned(row)
    if row.recovery is not None and row.recovery > MOST:
        raise BadInput(f"{row.recovery:g} % of the baseline: are both values in the same unit?", "quantized")
    published = stated.id is not None and any(each.id == stated.id for each in catalog.published)
    if published:
        raise BadInput(f"{stated.id!r} is a published row: leave the id out, or choose another", "id")
    return replace(row, id=stated.id or f"own-{content(row)[:12]}")


AS_STATED = (
    "model", "task", "task_family", "baseline", "quantized", "stderr", "weight_bits", "kv_bits", "group_size",
    "activation_bits", "context", "table", "note", "citation", "url", "grade",
)  # fmt: skip
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _expectations(stated: Measurement) -> Iterator[tuple[str, bool, str]]:
    """Field, whether it is sound, and what was expected."""
    families = (*TASK_FAMILIES, *METRICS)
    for field, value in msgspec.structs.asdict(stated).items():
        if isinstance(value, str) and field != "recovery":
            yield field, not CONTROL.search(value), "text without control characters"
        if isinstance(value, float):
            yield field, math.isfinite(value) and value >= 0, "a number of 0 or more"
    for field in ("model", "task", "citation"):
        yield field, bool(getattr(stated, field).strip()), "some text"
    yield "task_family", stated.task_family in families, f"one of {', '.join(families)}"
    yield "baseline", stated.baseline > 0 or stated.task_family == "kld", "a score above 0"
    yield "quantized", stated.quantized > 0 or _higher(stated) or stated.task_family == "kld", "a number above 0"
    rising = stated.task_family == "ppl" and bool(stated.higher_is_better)
    yield "higher_is_better", not rising, "0, as a lower perplexity is better"


def _higher(stated: Measurement) -> bool:
    return stated.task_family not in METRICS if stated.higher_is_better is None else stated.higher_is_better


def _lane(stated: Measurement, catalog: Catalog) -> tuple[str, str, str]:
    """Lane, recipe and training as `method`, else `lane`, says."""
    field, text = ("method", stated.method) if stated.method else ("lane", stated.lane)
    if not text:
        raise BadInput("expected a lane, for example awq-int4 or gguf:Q4_K_M", "lane")
    try:
        found = lane_of(catalog.spellings, "evidence", text)
    except BadInput:
        caches = ", ".join(cache_lanes(catalog.spellings))
        known = f"{', '.join(SAFETENSORS_LANES)}, gguf: and a type of llama.cpp, {caches}"
        raise BadInput(f"no lane {text!r}; known are {known}", field) from None
    if found.lane == "-":
        raise BadInput(f"{text!r} is no lane that is planned: {found.why}", field)
    if stated.lane and stated.lane != found.lane:
        raise BadInput(f"the method {text!r} is the lane {found.lane}, not {stated.lane}", "lane")
    return found.lane, found.recipe, found.training


def _params(stated: Measurement, catalog: Catalog) -> float:
    """As stated, else those of the catalogue's model."""
    if stated.params is not None:
        return _parsed(parameters, stated.params, "params") or 0.0
    found = catalog.models.get(stated.model)
    if found is None or found.total_params is None:
        raise BadInput(f"the catalogue does not know how large {stated.model!r} is: state it, for example 8B", "params")
    return float(found.total_params)


def _parsed(parse: Callable[[object], Any], text: object, field: str) -> Any:
    """None stays None."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as fault:
        raise BadInput(str(fault), field) from None


def content(row: Evidence) -> str:
    """What names a measurement by what it says, whatever its id: hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(replace(row, id=""), order="deterministic")).hexdigest()


def sorted_out(rows: Iterable[Evidence], kept: Iterable[Evidence]) -> tuple[tuple[Evidence, ...], Added]:
    """Those of `rows` that are new, and what became of each. Raises BadInput where an id is taken."""
    ids: Mapping[str, str] = {row.id: content(row) for row in kept}
    names = {digest: key for key, digest in ids.items()}
    new: dict[str, Evidence] = {}
    known = []
    for row in rows:
        digest = content(row)
        if digest in names:
            known.append(names[digest])
            continue
        if row.id in ids:
            raise BadInput(f"{row.id!r} is kept with other values: remove it first, or choose another id", "id")
        new[digest], names[digest] = row, row.id
    return tuple(new.values()), Added(added=tuple(row.id for row in new.values()), known=tuple(known))
