"""Results of llama-bench: JSON, JSON Lines, CSV and the Markdown table.

One stream: `pp512` is a prompt of 512 tokens, `tg128` an answer of 128, `pp512+tg128` both, `@ d4096` after 4096 tokens
in the cache. The rate is the mean of the runs, with their standard deviation; Markdown prints no number of runs.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from planner.observe.documents import decoded, strangers
from planner.observe.reading import Load, Reading, Seen, Unknown

METRICS = {(True, False): "prefill_tok_s", (False, True): "decode_tok_s", (True, True): "total_tok_s"}
"""By whether there is a prompt, and an answer."""
SETTINGS = (
    "model_filename", "model_type", "model_size", "n_batch", "n_ubatch", "n_threads", "type_k", "type_v",
    "n_gpu_layers", "split_mode", "flash_attn", "tensor_split", "n_cpu_moe", "gpu_info", "cpu_info", "backends",
)  # fmt: skip
KNOWN = frozenset(
    {
        *SETTINGS, "build_number", "n_prompt", "n_gen", "n_depth", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts",
        "model_n_params", "main_gpu", "poll", "cpu_strict", "no_kv_offload", "use_mmap", "embeddings", "no_op_offload",
        "no_host", "fit_target", "fit_min_ctx", "lazy_mode", "n_cpu_moe", "numa", "use_direct_io", "repack",
    }
)  # fmt: skip
HEADER = re.compile(r"^\|\s*model\s*\|.*\|\s*test\s*\|\s*t/s\s*\|\s*$", re.MULTILINE)
TEST = re.compile(r"(?:pp ?(?P<prompt>\d+))?(?:\+)?(?:tg ?(?P<gen>\d+))?(?: @ d(?P<depth>\d+))?")
BUILD = re.compile(r"^build: (?P<commit>\w+) \((?P<build>\d+)\)", re.MULTILINE)
NUMBER = re.compile(r"(0|[1-9]\d*)(\.\d+)?")
RATE = re.compile(r"(?P<mean>[\d.]+) (?:±|\+/-) (?P<sd>[\d.]+)")

Row = Mapping[str, Any]


def claims(text: str) -> bool:
    """Whether the text is a result of llama-bench in one of its formats."""
    return bool(_rows(text)) or HEADER.search(text) is not None


def read(text: str, source: str) -> Reading:
    """A rate per test."""
    rows = _rows(text)
    if not rows:
        return _markdown(text, source)
    numbers = [seen for index, row in enumerate(rows) for seen in _row(row, f"row {index + 1}")]
    other = [Unknown(place=f"row {n + 1}", text="no prompt, no answer") for n, row in enumerate(rows) if not _test(row)]
    differing = _differing(rows, SETTINGS)
    return Reading(
        source=source, format="llama-bench", engine="llama.cpp",
        version=f"b{rows[0]['build_number']} ({rows[0]['build_commit']})",
        settings={name: str(rows[0][name]) for name in SETTINGS if str(rows[0].get(name, "")).strip()},
        numbers=() if differing else tuple(numbers), unknown=(*strangers(rows[0], KNOWN), *other, *differing),
    )  # fmt: skip


def _differing(rows: Sequence[Row], names: Iterable[str]) -> list[Unknown]:
    """Settings that rows do not share: their rates are of several deployments."""
    found = [name for name in names if len({str(row.get(name)) for row in rows}) > 1]
    return [Unknown(place=name, text=f"{name} differs between rows: keep them in files of their own") for name in found]


def _rows(text: str) -> list[Row]:
    """The tests of JSON, JSON Lines or CSV; none for other text."""
    document = decoded(text)
    if isinstance(document, list):
        return document if document and all(_is_test(row) for row in document) else []
    if _is_test(document):
        return [document]
    try:
        lines = [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]
    except msgspec.DecodeError:
        lines = []
    if lines and all(_is_test(row) for row in lines):
        return lines
    if "avg_ts" not in text.split("\n", 1)[0]:
        return []
    return [_typed(row) for row in csv.DictReader(io.StringIO(text)) if _is_test(row)]


def _is_test(row: object) -> bool:
    return isinstance(row, dict) and {"avg_ts", "n_prompt", "n_gen", "build_commit", "build_number"} <= row.keys()


def _typed(row: dict[str, str]) -> Row:
    """Numbers of a CSV row as numbers."""
    return {key: msgspec.json.decode(value) if NUMBER.fullmatch(value or "") else value for key, value in row.items()}


def _test(row: Row) -> str:
    return METRICS.get((bool(float(row["n_prompt"])), bool(float(row["n_gen"]))), "")


def _row(row: Row, place: str) -> Iterator[Seen]:
    metric = _test(row)
    load = Load(
        kind="batch1", prompt=float(row["n_prompt"]), output=float(row["n_gen"]), users=1.0,
        depth=float(row.get("n_depth") or 0),
    )  # fmt: skip
    if metric:
        yield Seen(
            metric=metric, value=float(row["avg_ts"]), place=place, stat="mean", sd=float(row["stddev_ts"]), load=load,
            repeats=len(row.get("samples_ts") or [0]),
        )  # fmt: skip


def _markdown(text: str, source: str) -> Reading:
    """The table."""
    lines = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    header, *cells = [[cell.strip() for cell in line] for line in lines]
    rows = [
        dict(zip(header, line, strict=True)) for line in cells if len(line) == len(header) and _filled(line, header)
    ]
    numbers = [_printed(row, f"row {index + 1}") for index, row in enumerate(rows)]
    differing = _differing(rows, [name for name in header if name not in ("test", "t/s")])
    build = BUILD.search(text)
    return Reading(
        source=source, format="llama-bench table", engine="llama.cpp",
        version=f"b{build['build']} ({build['commit']})" if build else "", settings=_named(rows[0]) if rows else {},
        numbers=() if differing else tuple(each for each in numbers if isinstance(each, Seen)),
        unknown=(*(each for each in numbers if isinstance(each, Unknown)), *differing),
    )  # fmt: skip


def _filled(line: list[str], header: list[str]) -> bool:
    """Whether the line is no rule and no header of a second table."""
    return line != header and not set("".join(line)) <= set("-: ")


def _printed(row: Mapping[str, str], place: str) -> Seen | Unknown:
    test, rate = TEST.fullmatch(row["test"]), RATE.fullmatch(row["t/s"])
    if test is None or rate is None or not (test["prompt"] or test["gen"]):
        return Unknown(place=place, text=f"{row['test']} {row['t/s']}")
    prompt, output = float(test["prompt"] or 0), float(test["gen"] or 0)
    load = Load(kind="batch1", prompt=prompt, output=output, users=1.0, depth=float(test["depth"] or 0))
    return Seen(
        metric=METRICS[bool(prompt), bool(output)], value=float(rate["mean"]), sd=float(rate["sd"]), place=place,
        stat="mean", load=load,
    )  # fmt: skip


def _named(row: dict[str, str]) -> dict[str, str]:
    """Columns by the names that the other formats use."""
    names = {
        "model": "model_type",
        "size": "model_size",
        "threads": "n_threads",
        "ngl": "n_gpu_layers",
        "fa": "flash_attn",
    }
    return {names.get(name, name): value for name, value in row.items() if name not in ("test", "t/s", "params")}
