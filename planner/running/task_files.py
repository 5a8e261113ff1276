"""Users' task files and scorer commands, read for a program: how many items of what, which words are files."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec import structs

from catalog.errors import BadInput
from planner.proving.answers import Sampling
from planner.proving.questions import OwnItems, Questions, Scorer
from planner.workers import items_read

LONGEST = 4096
"""Characters of a path."""
SUFFIXES = (".jsonl", ".json", ".ndjson")


def own_items(paths: Sequence[Path], known: Collection[str]) -> OwnItems | None:
    """Counts of the items in task files. Raises BadInput naming file and line, or a family that the catalogue lacks."""
    if not paths:
        return None
    for path in paths:
        if not path.is_file():
            raise BadInput("no such file", f"--task {path}")
        if path.suffix not in SUFFIXES:
            raise BadInput(f"expected a task file in JSONL ({', '.join(SUFFIXES)})", f"--task {path}")
    files = tuple(str(path.resolve()) for path in paths)
    if len(set(files)) < len(files):
        raise BadInput("a file is named twice", "--task")
    try:
        items, _ = items_read.read(map(Path, files))
    except items_read.Fault as fault:
        raise BadInput(str(fault), "--task") from None
    strange = sorted({item["family"] for item in items} - {"", *known})
    if strange:
        raise BadInput(f"no task family is called {strange[0]!r}; known: {', '.join(sorted(known))}", "--task")
    letters = [sum(len(turn["content"]) for turn in item.get("messages", ())) or len(item["prompt"]) for item in items]
    return OwnItems(
        files=files,
        asked=_counted(items, ()),
        scored=_counted(items, ("answer",)),
        formed=_counted(items, ("schema", "tools")),
        letters=sum(letters) / len(letters),
    )


def _counted(items: Sequence[dict[str, object]], having: Collection[str]) -> dict[str, int]:
    """Items by family, those that have one of these fields."""
    kept = [item for item in items if not having or any(name in {**item, **_expected(item)} for name in having)]
    return dict(sorted(Counter(str(item["family"]) for item in kept).items()))


def _expected(item: dict[str, object]) -> dict[str, object]:
    found = item["expected"]
    assert isinstance(found, dict)
    return found


def scorer(line: str | None, tolerance: float | None) -> Scorer | None:
    """A command as words, split as a shell would and never given to one. Raises BadInput."""
    if line is None:
        if tolerance is not None:
            raise BadInput("it goes with --scorer", "--scorer-tolerance")
        return None
    if tolerance is None or not (math.isfinite(tolerance) and tolerance >= 0):
        raise BadInput("say how far the mean may fall, in the scorer's own unit: --scorer-tolerance N", "--scorer")
    try:
        words = shlex.split(line)
    except ValueError as fault:
        raise BadInput(f"it cannot be split into words: {fault}", "--scorer") from None
    if not words or "\0" in line:
        raise BadInput("expected a command", "--scorer")
    files = [_file(word, first=not place) for place, word in enumerate(words)]
    command = tuple(path or word for word, path in zip(words, files, strict=True))
    return Scorer(command=command, tolerance=tolerance, files=tuple(filter(None, files)))


def _file(word: str, *, first: bool) -> str:
    """A word that is a file here, as an absolute path: it is run from another folder. A program's plain name is looked
    up as any shell does."""
    named = "/" in word or not first
    return str(Path(word).absolute()) if named and len(word) < LONGEST and Path(word).is_file() else ""


def sampling(given: dict[str, float | None], *, sampled: bool, tokens: int, seed: int) -> Sampling | None:
    """How sampled answers are chosen; None where only greedy ones are asked. Raises BadInput naming the flag."""
    flags = {"temperature": "--temperature", "top_p": "--top-p", "top_k": "--top-k", "samples": "--samples"}
    stated = [flags[name] for name, value in given.items() if value is not None]
    if not sampled:
        if stated:
            raise BadInput("it goes with --sampled", stated[0])
        return None
    temperature, top_p, top_k = given["temperature"], given["top_p"], given["top_k"]
    if temperature is None:
        raise BadInput("say what is served: --temperature, and --top-p and --top-k where they are set", "--sampled")
    if not 0 < temperature < math.inf:
        raise BadInput(f"expected a temperature above 0, got {temperature:g}", "--temperature")
    if top_p is not None and not 0 < top_p <= 1:
        raise BadInput(f"expected a share above 0 and up to 1, got {top_p:g}", "--top-p")
    if top_k is not None and top_k < 0:
        raise BadInput(f"expected a count, got {top_k:g}", "--top-k")
    return Sampling(
        temperature=temperature,
        top_p=1.0 if top_p is None else top_p,
        top_k=int(top_k or 0),
        max_tokens=tokens,
        seed=seed,
    )


def questions(own: OwnItems | None, asked: Questions) -> Questions:
    """All of it together. Raises BadInput for what has nothing to be asked."""
    if own is None and asked.scorer is not None:
        raise BadInput("it scores answers to your own items: --task FILE", "--scorer")
    benched = asked.benched
    if own is None and asked.sampled is not None and not (benched.files or benched.public or benched.retrieval):
        raise BadInput("it samples answers to tasks: --task FILE, --benchmarks", "--sampled")
    if own is not None and not (own.scored or own.formed or asked.scorer):
        raise BadInput("no item expects anything: `answer`, `schema`, `tools`, or a --scorer", "--task")
    return structs.replace(asked, own=own)
