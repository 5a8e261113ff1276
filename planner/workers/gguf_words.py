"""The header of a GGUF file, each field as its bytes: long lists of tokens are compared and never read into lists."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensor_files import Block, Broken

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the plain types; 8 is a string, 9 a list (gguf.h, enum gguf_type)."""
FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, LIST = 8, 9
ALIGNMENT = 32


@dataclass(frozen=True)
class Tensor:
    """One tensor: rows of bytes; `shape` has the length of a row first, as in the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: Block
    """[rows, bytes of a row] as unsigned bytes."""


class File:
    """Fields and tensors. Raises Broken where the file is not whole."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as source:
            if path.stat().st_size < 24:
                raise Broken(f"{path}: not a whole GGUF file (too short)")
            self.bytes = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
        self.place = 0
        try:
            self._read()
        except (struct.error, IndexError, KeyError, ValueError, UnicodeDecodeError) as fault:
            raise Broken(f"{path}: not a whole GGUF file ({fault})") from fault

    def _read(self) -> None:
        magic, version, tensors, fields = self._take("<4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"begins with {magic!r}, version {version}")
        self.fields: dict[str, bytes] = {}
        for _ in range(fields):
            name = self._string()
            start = self.place
            self._skip(self._take("<I")[0])
            self.fields[name] = self.bytes[start : self.place]
        infos = []
        for _ in range(tensors):
            name = self._string()
            (count,) = self._take("<I")
            infos.append((name, self._take(f"<{count}Q"), *self._take("<IQ")))
        step = int(self.value("general.alignment") or ALIGNMENT)
        start = -(-self.place // step) * step
        self.tensors = {name: self._tensor(name, shape, kind, start + offset) for name, shape, kind, offset in infos}

    def _take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self.bytes, self.place)
        self.place += struct.calcsize(form)
        return found

    def _string(self) -> str:
        (length,) = self._take("<Q")
        self.place += length
        return self.bytes[self.place - length : self.place].decode()

    def _skip(self, kind: int) -> None:
        """Go behind a value."""
        if kind == STRING:
            self.place += 8 + struct.unpack_from("<Q", self.bytes, self.place)[0]
        elif kind == LIST:
            inner, count = self._take("<IQ")
            if inner in SIZES:
                self.place += SIZES[inner] * count
            else:
                for _ in range(count):
                    self._skip(inner)
        else:
            self.place += SIZES[kind]

    def value(self, name: str) -> Any:
        """A plain value or a string; None where there is no such field."""
        raw = self.fields.get(name)
        if raw is None:
            return None
        (kind,) = struct.unpack_from("<I", raw)
        return raw[12:].decode() if kind == STRING else struct.unpack_from(FORMATS[kind], raw, 4)[0]

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int, start: int) -> Tensor:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        known = GGMLQuantizationType(kind)
        values, size = GGML_QUANT_SIZES[known]
        row = int(shape[0]) // values * size
        rows = int(np.prod(shape[1:], dtype=np.int64))
        if shape[0] % values or start + row * rows > len(self.bytes):
            raise ValueError(f"{name} does not fit the file")
        data = np.frombuffer(self.bytes, np.uint8, row * rows, start).reshape(rows, row)
        return Tensor(name, known.name, tuple(map(int, shape)), data)
