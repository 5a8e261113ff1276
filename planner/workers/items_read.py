"""Reads users' task files: one JSON object on each line, strictly; a fault names its line.

Fields: `prompt` or `messages`; `id`, `family`, `note`; `raw` (no chat template); `answer` with `match`; `choices`;
`schema`; `tools`. docs/reference/tasks.md says what each means.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

FIELDS = ("id", "family", "note", "prompt", "messages", "raw", "answer", "match", "choices", "schema", "tools")
MATCHES = ("exact", "contains", "number", "regex", "choice", "call")
ROLES = ("system", "user", "assistant", "tool")
ASKED = ("prompt", "messages", "raw", "choices", "tools")
"""What an item is named by: a hash of these."""
EXPECTED = ("answer", "match", "schema")
NAME = re.compile(r"[\w.:@/ -]{1,120}")


class Fault(Exception):
    """What is wrong, in one sentence."""


def read(paths: Iterable[Path]) -> tuple[list[dict[str, Any]], int]:
    """Items of all files, and how many lines only said again what another had said. Raises Fault with file and line."""
    items: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    again = 0
    for path in paths:
        for where, row in rows(path):
            item = item_of(row, where)
            other = items.get(item["id"])
            if other is not None and other["expected"] != item["expected"]:
                raise Fault(f"{where}: it asks what {other['where']} asks, and expects another answer")
            if other is not None:
                again += 1
                continue
            if item["name"] in names:
                raise Fault(f"{where}: id {item['name']!r} is {names[item['name']]}'s already")
            names[item["name"]], items[item["id"]] = where, item | {"where": where}
    if not items:
        raise Fault("the task files hold no item")
    return [{name: value for name, value in item.items() if name != "where"} for item in items.values()], again


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, its object)."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Fault(f"{path}: not UTF-8 at byte {error.start}") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise Fault(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise Fault(f"{path}:{number}: expected an object, found {type(row).__name__}")
        yield f"{path}:{number}", row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def item_of(row: dict[str, Any], where: str) -> dict[str, Any]:
    """An item as `answer.py` takes it, with what is expected of its answer."""
    unknown = [name for name in row if name not in FIELDS]
    if unknown:
        raise Fault(
            f"{where}: unknown field {unknown[0]!r}; known: {', '.join(FIELDS)} (`note` holds notes of your own)"
        )
    row = {name: value for name, value in row.items() if value is not None}
    for name, holds, kind in CHECKS:
        if name in row and not holds(row[name]):
            raise Fault(f"{where}: `{name}` has to be {kind}")
    _asks(row, where)
    made: dict[str, Any] = {name: row[name] for name in ASKED if row.get(name)}
    if "tools" in made:
        made["tools"] = [
            tool if "function" in tool else {"type": "function", "function": tool} for tool in made["tools"]
        ]
    _tools(made.get("tools", []), where)
    expected: dict[str, Any] = {name: row[name] for name in EXPECTED if name in row}
    expected |= {"match": matched(row, where)} if "answer" in row else {}
    whole = json.dumps(made, sort_keys=True, ensure_ascii=False).encode()
    own = hashlib.sha256(whole).hexdigest()
    return {"id": own, "name": row.get("id", own[:12]), "family": row.get("family", ""), **made, "expected": expected}


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in ROLES and isinstance(value.get("content"), str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _answer(value: Any) -> bool:
    one = value if isinstance(value, list) and value else [value]
    return isinstance(value, dict) or all(isinstance(each, str) or _number(each) for each in one)


def _choices(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(map(_text, value)) and len(set(value)) == len(value)


CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("id", lambda value: isinstance(value, str) and NAME.fullmatch(value) is not None, "a name of 1 to 120 characters"),
    ("family", _text, "the name of a task family"),
    ("prompt", _text, "text that is not empty"),
    ("messages", lambda value: isinstance(value, list) and bool(value) and all(map(_message, value)),
     "a list of messages with a `role` (system, user, assistant, tool) and a `content` of text"),
    ("raw", lambda value: isinstance(value, bool), "true or false"),
    ("answer", _answer, "text, a number, a list of those, the place of a choice, or a call (`name`, `arguments`)"),
    ("match", lambda value: value in MATCHES, f"one of {', '.join(MATCHES)}"),
    ("choices", _choices, "a list of two or more different texts"),
    ("schema", lambda value: isinstance(value, dict), "a JSON schema, as an object"),
    ("tools", lambda value: isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value),
     "a list of tools"),
)  # fmt: skip
"""Field, whether a value may stand there, what it has to be."""


def _asks(row: dict[str, Any], where: str) -> None:
    """What is asked and expected has to go together."""
    if ("prompt" in row) == ("messages" in row):
        raise Fault(f"{where}: an item has either `prompt` or `messages`")
    if "messages" in row and row["messages"][-1]["role"] == "assistant":
        raise Fault(f"{where}: the last message is the assistant's: there is nothing to answer")
    if row.get("raw") and "prompt" not in row:
        raise Fault(f"{where}: `raw` goes with `prompt`")
    if "choices" in row and {"schema", "tools"} & row.keys():
        raise Fault(f"{where}: `choices` are not answered in words: no `schema`, no `tools` beside them")
    if "match" in row and "answer" not in row:
        raise Fault(f"{where}: `match` without an `answer`")
    if "schema" in row:
        check_schema(row["schema"], f"{where}: `schema`")


def _tools(tools: list[dict[str, Any]], where: str) -> None:
    names = [tool["function"].get("name") if isinstance(tool["function"], dict) else None for tool in tools]
    if not all(map(_text, names)) or len(set(names)) < len(names):
        raise Fault(f"{where}: every tool needs a `name` of its own")
    for tool in tools:
        check_schema(tool["function"].get("parameters", {}), f"{where}: `parameters` of {tool['function']['name']}")


def check_schema(schema: Any, where: str) -> None:
    """Raises Fault for what is no JSON schema (draft 2020-12), or points outside of itself."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise Fault(f"{where} is no JSON schema: {error.message}") from None
    outside = [each for each in references(schema) if not each.startswith("#")]
    if outside:
        raise Fault(f"{where} points to {outside[0]!r}: nothing is fetched, write it out")


def references(schema: Any) -> Iterator[str]:
    """Everything that a schema's `$ref` points to."""
    if isinstance(schema, dict):
        yield from (
            value for name, value in schema.items() if name in ("$ref", "$dynamicRef") and isinstance(value, str)
        )
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from references(value)


def matched(row: dict[str, Any], where: str) -> str:
    """How an answer is held against what is expected: as said, or as follows from what is there."""
    match = str(row.get("match") or usual(row))
    if match == "regex":
        _patterns(row["answer"], where)
    if ("choices" in row) != (match == "choice") or not GOES[match](row):
        raise Fault(f"{where}: this `answer` does not go with match {match!r}, which takes {WANTS[match]}")
    return match


def usual(row: dict[str, Any]) -> str:
    """The match of an item that says none."""
    if "choices" in row:
        return "choice"
    if isinstance(row["answer"], dict):
        return "call"
    return "number" if _numbers(row["answer"]) else "exact"


def _place(row: dict[str, Any]) -> bool:
    return isinstance(row["answer"], int) and _number(row["answer"]) and 0 <= row["answer"] < len(row["choices"])


def _call(row: dict[str, Any]) -> bool:
    answer = row["answer"]
    return (
        isinstance(answer, dict) and "tools" in row and _text(answer.get("name")) and _object(answer.get("arguments"))
    )


def _object(value: Any) -> bool:
    return isinstance(value, dict)


GOES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "choice": _place,
    "call": _call,
    "number": lambda row: _numbers(row["answer"]),
    "regex": lambda row: not _object(row["answer"]),
    "exact": lambda row: not _object(row["answer"]),
    "contains": lambda row: not _object(row["answer"]),
}
WANTS = {
    "choice": "the place of one of the `choices`, from 0",
    "call": "`name` and `arguments` of a call, beside `tools`",
    "number": "a number, or a list of numbers",
    "regex": "a pattern, or a list of patterns",
    "exact": "text, or a list of texts",
    "contains": "text, or a list of texts",
}


def _numbers(answer: Any) -> bool:
    return all(map(_number, answer if isinstance(answer, list) else [answer]))


def _patterns(answer: Any, where: str) -> None:
    """Raises Fault for what is no regular expression."""
    for each in answer if isinstance(answer, list) else [answer]:
        try:
            re.compile(each)
        except (re.error, TypeError) as error:
            raise Fault(f"{where}: {each!r} is no pattern: {error}") from None
