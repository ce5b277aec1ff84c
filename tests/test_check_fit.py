"""er check says whether replicas can run on the cards that they name, before they try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from er import pci
from er.cli import check_fit, check_machine, check_packed
from er.cli.check_fit import Unfit
from er.config import parse
from er.engine import fits
from er.gpus import Driver, Gpu

GIB = 1 << 30
GOOD = Driver("580.65.06", (13, 0))
EIGHT_B = {"heads": 32, "kv_heads": 8, "inner": 12288, "bytes": 16 * GIB, "prompt": "qwen3"}


def card(index: int, **more: Any) -> Gpu:
    total = more.pop("total", 80 * GIB)
    base: dict[str, Any] = {"uuid": f"GPU-{index}", "name": "H100", "bus": f"{index}", "minor": 0}
    base |= {"memory_total": total, "memory_used": 0, "memory_free": total, "capability": (9, 0)}
    return Gpu(**(base | {"index": index} | more))


def packing(method: str, **more: Any) -> dict[str, Any]:
    base = {"method": method, "bits": 4, "group": 128, "symmetric": True, "head": False}
    return base | more


def look(
    gpu: str,
    gpus: list[Gpu] | None = None,
    *,
    replica: str = "",
    model: str = "",
    task: str = "embed",
    driver: Driver = GOOD,
    cuda: fits.Version | None = (13, 0),
    **facts: Any,
) -> list[Unfit]:
    text = (
        f'[[model]]\nname = "m"\ntask = "{task}"\npath = "/m"\n{model}\n'
        f'[[replica]]\nname = "r"\nmodel = "m"\ngpu = {gpu}\nport = 8000\n{replica}\n'
    )
    config = parse(text, Path("er.toml"))
    cards = [card(i) for i in range(4)] if gpus is None else gpus
    known = {"m": {**EIGHT_B, "packed": None, **facts}}
    found = check_fit.findings(config, cards, reason="", driver=driver, cuda=cuda, facts=known)
    return [*found, *check_packed.findings(config, cards, known)]


def only(found: list[Unfit]) -> str:
    """The one finding as a line: "error blocks: …" and so on."""
    assert len(found) == 1, found
    return f"{found[0].level}{' blocks' * found[0].blocks}: {found[0].message}"


def test_what_fits_is_not_spoken_of() -> None:
    for gpu in ("0", "[0, 1]", "[3, 2, 1, 0]", '"GPU-2"', '"cpu"'):
        assert look(gpu) == [], gpu


# -- drivers and cards ----------------------------------------------------------------------------


def test_a_driver_that_was_downgraded() -> None:
    said = only(look("0", driver=Driver("570.86.10", (12, 8))))
    assert said.startswith("error: the NVIDIA driver 570.86.10 (CUDA 12.8) is too old for this")
    assert "built for CUDA 13.0; install driver 580 or newer" in said
    assert look("0", driver=Driver("570.86.10", (12, 8)), cuda=(12, 9)) == []
    assert look("0", driver=Driver("570.86.10", (12, 8)), cuda=None) == []
    assert look('"cpu"', driver=Driver("570.86.10", (12, 8))) == []
    lifted = 'env = { VLLM_ENABLE_CUDA_COMPATIBILITY = "1" }'
    assert look("0", driver=Driver("570.86.10", (12, 8)), replica=lifted) == []


def test_cards_that_are_too_old_or_too_new() -> None:
    """Only those that a replica names count: others may stay in the machine."""
    cards = [card(0), card(1, name="Tesla V100", capability=(7, 0)), card(2, capability=(13, 0))]
    assert look("0", cards) == []
    said = only(look("1", cards))
    assert said.startswith("error blocks: GPU 1 (Tesla V100, compute capability 7.0) is too old")
    assert "begins with 7.5; name another GPU" in said
    assert only(look("2", cards)).startswith("warning: GPU 2 (H100, compute capability 13.0)")
    assert look("0", [card(0, capability=None)]) == []


def test_a_card_without_bfloat16_asks_for_float16() -> None:
    cards = [card(0, name="Tesla T4", capability=(7, 5), total=16 * GIB)]
    small = {"bytes": GIB}
    said = only(look("0", cards, **small))
    assert said.startswith("error blocks: GPU 0 (Tesla T4, compute capability 7.5) has no bfloat16")
    assert 'write dtype = "float16" in the [[model]] m' in said
    assert look("0", cards, model='dtype = "float16"', **small) == []
    assert look("0", cards, replica='args = ["--dtype=half"]', **small) == []
    assert "no bfloat16" in only(look("0", cards, model='dtype = "bfloat16"', **small))


def test_cards_of_other_makes() -> None:
    """Named where no NVIDIA card is there; else the driver's own trouble counts."""
    amd = pci.PciCard("0000:03:00.0", "AMD", "amdgpu")
    nvidia = pci.PciCard("0000:41:00.0", "NVIDIA", "")
    said = check_machine.reason("no NVIDIA driver is installed", [], [amd])
    assert said.startswith("there is AMD at 0000:03:00.0, and ER runs on NVIDIA GPUs and on the")
    assert 'gpu = "cpu"' in said
    for found, there in (([], [amd, nvidia]), ([], []), ([card(0)], [amd])):
        assert check_machine.reason("as it says", found, there) == "as it says"


# -- MIG ------------------------------------------------------------------------------------------


def test_a_divided_card_is_not_named_as_a_whole() -> None:
    parts = (card(1, uuid="MIG-a", name="H100 MIG 3g.40gb"), card(1, uuid="MIG-b", name="half"))
    cards = [card(0), card(1, mig=True, instances=parts)]
    said = only(look('"GPU-1"', cards))
    assert "GPU GPU-1 is divided (MIG); name one of its instances: MIG-a (H100 MIG 3g" in said
    said = only(look("1", [card(0), card(1, mig=True)]))
    assert "GPU 1 is in MIG mode and has no instance" in said
    assert "sudo nvidia-smi -i 1 -mig 0" in said
    assert look('"MIG-b"', cards) == []


def test_one_engine_does_not_run_over_mig_instances() -> None:
    parts = (card(0, uuid="MIG-a"), card(0, uuid="MIG-b"))
    said = only(look('["MIG-a", "MIG-b"]', [card(0, mig=True, instances=parts)]))
    assert said.startswith("error blocks: one engine can't run over MIG instances")


# -- several cards --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heads", "keys", "inner", "can"),
    [
        (32, 8, 12288, {1, 2, 4, 8, 16}),  # Qwen3's 8B
        (32, 8, 9728, {1, 2, 4, 8, 16}),  # 4B
        (16, 8, 3072, {1, 2, 4, 8, 16}),  # 0.6B
        (12, 12, 3072, {1, 2, 3, 4, 6, 12}),  # BERT's base
        (14, 2, 4864, {1, 2}),  # 7 and 14 don't divide its inner width
        (0, 0, 0, set(range(1, 17))),  # the files don't say
    ],
)
def test_how_many_cards_share_a_model_evenly(
    heads: int, keys: int, inner: int, can: set[int]
) -> None:
    facts = {"heads": heads, "kv_heads": keys, "inner": inner, "packed": None}
    assert {n for n in range(1, 17) if not check_fit.uneven(facts, n)} == can


def test_a_number_of_cards_that_can_not_be() -> None:
    said = only(look("[0, 1, 2]"))
    assert said.startswith("error blocks: 3 GPUs: its 32 attention heads can't be shared out")
    assert said.endswith("the number of GPUs can be 1, 2, 4, 8, 16")
    awq = packing("awq")
    assert look("[0, 1, 2, 3]", packed=awq) == []
    said = only(look("[0, 1, 2, 3]", inner=4864, packed=awq))
    assert "its inner width of 4864 can't be shared out evenly in whole groups of 128" in said


def test_cards_of_two_kinds_and_one_card_twice() -> None:
    mixed = [card(0), card(1, name="L40S", total=45 * GIB, capability=(8, 9))]
    assert only(look("[0, 1]", mixed)).startswith("warning: GPUs 0 (H100), 1 (L40S) differ")
    said = only(look('[0, "GPU-0"]', [card(0), card(1)]))
    assert said.startswith("error blocks: 0, GPU-0 name a card twice")


def test_weights_that_are_more_than_the_cards_room() -> None:
    """By the real sizes of the files, shared out over the cards."""
    small = [card(0, total=16 * GIB), card(1, total=16 * GIB)]
    said = only(look("0", small))
    assert said.startswith("warning: m's weights take 16.0 GiB of GPU 0 (H100), where this replica")
    assert look("[0, 1]", small) == []
    assert "room for 6.0 GiB" in only(look("[0, 1]", small, replica='kv_cache = "10GiB"'))
    assert look("0", small, bytes=5 * GIB, packed=packing("awq")) == []


# -- packed weights -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (packing("awq"), ""),
        (packing("gptq"), ""),
        (packing("gptq", bits=8), ""),
        (packing("fp8", bits=0, group=128), ""),
        (packing("compressed-tensors"), ""),
        (packing("awq", bits=8), "packed as awq with 8 bits, and vLLM loads 4"),
        (packing("gptq", bits=3), "packed as gptq with 3 bits, and vLLM loads 4 and 8"),
        (packing("gptq", symmetric=False), "sym = false"),
        (packing("exl2"), "packed as exl2, which vLLM is not known to load"),
    ],
)
def test_ways_of_packing(packed: dict[str, Any], said: str) -> None:
    found = look("0", packed=packed)
    if not said:
        assert found == []
    else:
        assert said in only(found) and found[0].blocks
        assert look("0", packed=packed, replica='args = ["--quantization", "x"]') == []


def test_what_packed_weights_are_computed_in() -> None:
    """bfloat16 or float16; on the CPU ER's own choice is another."""
    awq = packing("awq")
    said = only(look('"cpu"', packed=awq))
    assert said.startswith("error blocks: m: weights packed as awq are computed in bfloat16 or")
    assert 'write dtype = "bfloat16"' in said
    said = only(look('"cpu"', packed=awq, model='dtype = "bfloat16"'))
    assert said.startswith("warning: m: weights packed as awq were not tried with the CPU build")
    assert "dtype = float32" in only(look("0", packed=awq, model='dtype = "float32"'))
    assert look("0", packed=packing("compressed-tensors"), model='dtype = "float32"') == []


def test_what_packed_weights_ask_of_a_card() -> None:
    ampere = [card(0, name="A100", capability=(8, 0))]
    said = only(look("0", ampere, packed=packing("fp8", bits=0)))
    assert said.startswith("warning: GPU 0 (A100, compute capability 8.0) has no FP8 arithmetic")
    turing = [card(0, name="RTX 8000", capability=(7, 5), total=48 * GIB)]
    half = 'dtype = "float16"'
    assert look("0", turing, packed=packing("awq"), model=half) == []
    said = only(look("0", turing, packed=packing("mxfp4"), model=half))
    assert said.startswith("error blocks: GPU 0 (RTX 8000, compute capability 7.5) can't load")


def test_a_rerankers_packed_output_layer() -> None:
    packed = packing("gptq", head=True)
    assert "output layer (lm_head) is packed too" in only(look("0", task="score", packed=packed))
    assert look("0", packed=packed) == []
    assert look("0", task="score", packed=packed, prompt="plain") == []
