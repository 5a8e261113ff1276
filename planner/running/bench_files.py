"""Users' task files for lm-eval, read for a program: what is asked, over which data, for which family."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from catalog import public_tasks
from catalog.errors import BadInput
from planner.proving.questions import Benched, TaskFile
from planner.workers import benchmark_yaml

SUFFIXES = (".yaml", ".yml")
LEAST_TOKENS = 256
"""Of an answer where the task says nothing: lm-eval's own number."""
TOKEN_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens")
LINES = (".jsonl", ".json", ".ndjson", ".csv", ".txt")
"""Files whose lines are documents."""


def benched(paths: Sequence[Path], asked: Benched, known: Collection[str]) -> tuple[Benched, tuple[Path, ...]]:
    """What lm-eval is asked, and the task files that are not its. Raises BadInput naming the file and what is wrong."""
    own = tuple(path for path in paths if path.suffix in SUFFIXES)
    if asked.code and not own:
        raise BadInput("it goes with --task FILE.yaml", "--allow-task-code")
    files = tuple(_file(path, known, code=asked.code) for path in own)
    if len({each.path for each in files}) < len(files):
        raise BadInput("a file is named twice", "--task")
    if asked.limit and not (files or asked.public or asked.retrieval):
        raise BadInput("it goes with --task FILE.yaml, --benchmarks or --retrieval", "--limit")
    made = msgspec.structs.replace(asked, tasks=tuple(public_tasks.load().values()), files=files)
    return made, tuple(path for path in paths if path.suffix not in SUFFIXES)


def _file(path: Path, known: Collection[str], *, code: bool) -> TaskFile:
    if not path.is_file():
        raise BadInput("no such file", f"--task {path}")
    if code:
        return TaskFile(path=str(path.resolve()), name=path.stem, data=(), documents=1, answer_tokens=LEAST_TOKENS)
    try:
        task = benchmark_yaml.read(path)
    except (benchmark_yaml.Refused, OSError) as fault:
        raise BadInput(str(fault), "--task") from None
    said = task.get("metadata") if isinstance(task.get("metadata"), dict) else {}
    assert isinstance(said, dict)
    family = said.get("family", "")
    if not isinstance(family, str) or (family and family not in known):
        raise BadInput(f"{path}: no task family is called {family!r}; known: {', '.join(sorted(known))}", "--task")
    data = tuple(sorted({name for names in task["dataset_kwargs"]["data_files"].values() for name in names}))
    documents, letters = _size(data)
    return TaskFile(
        path=str(path.resolve()),
        name=task["task"],
        data=data,
        family=family,
        chat=bool(said.get("chat", False)),
        documents=documents,
        letters=letters,
        answer_tokens=_answer(task),
    )


def _size(data: Sequence[str]) -> tuple[int, float]:
    """Documents and their mean length in bytes, by lines; files of other kinds count as one."""
    lines = size = 0
    for name in data:
        path = Path(name)
        size += path.stat().st_size
        lines += _lines(path) if path.suffix in LINES else 1
    return max(lines, 1), size / max(lines, 1)


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(bool(line.strip()) for line in stream)


def _answer(task: dict[str, Any]) -> float:
    """Tokens that are written at most; none where options are scored."""
    if task["output_type"] != "generate_until":
        return 0.0
    given = task.get("generation_kwargs")
    stated = [given[key] for key in TOKEN_KEYS if isinstance(given, dict) and isinstance(given.get(key), int)]
    return float(stated[0] if stated else LEAST_TOKENS)
