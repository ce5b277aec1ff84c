"""Each model's recipe, made of its files and er.toml, and why: what `er check` tells of each."""

from __future__ import annotations

from er.config import Model
from er.fingerprint import UNKNOWN
from er.model_files import ModelFiles, ModelFilesError
from er.prompts import Prompter, recipe
from er.prompts.digest import digest


def examined(model: Model, files: ModelFiles) -> tuple[str, list[str], str]:
    """(why er.toml's wishes can't be made of these files, or "", the recipe's lines, its word)."""
    prompt = model.prompt or files.prompt
    try:
        prompter = Prompter(
            files,
            prompt=prompt,
            max_tokens=model.max_tokens,
            instruction=model.instruction,
            task=model.task,
        )
        word = digest(files, prompter, prompt=prompt, task=model.task, kind=model.kind)
    except ModelFilesError as error:
        return str(error), [], UNKNOWN
    lines = recipe.told(files, prompter, prompt, model.task)
    if model.task == "embed":
        side = "queries" if model.kind == "query" else "documents"
        lines.append(f"unsaid     texts of which a client says nothing are {side}")
    if model.dimensions is not None and model.dimensions < files.dimensions:
        lines.append(f"answers    {model.dimensions} numbers, unless a request asks for others")
    return "", lines, word


def shown(name: str, lines: list[str]) -> list[str]:
    """The recipe of the model `name`, for a terminal."""
    return [f"{name}: {lines[0]}", *(f"    {line}" for line in lines[1:])] if lines else []
