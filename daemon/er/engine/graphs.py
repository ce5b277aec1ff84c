"""vLLM's worker with CUDA graphs of whole steps, which it makes for generating models only.

Runs inside vLLM's engine process (`--worker-cls`); the launcher copies this one file beside the
logging configuration, and it has nothing of ER. A step of an embedding model is launched kernel by
kernel from Python otherwise, layer after layer, which takes longer than a card needs to compute it.
vLLM turns whole graphs off for pooling models when it reads its options ("Pooling models do not
support full cudagraphs"), not because of how a step is run: FlashAttention 3 allows graphs of any
batch, so they are turned on again here, before anything is made from the options. With another
attention nothing is changed.
"""

from __future__ import annotations

from typing import Any

from vllm.config import CUDAGraphMode
from vllm.v1.attention.backends.fa_utils import get_flash_attn_version
from vllm.v1.worker import gpu_worker


class Worker(gpu_worker.Worker):  # type: ignore[misc]  # vLLM is not there for the check
    """vLLM's own in all else."""

    def __init__(self, vllm_config: Any, *args: Any, **more: Any) -> None:
        compilation = vllm_config.compilation_config
        if compilation.cudagraph_mode == CUDAGraphMode.PIECEWISE and get_flash_attn_version() == 3:
            compilation.cudagraph_mode = CUDAGraphMode.FULL
        super().__init__(vllm_config, *args, **more)
