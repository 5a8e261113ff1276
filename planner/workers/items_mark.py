"""Marks answers: whether they are what was expected, fit their schema, or call a tool as it is called."""

from __future__ import annotations

import json
import re
from typing import Any

NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:[,\u00a0\u202f]\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
CLOSE = 1e-6
"""Of a number, how far an answer may be from it."""
THOUGHT = re.compile(r"^.*</think>", re.DOTALL)
FENCE = re.compile(r"^```[\w-]*\n(.*?)\n?```$", re.DOTALL)
CALLS = (
    re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL),
    re.compile(r"\[TOOL_CALLS\]\s*(.*)", re.DOTALL),
    re.compile(r"<\|python_tag\|>\s*(.*)", re.DOTALL),
)
"""Around calls: as Hermes and Qwen, Mistral, Llama write them."""
END = re.compile(r"<\|?[\w/]+\|?>\s*$")
"""A special token at the end of an answer that was written with them."""


def marked(item: dict[str, Any], answer: dict[str, Any]) -> tuple[float | None, bool | None]:
    """(score, valid): None where nothing is expected of that kind."""
    expected, text = item["expected"], THOUGHT.sub("", answer["text"]).strip()
    call = called(item, answer) if item.get("tools") else None
    valid = call is not None if item.get("tools") else None
    if "schema" in expected:
        valid = (valid is None or valid) and fits(expected["schema"], parsed(text))
    if "answer" not in expected:
        return None, valid
    if expected["match"] == "choice":
        return float(answer["details"].get("acc_norm") == expected["answer"]), valid
    if expected["match"] == "call":
        return float(call == (expected["answer"]["name"], expected["answer"]["arguments"])), valid
    wanted = expected["answer"] if isinstance(expected["answer"], list) else [expected["answer"]]
    return float(any(HOLDS[expected["match"]](text, each) for each in wanted)), valid


def exact(text: str, wanted: Any) -> bool:
    """The same words: white space does not count, capitals do."""
    return text.split() == str(wanted).split()


def contains(text: str, wanted: Any) -> bool:
    return " ".join(str(wanted).split()) in " ".join(text.split())


def number(text: str, wanted: Any) -> bool:
    """The last number of the answer; commas may part thousands."""
    found = NUMBER.findall(text)
    last = re.sub(r"[,\u00a0\u202f]", "", found[-1]) if found else ""
    return bool(last) and abs(float(last) - wanted) <= CLOSE * max(1.0, abs(wanted))


def regex(text: str, wanted: Any) -> bool:
    """Found anywhere."""
    return re.search(str(wanted), text) is not None


HOLDS = {"exact": exact, "contains": contains, "number": number, "regex": regex}
NOTHING = object()
"""No JSON."""


def parsed(text: str) -> Any:
    """The whole text as JSON, with or without a fence around it; NOTHING where it is none."""
    fenced = FENCE.match(text.strip())
    try:
        return json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return NOTHING


def fits(schema: Any, value: Any) -> bool:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    if value is NOTHING:
        return False
    return bool(Draft202012Validator(schema, registry=Registry()).is_valid(value))


def called(item: dict[str, Any], answer: dict[str, Any]) -> tuple[str, Any] | None:
    """The first call, where every call names a tool that there is with arguments that fit; None otherwise."""
    known = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in item["tools"]}
    calls = written(answer["details"].get("raw", answer["text"]))
    if not calls or any(name not in known or not fits(known[name], arguments) for name, arguments in calls):
        return None
    return calls[0]


def written(text: str) -> list[tuple[Any, Any]]:
    """(name, arguments) of the calls that an answer writes as JSON; none where something is no call."""
    text = THOUGHT.sub("", text).strip()
    parts = next((found for kind in CALLS if (found := kind.findall(text))), [text])
    calls: list[Any] = []
    for part in parts:
        value = parsed(END.sub("", part))
        calls += value if isinstance(value, list) else [value]
    found = [pair(each) for each in calls]
    return [each for each in found if each is not None] if None not in found else []


def pair(call: Any) -> tuple[Any, Any] | None:
    """One call, whichever way its publisher writes it."""
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call = call["function"]
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters"))
    return call["name"], parsed(arguments) if isinstance(arguments, str) else arguments
