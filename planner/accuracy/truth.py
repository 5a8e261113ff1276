"""Rows of published speed measurements, read the way `predict` may read them: never the value, and of the note only
the keys that describe the run.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from msgspec import Struct

from catalog.errors import BadInput

NOTE_KEYS = ("depth", "file_bytes", "file_gib", "fa", "hipblaslt", "backend", "n_requests")


class Row(Struct, frozen=True, kw_only=True):
    """One measurement without its value. Means in tokens; 0 where the column is empty."""

    id: str
    engine: str
    engine_version: str
    model: str
    accelerator: str
    accelerators: int
    tensor: int
    """0: not published."""
    replicas: int
    lane: str
    kv_dtype: str
    prompt: float
    output: float
    users: float
    load: str
    metric: str
    stat: str
    """mean, p50; empty where the source does not say."""
    note: dict[str, str]

    def number(self, key: str) -> float:
        """A number of the note; 0 where it is absent."""
        return float(self.note.get(key, 0))


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a truth file. Raises BadInput naming the file when it cannot be read or lacks columns."""
    try:
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
    except OSError as error:
        raise BadInput(str(error), str(path)) from error
    missing = {"id", "engine", "model", "accelerator", "lane", "metric"} - set(lines[0] if lines else ())
    if missing:
        raise BadInput(f"columns missing: {', '.join(sorted(missing))}", str(path))
    return lines


def row(line: dict[str, str]) -> Row:
    """Parse one line of a speed table. Raises BadInput naming the row."""
    try:
        return Row(
            id=line["id"], engine=line["engine"], engine_version=line["engine_version"], model=line["model"],
            accelerator=line["accelerator"], accelerators=int(_number(line["accelerators"]) or 1),
            tensor=int(_number(line["tp"])), replicas=int(_number(line["dp"])), lane=line["lane"],
            kv_dtype=line["kv_dtype"], prompt=_number(line["isl"]), output=_number(line["osl"]),
            users=_number(line["concurrency"]), load=line["load"], metric=line["metric"],
            stat=line.get("stat", ""), note=note(line["note"]),
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise BadInput(f"row {line.get('id')} cannot be read: {error}", "$.truth") from error


def note(text: str) -> dict[str, str]:
    """The keys of a note that describe the run; nothing else of it is read."""
    found = {key: match[1] for key in NOTE_KEYS if (match := re.search(rf"\b{key}=([\w.]+)", text))}
    named = re.search(r"llama\.cpp-(\w+)", text)
    flags = re.search(r"flags?:(.*)", text)
    batched = re.search(r"--max-num-batched-tokens[ =](\d+)", flags[1]) if flags else None
    drafted = re.search(r"\bMTP n=(\d+)", text)
    return (
        found
        | ({"backend": named[1]} if named else {})
        | ({"chunk": batched[1]} if batched else {})
        | ({"drafted": drafted[1]} if drafted else {})
        | ({"expert_parallel": "1"} if flags and "--ep-size" in flags[1] else {})
        | ({"static": "1"} if "one static batch" in text else {})
    )


def _number(text: str) -> float:
    return float(text) if text.strip() else 0.0


class Prediction(Struct, frozen=True, kw_only=True):
    """One line of OUT.csv, in the unit of the row's metric. A refused row has a reason and no number."""

    id: str
    predicted: float | None = None
    p10: float | None = None
    p90: float | None = None
    refused: str = ""


class Start(Struct, frozen=True, kw_only=True):
    """One line of a start-up log without its value. 0 where a column is empty; memory settings as their flags."""

    id: str
    engine: str
    engine_version: str
    model: str
    accelerator: str
    """Empty where the value does not depend on the device."""
    accelerators: int
    tensor: int
    lane: str
    kv_dtype: str
    context: float
    share: float
    sequences: float
    tokens: float
    metric: str
    unit: str
    note: dict[str, str]


def start(line: dict[str, str]) -> Start:
    """Parse one line of a memory table. Raises BadInput naming the row."""
    try:
        return Start(
            id=line["id"], engine=line["engine"], engine_version=line["engine_version"], model=line["model"],
            accelerator=line["accelerator"], accelerators=int(_number(line["accelerators"])),
            tensor=int(_number(line["tp"])), lane=line["lane"], kv_dtype=line["kv_dtype"],
            context=_number(line["max_model_len"]), share=_number(line["gpu_memory_utilization"]),
            sequences=_number(line["max_num_seqs"]), tokens=_number(line["max_num_batched_tokens"]),
            metric=line["metric"], unit=line["unit"], note=note(line["note"]),
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise BadInput(f"row {line.get('id')} cannot be read: {error}", "$.truth") from error
