"""Lets vLLM find the card of the MIG instance that it runs on.

Runs inside vLLM's own python, in each of its processes, before it looks at any card: the formatter
of its log imports it, where CUDA_VISIBLE_DEVICES names an instance. Standard library only.

vLLM (0.25.1 to 0.32.0) asks NVML for the index of what is named there, and then for the card of
that index. Of an instance NVML tells its number on its card: so vLLM takes the facts of another
card, and where there is none of that number, its start ends. The card's own index is meant.
"""

from typing import Any


def mend(nvml: Any) -> None:
    """Have `nvml`, vLLM's copy of pynvml, give an instance its card's index."""
    index = nvml.nvmlDeviceGetIndex

    def of_its_card(handle: Any) -> Any:
        if nvml.nvmlDeviceIsMigDeviceHandle(handle):
            handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        return index(handle)

    nvml.nvmlDeviceGetIndex = of_its_card
