"""Runs inside llm-compressor's environment: a GGUF file whose tokens of single bytes are called normal ones.

usage: python lost_bytes.py SOUND.gguf BROKEN.gguf
"""

from __future__ import annotations

import shutil
import sys

from gguf import GGUFReader

BYTE, NORMAL = 6, 1


def main(sound: str, broken: str) -> None:
    shutil.copy2(sound, broken)
    reader = GGUFReader(broken, "r+")
    field = reader.fields["tokenizer.ggml.token_type"]
    for part in field.data:
        if field.parts[part][0] == BYTE:
            field.parts[part][0] = NORMAL
    reader.data.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
