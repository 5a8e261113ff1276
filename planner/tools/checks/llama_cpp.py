"""Runs inside llama.cpp's environment: the program and the binding read one vocabulary and give the same tokens.

usage: python llama_cpp.py FOLDER…, the folders of programs, that of the source last
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.pop(0)  # this file has the name of the package that it tries
TEXT = "Three lanes, 42 tokens."


def main(folders: list[str]) -> None:
    import llama_cpp

    places = [Path(folder) for folder in folders]
    vocabulary = next(place / "models" / "ggml-vocab-llama-spm.gguf" for place in places if (place / "models").is_dir())
    program = next(place / "llama-tokenize" for place in places if (place / "llama-tokenize").is_file())
    told = subprocess.run(
        [str(program), "-m", str(vocabulary), "--ids", "--log-disable", "-p", TEXT],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    by_program = json.loads(told.stdout)
    by_binding = llama_cpp.Llama(model_path=str(vocabulary), vocab_only=True, verbose=False).tokenize(TEXT.encode())
    assert by_program == by_binding, f"the program gives {by_program}, the binding {by_binding}"
    libraries = os.environ["LLAMA_CPP_LIB_PATH"]
    assert Path(libraries) == program.parent, f"the binding loads {libraries}, not the libraries of {program.parent}"
    print(f"program and binding {llama_cpp.__version__} give the same {len(by_program)} tokens")


if __name__ == "__main__":
    main(sys.argv[1:])
