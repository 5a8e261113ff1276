"""Documents to retrieve from, as long as the served context: RULER's tasks by lm-eval's own functions.

Their haystacks are a repeated sentence, other needles, random words, or essays; essays are the user's own text here, in
sentences. Two of the thirteen ask about articles of the hub and are left out by name.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nltk
import numpy as np
from benchmark_model import Voice
from calibrate import Fault, read
from score_common import Refusal

SENTENCE = re.compile(r"(?<=[.!?。！？])\s+")
NEEDLES: dict[str, dict[str, Any]] = {
    "niah_single_1": {"type_haystack": "repeat", "type_needle_k": "words", "type_needle_v": "numbers"},
    "niah_single_2": {"type_haystack": "essay", "type_needle_k": "words", "type_needle_v": "numbers"},
    "niah_single_3": {"type_haystack": "essay", "type_needle_k": "words", "type_needle_v": "uuids"},
    "niah_multikey_1": {
        "type_haystack": "essay", "type_needle_k": "words", "type_needle_v": "numbers", "num_needle_k": 4,
    },
    "niah_multikey_2": {"type_haystack": "needle", "type_needle_k": "words", "type_needle_v": "numbers"},
    "niah_multikey_3": {"type_haystack": "needle", "type_needle_k": "uuids", "type_needle_v": "uuids"},
    "niah_multivalue": {
        "type_haystack": "essay", "type_needle_k": "words", "type_needle_v": "numbers", "num_needle_v": 4,
    },
    "niah_multiquery": {
        "type_haystack": "essay", "type_needle_k": "words", "type_needle_v": "numbers", "num_needle_q": 4,
    },
}  # fmt: skip
"""As lm-eval's niah_utils.py gives them."""
QUESTIONS = ("ruler_qa_squad", "ruler_qa_hotpot")
ANSWER_TOKENS = {"ruler_vt": 30, "ruler_cwe": 120, "ruler_fwe": 50}
NEEDLE_TOKENS = 128
MARGIN = 1.15
"""By which two prompts of the same words differ (assumed)."""
KEPT = ("input", "outputs", "gen_prefix", "length")
COUNTS = {"num_needle_k": 1, "num_needle_v": 1, "num_needle_q": 1}
TEMPLATE_TOKENS = 32
"""Room for what a chat template puts around a prompt (assumed)."""


def documents(voice: Voice, given: argparse.Namespace) -> dict[str, Any]:
    """Tasks with their documents, and the tasks that are left out with the reason."""
    nltk.download = lambda *_, **__: False  # sentences are cut here: nothing is fetched
    tokens = counting(voice)
    try:
        haystack = words(given.haystack)
    except Fault as fault:
        raise Refusal(str(fault)) from fault
    left_out = dict.fromkeys(QUESTIONS, "it asks about articles of the hub")
    made: dict[str, Any] = {}
    for name, build in builders(haystack).items():
        if build is None:
            left_out[name] = "its haystack is text of your own: give --text"
            continue
        random.seed(f"{given.seed} {name}")
        np.random.seed(given.seed)
        try:
            rows = build(tokens, given.context, given.each)
        except ValueError as fault:
            left_out[name] = f"at {given.context} tokens: {fault}"
            continue
        made[name] = {
            "documents": [{key: row[key] for key in KEPT} | {"max_length": given.context} for row in rows],
            "tokens": [min(row["length"] for row in rows), max(row["length"] for row in rows)],
            "answer_tokens": ANSWER_TOKENS.get(name, NEEDLE_TOKENS),
            "delimiter": "\n\n" if name == "ruler_cwe" else " ",
        }
        print(f"{name}: {len(rows)} documents", file=sys.stderr)
    return {"context": given.context, "seed": given.seed, "tasks": made, "left_out": left_out,
            "haystack_words": len(haystack)}  # fmt: skip


def counting(voice: Voice) -> Callable[[str], SimpleNamespace]:
    """The model's own tokenizer as lm-eval's functions call one."""
    return lambda text: SimpleNamespace(input_ids=voice.ask("encode", texts=[text], special=True)[0])


def words(paths: list[Path]) -> list[str]:
    """The user's text as words, files one after the other; of chats what was said."""
    rows = [row for path in paths for row in read(path)]
    said = [str(row.get("text") or " ".join(str(turn.get("content", "")) for turn in row["messages"])) for row in rows]
    return [word for text in said for word in text.split()]


Build = Callable[[Any, int, int], list[dict[str, Any]]]


def builders(haystack: list[str]) -> dict[str, Build | None]:
    """A function for each task; None where it lacks its haystack."""
    from lm_eval.tasks.ruler import prepare_niah

    prepare_niah.cached_sent_tokenize = SENTENCE.split
    found: dict[str, Build | None] = {}
    for name, about in NEEDLES.items():
        essay = about["type_haystack"] == "essay"
        found[name] = None if essay and not haystack else needles(about, haystack)
    return found | {"ruler_vt": variables, "ruler_cwe": common, "ruler_fwe": frequent}


def needles(about: dict[str, Any], haystack: list[str]) -> Build:
    """lm-eval's own prompts, as much of the haystack as fits: its own steps are 500 words of an essay."""
    from lm_eval.tasks.ruler import niah_utils, prepare_niah

    kind, wanted = about["type_haystack"], COUNTS | about
    keys = max(wanted["num_needle_k"], wanted["num_needle_q"])
    many = wanted["num_needle_q"] * wanted["num_needle_v"] > 1

    def one(units: int, hay: list[str] | str) -> dict[str, Any]:
        text, answers, query = prepare_niah.generate_input_output(
            units, hay, template=niah_utils.TEMPLATE, **wanted | {"num_needle_k": keys}
        )
        value = wanted["type_needle_v"] if many else wanted["type_needle_v"][:-1]
        verb = "are" if many else "is"
        prefix = f"The special magic {value} for {query} mentioned in the provided text {verb}"
        return {"input": text, "outputs": answers, "gen_prefix": prefix}

    def build(tokens: Any, context: int, each: int) -> list[dict[str, Any]]:
        hay = repeated(haystack, context) if kind == "essay" else prepare_niah.get_haystack(type_haystack=kind)
        least = 2 * keys * wanted["num_needle_v"]

        def size(row: dict[str, Any]) -> int:
            return len(tokens(row["input"] + row["gen_prefix"]).input_ids) + NEEDLE_TOKENS + TEMPLATE_TOKENS

        units = largest(lambda count: size(one(count, hay)) <= context, least, context)
        return [fitting(lambda count: one(count, hay), size, (units, least, context)) for _ in range(each)]

    return build


def largest(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The largest count that fits, by halves. Raises ValueError where the least does not."""
    if not fits(least):
        raise ValueError("the context has no room for the question")
    while most - least > 1 + least // 64:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(middle) else (least, middle)
    return least


def fitting(
    make: Callable[[int], dict[str, Any]], size: Callable[[dict[str, Any]], int], counts: tuple[int, int, int]
) -> dict[str, Any]:
    """One document of so many units; each draw is as long as it comes out, so that some have to give way."""
    units, least, context = counts
    while units >= least:
        row = make(units)
        if (length := size(row)) <= context:
            return row | {"length": length, "max_length": context}
        units -= max(1, units // 50)
    raise ValueError("the context has no room for the question")


def repeated(haystack: list[str], context: int) -> list[str]:
    """Text as long as the context by its words, over and over where it is shorter, as RULER's authors do."""
    return haystack * -(-context // len(haystack))


def enough(tokens: Any, least: str, answer: int, context: int) -> None:
    """Raises ValueError where the least prompt does not fit: lm-eval's own functions would try for ever."""
    if MARGIN * len(tokens(least).input_ids) + answer + TEMPLATE_TOKENS > context:
        raise ValueError("the context has no room for the question")


def variables(tokens: Any, context: int, each: int) -> list[dict[str, Any]]:
    from lm_eval.tasks.ruler import vt_utils

    example = vt_utils.sys_vartrack_w_noise_random(tokenizer=tokens, num_samples=1, max_seq_length=500, incremental=5)
    words = " ".join([example[0]["input"], *example[0]["outputs"], vt_utils.generate_input_output(10, 1, 4)[0]])
    enough(tokens, words, ANSWER_TOKENS["ruler_vt"], context)
    made: list[dict[str, Any]] = vt_utils.sys_vartrack_w_noise_random(
        tokenizer=tokens, num_samples=each, max_seq_length=context - TEMPLATE_TOKENS, icl_example=example[0]
    )
    return made


def common(tokens: Any, context: int, each: int) -> list[dict[str, Any]]:
    from lm_eval.tasks.ruler import cwe_utils

    cwe_utils.RNG.seed(random.getrandbits(32))
    shown, asked, _ = cwe_utils.generate_input_output(10, context)
    enough(tokens, f"{shown}\n{asked}", ANSWER_TOKENS["ruler_cwe"], context)
    made: list[dict[str, Any]] = cwe_utils.sys_word_pair_random(
        num_samples=each, max_seq_length=context - TEMPLATE_TOKENS, tokenizer=tokens
    )
    return made


def frequent(tokens: Any, context: int, each: int) -> list[dict[str, Any]]:
    from lm_eval.tasks.ruler import fwe_utils

    room = context - TEMPLATE_TOKENS - ANSWER_TOKENS["ruler_fwe"]
    enough(tokens, fwe_utils.TEMPLATE, 2 * ANSWER_TOKENS["ruler_fwe"], context)
    made: list[dict[str, Any]] = fwe_utils.sys_kwext(tokenizer=tokens, max_seq_length=room, num_samples=each)
    return made
