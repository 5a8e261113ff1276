"""A task file of the user's: lm-eval's YAML, as data alone.

lm-eval's own reader runs Python that a file names (`!function`), loads metrics from the hub, follows includes anywhere.
Here none of that is: a task is text, choices and a metric over local data that lies beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

LOCAL = ("json", "csv", "parquet", "text")
"""Builders of `datasets` that read files."""
KINDS = ("generate_until", "multiple_choice", "loglikelihood")
CODE = ("include", "class", "custom_dataset", "group", "task_list", "unsafe_code")
"""Keys that read other files or run code."""
BYTES = 2**20
"""Of a task file, at most."""


class Refused(Exception):
    """What is wrong with a task file, in one sentence."""


def read(path: Path) -> dict[str, Any]:
    """The task with absolute paths of its data. Raises Refused naming file and key."""
    import yaml

    try:
        if path.stat().st_size > BYTES:
            raise Refused(f"{path}: larger than {BYTES} bytes")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as fault:
        raise Refused(f"{path}: {said(fault)}") from None
    except (UnicodeDecodeError, RecursionError) as fault:
        raise Refused(f"{path}: not a YAML file: {fault}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise Refused(f"{path}: expected a mapping with `task`, `dataset_path` …")
    checked(path, found)
    return found | {"dataset_kwargs": {"data_files": files(path, found)}}


def said(fault: Any) -> str:
    """A YAML fault in one line; tags run code in lm-eval."""
    problem, mark = getattr(fault, "problem", None) or str(fault), getattr(fault, "problem_mark", None)
    where = f" in line {mark.line + 1}" if mark is not None else ""
    if "tag" in problem:
        return f"{problem}{where}: tags such as !function run code; --allow-task-code lets lm-eval read the file itself"
    return f"not YAML: {problem}{where}"


def checked(path: Path, found: dict[str, Any]) -> None:
    """Raises Refused for a task that is not data alone."""
    name = found.get("task")
    if not isinstance(name, str) or not name:
        raise Refused(f"{path}: `task` has to be the task's name")
    for key in CODE:
        if found.get(key):
            raise Refused(f"{path}: `{key}` reads other files or runs code: --allow-task-code lets lm-eval do that")
    kind = found.get("output_type")
    if kind not in KINDS:
        raise Refused(f"{path}: output_type {kind!r} gives no score for each document; expected {', '.join(KINDS)}")
    if found.get("dataset_path") not in LOCAL:
        raise Refused(f"{path}: dataset_path has to be one of {', '.join(LOCAL)} with data_files: the data is local")
    if not all(map(plain, metrics(found))):
        raise Refused(f"{path}: metric_list has to be a list of metrics that lm-eval has itself")


def metrics(found: dict[str, Any]) -> list[Any]:
    listed = found.get("metric_list", [])
    return listed if isinstance(listed, list) else [None]


def plain(metric: Any) -> bool:
    """Whether a metric is a name and no path: lm-eval would run the script of one that it does not know."""
    return isinstance(metric, dict) and "hf_evaluate" not in metric and str(metric.get("metric")).isidentifier()


def files(path: Path, found: dict[str, Any]) -> dict[str, list[str]]:
    """Data files by split, absolute: each lies in the task file's own folder or below it."""
    kwargs = found.get("dataset_kwargs")
    named = kwargs.get("data_files") if isinstance(kwargs, dict) else None
    if not named or set(kwargs) != {"data_files"}:  # type: ignore[arg-type]
        raise Refused(f"{path}: dataset_kwargs has to be data_files and nothing else")
    by_split = named if isinstance(named, dict) else {"train": named}
    return {
        str(split): [inside(path, each) for each in (names if isinstance(names, list) else [names])]
        for split, names in by_split.items()
    }


def inside(path: Path, name: Any) -> str:
    if not isinstance(name, str):
        raise Refused(f"{path}: data_files has to name files, got {name!r}")
    folder = path.resolve().parent
    file = (folder / name).resolve()
    if not file.is_relative_to(folder):
        raise Refused(f"{path}: the data file {name} lies outside the folder of the task file")
    if not file.is_file():
        raise Refused(f"{path}: no data file {file}")
    return str(file)
