"""What the chain's lanes are asked beside the held-out text, made of it and of this Python: items, and another text."""

from __future__ import annotations

import json
import random
import re
import tokenize
from pathlib import Path

from tests.tools.trained_llama import sources

SEED = 11
PROMPT, ENDING = 24, 8
"""Words of a prompt and of its continuation."""
LONGEST = 400
"""Characters of both: tables of bytes have long words, of many tokens."""
WRONG = 2
"""Continuations that stand elsewhere in the text."""
COMMENTS = 400_000
"""Characters of comments, at most."""


def items(text: Path, out: Path, count: int) -> Path:
    """A task file: passages of a text with their true continuation among others, the place drawn by a seed."""
    words = re.findall(r"\S+", text.read_text())
    chance = random.Random(SEED)
    starts = list(range(0, len(words) - PROMPT - ENDING, 7))
    chance.shuffle(starts)
    lines: list[str] = []
    for start in starts:
        answer = chance.randrange(WRONG + 1)
        places = [chance.randrange(len(words) - ENDING) for _ in range(WRONG)]
        places.insert(answer, start + PROMPT)
        choices = [" ".join(words[place : place + ENDING]) for place in places]
        prompt = " ".join(words[start : start + PROMPT])
        if len(set(choices)) == len(choices) and len(lines) < count and len(prompt + max(choices, key=len)) < LONGEST:
            one = {"prompt": prompt, "raw": True, "choices": choices, "answer": answer, "match": "choice"}
            lines.append(json.dumps(one) + "\n")
    out.write_text("".join(lines))
    return out


def comments(out: Path) -> Path:
    """Comments of the library's sources: written by the same people, and never trained on. One paragraph a module."""
    made: list[str] = []
    for path in sources():
        if sum(map(len, made)) > COMMENTS:
            break
        try:
            with tokenize.open(path) as stream:
                tokens = list(tokenize.generate_tokens(stream.readline))
        except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
            continue
        found = [each.string for each in tokens if each.type == tokenize.COMMENT]
        said = [line.strip("# -=*").encode("ascii", "ignore").decode() for line in found]
        made.append("\n".join(line for line in said if len(line) > 30))
    out.write_text("\n\n".join(filter(None, made)) + "\n")
    return out
