"""Flags of `lanewise verify` for what both sides are asked."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import BadInput

if TYPE_CHECKING:
    from planner.proving.questions import Questions


def add_answers(group: argparse._ArgumentGroup) -> None:
    """Declare them."""
    group.add_argument(
        "--task", type=Path, action="append", default=[], metavar="FILE",
        help="items of your own that both sides answer (JSONL), or a task of lm-eval (YAML): docs/reference/tasks.md; "
        "may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--benchmarks", action="store_true", help="run the plan's public benchmarks through lm-eval, data from the hub"
    )
    group.add_argument("--retrieval", action="store_true", help="run the long-context benchmark, documents made here")
    group.add_argument("--limit", type=int, metavar="N", help="documents of each benchmark, at most, drawn by --seed")
    group.add_argument("--allow-task-code", action="store_true", help="a task file may run the Python that it names")
    group.add_argument("--answer-tokens", type=int, metavar="N", help="of one answer, at most (default: 512)")
    group.add_argument("--sampled", action="store_true", help="ask them a second time as served, with --temperature")
    group.add_argument("--temperature", type=float, metavar="T", help="of sampled answers")
    group.add_argument("--top-p", type=float, metavar="P", help="likeliest tokens that sum to it (default: all)")
    group.add_argument("--top-k", type=int, metavar="K", help="so many likeliest tokens (default: all)")
    group.add_argument("--samples", type=int, metavar="N", help="sampled answers to each item (default: 1)")
    group.add_argument(
        "--scorer", metavar="COMMAND", help="your own measure: a program that prints a number for each answer, no shell"
    )
    group.add_argument("--scorer-tolerance", type=float, metavar="N", help="how far its mean may fall, in its own unit")


def asking(arguments: argparse.Namespace) -> Questions:
    """How items are asked, as the flags say. Raises BadInput naming the flag."""
    from planner.proving.questions import ANSWER_TOKENS, Benched, Questions
    from planner.running import task_files

    tokens = ANSWER_TOKENS if arguments.answer_tokens is None else arguments.answer_tokens
    for name, value in (
        ("--answer-tokens", tokens),
        ("--samples", arguments.samples),
        ("--limit", arguments.limit),
    ):
        if value is not None and value < 1:
            raise BadInput(f"expected 1 or more, got {value}", name)
    given = {name: getattr(arguments, name) for name in ("temperature", "top_p", "top_k", "samples")}
    return Questions(
        answer_tokens=tokens,
        sampled=task_files.sampling(given, sampled=arguments.sampled, tokens=tokens, seed=arguments.seed),
        samples=arguments.samples or 1,
        scorer=task_files.scorer(arguments.scorer, arguments.scorer_tolerance),
        benched=Benched(
            public=arguments.benchmarks,
            retrieval=arguments.retrieval,
            limit=arguments.limit or 0,
            code=arguments.allow_task_code,
        ),
    )
