"""A local checkpoint folder: config.json and the headers of its safetensors files, never a tensor, never a pickle."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import SequenceMatcher
from math import prod
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta, Struct

from catalog.architectures import model_from_config
from catalog.config import Json, MissingKey, section
from catalog.errors import BadInput, UnknownModel
from catalog.model import Model
from catalog.tensors import params
from catalog.units import Bytes
from probes.weights import DTYPE_BITS, Packing, Stored, group

CONFIG_LIMIT = 16 * 2**20
"""Bytes; a config.json or index beyond this is no such file."""
HEADER_LIMIT = 100 * 2**20
"""Bytes; the limit of the safetensors format itself."""


class Header(Struct, frozen=True):
    """What the header of one safetensors file lists."""

    tensors: tuple[Stored, ...]
    bytes: int
    """Size of the tensor data."""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """Config and tensors of one folder or repository. `tensors` is empty where only the config was readable."""

    name: str
    source: str
    config: Json
    tensors: tuple[Stored, ...] = ()
    bytes: int = 0
    revision: str | None = None
    license: str = ""


def read(folder: Path, known: Mapping[str, Model]) -> Model:
    """The model of a folder; UnknownModel or BadInput name the file and what is wrong with it."""
    headers = [header(file) for file in weight_files(folder)]
    return model_of(
        Checkpoint(
            name=str(folder),
            source=f"config.json and safetensors headers in {folder}",
            config=described(folder),
            tensors=tuple(tensor for one in headers for tensor in one.tensors),
            bytes=sum(one.bytes for one in headers),
        ),
        known,
    )


def model_of(checkpoint: Checkpoint, known: Mapping[str, Model]) -> Model:
    """Shapes from the config (or, where it leans on a library's defaults, from the catalogue model with the same
    tensors), weights from the tensors, evidence from the base it inherits."""
    try:
        model = model_from_config(settled(checkpoint), checkpoint.name, checkpoint.source)
    except MissingKey:
        model = twin(checkpoint, known)
    stated = {"revision": checkpoint.revision, "license": checkpoint.license}
    model = msgspec.structs.replace(model, **stated)
    if checkpoint.tensors:
        model = weighed(model, checkpoint)
    return msgspec.structs.replace(model, inherited=inherit(model, known.values()))


def settled(checkpoint: Checkpoint) -> Json:
    """The config, with tied embeddings read off the tensors where it is silent."""
    config, names = checkpoint.config, {tensor.name for tensor in checkpoint.tensors}
    if not names or "tie_word_embeddings" in {**config, **section(config, "text_config")}:
        return config
    return {**config, "tie_word_embeddings": not any("lm_head" in name for name in names)}


def twin(checkpoint: Checkpoint, known: Mapping[str, Model]) -> Model:
    """The catalogue model whose own matrices are exactly the ones stored here; re-raises MissingKey without one."""
    for model in known.values():
        if model.unplanned is None and checkpoint.tensors and same_matrices(model, checkpoint):
            return msgspec.structs.replace(
                model, id=checkpoint.name, source=f"{checkpoint.source}; shapes of {model.id}", native_bytes=None
            )
    return model_from_config(settled(checkpoint), checkpoint.name, checkpoint.source)


def same_matrices(model: Model, checkpoint: Checkpoint) -> bool:
    """Whether the parameters agree within 0.1 % and the vocabulary and hidden width exactly."""
    if not model.total_params:
        return False
    tensors = group(checkpoint.tensors, model)
    embeddings = {(tensor.rows, tensor.columns) for tensor in tensors if tensor.part == "embedding"}
    near = abs(params(tensors) / model.total_params - 1) < 1e-3
    return near and embeddings == {(model.vocab, model.hidden)}


def weighed(model: Model, checkpoint: Checkpoint) -> Model:
    """The model with its stored tensors and their exact bytes."""
    tensors = group(checkpoint.tensors, model, packing(checkpoint.config, model.native))
    sizes = {part: sum(tensor.params for tensor in tensors if tensor.part == part) for part in ("vision", "mtp")}
    return msgspec.structs.replace(
        model,
        tensors=tensors,
        total_params=float(params(tensors)),
        extra_params=float(sizes["vision"]),
        mtp_params=float(sizes["mtp"]),
        native_bytes=Bytes(checkpoint.bytes),
    )


def packing(config: Json, lane: str) -> Packing:
    """How integer weights are packed, by the checkpoint's own description."""
    stated = section(config, "quantization_config")
    groups = [found for found in section(stated, "config_groups").values() if isinstance(found, Mapping)]
    bits = section(groups[0], "weights").get("num_bits") if groups else stated.get("bits")
    width = bits if isinstance(bits, int) and bits in (2, 4, 8) else 4
    return Packing(bits=width, along="outputs" if lane == "awq-int4" else "inputs")


def inherit(model: Model, known: Iterable[Model]) -> str | None:
    """The catalogue model of the same decoder shapes; among several the one with the same context, then the most
    similar name. None for a model that is in the catalogue itself or has no base there."""
    alike = [base for base in known if base.inherited is None and decoder(base) == decoder(model)]
    if not alike or any(base.id == model.id for base in alike):
        return None
    return min(
        alike, key=lambda base: (base.max_position != model.max_position, -similar(base.id, model.id), base.id)
    ).id


def decoder(model: Model) -> tuple[object, ...]:
    """The shapes that make two decoders the same."""
    return (
        model.layers,
        model.hidden,
        model.heads,
        model.kv_heads,
        model.head_dim,
        model.intermediate,
        model.vocab,
        model.tied,
        model.window,
        model.linear,
        model.moe,
        model.mla,
        model.attention_bias,
    )


def similar(one: str, other: str) -> float:
    """0..1, by the last part of two names."""
    matcher = SequenceMatcher(None, last_part(one), last_part(other))
    return float(matcher.ratio())


def last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


# ---- files -----------------------------------------------------------------------------------------------------------


def described(folder: Path) -> Json:
    """config.json, with the quantization that ModelOpt writes into a file of its own."""
    config = document(folder / "config.json")
    if section(config, "quantization_config") or not (folder / "hf_quant_config.json").is_file():
        return config
    return with_modelopt(config, document(folder / "hf_quant_config.json"))


def with_modelopt(config: Json, beside: Json) -> Json:
    """`hf_quant_config.json` as if it stood in config.json."""
    return {**config, "quantization_config": {"quant_method": "modelopt", **section(beside, "quantization")}}


def document(path: Path) -> Json:
    """A JSON object from a file of bounded size."""
    if not path.is_file():
        raise UnknownModel(f"no {path.name} in this folder", str(path))
    if path.stat().st_size > CONFIG_LIMIT:
        raise BadInput(f"{path.name} is larger than {CONFIG_LIMIT} bytes", str(path))
    with readable(path) as file:
        return parsed(file.read(), str(path))


@contextmanager
def readable(path: Path) -> Iterator[BinaryIO]:
    """The open file; BadInput where the system refuses to read it."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror or error}", str(path)) from None


def parsed(content: bytes, where: str) -> Json:
    """A JSON object; BadInput says where it is none."""
    try:
        value: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"no valid JSON: {error}", where) from None
    if not isinstance(value, dict):
        raise BadInput("expected a JSON object", where)
    return value


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files: those of the index where there is one, all otherwise."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted({str(name) for name in section(document(index), "weight_map").values()})
        files = tuple(folder / Path(name).name for name in names)
    else:
        files = tuple(sorted(folder.glob("*.safetensors")))
    missing = [file for file in files if not file.exists()]
    if missing:
        raise BadInput("the index names this file, and it is not here", str(missing[0]))
    if not files and next(folder.glob("*.bin"), None):
        raise BadInput("only .bin files: pickles are never opened; convert them to safetensors", str(folder))
    return files


def header(path: Path) -> Header:
    """The header of one safetensors file: eight bytes of length, then JSON."""
    size = path.stat().st_size
    with readable(path) as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise BadInput(f"no safetensors header: {length} bytes announced in a file of {size}", str(path))
        content = parsed(file.read(length), str(path))
    read = listed(content, str(path))
    if 8 + length + read.bytes > size:
        raise BadInput(f"cut off: {size} bytes of {8 + length + read.bytes}", str(path))
    return read


Natural = Annotated[int, Meta(ge=0)]


class Entry(Struct, frozen=True):
    """One tensor in a safetensors header; offsets in bytes from the end of the header."""

    dtype: str
    shape: tuple[Natural, ...]
    data_offsets: tuple[Natural, Natural]


def check(name: str, entry: Entry, where: str) -> None:
    """Shape, format and offsets of one tensor must say the same size."""
    if entry.dtype not in DTYPE_BITS:
        raise BadInput(f"tensor {name} has the unknown format {entry.dtype}", where)
    start, end = entry.data_offsets
    if prod(entry.shape) * DTYPE_BITS[entry.dtype] != 8 * (end - start):
        raise BadInput(f"tensor {name}: shape {list(entry.shape)} does not fill {end - start} bytes", where)


def listed(content: Json, where: str) -> Header:
    """The tensors of a parsed header."""
    entries = {name: entry for name, entry in content.items() if name != "__metadata__"}
    try:
        found = {name: msgspec.convert(entry, Entry) for name, entry in entries.items()}
    except msgspec.ValidationError as error:
        raise BadInput(f"corrupt safetensors header: {error}", where) from None
    for name, entry in found.items():
        check(name, entry, where)
    end = max((entry.data_offsets[1] for entry in found.values()), default=0)
    return Header(tuple(Stored(name, entry.dtype, entry.shape) for name, entry in found.items()), end)
