"""Each model's prompter: made before the workers part, who then share it, or by a worker itself.

A tokenizer takes tens of megabytes. What is made in the nest (see `nest`) stays in pages that all
workers forked from it have in common, as nothing writes to them.
"""

from __future__ import annotations

import os
import signal
import time

from er import journal, model_files, prompts
from er.config import Config, Model
from er.model_files import ModelFilesError
from er.prompts import Prompter
from er.prompts.digest import digest

READING_S = 5.0  # for all folders: what takes longer is left to the workers, who serve meanwhile

_made: dict[str, Prompter] = {}  # by the model's name, of the one configuration of this process


def prompter(model: Model) -> Prompter:
    """The one that was made beforehand, or a new one. Raises ModelFilesError."""
    return _made.get(model.name) or _make(model)


def make_all(settings: Config) -> None:
    """Make what can be made now. What fails is silent: a worker tries it again and says why."""
    until = time.monotonic() + READING_S
    for model in settings.models:
        if model.path is None or not _readable(model, until):
            continue
        try:
            _made[model.name] = _make(model)
        except ModelFilesError:
            continue
        except Exception as error:
            journal.mishap(error, f"reading the files of model {model.name}")


def _make(model: Model) -> Prompter:
    assert model.path is not None
    files = model_files.read(model.path)
    if model.token_ids == "cl100k":
        prompts.cl100k_texts([])  # reads its table, which takes a second: not with a request
    prompt = model.prompt or files.prompt
    made = prompts.Prompter(
        files,
        prompt=prompt,
        max_tokens=model.max_tokens,
        instruction=model.instruction,
        task=model.task,
    )
    made.recipe = digest(files, made, prompt=prompt, task=model.task, kind=model.kind)
    return made


def _readable(model: Model, until: float) -> bool:
    """Whether the folder's files can be read by then (monotonic s).

    A process of its own tries: on a dead mount a thread would never end, and forking beside one is
    not safe.
    """
    assert model.path is not None
    pid = os.fork()
    if not pid:
        code = 1
        try:
            model_files.read(model.path)
            code = 0
        finally:
            os._exit(code)
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.002)
    return ended[1] == 0
