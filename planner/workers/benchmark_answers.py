"""Logged samples of lm-eval as answers: one score from 0 to 1 for each document. Imports nothing but the standard
library, so that it can be tried on samples alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Logged = Mapping[str, Sequence[Mapping[str, Any]]]
"""Task -> its samples, as `--log_samples` writes them."""


class Unusable(Exception):
    """A sentence for people: samples that cannot be paired answers."""


def item_of(task: str, sample: Mapping[str, Any]) -> str:
    """A name for what was asked: the rendered prompt with its options, and nothing of the answer."""
    prompts = [[each for each in arguments if isinstance(each, str)] for arguments in sample["arguments"]]
    text = json.dumps([task, prompts], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def item_names(logged: Logged) -> dict[tuple[str, int], str]:
    """(task, document) -> item; a prompt that stands in the data twice is two items."""
    seen: Counter[str] = Counter()
    found: dict[tuple[str, int], str] = {}
    for task, samples in sorted(logged.items()):
        for sample in sorted(samples, key=lambda each: int(each["doc_id"])):
            key = (task, int(sample["doc_id"]))
            if key not in found:
                name = item_of(task, sample)
                seen[name] += 1
                found[key] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return found


def answers_of(
    logged: Logged,
    items: Mapping[tuple[str, int], str],
    said: Mapping[tuple[str, int], Mapping[str, Any]],
    asked: tuple[str, str, int],
) -> list[dict[str, Any]]:
    """One answer for each document. `said`: tokens and ends of generated ones; `asked` = metric, filter, sample.

    The metric is the task's own first one where none is named, the filter its first. Raises Unusable.
    """
    metric, chosen, number = asked
    made = []
    for task, samples in sorted(logged.items()):
        wanted = chosen or (str(samples[0]["filter"]) if samples else "")
        rows = [each for each in samples if each["filter"] == wanted]
        if not rows:
            raise Unusable(f"{task} has no filter {wanted!r}: it has {', '.join(sorted({*map(filter_of, samples)}))}")
        for sample in rows:
            key = (task, int(sample["doc_id"]))
            made.append(answer(task, sample, (items[key], metric, number), said.get(key, {})))
    return made


def filter_of(sample: Mapping[str, Any]) -> str:
    return str(sample["filter"])


def answer(
    task: str, sample: Mapping[str, Any], named: tuple[str, str, int], said: Mapping[str, Any]
) -> dict[str, Any]:
    item, metric, number = named
    return {
        "task": task,
        "item": item,
        "sample": number,
        "score": score_of(task, sample, metric),
        "valid": None,
        "text": text_of(sample),
        "tokens": int(said.get("tokens", 0)),
        "stopped": str(said.get("stopped", "end")),
        "faults": list(said.get("faults", [])),
        "details": details_of(sample),
    }


def details_of(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The log-probability of every option, as it was measured."""
    firsts = [each[0] for each in sample["resps"]]
    return {} if isinstance(firsts[0], str) else {"logprobs": [float(each[0]) for each in firsts]}


def score_of(task: str, sample: Mapping[str, Any], metric: str) -> float:
    """The metric's value of one document. Raises Unusable where it is no score from 0 to 1."""
    name = metric or str(sample["metrics"][0])
    if name not in sample["metrics"]:
        raise Unusable(f"{task} has no metric {name!r}: it has {', '.join(map(str, sample['metrics']))}")
    value = sample[name]
    if not isinstance(value, bool | int | float) or not 0 <= float(value) <= 1:
        raise Unusable(
            f"{name} of {task} is {value!r} for a document: only scores from 0 to 1 can be paired "
            "(perplexity is measured by the statistics of tokens)"
        )
    return float(value)


def text_of(sample: Mapping[str, Any]) -> str:
    """What was written, or the option that was likeliest."""
    first = sample["resps"][0][0]
    if isinstance(first, str):
        return first
    likeliest = max(range(len(sample["resps"])), key=lambda place: float(sample["resps"][place][0][0]))
    return str(sample["arguments"][likeliest][1])


def shown(made: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> dict[str, Any]:
    """Mean scores by task, beside what lm-eval itself says."""
    totals: dict[str, list[float]] = {}
    for each in made:
        totals.setdefault(str(each["task"]), []).append(float(each["score"]))
    return {
        "mean": sum(map(sum, totals.values())) / max(1, sum(map(len, totals.values()))),
        "means": {task: sum(values) / len(values) for task, values in totals.items()},
        "lm_eval": dict(results),
    }
