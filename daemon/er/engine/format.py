"""Marks each line of vLLM's log with its level, as journald reads it: "<6>EngineCore vllm.x: …".

Runs inside vLLM's own python, which has nothing of ER: the launcher copies this one file beside the
logging configuration. Standard library only. As the first of ER's that each process of vLLM loads,
it also has the way to a MIG instance's card mended.
"""

import importlib
import logging
import os

if os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("MIG-"):
    mig = importlib.import_module("er_engine_mig")
    mig.mend(importlib.import_module("vllm.third_party.pynvml"))


class Journal(logging.Formatter):
    """Tracebacks too get their level on every line; journald splits messages at line ends."""

    def format(self, record: logging.LogRecord) -> str:
        level = 7
        for least, priority in ((40, 3), (30, 4), (20, 6)):
            if record.levelno >= least:
                level = priority
                break
        process = getattr(record, "vllm_process_name", None) or record.processName
        head = f"<{level}>{process} {record.name}: "
        return "\n".join(head + line for line in super().format(record).splitlines() or [""])
