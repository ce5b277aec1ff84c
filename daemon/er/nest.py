"""The nest: loads libraries and tokenizers once, then forks each worker of its generation.

So all workers share the memory that never changes: most of what a tokenizer and the imported
libraries take. A worker's parent is the supervisor, not the nest: what is forked in between ends at
once, and the supervisor is where the kernel then puts it. The nest has no thread and no event loop.
It ends when the supervisor closes its line, or has died; its workers go on without it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from pathlib import Path

# What er.worker imports. Itself it is imported after the fork: er.metrics makes files that are
# named after their process.
import httptools  # noqa: F401
import lmdb  # noqa: F401
import ngh2  # noqa: F401
import numpy  # noqa: F401
import orjson  # noqa: F401
import prometheus_client  # noqa: F401
import pybase64  # noqa: F401
import python_multipart  # noqa: F401
import uvicorn  # noqa: F401
import uvloop  # noqa: F401

from er import journal, prompters
from er.child import Child

NAME, WORKER = b"er.nest\0", b"er.worker\0"
QUIET = "TOKENIZERS_PARALLELISM"  # its threads would not survive the fork


def main() -> int:
    """The process, from the supervisor's hands; returns the exit code: of a worker, too."""
    nest = Child.from_environment()
    for of_all in (signal.SIGHUP, signal.SIGTERM):  # the parent ends it, by its line
        signal.signal(of_all, signal.SIG_IGN)
    os.environ[QUIET] = "false"
    prompters.make_all(nest.config)
    del os.environ[QUIET]
    if nest.config.tracing is not None:
        _load_tracing()
    gc.collect()
    gc.freeze()  # a collection writes to whatever it looks at
    # Reading a tokenizer leaves holes, 15 MB with two models, that each worker would have too.
    ctypes.CDLL(None).malloc_trim(0)
    while (worker := nest.next_order()) is not None:
        if _forked():
            nest.close()
            return _work(worker)
        worker.close()
    return 0


def _load_tracing() -> None:
    """What a worker's exporter of traces imports, some of it only when one is made."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    OTLPSpanExporter(endpoint="http://127.0.0.1/")


def _forked() -> bool:
    """Whether this is the new process. Without one the parent sees its line end."""
    try:
        between = os.fork()
    except OSError as error:
        journal.log("err", f"no worker could be started: {error.strerror}")
        return False
    if between:
        os.waitpid(between, 0)
        return False
    try:
        if os.fork():
            os._exit(0)
    except OSError as error:
        journal.log("err", f"no worker could be started: {error.strerror}")
        os._exit(1)
    return True


def _work(child: Child) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    child.here()
    os.setpgid(0, 0)  # Ctrl-C is for the supervisor, which then drains
    os.environ["ER_PROCESS"] = f"w{child.slot}"
    try:
        _rename()
    except OSError as error:
        journal.log("warning", f"this worker stays er.nest to `ps` and `er status`: {error}")
    from er import worker

    return worker.main(child)


def _rename() -> None:
    """Be er.worker for `ps` and for those who look for workers: overwrite this process's argv."""
    said = Path("/proc/self/cmdline").read_bytes()
    start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45])
    at = said.index(NAME)
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start + at)
        memory.write(WORKER.ljust(len(said) - at, b"\0"))


if __name__ == "__main__":
    sys.exit(main())
