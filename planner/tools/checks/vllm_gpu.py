"""Runs inside vLLM's environment: it sees an NVIDIA GPU, and one of its kernels computes there."""

from __future__ import annotations

import os

os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def main() -> None:
    import torch
    import vllm
    from vllm import _custom_ops
    from vllm.platforms import current_platform

    assert current_platform.is_cuda(), f"vLLM takes this machine for {current_platform.device_type}"
    rows = torch.ones(2, 64, dtype=torch.bfloat16, device="cuda")
    out = torch.empty_like(rows)
    _custom_ops.rms_norm(out, rows, torch.ones(64, dtype=torch.bfloat16, device="cuda"), 1e-6)
    assert torch.allclose(out.float().cpu(), torch.ones(2, 64), atol=1e-2), "a kernel computes something else"
    print(f"vLLM {vllm.__version__} computes on {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    main()
