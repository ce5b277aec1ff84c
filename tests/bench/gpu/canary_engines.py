"""The engines of canary_gpu.py: which there are, how each is started, and what is exact."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

TOP = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(TOP / "daemon"), str(TOP / "tests/bench")]

from flips import flipped  # noqa: E402
from servers import QUIET, Vllm  # noqa: E402

from er import model_files  # noqa: E402
from er.config import Model, Replica  # noqa: E402
from er.engine import build, command  # noqa: E402
from er.gpus import Gpus  # noqa: E402
from er.quality import by_transformers, load  # noqa: E402

KV_CACHE, EXACT_S = 2 << 30, 300.0
TASKS = ("embed", "score")
SECRET = "secret"
MEAN = ("--pooler-config", '{"pooling_type":"MEAN","use_activation":true}')


class Case(NamedTuple):
    """One engine; `flips`: how many weights, which bit. `whole`: steps as whole graphs."""

    task: Any
    name: str
    dtype: Any = "bfloat16"
    flips: tuple[int, int] | None = None
    args: tuple[str, ...] = ()
    whole: bool = True

    @property
    def known(self) -> str:
        return f"{self.task}: {self.name}"


def cases(wave: str) -> list[Case]:
    """The engines that start together."""
    if wave == "1":
        formats = [Case(task, d, d) for task in TASKS for d in ("float32", "bfloat16", "float16")]
        own = [Case(task, "bfloat16, vLLM's own graphs", whole=False) for task in TASKS]
        return [*formats, *own]
    if wave == "2":
        harms = [(1, 30), (1, 22), (16, 22), (256, 22), (16, 25)]
        bits = [Case("embed", harm(*flips), flips=flips) for flips in harms]
        return [*(Case(task, "bfloat16, started again") for task in TASKS), *bits]
    if wave == "3":
        harms = [(1, 30), (16, 22), (256, 22)]
        bits = [Case("score", harm(*flips), flips=flips) for flips in harms]
        own = [Case(t, "float32, vLLM's own graphs", "float32", whole=False) for t in TASKS]
        return [Case("embed", "bfloat16, MEAN pooling", args=MEAN), *bits, *own]
    anew = [Case(t, f"{d}, started again", d) for t in TASKS for d in ("float32", "float16")]
    harms = [(16, 30), (4096, 22)]
    return [*anew, *(Case(t, harm(*flips), flips=flips) for t in TASKS for flips in harms)]


def harm(bits: int, bit: int) -> str:
    """What is said of that many flips of the bit, as a float32 counts its bits."""
    return f"bfloat16, {bits} x bit {bit} flipped"


def start(case: Case, port: int, model: Path, work: Path) -> Vllm:
    """A vLLM as er-vllm starts it; it is not ready yet."""
    server = Vllm(f"e{port}", port, work)
    path = flipped(model, server.folder / "model", *case.flips) if case.flips else model
    for module, source in command.MODULES.items():
        shutil.copy(Path(command.__file__).parent / source, server.folder / f"{module}.py")
    (server.folder / "logging.json").write_bytes(command.logging_config())
    (server.folder / "secret").write_text(SECRET)
    has = build.examine(Path(sys.executable))
    has = has if case.whole else build.Build(has.python, has.distribution, "", has.entry)
    launch = command.launch(
        Replica(name="r", model="m", gpu=(0,), port=port, kv_cache=KV_CACHE, args=case.args),
        Model(name="m", task=case.task, path=path, dtype=case.dtype),
        model_files.read(path),
        has,
        gpus=Gpus().read()[:1],
        folder=server.folder,
        secret=server.folder / "secret",
        inherited={**os.environ, **QUIET},
        cpu_cache=0,
        cores=1,
    )
    server.launch(launch.argv, launch.env)
    return server


def exactly(task: str, model: Path) -> dict[str, Any]:
    """transformers' scores in float32, on the card, by er's own recipe, which is for the CPU."""
    queries = [
        {"query": q.query, "documents": [document.text for document in q.documents]}
        for q in load().queries
    ]
    asked = {"folder": str(model), "task": task, "recipe": "qwen3", "pooling": "LAST"}
    asked |= {"query_prefix": "", "document_prefix": ""}
    program = (
        "import runpy, sys, torch; torch.set_default_device('cuda'); "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, by_transformers.__file__],
        input=json.dumps({**asked, "max_tokens": 8192, "threads": 0, "queries": queries}),
        capture_output=True,
        text=True,
        check=False,
        timeout=EXACT_S,
    )
    if done.returncode:
        return {"refused": done.stderr[-2000:]}
    said = json.loads(done.stdout.splitlines()[-1])
    return {"first": said.pop("scores"), "with": said}
