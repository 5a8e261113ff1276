"""Runs inside vLLM's environment: builds its own model classes without data and weighs what one rank would hold.

usage: python vllm_weights.py CASES.json RESULTS.json
CASES: [{"config": config.json as an object, "tensor": 1, "pipeline": 1, "expert": false, "data": 1}]
RESULTS, in the same order: {"stages": [[[name, bytes], ...] of rank 0 of every stage]} or {"error": text}

The platform says it is a Hopper GPU, so that vLLM takes the same layers and formats as there; tensors are on PyTorch's
`meta` device; process groups are PyTorch's fake ones of the full size, seen from the first rank of each stage.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMPILED = (
    "vllm._C", "vllm._C_stable_libtorch", "vllm._moe_C", "vllm._moe_C_stable_libtorch",
    "vllm.vllm_flash_attn._vllm_fa2_C", "vllm.vllm_flash_attn._vllm_fa3_C",
)  # fmt: skip
"""Extension modules that the Python files import by name; nothing of them is called."""


def main(cases_file: str, results_file: str) -> None:
    pretend_hopper()
    results = [answer(case) for case in json.loads(Path(cases_file).read_text())]
    Path(results_file).write_text(json.dumps(results))


def pretend_hopper() -> None:
    """vLLM's CUDA platform for a GPU of capability 9.0 with 80 GB, without a driver."""
    import transformers.utils.import_utils as installed

    installed.is_torchvision_available()
    sys.meta_path.append(Pictures())
    for name in COMPILED:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    import torch
    import vllm.platforms
    from vllm import _custom_ops
    from vllm.model_executor.models import registry
    from vllm.platforms.cuda import NonNvmlCudaPlatform
    from vllm.platforms.interface import DeviceCapability

    class Hopper(NonNvmlCudaPlatform):
        get_device_capability = classmethod(lambda cls, device_id=0: DeviceCapability(9, 0))
        get_device_name = classmethod(lambda cls, device_id=0: "NVIDIA H100 80GB HBM3")
        get_device_total_memory = classmethod(lambda cls, device_id=0: 80 * 2**30)
        get_device_communicator_cls = classmethod(lambda cls: COMMUNICATOR)
        current_device = classmethod(lambda cls: "meta")
        device_count = classmethod(lambda cls: 64)
        num_compute_units = classmethod(lambda cls, device_id=0: 132)

    vllm.platforms._current_platform = Hopper()
    for name in (
        "cutlass_scaled_mm_supports_fp8",
        "cutlass_scaled_mm_supports_block_fp8",
        "cutlass_group_gemm_supported",
    ):
        setattr(_custom_ops, name, lambda capability: True)
    _custom_ops.cutlass_scaled_mm_supports_fp4 = lambda capability: False
    torch.ops._C = torch.ops._moe_C = Absent("kernels")
    torch.cuda.Stream = torch.cuda.Event = type("Stream", (), {})
    registry._run_in_subprocess = lambda asked: asked()


class Absent(types.ModuleType):
    """Stands for what layers look up when they are built and call only when they run."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(name)


class Pictures(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """torchvision, which only processors of pictures use, and which exists for CUDA alone beside this PyTorch."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        mine = name.partition(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if mine else None

    def create_module(self, spec: Any) -> types.ModuleType:
        return Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


COMMUNICATOR = "vllm.distributed.device_communicators.base_device_communicator.DeviceCommunicatorBase"


def answer(case: dict[str, Any]) -> dict[str, Any]:
    import traceback

    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(case["config"]))
            return {"stages": [held(case, folder, stage) for stage in range(case["pipeline"])]}
    except Exception as fault:  # noqa: BLE001 - whatever vLLM raises is the answer
        return {"error": f"{type(fault).__name__}: {fault}", "trace": traceback.format_exc()}


def held(case: dict[str, Any], folder: str, stage: int) -> list[tuple[str, int]]:
    """Names and bytes of all that the first rank of a stage keeps on its device."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.layers import rotary_embedding
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    arguments = EngineArgs(
        model=folder,
        skip_tokenizer_init=True,
        tensor_parallel_size=case["tensor"],
        pipeline_parallel_size=case["pipeline"],
        data_parallel_size=case["data"],
        enable_expert_parallel=case["expert"],
        distributed_executor_backend="mp",
        enforce_eager=True,
    )
    config = arguments.create_engine_config()
    config.device_config.device = torch.device("meta")
    rotary_embedding._ROPE_DICT.clear()
    rank, ranks = stage * case["tensor"], case["tensor"] * case["pipeline"]
    precision = set_default_torch_dtype(config.model_config.dtype)
    with set_current_vllm_config(config), groups(rank, ranks, case), precision, torch.device("meta"):
        return weighed(initialize_model(config))


@contextmanager
def groups(rank: int, ranks: int, case: dict[str, Any]) -> Iterator[None]:
    """vLLM's own groups for these sizes, over process groups that send nothing."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from vllm.distributed import parallel_state
    from vllm.distributed.device_communicators.shm_broadcast import MessageQueue

    MessageQueue.create_from_process_group = staticmethod(lambda *_, **__: None)
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks * case["data"])
    real = dist.new_group
    dist.new_group = lambda ranks=None, **_: real(ranks, backend="fake")
    parallel_state._node_count = lambda group: 1
    try:
        parallel_state.init_distributed_environment(ranks, rank, "", rank, "fake")
        parallel_state.initialize_model_parallel(case["tensor"], case["pipeline"], backend="fake")
        yield
    finally:
        dist.new_group = real
        parallel_state.destroy_model_parallel()
        parallel_state.destroy_distributed_environment()


def weighed(model: Any) -> list[tuple[str, int]]:
    """Every parameter and buffer once: what modules share or look at from two sides is one storage."""
    unpack(model)
    seen: dict[int, tuple[str, int]] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        storage = tensor.untyped_storage()
        seen.setdefault(storage._cdata, (name, storage.nbytes()))
    return list(seen.values())


def unpack(model: Any) -> None:
    """Latent attention's own step after loading, which takes the up-projection apart.

    Dequantizing needs a GPU, so a quantized projection gives an empty 16-bit tensor of its shape."""
    import torch
    from vllm.model_executor.layers.attention import mla_attention
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    def dequantized(layer: Any, out_dtype: Any) -> Any:
        if isinstance(layer.quant_method, UnquantizedLinearMethod):
            return layer.weight.to(out_dtype)
        return torch.empty(layer.output_size_per_partition, layer.input_size_per_partition, dtype=out_dtype)

    mla_attention.get_and_maybe_dequant_weights = dequantized
    for module in model.modules():
        if isinstance(module, mla_attention.MLAAttention):
            module.process_weights_after_loading(torch.bfloat16)


if __name__ == "__main__":
    main(*sys.argv[1:])
