"""er check's look at packed weights (AWQ, GPTQ, FP8, …): whether vLLM loads them, on these cards.

What vLLM 0.25.1 and 0.32.0 ask for stands in their sources (model_executor/layers/quantization);
ER passes no option for it, as vLLM reads the same config.json. FP8, AWQ and GPTQ were run on a card
(tests/reports/packed-weights.json). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from er.cli.check_fit import Unfit, has
from er.config import Config, Model, Replica
from er.engine import fits
from er.gpus import Gpu, find

# The least compute capability, as vLLM asks for it and as its build has code.
CARDS: dict[str, fits.Version] = {
    "awq": (7, 5),
    "gptq": (7, 5),
    "fp8": (7, 5),
    "compressed-tensors": (7, 5),
    "auto-round": (7, 5),
    "quark": (7, 5),
    "torchao": (7, 5),
    "fbgemm_fp8": (8, 0),
    "modelopt": (8, 0),
    "mxfp4": (8, 0),
}
ARITHMETIC: dict[str, fits.Version] = {"fp8": (8, 9), "fbgemm_fp8": (8, 9)}  # of its own
HALVES = ("bfloat16", "float16")  # what all but a few of them compute in
IN_FLOAT32 = ("compressed-tensors", "torchao")
BITS: dict[str, tuple[int, ...]] = {"awq": (4,), "gptq": (4, 8)}
FLAGS = ("--quantization", "-q")


def findings(
    config: Config, gpus: Sequence[Gpu], facts: Mapping[str, Mapping[str, Any]]
) -> Iterator[Unfit]:
    """All of them; what er.toml's args say about it is left to vLLM."""
    for number, replica in enumerate(config.replicas):
        packed = facts.get(replica.model, {}).get("packed")
        if replica.url is not None or not packed or has(replica, *FLAGS):
            continue
        model = config.model(replica.model)
        assert model is not None  # config.load has seen to it
        if wrong := _unknown(packed):
            yield Unfit(number, "model", f"{model.path}: {wrong}", blocks=True)
            continue
        if model.task == "score" and packed["head"] and facts[model.name]["prompt"] == "qwen3":
            told = (
                f"{model.path}: its output layer (lm_head) is packed too, of which a reranker's "
                "scores are made and which vLLM reads plain; use a folder that leaves it plain"
            )
            yield Unfit(number, "model", told, blocks=True)
        yield from _number_format(number, replica, model, packed["method"])
        for wanted in replica.gpu:
            card = None if replica.cpu else find(gpus, wanted)
            if card is not None and card.capability is not None:
                yield from _card(number, card, card.capability, packed["method"])


def _unknown(packed: Mapping[str, Any]) -> str:
    """Why vLLM does not load weights that are packed so, "" when it does."""
    method, bits = packed["method"], packed["bits"]
    if method not in CARDS:
        return (
            f"its weights are packed as {method}, which vLLM is not known to load; use its plain "
            "safetensors, or those packed as AWQ, GPTQ or FP8"
        )
    if method in BITS and bits not in BITS[method]:
        able = " and ".join(map(str, BITS[method]))
        return (
            f"its weights are packed as {method} with {bits} bits, and vLLM loads {able}; use such "
            "a folder, or the plain one"
        )
    if method == "gptq" and not packed["symmetric"]:
        return (
            "its weights are packed as gptq with sym = false, which vLLM does not load; use a "
            "folder with sym = true, or AWQ"
        )
    return ""


def _number_format(number: int, replica: Replica, model: Model, method: str) -> Iterator[Unfit]:
    said = model.dtype or ("float32" if replica.cpu else "bfloat16")
    if said not in HALVES and method not in IN_FLOAT32 and not has(replica, "--dtype"):
        where = "on the CPU ER computes in float32" if model.dtype is None else f"dtype = {said}"
        told = (
            f"{model.name}: weights packed as {method} are computed in bfloat16 or float16 alone, "
            f'and {where}; write dtype = "bfloat16" in its [[model]], or use the plain folder'
        )
        yield Unfit(number, "gpu" if replica.cpu else "model", told, blocks=True)
    elif replica.cpu:
        told = (
            f"{model.name}: weights packed as {method} were not tried with the CPU build of vLLM; "
            "the plain folder was"
        )
        yield Unfit(number, "gpu", told, level="warning")


def _card(number: int, card: Gpu, capability: fits.Version, method: str) -> Iterator[Unfit]:
    what = f"GPU {card.index} ({card.name}, compute capability {fits.text(capability)})"
    if capability < CARDS[method]:
        if CARDS[method] == fits.OLDEST:
            return  # too old for all of vLLM, as check_fit says
        begin = f"which begin with {fits.text(CARDS[method])}"
        told = (
            f"{what} can't load weights packed as {method}, {begin}; use AWQ or GPTQ, or the plain "
            "folder"
        )
        yield Unfit(number, "gpu", told, blocks=True)
    elif capability < ARITHMETIC.get(method, capability):
        told = (
            f"{what} has no FP8 arithmetic ({fits.text(ARITHMETIC[method])} has): weights packed "
            f"as {method} save memory there, not time"
        )
        yield Unfit(number, "gpu", told, level="warning")
