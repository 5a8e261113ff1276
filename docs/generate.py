"""Write what is generated in the documentation: `make docs`. The suite fails when a page is not what this writes.

Between `<!-- run: lanewise … -->` and `<!-- end -->` stands the real output of that command; the pages in `reference/`
are made from the parser, the request's types and the rules' docstrings.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec

from catalog.inventory import Inventory
from planner import cli, decode, request, rules

sys.path.insert(0, str(Path(__file__).parent))
import articles

ROOT = Path(__file__).parent.parent
WITH_OUTPUT = ("README.md", "docs/tutorial.md")
BLOCK = re.compile(r"(<!-- run: (?P<command>[^\n]+) -->\n)```text\n.*?```\n(<!-- end -->)", re.DOTALL)


def pages() -> dict[str, str]:
    """Every page with generated parts, by its path, as it should be now."""
    written = {path: with_output((ROOT / path).read_text(encoding="utf-8")) for path in WITH_OUTPUT}
    return written | {
        "docs/reference/cli.md": cli_page(),
        "docs/reference/request.md": request_page(),
        "docs/reference/rules.md": rules_page(),
        "docs/reference/articles.md": articles.articles_page(),
    }


def with_output(text: str) -> str:
    """The page with the output of every command it shows."""
    return BLOCK.sub(lambda found: f"{found[1]}```text\n{output(found['command'])}```\n{found[3]}", text)


def output(command: str) -> str:
    """What a command of ours prints, run from the root with an empty data folder; trailing blanks are cut."""
    program, *arguments = shlex.split(command)
    if program != "lanewise":
        raise ValueError(f"only lanewise commands are run, not {program!r}")
    captured = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with _bare_environment(), contextlib.redirect_stdout(captured):
        if cli.main(arguments) not in {cli.DONE, cli.INFEASIBLE}:
            raise RuntimeError(f"a page shows a command that fails: {command}")
        captured.flush()
    text = typing.cast("io.BytesIO", captured.buffer).getvalue().decode()
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"


@contextlib.contextmanager
def _bare_environment() -> Iterator[None]:
    kept, here = dict(os.environ), Path.cwd()
    with tempfile.TemporaryDirectory() as empty:
        for name in ("LANEWISE_CATALOG_DIR", "LANEWISE_DATABASE_URL", "FORCE_COLOR", "COLUMNS"):
            os.environ.pop(name, None)
        os.environ["LANEWISE_DATA_DIR"] = os.environ["LANEWISE_TOOLS_DIR"] = empty
        os.chdir(ROOT)
        try:
            yield
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(kept)


GENERATED = "<!-- written by `make docs`; change the code instead -->"


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and, below it, those of all its sub-commands, in the order of the help."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from commands(sub)


def cli_page() -> str:
    """A section per command: what it does, its arguments."""
    sections = [_command(parser) for parser in commands(cli.parser())]
    return "\n".join([GENERATED, "# Commands", "", *sections]).rstrip() + "\n"


def _command(parser: argparse.ArgumentParser) -> str:
    rows = [_argument(action) for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    table = ["| argument | meaning |", "|---|---|", *rows]
    return "\n".join([f"## {parser.prog}", parser.description or "", "", *table, ""])


def _argument(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings) or f"{action.metavar or action.dest}"
    value = "|".join(map(str, action.choices)) if action.choices else action.metavar
    if action.option_strings and action.nargs != 0:
        name += f" {value or action.dest.upper()}"
    elif action.choices:
        name = "|".join(map(str, action.choices))
    meaning = (action.help or "").replace("%(default)s", str(action.default)).replace("show program's", "print the")
    return f"| `{name.replace('|', chr(92) + '|')}` | {meaning} |"


REQUEST_HEAD = """# The request

A TOML or JSON document, or the body of `POST /plan`. Only `model` and one rate (`workload.qps`, `users`, `batch` or
`trace`) are required; every default that was used stands in the plan under `assumptions`. An unknown field is refused
with its path, and a field that is known but not planned yet is refused by name, never ignored.
"""


def request_page() -> str:
    """Every field of the request with its type and meaning; those that are refused say why."""
    meanings = tomllib.loads((ROOT / "docs/reference/request_fields.toml").read_text(encoding="utf-8"))
    rows = [_field(path, kind, meanings) for path, kind in fields(request.Request)]
    return "\n".join([GENERATED, REQUEST_HEAD, "| field | type | meaning |", "|---|---|---|", *rows]) + "\n"


def fields(struct: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(path, type as people read it) of every field, nested ones after their parent."""
    for field in msgspec.structs.fields(struct):
        path, (kind, nested) = prefix + field.encode_name, _kind(field.type)
        yield path, kind
        if nested is not None and nested is not Inventory:
            yield from fields(nested, f"{path}[]." if "list of" in kind else f"{path}.")


SCALARS = {str: "text", int: "integer", float: "number", bool: "true or false", typing.Any: "anything"}


def _kind(annotation: object) -> tuple[str, type | None]:
    """The words for a type, and the Struct in it, if any."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return "table", annotation
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " ".join(f"`{choice}`" for choice in arguments), None
    if origin in {list, tuple}:
        kind, nested = _kind(arguments[0])
        return f"list of {kind}s" if kind in {"table", "number"} else f"list of {kind}", nested
    if origin is dict:
        return f"table of {_kind(arguments[1])[0]}", None
    if origin in {typing.Union, types.UnionType}:
        kinds = [_kind(part) for part in arguments if part is not types.NoneType]
        return " or ".join(kind for kind, _ in kinds), next((nested for _, nested in kinds if nested), None)
    return SCALARS[typing.cast("type", annotation)], None


def _field(path: str, kind: str, meanings: dict[str, str]) -> str:
    refused = decode.NOT_PLANNED.get(path)
    return f"| `{path}` | {kind} | {f'refused: {refused}' if refused else meanings[path]} |"


def rules_page() -> str:
    """A section per rule: its code, its effect, its page; requests are shown as the commands they are."""
    ordered = sorted(rules.RULES, key=lambda rule: rule.code)
    return "\n".join([GENERATED, RULES_HEAD, *(_rule(rule) for rule in ordered)]).rstrip() + "\n"


def _rule(rule: rules.Rule[typing.Any]) -> str:
    waivable = ", may be waived" if rule.code in rules.WAIVABLE else ""
    parts = dict(rule.sections)
    what, fires, silent = parts.pop(""), parts.pop("Fires"), parts.pop("Silent")
    lines = [f"## {rule.code}", "", f"Effect: {rule.effect}{waivable}. {what}", ""]
    lines += [f"- {heading}: {text}" for heading, text in parts.items()]
    return "\n".join([*lines, "", f"Speaks: `lanewise plan {fires}`\\", f"Silent: `lanewise plan {silent}`", ""])


RULES_HEAD = """# Rules

A rule looks at one case (a lane on an engine on a device, with a cache format, on a layout, or with its numbers) and
answers with a finding or with nothing. H: hardware and engine; Q: quality; L: latency and load; C: cost. What three
articles claim, and the rule that answers each claim: [claim by claim](articles.md).
"""


def main() -> None:
    """Write every page that differs; with `--check`, name them and fail instead."""
    stale = {path: text for path, text in pages().items() if _now(path) != text}
    if "--check" in sys.argv:
        sys.exit(f"not as `make docs` writes them: {', '.join(stale)}" if stale else 0)
    for path, text in stale.items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(f"wrote {path}")


def _now(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""


if __name__ == "__main__":
    main()
