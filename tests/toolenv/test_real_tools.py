"""Slow: the real tools, installed where they are not yet, tried by their doctor, and one chain through two of them."""

from __future__ import annotations

import subprocess

import pytest

from catalog import tools
from planner import settings
from planner.tools import doctor, environment
from tests.tools.environment import tool

pytestmark = pytest.mark.slow


def test_llm_compressor_works_and_does_not_pin_memory_without_an_accelerator() -> None:
    place = tool("llm-compressor")
    assert place.versions["llmcompressor"] == "0.14.0.1"
    assert place.versions["compressed-tensors"] == "0.19.0"
    found = doctor.examine(tools.load()["llm-compressor"], settings.from_environment())
    assert (found.problems, found.tried.endswith("became float-quantized")) == ((), True)


def test_llama_cpp_and_its_binding_are_one_build() -> None:
    tool("llama.cpp")
    own = settings.from_environment()
    listed = tools.load()["llama.cpp"]
    assert listed.build is not None
    found = doctor.examine(listed, own)
    assert found.problems == ()
    assert found.tried.startswith("program and binding 0.3.36 give the same")
    for name in listed.build.targets:
        assert environment.program("llama.cpp", name, own).is_file()
    assert environment.program("llama.cpp", "convert_hf_to_gguf.py", own).is_file()
    python, library = environment.python("llama.cpp", own), environment.program("llama.cpp", "llama-server", own).parent
    asked = "import os, llama_cpp; print(os.environ['LLAMA_CPP_LIB_PATH']); print(llama_cpp.llama_cpp._lib._name)"
    said = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == str(library)
    assert said[1].startswith(str(library))
