"""One door: which reader a name goes to, and names that nothing answers to."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from catalog.errors import BadInput, UnknownModel
from catalog.load import load
from probes.models import read
from tests.models import stored

KNOWN = load().models


def test_catalogue_ids_come_back_as_they_are() -> None:
    assert read("Qwen/Qwen3-8B", KNOWN) is KNOWN["Qwen/Qwen3-8B"]
    assert read("Qwen/Qwen3-8B@b968826", KNOWN).revision == "b968826"


def test_a_folder_is_read_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    assert read(str(stored.checkpoint(tmp_path / "tiny", stored.TINY)), KNOWN).layers == 2
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("~/tiny", KNOWN).layers == 2


@pytest.mark.parametrize(
    "name", ["", "llama", "a/b/c", "../x", "a/..", "~nobody-here", "x" * 5000, "a\0b", "$(id)/model", "a/b; rm -rf"]
)
def test_names_that_can_be_nothing(name: str) -> None:
    with pytest.raises(UnknownModel, match="no catalogue id, folder"):
        read(name, KNOWN)


@pytest.mark.parametrize("name", ["none.gguf", "x" * 5000 + ".gguf", "a\0b.gguf", "~nobody-here/x.gguf"])
def test_gguf_files_that_are_not_there(name: str) -> None:
    with pytest.raises(UnknownModel, match="no such GGUF file"):
        read(name, KNOWN)


def test_near_misses_are_named() -> None:
    with pytest.raises(UnknownModel, match="did you mean Qwen/Qwen3-8B"):
        read("Qwen3-8B!", KNOWN)


def test_an_unreadable_file_is_a_sentence(tmp_path: Path) -> None:
    folder = stored.checkpoint(tmp_path / "odd", stored.TINY)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        read(str(folder), KNOWN)
