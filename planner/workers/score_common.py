"""What the scripts of the scorer share: a refusal, hashes, whole files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class Refusal(Exception):
    """A sentence for people: what is wrong, and where."""


def file_hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while part := source.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def folder_hash(folder: Path, patterns: Iterable[str]) -> str:
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    return hashlib.sha256("".join(f"{file.name} {file_hash(file)}\n" for file in files).encode()).hexdigest()


def write_json(file: Path, made: dict[str, Any]) -> None:
    """Whole or not at all."""
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(made), encoding="utf-8")
    part.replace(file)


def versions(find: Callable[[str], str], names: Iterable[str]) -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = find(name)
        except ImportError:
            found[name] = "not installed"
    return found
