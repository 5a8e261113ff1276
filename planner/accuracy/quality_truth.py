"""Rows of published quality as `predict` may read them: the describing columns alone, as evidence without a score.

Both spellings of the table are read: the catalogue's evidence.csv, and the form it was made from, where the method
stands in `method(lane)`, parameters in billions and the context in words.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from catalog.errors import BadInput
from catalog.evidence import Evidence
from catalog.load import Catalog
from planner.accuracy import spellings
from planner.accuracy.spellings import Words

NEEDED = ("id", "model", "task", "task_family")
GRANULARITY = {"channel": "fp8-dynamic", "row": "fp8-dynamic", "tensor": "fp8-static", "128x128": "fp8-block"}
"""What the group size of FP8 weights says of the recipe: with scales of whole tensors they are fixed."""
NAMED_SIZE = r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)\s?([bm])(?![a-z])"
"""Billions or millions in a model's name, experts multiplied out."""
UNKNOWN = math.nan
"""Where a score stands in other tables: nothing may read it."""
HALF = 50.0
"""Percent: the baseline where the row states none (assumed; it only says how noisy the benchmark is)."""


class Row(Struct, frozen=True, kw_only=True):
    """One line of a table of measured quality, without what was measured."""

    row: Evidence
    group: str
    """Family of lanes: as the table says, else by the method."""
    sized: bool
    """Whether the size is stated, or at least the model's name says it."""
    refused: str = ""
    """Why there is no ratio of scores to predict."""


Line = dict[str, str]


def read(path: Path) -> list[Line]:
    """The lines of the table. Raises BadInput naming the file where it cannot be read or lacks columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(str(error), str(path)) from error
    columns = set(reader.fieldnames or ())
    missing = set(NEEDED) - columns | ({"method(lane)"} if not columns & {"method(lane)", "method"} else set())
    if missing:
        raise BadInput(f"columns missing: {', '.join(sorted(missing))}", str(path))
    return lines


def rows(lines: Iterable[Line], catalog: Catalog, name: str) -> list[Row]:
    """The lines as rows. Raises BadInput naming file, row and column."""
    recipes = _recipes(catalog)
    return [_row(_Cells(line, name), catalog, recipes) for line in lines]


def measured(line: Line, name: str) -> float | None:
    """Recovery in percent, recomputed from the two scores; None where the line has none. Raises BadInput as above."""
    cells = _Cells(line, name)
    baseline, quantized = cells.number("baseline_value", "baseline"), cells.number("quantized_value", "quantized")
    if baseline is None or quantized is None or baseline <= 0 or quantized < 0:
        return None
    if cells.higher:
        return 100 * quantized / baseline
    return 100 * baseline / quantized if quantized else None


class _Cells:
    """A line, whose cells are asked for by name and checked one by one."""

    def __init__(self, line: Line, name: str) -> None:
        self.line, self.name = line, name

    def text(self, *columns: str) -> str:
        """The first of these columns that the line has and that is not empty."""
        return next((self.line[column].strip() for column in columns if (self.line.get(column) or "").strip()), "")

    def number(self, *columns: str) -> float | None:
        """The same as a number; None where all are empty."""
        for column in columns:
            text = self.text(column)
            if text:
                return self._parsed(text, column)
        return None

    def positive(self, *columns: str) -> float | None:
        """The same; zero and below are no sizes."""
        value = self.number(*columns)
        if value is not None and value <= 0:
            raise self.wrong(next(name for name in columns if self.text(name)), "a number above zero")
        return value

    @property
    def higher(self) -> bool:
        """Whether a higher score is better: all are but perplexities."""
        return self.text("higher_is_better") in ("1", "true", "True") or not self.text("higher_is_better")

    def wrong(self, column: str, expected: str) -> BadInput:
        """What to raise of a cell."""
        where = f"row {self.line.get('id') or '?'}, column {column}"
        return BadInput(f"{where}: expected {expected}, found {self.text(column)!r}", self.name)

    def _parsed(self, text: str, column: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise self.wrong(column, "a number") from None
        if not math.isfinite(value):
            raise self.wrong(column, "a number")
        return value


Recipes = Mapping[tuple[str, ...], str]
"""What the catalogue knows of the recipe of a row, and of a method throughout a source."""


def _recipes(catalog: Catalog) -> Recipes:
    found: dict[tuple[str, ...], set[str]] = {}
    for row in catalog.evidence:
        for key in ((row.citation, row.method, row.id), (row.citation, row.method)):
            found.setdefault(key, set()).add(row.recipe)
    return {key: names.pop() for key, names in found.items() if len(names) == 1}


def _row(cells: _Cells, catalog: Catalog, recipes: Recipes) -> Row:
    method, citation = cells.text("method(lane)", "method"), cells.text("citation")
    said = Words(
        method=method, group=cells.text("lane_family"), weight_bits=cells.positive("weight_bits"),
        activation_bits=cells.text("activation_bits"), kv_bits=cells.positive("kv_bits"),
    )  # fmt: skip
    meant = spellings.meant(said, catalog.spellings)
    source = (citation, method)
    known = recipes.get((*source, cells.text("id")), recipes.get(source, ""))
    recipe = cells.text("recipe") or known or meant.recipe
    if meant.lane == "fp8" and not recipe:
        recipe = GRANULARITY.get(cells.text("group_size"), "")
    params, baseline = _params(cells), cells.number("baseline_value", "baseline")
    row = Evidence(
        id=cells.text("id"), citation=citation, url=cells.text("url"), model=cells.text("model"), params=params,
        method=method, lane=meant.lane, recipe=recipe, training=cells.text("training") or meant.training,
        weight_bits=said.weight_bits, kv_bits=said.kv_bits, activation_bits=said.activation_bits,
        group_size=cells.text("group_size"),
        task=cells.text("task"), task_family=cells.text("task_family"), context_tokens=_context(cells),
        baseline=HALF if baseline is None else baseline, quantized=UNKNOWN, higher_is_better=cells.higher,
        grade="C" if cells.text("grade") == "C" else "A",
    )  # fmt: skip
    return Row(row=row, group=said.group or spellings.group_of(method), sized=params is not None, refused=_refused(row))


def _params(cells: _Cells) -> float | None:
    """Parameters: as stated, else as the model's name says (`Qwen3-30B-A3B`, `SmolLM2-135M`, `Mixtral-8x7B`)."""
    billions = cells.positive("params_b")
    if billions is not None:
        return float(round(billions * 1e9))
    stated = cells.positive("params")
    if stated is not None:
        return stated
    named = re.search(NAMED_SIZE, cells.text("model"), re.IGNORECASE)
    return float(named[1] or 1) * float(named[2]) * (1e9 if named[3] in "bB" else 1e6) or None if named else None


def _context(cells: _Cells) -> int | None:
    """Tokens that the task fills; None where the table says "short" or nothing. A range is its middle."""
    found = re.findall(r"(\d+(?:\.\d+)?)\s*([kKmM](?![a-zA-Z]))?", cells.text("context_tokens"))
    sizes = [float(number) * {"k": 1e3, "m": 1e6}.get(unit.lower(), 1.0) for number, unit in found]
    return round(sum(sizes) / len(sizes)) if sizes else None


def _refused(row: Evidence) -> str:
    lowered = row.task.lower()
    if row.task_family == "kld" or "kld" in lowered or "kl div" in lowered:
        return "a distance between distributions, not a ratio of scores"
    if re.search(r"\bdelta\b|Δ|\bdifference\b", row.task) or row.baseline == 0:
        return "a difference of scores, not a ratio"
    return ""
