"""The rules of the house that no other tool checks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHELL = frozenset(
    {
        "__main__",
        "accuracy",
        "api",
        "archive",
        "browse",
        "charts",
        "cli",
        "commands",
        "drawings",
        "evidence_report",
        "headroom_report",
        "listing",
        "machine_report",
        "measurements",
        "observe",
        "oracles",
        "processes",
        "render",
        "report",
        "resources",
        "review_page",
        "runner",
        "runstate",
        "service",
        "settings",
        "sketch",
        "store",
        "tools",
        "verify",
        "verify_report",
        "verify_served",
        "version",
        "workers",
    }
)
"""Modules of `planner` that may know the world around them."""


def modules() -> set[str]:
    """Modules and packages directly below `planner`."""
    files = {path.stem for path in (ROOT / "planner").glob("*.py") if path.stem != "__init__"}
    return files | {path.parent.name for path in (ROOT / "planner").glob("*/__init__.py")}


def core() -> set[str]:
    """What the import contract keeps pure."""
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    pure = next(contract for contract in contracts if contract["name"].startswith("the core"))
    return {name.removeprefix("planner.") for name in pure["source_modules"]}


def test_every_module_is_core_or_shell() -> None:
    assert modules() == core() | SHELL
    assert core() & SHELL == set()


def pins() -> dict[str, str]:
    """Constraints: name as written in an index, version."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement)[0].lower().replace("_", "-")


def test_everything_that_is_installed_is_pinned_without_urls_or_hashes() -> None:
    groups = PROJECT["dependency-groups"]
    wanted = {_name(line) for line in [*PROJECT["project"]["dependencies"], *groups["test"], *groups["lint"]]}
    pinned = {name.lower().replace("_", "-"): version for name, version in pins().items()}
    assert wanted - pinned.keys() == set()
    assert [version for version in pinned.values() if not re.fullmatch(r"[0-9][0-9a-z.]*", version)] == []


def test_continuous_integration_runs_both_suites() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test test-slow" in script.read_text(encoding="utf-8")


def test_the_makefile_explains_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())  # type: ignore[index]
    assert set(re.findall(r"^(\w[\w-]*):", text, re.MULTILINE)) == targets
    shown = set(re.findall(r'@echo "make ([\w-]+)', text))
    assert shown == targets - {"help"}
