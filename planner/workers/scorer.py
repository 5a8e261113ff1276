"""Runs a user's command on one side's answers: what they are worth, in a unit of the user's own, higher is better.

usage: scorer.py --items items.json --answers answers.json --command JSON_LIST_OF_WORDS --out scores.json
The command gets one more word: the path of a JSONL file, one line an answer, {"id", "prompt", "answer", "expected"}. It
prints one number for each line, in order, or one number for them all. It is started as it stands, without a shell. Its
own output and its exit code are in scores.json; a code other than 0 is a refusal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

LOG = 4000
"""Characters of what it wrote to stderr that are kept."""


class Fault(Exception):
    """What is wrong, in one sentence."""


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--items", "--answers", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--command", required=True)
    given = parser.parse_args()
    try:
        print(json.dumps(run(given)))
    except (Fault, OSError) as fault:
        sys.exit(f"scorer.py: {fault}")


def run(given: argparse.Namespace) -> dict[str, Any]:
    rows = asked(given.items, given.answers)
    lines = given.out.with_name("asked.jsonl")
    lines.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    command = json.loads(given.command)
    done = started([*command, str(lines)])
    log = done.stderr.decode(errors="replace")[-LOG:]
    if done.returncode != 0:
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"ended by signal {-done.returncode}"
        raise Fault(f"{command[0]}: {how}; it wrote {log.strip() or 'nothing'}")
    values = numbers(done.stdout.decode(errors="replace"), len(rows), command[0])
    made = {
        "schema": 1, "command": command, "exit_code": done.returncode, "files": hashes(command), "log": log,
        "items": [row["id"] for row in rows], "values": values,
    }  # fmt: skip
    part = given.out.with_name(given.out.name + ".part")
    part.write_text(json.dumps(made), encoding="utf-8")
    part.replace(given.out)
    mean = sum(values) / len(values)
    return {"answers": len(rows), "numbers": len(values), "mean": mean} | {
        name: made[name] for name in ("command", "exit_code", "files", "log")
    }


def started(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except (OSError, ValueError) as error:
        raise Fault(f"{command[0]}: it cannot be started: {getattr(error, 'strerror', None) or error}") from None


def asked(items: Path, answers: Path) -> list[dict[str, Any]]:
    """A row for each answer."""
    try:
        known = {item["id"]: item for item in json.loads(items.read_text(encoding="utf-8"))["items"]}
        said = json.loads(answers.read_text(encoding="utf-8"))["answers"]
        return [row(known[one["item"]], one) for one in said]
    except (ValueError, KeyError, TypeError) as error:
        raise Fault(f"{answers}: not answers to {items} ({type(error).__name__}: {error})") from None


def row(item: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    expected = item["expected"].get("answer")
    if "choices" in item and expected is not None:
        expected = item["choices"][expected]
    prompt = item.get("prompt", item.get("messages"))
    return {"id": item["name"], "prompt": prompt, "answer": answer["text"], "expected": expected}


def numbers(text: str, rows: int, name: str) -> list[float]:
    """What it printed. Raises Fault where that is neither a number for each answer nor one for all."""
    words = [line.strip() for line in text.splitlines() if line.strip()]
    try:
        found = [float(word) for word in words]
    except ValueError as error:
        raise Fault(f"{name}: it has to print numbers alone, one on a line: {error}") from None
    if len(found) not in (1, rows):
        raise Fault(f"{name}: it printed {len(found)} numbers for {rows} answers: one for each is expected, or one")
    wrong = [word for word, value in zip(words, found, strict=True) if not math.isfinite(value)]
    if wrong:
        raise Fault(f"{name}: it printed {wrong[0]}, which is no finite number")
    return found


def hashes(command: list[str]) -> dict[str, str]:
    """SHA-256 of its words that are files."""
    files = [Path(word) for word in command if len(word) < 4096 and Path(word).is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
