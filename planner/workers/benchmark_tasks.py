"""Tasks as lm-eval has them: found by name, read from the user's file, or made of documents; and run."""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import BaseLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval import evaluator, utils
from lm_eval.tasks import TaskManager
from score_common import Refusal

FEWSHOT_SEED = 1234
"""lm-eval's own."""
RETRIEVED = "string_match"
"""The share of what was hidden that stands in the answer."""
Tasks = dict[str, Any]


def loaded(what: str | dict[str, Any]) -> Tasks:
    """A task or a group with its data. Raises Refusal where there is none of the name, or its data cannot be had."""
    random.seed(0)
    np.random.seed(FEWSHOT_SEED)
    manager = TaskManager(include_defaults=isinstance(what, str))
    if isinstance(what, str) and not Path(what).suffix and what not in manager.task_index:
        raise Refusal(f"lm-eval has no task called {what}")
    try:
        tasks: Tasks = manager.load([what])["tasks"]
    except Exception as fault:
        raise Refusal(unloaded(what, fault)) from fault
    for task in tasks.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    return tasks


def unloaded(what: str | dict[str, Any], fault: Exception) -> str:
    """Why a task could not be loaded, and the command that fetches its data where that is missing."""
    said = f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"
    if isinstance(what, dict):
        return f"the task {what['task']} cannot be loaded: {said}"
    fetch = f"{sys.executable} {Path(__file__).with_name('benchmark.py')} fetch --task {what} --out facts.json"
    return (
        f"the data of the task {what} is not on this machine and cannot be fetched ({said}); where there is a "
        f"network, and a token for data behind an agreement: {fetch}"
    )


def tasks_of(given: argparse.Namespace, read: Callable[[Path], dict[str, Any]]) -> Tasks:
    """What `run` was asked for."""
    if given.task:
        return loaded(given.task)
    if given.items:
        return retrieval_tasks(given.items)
    if given.allow_task_code:
        return loaded(str(given.file))
    utils.env = sandboxed()
    task = read(given.file)
    refuse_metrics(given.file, task)
    return loaded(task)


def refuse_metrics(path: Path, task: dict[str, Any]) -> None:
    """lm-eval looks for a metric that it does not know on the hub, and runs what it finds there."""
    import lm_eval.api.metrics  # noqa: F401 - it registers them
    from lm_eval.api.registry import metric_registry

    for metric in task.get("metric_list", []):
        if metric["metric"] not in metric_registry:
            raise Refusal(f"{path}: lm-eval has no metric called {metric['metric']}")


def sandboxed() -> ImmutableSandboxedEnvironment:
    """lm-eval's templates, without the reach into Python's objects that its own environment has."""
    made = ImmutableSandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters["regex_replace"] = utils.regex_replace
    return made


def retrieval_tasks(path: Path) -> Tasks:
    """Documents of `benchmark.py retrieval` as tasks, scored by lm-eval's own functions."""
    import datasets
    from lm_eval.tasks.ruler.common_utils import aggregate_metrics, process_results

    def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
        """lm-eval's score of this length alone: it says -1 of every other."""
        return {RETRIEVED: process_results(doc, results)[str(doc["max_length"])]}

    made = json.loads(path.read_text(encoding="utf-8"))
    found: Tasks = {}
    for name, about in made["tasks"].items():
        rows = datasets.Dataset.from_list(about["documents"])
        found |= loaded(
            {
                "task": name,
                "custom_dataset": lambda rows=rows, **_: {"test": rows},
                "test_split": "test",
                "output_type": "generate_until",
                "doc_to_text": "{{input}}",
                "doc_to_target": "{{outputs}}",
                "gen_prefix": "{{gen_prefix}}",
                "target_delimiter": about["delimiter"],
                "process_results": score,
                "metric_list": [{"metric": RETRIEVED, "aggregation": aggregate_metrics, "higher_is_better": True}],
                "generation_kwargs": {"do_sample": False, "max_gen_toks": about["answer_tokens"], "until": []},
            }
        )
    return found


def facts_of(tasks: Tasks) -> dict[str, dict[str, Any]]:
    """By task: how many documents there are, and a hash of all of them."""
    found = {}
    for name, task in tasks.items():
        digest, count = hashlib.sha256(), 0
        for count, doc in enumerate(task.eval_docs, 1):  # noqa: B007 - the last count is the number of documents
            digest.update(json.dumps(doc, sort_keys=True, default=str).encode())
        found[name] = {"documents": count, "sha256": digest.hexdigest()}
    return found


def chosen(tasks: Tasks, given: argparse.Namespace) -> dict[str, list[int]]:
    """Documents by task: all of them, or as many as asked for, drawn over all tasks together by the seed."""
    every = [(name, place) for name, task in sorted(tasks.items()) for place in range(len(task.eval_docs))]
    if given.limit and given.limit < len(every):
        every = random.Random(given.seed).sample(every, given.limit)  # noqa: S311 - a sample, no secret
    found: dict[str, list[int]] = {}
    for name, place in sorted(every):
        found.setdefault(name, []).append(place)
    return found


def evaluated(model: Any, tasks: Tasks, picked: dict[str, list[int]], *, chat: bool) -> tuple[Any, dict[str, Any]]:
    """(samples by task, lm-eval's own results by task)."""
    try:
        made = evaluator.evaluate(
            lm=model, task_dict={"tasks": {name: tasks[name] for name in picked}}, samples=picked, log_samples=True,
            bootstrap_iters=0, apply_chat_template=chat, fewshot_as_multiturn=chat,
        )  # fmt: skip
    except Refusal:
        raise
    except Exception as fault:
        said = " ".join(str(fault).split())[:300]
        raise Refusal(f"lm-eval could not ask {', '.join(picked)}: {type(fault).__name__}: {said}") from fault
    assert made is not None
    results = {
        name: {key: value for key, value in row.items() if isinstance(value, int | float)}
        for name, row in made["results"].items()
    }
    return made["samples"], results
