"""Users' items for both sides: task files to what is asked, and answers to what they are worth.

usage: items.py read --task FILE... [--calibration FILE...] [--family NAME...] --out items.json
       items.py mark --items items.json --said answers.json --out answers.json
Runs in Lanewise's own Python and imports nothing of ours. `--family`: items of other families are left out and counted.
An item that stands in the calibration text is a refusal: its answer would flatter the candidate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from items_mark import marked
from items_read import Fault, read

PASSAGE = 50
"""Words in a row that count as the same passage, as for texts (assumed)."""
SHORT = 8
"""Words of a shorter item from which the whole of it counts as a passage (assumed)."""


def main() -> None:
    top = argparse.ArgumentParser()
    verbs = top.add_subparsers(dest="verb", required=True)
    reading, marking = verbs.add_parser("read"), verbs.add_parser("mark")
    reading.add_argument("--task", type=Path, nargs="+", required=True)
    reading.add_argument("--calibration", type=Path, nargs="*", default=[])
    reading.add_argument("--family", nargs="*")
    reading.set_defaults(run=make)
    marking.add_argument("--items", type=Path, required=True)
    marking.add_argument("--said", type=Path, required=True)
    marking.set_defaults(run=mark)
    for each in (reading, marking):
        each.add_argument("--out", type=Path, required=True)
    given = top.parse_args()
    try:
        print(json.dumps(given.run(given)))
    except (Fault, OSError) as fault:
        sys.exit(f"items.py: {fault}")


def make(given: argparse.Namespace) -> dict[str, Any]:
    """items.json: what is asked, what is expected, hashes of both and of the files."""
    items, again = read(given.task)
    kept = [item for item in items if given.family is None or item["family"] in given.family]
    if not kept:
        raise Fault(f"no item is of the families asked for: {', '.join(given.family)}")
    refuse_overlap(kept, given.calibration)
    files = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in given.task}
    whole = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    made = {"schema": 1, "sha256": whole, "files": files, "items": kept}
    write(given.out, made)
    families = dict(Counter(item["family"] or "of no family" for item in kept))
    return {
        "items": len(kept), "families": families, "repeated_lines": again, "left_out": len(items) - len(kept),
        "sha256": whole, "files": files,
    }  # fmt: skip


def write(path: Path, made: dict[str, Any]) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(made), encoding="utf-8")
    part.replace(path)


def refuse_overlap(items: list[dict[str, Any]], files: list[Path]) -> None:
    """Raises Fault where an item's words stand in the calibration text."""
    for path in files:
        text = words(plain(path))
        seen, whole = set(passages(text.split())), f" {text} "
        for item in items:
            asked = words(asks(item)).split()
            if len(asked) >= PASSAGE and not seen.isdisjoint(passages(asked)):
                raise Fault(f"item {item['name']}: a passage of {PASSAGE} words stands in the calibration text {path}")
            if SHORT <= len(asked) < PASSAGE and f" {' '.join(asked)} " in whole:
                raise Fault(f"item {item['name']}: it stands in the calibration text {path}")


def passages(text: list[str]) -> Iterator[bytes]:
    """Hashes of every run of PASSAGE words."""
    for start in range(len(text) - PASSAGE + 1):
        yield hashlib.blake2b(" ".join(text[start : start + PASSAGE]).encode(), digest_size=8).digest()


def plain(path: Path) -> str:
    """All text of a file of calibration text, as `calibrate.py` reads it."""
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix != ".jsonl":
            return content
        rows = [json.loads(line) for line in content.split("\n") if line.strip()]
        turns = [row.get("messages") or [{"content": row.get("text", "")}] for row in rows]
    except (ValueError, AttributeError) as error:
        raise Fault(f"{path}: not calibration text ({error})") from None
    return "\n".join(str(turn.get("content", "")) for row in turns for turn in row)


def asks(item: dict[str, Any]) -> str:
    """The words of the user in an item: the last message, or the prompt."""
    return str(item["messages"][-1]["content"] if "messages" in item else item["prompt"])


def words(text: str) -> str:
    return " ".join(text.lower().split())


def mark(given: argparse.Namespace) -> dict[str, Any]:
    """The same answers with scores, and whether they are valid."""
    try:
        items = {item["id"]: item for item in json.loads(given.items.read_text(encoding="utf-8"))["items"]}
        said = json.loads(given.said.read_text(encoding="utf-8"))
        answers = [
            one | dict(zip(("score", "valid"), marked(items[one["item"]], one), strict=True)) for one in said["answers"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise Fault(f"{given.said}: not answers to {given.items} ({type(error).__name__}: {error})") from None
    write(given.out, said | {"answers": answers})
    scores = [one["score"] for one in answers if one["score"] is not None]
    valid = [one["valid"] for one in answers if one["valid"] is not None]
    return {
        "answers": len(answers), "scored": len(scores), "right": sum(scores), "asked_for_a_form": len(valid),
        "valid": sum(valid),
    }  # fmt: skip


if __name__ == "__main__":
    main()
