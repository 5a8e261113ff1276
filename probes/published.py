"""Whether a published checkpoint is what the catalogue says: its repository is opened, its headers read, no more."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from catalog.artifact import Artifact
from catalog.errors import BadInput
from catalog.model import Model
from probes import hub
from probes.checkpoint import model_of

INT4 = ("awq-int4", "gptq-int4", "w4a16")
"""Lanes of 4-bit integers: checkpoints of one call themselves by the name of another."""


def check(artifact: Artifact, known: Mapping[str, Model], today: str) -> Artifact:
    """The entry with commit, licence, size and the date on which it was opened.

    Raises BadInput for a repository that holds another lane, or a model of other shapes than the catalogue says;
    UnknownModel for one that cannot be opened.
    """
    if artifact.lane == "gguf":
        return _files(artifact, today)
    found = hub.checkpoint(artifact.repo, artifact.revision)
    model = model_of(found, known)
    held = model.quantization or model.native
    if held != artifact.lane and not (held in INT4 and artifact.lane in INT4):
        raise BadInput(f"the repository holds {held}, the catalogue says {artifact.lane}", artifact.repo)
    base = known.get(artifact.base)
    if base is not None and (model.layers, model.hidden, model.vocab) != (base.layers, base.hidden, base.vocab):
        raise BadInput(f"the repository holds another model than {artifact.base}", artifact.repo)
    return replace(
        artifact,
        revision=found.revision,
        license=found.license or artifact.license,
        gated=False,
        checked=today,
        weight_bytes=float(found.bytes) if found.bytes else artifact.weight_bytes,
    )


def _files(artifact: Artifact, today: str) -> Artifact:
    """A repository of GGUF files: that it exists and holds some; a file itself is read where it lies on disk."""
    commit, licence = hub.asked(artifact.repo, lambda: hub.about(artifact.repo, artifact.revision))
    names = hub.asked(artifact.repo, lambda: hub.files(artifact.repo, commit))
    if not any(name.endswith(".gguf") for name in names):
        raise BadInput("the repository holds no GGUF file", artifact.repo)
    return replace(artifact, revision=commit, license=licence or artifact.license, gated=False, checked=today)
