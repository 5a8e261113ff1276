"""Runs inside lm-eval's environment: one side's answers to a task, every one of them with its score.

usage: benchmark.py fetch --task NAME --out facts.json
       benchmark.py retrieval --speaker PYTHON --backend B --model PATH --context N --each N [--haystack FILE...]
                              [--seed S] --out items.json
       benchmark.py run --speaker PYTHON --backend B --model PATH (--task NAME | --file TASK.yaml | --items items.json)
                        [--metric M] [--filter F] [--chat] [--limit N] [--repeats R] [--context N] [--seed S]
                        [--temperature T --top-p P --top-k K] [--answer-tokens N] [--batch N]
                        [--allow-task-code] --out answers.json

The model runs in a process of its own (`speaker.py`, by the interpreter PYTHON), so that it opens what lm-eval's
environment cannot: compressed-tensors checkpoints and GGUF files. Only `fetch` uses a network.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmark_answers import Unusable, answers_of, item_names, shown
from benchmark_yaml import Refused, read
from score_common import Refusal, file_hash, folder_hash, write_json

SCHEMA = 1
SPEAKER = Path(__file__).parent / "speaker.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    fetch = verbs.add_parser("fetch")
    fetch.add_argument("--task", required=True)
    retrieval, run = verbs.add_parser("retrieval"), verbs.add_parser("run")
    for each in (retrieval, run):
        add_model(each)
    retrieval.add_argument("--each", type=int, required=True)
    retrieval.add_argument("--haystack", type=Path, nargs="*", default=[])
    add_task(run)
    for each in (fetch, retrieval, run):
        each.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        {"fetch": fetched, "retrieval": retrieved, "run": asked}[given.verb](given)
    except (Refusal, Refused, Unusable, OSError) as fault:
        sys.exit(f"benchmark.py: {fault}")


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--speaker", type=Path, required=True)
    parser.add_argument("--script", type=Path, default=SPEAKER)
    parser.add_argument("--backend", choices=("transformers", "llama.cpp"), required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--context", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)


def add_task(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--task")
    what.add_argument("--file", type=Path)
    what.add_argument("--items", type=Path)
    parser.add_argument("--metric", default="")
    parser.add_argument("--filter", default="")
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--answer-tokens", type=int, default=256)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--allow-task-code", action="store_true")


def fetched(given: argparse.Namespace) -> None:
    """The task's data set into the hub's cache; facts of it into a file."""
    from benchmark_tasks import facts_of, loaded

    made = facts_of(loaded(given.task))
    write_json(given.out, {"schema": SCHEMA, "tasks": made})
    print(json.dumps({"documents": sum(each["documents"] for each in made.values()), "tasks": len(made)}))


def retrieved(given: argparse.Namespace) -> None:
    """Documents of the retrieval tasks, as long as the served context by the model's own tokens."""
    from benchmark_model import Voice
    from benchmark_retrieval import documents

    with Voice(command(given)) as voice:
        made = documents(voice, given)
    write_json(given.out, {"schema": SCHEMA, **made})
    lengths = {name: about["tokens"] for name, about in sorted(made["tasks"].items())}
    print(json.dumps({"tokens": lengths, "left_out": made["left_out"], "context": given.context}))


def command(given: argparse.Namespace) -> list[str]:
    """The words that start the model's process."""
    return [
        str(given.speaker), str(given.script), "--backend", given.backend, "--model", str(given.model),
        "--device", given.device, "--dtype", given.dtype, "--threads", str(given.threads),
    ]  # fmt: skip


def asked(given: argparse.Namespace) -> None:
    """Every document of a task, answered and scored."""
    if given.repeats > 1 and not given.temperature:
        raise Refusal("several answers to an item are all the same at temperature 0: give --temperature")
    with tempfile.TemporaryDirectory(dir=given.out.parent) as cache:
        if not given.task:  # data of the user's own is read anew, and nothing of it is left in the hub's cache
            os.environ["HF_DATASETS_CACHE"] = cache
        answered(given)


def answered(given: argparse.Namespace) -> None:
    """Load the task, put it to the model, write its answers."""
    from benchmark_model import Remote, Voice
    from benchmark_tasks import chosen, evaluated, facts_of, tasks_of

    began = time.monotonic()
    tasks = tasks_of(given, read)
    picked, made = chosen(tasks, given), list[dict[str, Any]]()
    results: dict[str, Any] = {}
    with Voice(command(given)) as voice:
        remote = Remote(voice, given, picked)
        for sample in range(given.repeats):
            remote.sample = sample
            logged, found = evaluated(remote, tasks, picked, chat=remote.chats)
            results = results or found
            made += answers_of(logged, item_names(logged), remote.said, (given.metric, given.filter, sample))
    details = {
        **shown(made, results),
        "documents": len({(each["task"], each["item"]) for each in made}), "chat": remote.chats, "cut": remote.cut,
        "seconds": round(time.monotonic() - began, 3), "data": facts_of(tasks),
    }  # fmt: skip
    write_json(given.out, document(given, voice.facts, made, details))
    print(json.dumps(details))


def document(
    given: argparse.Namespace, facts: dict[str, Any], made: list[dict[str, Any]], details: dict[str, Any]
) -> dict[str, Any]:
    """answers.json. How long an answer may be is the task's own affair."""
    path = given.model
    return {
        "schema": SCHEMA,
        "model": str(path),
        "model_sha256": file_hash(path) if path.is_file() else folder_hash(path, ("*.safetensors", "*.json")),
        "backend": f"lm-eval over {given.backend}",
        "versions": {"lm_eval": version("lm_eval"), "datasets": version("datasets"), **facts["versions"]},
        "sampling": {
            "temperature": given.temperature, "top_p": given.top_p, "top_k": given.top_k, "max_tokens": 0,
            "seed": given.seed,
        },
        "seconds": details["seconds"],
        "answers": made,
        "details": details,
    }  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
