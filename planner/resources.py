"""Folders that are shipped beside the code: inside the package in a wheel, at the root in a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def _folder(name: str) -> Path:
    shipped = PACKAGE / f"_{name}"
    return shipped if shipped.is_dir() else PACKAGE.parent / name


def migrations() -> Path:
    """The Alembic environment (`env.py`, `versions/`)."""
    return _folder("alembic")


def templates() -> Path:
    """The Jinja2 templates of the launch files."""
    return _folder("templates")
