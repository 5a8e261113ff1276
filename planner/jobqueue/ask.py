"""The body of a verification, checked before it waits: lane, recipe, budget, and texts by content or by name.

A server reads no local files for others (decision 0011): a text is sent along, or is named in the one folder of texts
that whoever started the worker has named.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from catalog.errors import BadInput
from planner.decode import strictly
from planner.plan import Candidate, Plan
from planner.proving import recipe
from planner.running import verify
from planner.running.verify import Choice
from planner.settings import Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Of a text: one plain file name."""
HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(@[\w./-]{1,100})?", re.ASCII)
MOST_TEXTS = 20
KINDS = ("texts", "neutral", "calibration")
LARGEST_SEED = 2**31


class GivenText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`name` and `content`, or `file`: the name of a file in the worker's folder of texts."""

    name: str | None = None
    """It ends in .jsonl where each line is a JSON object, as for `lanewise verify --text`."""
    content: str | None = None
    file: str | None = None


class VerifyAsk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked of a plan, as `lanewise verify` is."""

    lane: str | None = None
    """An alternative of the plan instead of its choice."""
    recipe: str | None = None
    original: str | None = None
    budget_minutes: float | None = None
    texts: tuple[GivenText, ...] = ()
    neutral: tuple[GivenText, ...] = ()
    calibration: tuple[GivenText, ...] = ()
    seed: int = 0


def decode(data: bytes) -> VerifyAsk:
    """Read a body; an empty one asks for the plan's choice. Raises BadInput with the path of the fault."""
    ask = strictly(data or b"{}", VerifyAsk)
    if ask.budget_minutes is not None and not 0 < ask.budget_minutes < math.inf:
        raise BadInput(f"expected minutes above 0, got {ask.budget_minutes}", "$.budget_minutes")
    if not 0 <= ask.seed < LARGEST_SEED:
        raise BadInput(f"expected 0 to {LARGEST_SEED - 1}, got {ask.seed}", "$.seed")
    for field in KINDS:
        _check(getattr(ask, field), f"$.{field}")
    return ask


def _check(texts: tuple[GivenText, ...], path: str) -> None:
    if len(texts) > MOST_TEXTS:
        raise BadInput(f"expected at most {MOST_TEXTS} texts, got {len(texts)}", path)
    for place, text in enumerate(texts):
        at = f"{path}[{place}]"
        if (text.file is None) == (text.content is None) or (text.content is None) != (text.name is None):
            raise BadInput("expected `name` and `content`, or `file`", at)
        if text.content is not None and not text.content.strip():
            raise BadInput("expected some text, got none", f"{at}.content")
        field, name = ("file", text.file) if text.file is not None else ("name", text.name)
        if not NAME.fullmatch(name or ""):
            raise BadInput("expected a plain file name: letters, digits, dots, dashes", f"{at}.{field}")


def checked(plan: Plan, ask: VerifyAsk, settings: Settings) -> Candidate:
    """The candidate that it is about, after everything that can be refused before a worker has it.

    Raises BadInput and its children, NotFound for an infeasible plan.
    """
    if ask.original is not None:
        _check_original(ask.original, settings)
    try:
        question = verify.asked(plan, _choice(ask), msgspec.structs.replace(settings, measurements=False), None)
        given: dict[str, Any] = {
            field: tuple(f"/{field}/{n}" for n, _ in enumerate(getattr(ask, field))) for field in KINDS
        }
        program = recipe.program(dataclasses.replace(question, **given))
    except BadInput as fault:
        raise type(fault)(fault.message, PATHS.get(fault.path, fault.path)) from None
    if program.missing:
        raise BadInput(_without_flags("; ".join(program.missing)), "$")
    return question.candidate


def _check_original(original: str, settings: Settings) -> None:
    if HUB.fullmatch(original):
        return
    if not settings.local_models:
        raise BadInput("this server verifies models by id only, not by a path of its own file system", "$.original")
    try:
        there = Path(original).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, with a zero byte, the home of nobody
        there = False
    if not there:
        raise BadInput("expected a model id, or a folder or file of the server's machine", "$.original")


PATHS = {"--lane": "$.lane", "--recipe": "$.recipe"}


def _without_flags(sentence: str) -> str:
    """A sentence about the command's flags, in the words of the body."""
    return sentence.replace("--text FILE", "`texts`").replace("--calibration FILE", "`calibration`")


def choice(ask: VerifyAsk, uploads: Path, texts_dir: Path | None) -> Choice:
    """The question with its texts as files of this machine. Raises BadInput for a file that is not there."""
    files = {field: tuple(_file(text, uploads, texts_dir) for text in getattr(ask, field)) for field in KINDS}
    return msgspec.structs.replace(_choice(ask), **files)


def _choice(ask: VerifyAsk) -> Choice:
    return Choice(
        lane=ask.lane,
        recipe=ask.recipe,
        original=ask.original,
        budget_s=None if ask.budget_minutes is None else 60.0 * ask.budget_minutes,
        seed=ask.seed,
    )


def _file(text: GivenText, uploads: Path, texts_dir: Path | None) -> Path:
    """Where a text lies; one that was sent along lies below its content's hash, so that steps know it again."""
    if text.file is not None:
        return _allowed(text.file, texts_dir)
    content = (text.content or "").encode()
    folder = uploads / hashlib.sha256(content).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (text.name or "")
    if not path.is_file() or path.read_bytes() != content:
        path.write_bytes(content)
    return path


def _allowed(name: str, texts_dir: Path | None) -> Path:
    if texts_dir is None:
        raise BadInput("the worker has no folder of texts: it is named with --texts FOLDER", name)
    inside = texts_dir.resolve()
    path = (inside / name).resolve()
    if path.parent != inside or not path.is_file():
        raise BadInput("no such file in the worker's folder of texts", name)
    return path
