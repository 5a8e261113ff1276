"""The one door for a model's name: a catalogue id, a folder, a GGUF file or a repository on the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec

from catalog.errors import UnknownModel
from catalog.model import Model


def read(source: str, known: Mapping[str, Model]) -> Model:
    """The model that `source` names. UnknownModel, BadInput or Unsupported say what is wrong and where."""
    name, _, revision = source.partition("@")
    if name in known:
        return msgspec.structs.replace(known[name], revision=revision) if revision else known[name]
    path = Path(os.path.expanduser(source))
    if source.endswith(".gguf"):
        from probes import gguf_file

        return gguf_file.read(path, known)
    if source and os.path.isdir(path):
        return folder(path, known)
    from probes import hub

    if not hub.is_repository(source):
        raise UnknownModel(
            f"no catalogue id, folder, .gguf file or repository of that name{nearest(source, known)}", source
        )
    try:
        return hub.read(source, known)
    except UnknownModel as error:
        raise UnknownModel(f"{error.message}{nearest(source, known)}", source) from None


def folder(path: Path, known: Mapping[str, Model]) -> Model:
    """A checkpoint folder, or one that holds nothing but one GGUF model."""
    from probes import checkpoint, gguf_file

    models = sorted(file for file in path.glob("*.gguf") if not file.name.startswith("mmproj"))
    if models and not (path / "config.json").is_file():
        if len({gguf_file.siblings(file) for file in models}) > 1:
            raise UnknownModel(f"several GGUF files, name one: {', '.join(file.name for file in models)}", str(path))
        return gguf_file.read(models[0], known)
    return checkpoint.read(path, known)


def nearest(source: str, known: Mapping[str, Model]) -> str:
    """Catalogue ids of similar names, as the end of a message."""
    close = get_close_matches(source, known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""
