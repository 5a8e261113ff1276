"""Runs inside a tool environment: calibration text from the user's files, none of it in the evaluation text.

usage: calibrate.py [--tokenizer FOLDER] --text FILE... [--evaluation FILE...] --samples N --length L [--chat]
                    [--seed S] --out DIR
Files are plain text (documents end at an empty line or a Markdown heading), or JSONL with `text` or chat `messages`,
which go through the model's chat template. Writes DIR/rows.json (token ids; empty without a tokenizer), DIR/
calibration.txt and DIR/report.json: documents and characters per file and per script, what was asked and found.
A passage of 50 words that also stands in the evaluation text is a refusal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PASSAGE = 50
"""Words in a row that count as the same passage (assumed)."""
CHARACTERS = 6
"""Of a token, at most, where there is no tokenizer to count with (assumed)."""
BREAK = re.compile(r"\n\s*\n")


class Fault(Exception):
    """What is wrong, in one sentence."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokenizer")
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--evaluation", type=Path, nargs="*", default=[])
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    try:
        make(parser.parse_args())
    except (Fault, OSError, UnicodeDecodeError) as fault:
        sys.exit(f"calibrate.py: {fault}")


def make(given: argparse.Namespace) -> None:
    tokenizer = opened(given.tokenizer)
    found = [(path.name, *each) for path in given.text for each in documents(path, tokenizer)]
    if not found:
        raise Fault("the files hold no text")
    refuse_overlap([text for _, _, text in found], [(path, each) for path in given.evaluation for each in read(path)])
    order = list(range(len(found)))
    random.Random(given.seed).shuffle(order)  # noqa: S311 - an order, no secret
    taken, rows = chosen([found[place] for place in order], tokenizer, given)
    text = "\n\n".join(each for _, _, each in taken)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "rows.json").write_text(json.dumps(rows))
    (given.out / "calibration.txt").write_text(text, encoding="utf-8")
    said = report(given, found, taken, rows)
    (given.out / "report.json").write_text(json.dumps(said, indent=2) + "\n")
    print(json.dumps({name: said[name] for name in ("rows", "documents_used", "chat_documents", "sha256")}))


def opened(folder: str | None) -> Any:
    if folder is None:
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Documents as `{"text"}` or `{"messages"}`; a fault names its line."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".jsonl":
        yield from ({"text": part} for part in BREAK.split(content) if part.strip())
        return
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise Fault(f"{path} line {number} is not JSON") from None
        if not isinstance(row, dict) or not ({"text", "messages"} & row.keys()):
            raise Fault(f"{path} line {number} has neither `text` nor `messages`")
        yield row


def documents(path: Path, tokenizer: Any) -> Iterator[tuple[bool, str]]:
    """(whether it went through the chat template, its text)."""
    for row in read(path):
        if "messages" not in row:
            yield False, str(row["text"])
        elif tokenizer is None or not tokenizer.chat_template:
            raise Fault(f"{path} holds chats, and there is no chat template to write them with")
        else:
            yield True, tokenizer.apply_chat_template(row["messages"], tokenize=False)


def passages(text: str) -> Iterator[int]:
    """Hashes of every run of PASSAGE words."""
    words = text.lower().split()
    for start in range(len(words) - PASSAGE + 1):
        run = " ".join(words[start : start + PASSAGE])
        yield int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big")


def refuse_overlap(calibration: list[str], evaluation: list[tuple[Path, dict[str, Any]]]) -> None:
    seen = {each for text in calibration for each in passages(text)}
    for path, row in evaluation:
        plain = row.get("text") or " ".join(str(turn.get("content", "")) for turn in row.get("messages", []))
        if any(each in seen for each in passages(str(plain))):
            raise Fault(f"calibration and evaluation text share a passage of {PASSAGE} words in {path}")


def chosen(found: list[Any], tokenizer: Any, given: argparse.Namespace) -> tuple[list[Any], list[list[int]]]:
    """As many documents as fill the rows; short ones are joined, so that every row is whole."""
    taken: list[Any] = []
    ids: list[int] = []
    wanted, characters = given.samples * given.length, 0
    for document in found:
        if len(ids) >= wanted or (tokenizer is None and characters >= wanted * CHARACTERS):
            break
        taken.append(document)
        characters += len(document[2])
        if tokenizer is not None:
            ids += tokenizer(document[2], add_special_tokens=not document[1])["input_ids"]
    rows = [ids[start : start + given.length] for start in range(0, len(ids) - given.length + 1, given.length)]
    if tokenizer is not None and not rows:
        raise Fault(f"the text has {len(ids)} tokens, one row needs {given.length}")
    return taken, rows[: given.samples]


def report(given: argparse.Namespace, found: list[Any], taken: list[Any], rows: list[list[int]]) -> dict[str, Any]:
    """Shares by file and by script, and where less was found than asked."""
    text = "\n\n".join(each for _, _, each in taken)
    chats = sum(chat for _, chat, _ in taken)
    return {
        "asked": {"rows": given.samples, "length": given.length, "chat_format": given.chat},
        "rows": len(rows),
        "short": len(rows) < given.samples if given.tokenizer else None,
        "documents": len(found),
        "documents_used": len(taken),
        "chat_documents": chats,
        "plain_though_chat_was_asked": len(taken) - chats if given.chat else 0,
        "characters_by_file": dict(Counter({name: 0 for name, _, _ in taken}) + sizes(taken)),
        "share_by_script": scripts(text),
        "evaluation_files": [path.name for path in given.evaluation],
        "seed": given.seed,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def sizes(taken: list[Any]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, _, text in taken:
        found[name] += len(text)
    return found


def scripts(text: str) -> dict[str, float]:
    """Share of letters by the first word of their Unicode name: LATIN, CYRILLIC, CJK …"""
    counted = Counter(unicodedata.name(letter, "?").split()[0] for letter in text[:200_000] if letter.isalpha())
    total = sum(counted.values()) or 1
    return {name: round(count / total, 4) for name, count in counted.most_common(8)}


if __name__ == "__main__":
    main()
