"""A repository on the hub: config.json and safetensors headers over range requests, through huggingface_hub.

Honours the library's own settings: HF_ENDPOINT, HF_TOKEN and the saved token, HF_HUB_OFFLINE, HF_HOME. Code in a
repository is never run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from catalog.config import Json
from catalog.errors import BadInput, UnknownModel
from catalog.model import Model
from probes.checkpoint import Checkpoint, model_of, parsed, with_modelopt
from probes.weights import DTYPE_BITS, Stored

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
TIMEOUT_S = 10.0
Answer = TypeVar("Answer")


def is_repository(source: str) -> bool:
    """Whether this can be the name of a repository, with or without `@revision`."""
    return REPOSITORY.fullmatch(source) is not None and ".." not in source


def read(source: str, known: Mapping[str, Model]) -> Model:
    """The model of `owner/name` or `owner/name@revision`. UnknownModel or BadInput say why it cannot be read."""
    name, _, revision = source.partition("@")
    return model_of(checkpoint(name, revision or None), known)


class Unreachable(UnknownModel):
    """The hub did not answer; what the local cache holds may still do."""


def checkpoint(name: str, revision: str | None) -> Checkpoint:
    """Config and headers of a repository; offline or unreachable, the cached config alone."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return cached(name, revision, "HF_HUB_OFFLINE is set")
    try:
        commit, license_name = asked(name, lambda: about(name, revision))
    except Unreachable as error:
        return cached(name, revision, error.message)
    tensors = asked(name, lambda: headers(name, commit))
    return Checkpoint(
        name=name,
        source=f"config.json and safetensors headers of {name} on the hub",
        config=with_beside(name, revision),
        tensors=tensors,
        bytes=sum(size(tensor) for tensor in tensors),
        revision=commit,
        license=license_name,
    )


def cached(name: str, revision: str | None, why: str) -> Checkpoint:
    """The config that an earlier look-up left in the local cache; there are no headers then."""
    config = asked(name, lambda: download(name, "config.json", revision, local=True))
    if config is None:
        raise UnknownModel(f"{why}, and the local cache has no config.json of it; use a folder or a catalogue id", name)
    return Checkpoint(name=name, source=f"cached config.json of {name} ({why})", config=config, revision=revision)


def about(name: str, revision: str | None) -> tuple[str, str]:
    """Commit and licence of a repository."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT_S)
    stated = getattr(info.card_data, "license", None)
    return info.sha or revision or "main", stated if isinstance(stated, str) else ""


def files(name: str, revision: str) -> tuple[str, ...]:
    """Names of all files of a repository."""
    from huggingface_hub import HfApi

    return tuple(sibling.rfilename for sibling in HfApi().model_info(name, revision=revision).siblings or ())


def headers(name: str, revision: str) -> tuple[Stored, ...]:
    """Names, formats and shapes of all tensors; none for a repository without safetensors."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import NotASafetensorsRepoError

    try:
        metadata = HfApi().get_safetensors_metadata(name, revision=revision)
    except NotASafetensorsRepoError:
        raise BadInput(
            "no safetensors weights: pickles are never opened, and a GGUF file is read from disk", name
        ) from None
    return tuple(
        Stored(tensor, str(entry.dtype), tuple(entry.shape))
        for file in metadata.files_metadata.values()
        for tensor, entry in file.tensors.items()
    )


def size(tensor: Stored) -> int:
    """Bytes of a stored tensor."""
    count = 1
    for length in tensor.shape:
        count *= length
    return count * DTYPE_BITS.get(tensor.dtype, 16) // 8


def with_beside(name: str, revision: str | None) -> Json:
    """config.json, with the quantization that ModelOpt writes into a file of its own."""
    config = asked(name, lambda: download(name, "config.json", revision))
    if config is None:
        raise UnknownModel("the repository has no config.json", name)
    if config.get("quantization_config") or ("NVFP4" not in name.upper() and "FP8" not in name.upper()):
        return config
    beside = asked(name, lambda: download(name, "hf_quant_config.json", revision))
    return config if beside is None else with_modelopt(config, beside)


def download(name: str, file: str, revision: str | None, local: bool = False) -> Json | None:
    """One JSON file of a repository (or of the local cache alone), None where it has none of that name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = hf_hub_download(name, file, revision=revision, etag_timeout=TIMEOUT_S, local_files_only=local)
    except EntryNotFoundError:  # also of the cache: LocalEntryNotFoundError is one
        return None
    return parsed(Path(path).read_bytes(), f"{name}/{file}")


def asked(name: str, question: Callable[[], Answer]) -> Answer:
    """The answer, or one clear error instead of the library's many."""
    from huggingface_hub import errors

    try:
        return question()
    except errors.GatedRepoError:
        raise UnknownModel("gated: accept its licence on the hub and set HF_TOKEN", name) from None
    except errors.RevisionNotFoundError:
        raise UnknownModel("no such revision", name) from None
    except errors.RepositoryNotFoundError:
        raise UnknownModel("no such repository, or a private one and no HF_TOKEN that may read it", name) from None
    except errors.HFValidationError as error:
        raise UnknownModel(f"no name of a repository: {error}", name) from None
    except errors.SafetensorsParsingError as error:
        raise BadInput(f"corrupt safetensors header: {error}", name) from None
    except transport_errors() as error:
        raise Unreachable(f"the hub cannot be reached ({type(error).__name__})", name) from None


def transport_errors() -> tuple[type[Exception], ...]:
    """Answers with an error status, timeouts, refused connections: of the library, of its transport (httpx since
    huggingface_hub 1.0; requests, whose errors are OSErrors, before), of the system."""
    from huggingface_hub import errors

    transport = getattr(errors, "HTTPError", OSError)
    return (errors.HfHubHTTPError, OSError, transport)
