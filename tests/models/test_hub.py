"""Repositories on a hub: exact weights from headers alone, and every refusal a clear sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.models import stored
from tests.models.hub import COMMIT, GATED, serving

SCRIPT = """
import json, sys
from catalog.errors import LanewiseError
from catalog.load import load
from catalog.tensors import params
from probes.models import read
known = {} if "--alone" in sys.argv else load().models
try:
    model = read(sys.argv[1], known)
except LanewiseError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({
        "id": model.id, "layers": model.layers, "kv_heads": model.kv_heads, "params": params(model.tensors),
        "bytes": model.native_bytes, "revision": model.revision, "license": model.license, "native": model.native,
        "inherited": model.inherited, "source": model.source, "recipe": model.native_recipe,
    }))
"""


class Hub:
    """A running hub with a few repositories; `read` asks it in a fresh process, as the settings are read at import."""

    def __init__(self, url: str, requests: list[str], home: Path) -> None:
        self.url, self.requests, self.home = url, requests, home

    def read(self, source: str, *flags: str, **settings: str) -> Mapping[str, object]:
        environment = os.environ | {"HF_ENDPOINT": self.url, "HF_HOME": str(self.home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment |= {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": os.getcwd()} | settings
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, source, *flags],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer: Mapping[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    stored.checkpoint(root / "acme" / "llama-tune", stored.LLAMA_8B)
    stored.checkpoint(root / "acme" / "llama-2", stored.LLAMA_2_7B)
    stored.checkpoint(root / "acme" / "qwen-moe", stored.QWEN3_30B)
    sharded(root / "acme" / "tiny-NVFP4")
    (root / "acme" / "pickled").mkdir()
    (root / "acme" / "pickled" / "config.json").write_text(json.dumps(stored.TINY))
    (root / "acme" / "pickled" / "pytorch_model.bin").write_bytes(b"never opened")
    corrupt = stored.checkpoint(root / "acme" / "corrupt", stored.TINY)
    (corrupt / "model.safetensors").write_bytes(b"\xff" * 64)
    with serving(root) as (url, requests):
        yield Hub(url, requests, tmp_path_factory.mktemp("home"))


def sharded(folder: Path) -> None:
    """Two shards with an index, and ModelOpt's own description beside the config."""
    shapes = stored.tensors(stored.TINY)
    halves = [dict(list(shapes.items())[::2]), dict(list(shapes.items())[1::2])]
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(stored.TINY))
    (folder / "hf_quant_config.json").write_text(
        json.dumps({"quantization": {"quant_algo": "NVFP4", "group_size": 16}})
    )
    for name, half in zip(names, halves, strict=True):
        stored.write(folder / name, stored.header(half))
    weight_map = {tensor: name for name, half in zip(names, halves, strict=True) for tensor in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_gqa_exact_from_headers_alone(hub: Hub) -> None:
    model = hub.read("acme/llama-tune")
    assert (model["layers"], model["kv_heads"], model["params"]) == (32, 8, 8_030_261_248)
    assert model["bytes"] == 2 * 8_030_261_248
    assert (model["revision"], model["license"], model["native"]) == (COMMIT, "apache-2.0", "bf16")
    ranged = [line for line in hub.requests if "model.safetensors" in line and line.startswith("GET")]
    assert ranged
    assert all("bytes=" in line for line in ranged), "weights are never downloaded whole"


def test_a_fine_tune_inherits_its_base(hub: Hub) -> None:
    assert hub.read("acme/llama-tune")["inherited"] == "meta-llama/Llama-3.1-8B-Instruct"


def test_mha(hub: Hub) -> None:
    model = hub.read("acme/llama-2")
    assert (model["kv_heads"], model["params"]) == (32, 6_738_415_616)
    assert model["inherited"] == "meta-llama/Llama-2-7b-hf"


def test_moe(hub: Hub) -> None:
    assert hub.read("acme/qwen-moe")["params"] == 30_532_122_624


def test_shards_and_modelopt(hub: Hub) -> None:
    model = hub.read("acme/tiny-NVFP4")
    assert (model["native"], model["recipe"]) == ("nvfp4", "nvfp4")


def test_pinned_revision(hub: Hub) -> None:
    assert hub.read(f"acme/llama-2@{COMMIT}")["revision"] == COMMIT
    assert "no such revision" in str(hub.read("acme/llama-2@unknown")["error"])


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("acme/nothing", "no such repository"),
        (GATED, "gated"),
        ("acme/pickled", "pickles are never opened"),
        ("acme/corrupt", "corrupt safetensors header"),
        ("no repository at all", "no catalogue id, folder, .gguf file or repository"),
        ("meta-llama/Llama-3.1-8B-Instructt", "did you mean meta-llama/Llama-3.1-8B-Instruct"),
    ],
)
def test_refusals_are_sentences(hub: Hub, source: str, sentence: str) -> None:
    assert sentence in str(hub.read(source)["error"])


def test_offline_reads_the_cached_config(hub: Hub) -> None:
    hub.read("acme/llama-2")
    model = hub.read("acme/llama-2", HF_HUB_OFFLINE="1")
    assert (model["layers"], model["params"], model["bytes"]) == (32, 0, None)
    assert "HF_HUB_OFFLINE is set" in str(
        hub.read("acme/qwen-moe", HF_HUB_OFFLINE="1", HF_HOME="/nonexistent")["error"]
    )


def test_unreachable_hub_is_a_sentence(hub: Hub, tmp_path: Path) -> None:
    answer = hub.read("acme/llama-2", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))
    assert "the hub cannot be reached" in str(answer["error"])


def test_catalogue_id_needs_no_hub(hub: Hub) -> None:
    before = len(hub.requests)
    assert hub.read("Qwen/Qwen3-8B", HF_ENDPOINT="http://127.0.0.1:9")["layers"] == 36
    assert len(hub.requests) == before
