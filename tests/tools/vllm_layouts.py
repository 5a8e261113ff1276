"""Runs inside vLLM's environment: the tensors that its own layers allocate for AutoAWQ and AutoGPTQ checkpoints.

usage: python vllm_layouts.py CASES.json RESULTS.json
CASES: [{"method": "awq" | "gptq", "rows": outputs, "columns": inputs, "group": inputs to a scale}]
RESULTS, in the same order: {tensor name: bytes}
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any


def main(cases_file: str, results_file: str) -> None:
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel

    with open(cases_file) as source:
        cases = json.load(source)
    with tempfile.NamedTemporaryFile() as meeting, set_current_vllm_config(VllmConfig()):
        init_distributed_environment(1, 0, f"file://{meeting.name}", 0, "gloo")
        initialize_model_parallel()
        results = [allocated(case) for case in cases]
    with open(results_file, "w") as target:
        json.dump(results, target)


def allocated(case: dict[str, Any]) -> dict[str, int]:
    """Parameters of one linear layer as its quantization method creates them."""
    import torch

    layer = torch.nn.Module()
    rows, columns = case["rows"], case["columns"]
    method(case).create_weights(layer, columns, [rows], columns, rows, torch.float16, weight_loader=lambda *_: None)
    return {name: each.numel() * each.element_size() for name, each in layer.named_parameters()}


def method(case: dict[str, Any]) -> Any:
    from vllm.model_executor.layers.quantization import auto_awq, auto_gptq

    if case["method"] == "awq":
        stated = {"quant_method": "awq", "bits": 4, "group_size": case["group"], "zero_point": True}
        return auto_awq.AutoAWQLinearMethod(auto_awq.AutoAWQConfig.from_config(stated | {"version": "gemm"}))
    stated = {"quant_method": "gptq", "bits": 4, "group_size": case["group"], "desc_act": False, "sym": True}
    return auto_gptq.AutoGPTQLinearMethod(auto_gptq.AutoGPTQConfig.from_config(stated | {"lm_head": False}))


if __name__ == "__main__":
    main(*sys.argv[1:])
