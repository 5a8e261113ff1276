"""The documentation says what is so."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from litestar.testing import TestClient

from planner import cli, decode, request, settings
from planner.api import create_app

ROOT = Path(__file__).parents[2]
MAINTAINED = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(generate: ModuleType) -> dict[str, str]:
    written: dict[str, str] = generate.pages()
    return written


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "docs/tutorial.md",
        "docs/reference/cli.md",
        "docs/reference/request.md",
        "docs/reference/rules.md",
        "docs/reference/articles.md",
    ],
)
def test_generated_parts_are_fresh(pages: dict[str, str], path: str) -> None:
    assert read(path) == pages[path], "stale: run `make docs`"


def test_the_first_screen_shows_one_command_and_its_answer() -> None:
    first_screen = "\n".join(read("README.md").splitlines()[:45])
    assert "lanewise plan examples/support-chat.toml" in first_screen
    assert "Ship " in first_screen


def test_every_field_of_the_request_has_a_meaning_and_no_other(generate: ModuleType) -> None:
    import tomllib

    fields = {path for path, _ in generate.fields(request.Request)} - decode.NOT_PLANNED.keys()
    assert tomllib.loads(read("docs/reference/request_fields.toml")).keys() == fields


def test_every_argument_has_help(generate: ModuleType) -> None:
    bare = [f"{parser.prog} {action.dest}" for parser in generate.commands(cli.parser()) for action in parser._actions
            if not action.help and action.metavar not in {"COMMAND", "ACTION"}]  # fmt: skip
    assert bare == []


def test_every_setting_is_documented() -> None:
    tutorial = read("docs/tutorial.md")
    assert [line for line in settings.VARIABLES.items() if "| `{}` | {} |".format(*line) not in tutorial] == []


def modules() -> Iterator[str]:
    """Every module of the three packages as a path."""
    for package in ("catalog", "probes", "planner"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix()


def test_the_structure_page_names_every_module_in_sixty_lines() -> None:
    page = read("docs/structures.md")
    assert len(page.splitlines()) <= 60
    assert [module for module in modules() if not module.endswith("__init__.py") and f"`{module}`" not in page] == []
    assert [named for named in re.findall(r"`((?:catalog|probes|planner)/[\w/]+\.py)`", page)
            if not (ROOT / named).is_file()] == []  # fmt: skip


@pytest.mark.parametrize("page", MAINTAINED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def shell_lines(path: str) -> list[str]:
    """The lines of every `sh` block."""
    return [line for block in re.findall(r"```sh\n(.*?)```", read(path), re.DOTALL) for line in block.splitlines()]


TRIED = (
    "lanewise plan", "lanewise fit", "lanewise review", "lanewise rule", "lanewise catalog", "lanewise probe",
    "lanewise evidence",
)  # fmt: skip


@pytest.mark.parametrize("path", ["README.md", "docs/tutorial.md"])
def test_the_commands_shown_work(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LANEWISE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(ROOT)
    lines = [line.replace("out/support-chat", str(tmp_path / "out")) for line in shell_lines(path)]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith(TRIED)]
    assert commands
    assert [words for words in commands if cli.main(words) != 0] == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("path", ["README.md", "docs/tutorial.md"])
def test_the_calls_shown_work(path: str, tmp_path: Path) -> None:
    calls = [shlex.split(line) for line in shell_lines(path) if line.startswith("curl")]
    own = settings.from_environment({"LANEWISE_DATA_DIR": str(tmp_path)})
    with TestClient(create_app(own)) as client:
        for call in calls:
            place = next(word for word in call if word.startswith("localhost")).partition("/")[2]
            body = json.loads(call[call.index("-d") + 1]) if "-d" in call else None
            answer = client.post(f"/{place}", json=body) if body else client.get(f"/{place}")
            assert answer.status_code == 200, call
    assert calls
