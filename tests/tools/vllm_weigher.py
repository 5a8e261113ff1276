"""Runs inside a vLLM CPU server as a plugin: logs what the layers hold before a CPU kernel repacks them.

The CPU build prints no "Model loading took"; on a GPU the same layers allocate the same tensors.
"""

from __future__ import annotations

from itertools import chain
from typing import Any


def register() -> None:
    from vllm.logger import init_logger
    from vllm.model_executor.model_loader import base_loader

    logger, repack = init_logger("vllm.weigher"), base_loader.process_weights_after_loading

    def weighed(model: Any, *rest: Any) -> None:
        held = {each.data_ptr(): each.nbytes for each in chain(model.parameters(), model.buffers())}
        logger.info("Loaded tensors take %d bytes", sum(held.values()))
        repack(model, *rest)

    base_loader.process_weights_after_loading = weighed
