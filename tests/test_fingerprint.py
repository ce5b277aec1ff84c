"""What vectors are of: the word for it, who tells it, and who refuses what would not fit."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from er import model_files
from er.config import Model, parse
from er.fingerprint import Fingerprint, applied, number_format, parsed, together, weights
from er.fingerprint.applied import Applied, Given, after, differs
from er.gateway.fingerprints import Fingerprints
from er.gateway.served import Served
from er.prompts import Prompter
from er.prompts.digest import digest
from er.units import takeup
from fakes import EngineProcess
from launched import Launched, until
from running import DIMENSIONS, Gateway, model_folder

QUICK = {"obstacle": 0.2, "tick": 0.05, "watch": 1.2, "end": 1.0, "drain": 0.6}
WORD = "0123456789ab-01234567-bf16"
HEADER = "x-er-model-fingerprint"


# -- weights -------------------------------------------------------------------------------------


def saved(folder: Path, name: str, numbers: bytes) -> Path:
    """A safetensors file as far as anyone here reads it: length, list of tensors, numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = {"w": {"dtype": "U8", "shape": [len(numbers)], "data_offsets": [0, len(numbers)]}}
    header = json.dumps(shown).encode()
    (folder / name).write_bytes(len(header).to_bytes(8, "little") + header + numbers)
    return folder


def test_other_weights_are_another_word_and_a_copy_is_the_same(tmp_path: Path) -> None:
    numbers = os.urandom(6 << 20)  # more than is read whole
    one = weights.of(saved(tmp_path / "one", "model.safetensors", numbers))
    assert one is not None and len(one) == 12
    assert weights.of(saved(tmp_path / "copy", "model.safetensors", numbers)) == one
    other = numbers[:-1] + bytes([numbers[-1] ^ 1])
    longer = numbers + b"\0"
    for name, changed in (("end", other), ("longer", longer), ("trained", os.urandom(6 << 20))):
        assert weights.of(saved(tmp_path / name, "model.safetensors", changed)) != one
    assert weights.of(saved(tmp_path / "name", "model-1.safetensors", numbers)) != one


def test_each_byte_of_a_small_file_counts_and_few_of_a_large_one_do_not(tmp_path: Path) -> None:
    """As the docstring says."""
    for size, seen in ((64 << 10, True), (8 << 20, False)):
        numbers = bytearray(size)
        one = weights.of(saved(tmp_path / "one", "model.safetensors", bytes(numbers)))
        numbers[size // 2 + 9000] = 1  # between two blocks of the large one
        two = weights.of(saved(tmp_path / "two", "model.safetensors", bytes(numbers)))
        assert (one != two) is seen


def test_what_an_engine_loads_counts_and_nothing_beside_it(tmp_path: Path) -> None:
    """Not .bin files beside safetensors, not a trainer's; layers behind the pooling do."""
    folder = saved(tmp_path / "m", "model.safetensors", b"abc")
    one = weights.of(folder)
    for name in ("pytorch_model.bin", "training_args.bin", "README.md"):
        (folder / name).write_bytes(b"x")
    assert weights.of(folder) == one
    saved(folder / "2_Dense", "model.safetensors", b"dense")
    dense = weights.of(folder, ("2_Dense",))
    assert weights.of(folder) == one != dense
    saved(folder / "2_Dense", "model.safetensors", b"other")
    assert weights.of(folder, ("2_Dense",)) not in (one, dense)
    (folder / "model.safetensors").unlink()
    assert weights.of(folder) not in (None, one)  # the .bin file's


def test_no_weights_and_no_folder(tmp_path: Path) -> None:
    """A gateway-only machine has the small files alone."""
    assert weights.of(model_folder(tmp_path / "m")) is None
    with pytest.raises(OSError, match="No such file"):
        weights.of(tmp_path / "none")


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    """Also one of the same size, whatever its date says, and by a process that knew the first."""
    folder = saved(tmp_path / "m", "model.safetensors", bytes(1000))
    file = folder / "model.safetensors"
    os.utime(file, (1, 1))
    seen = weights.of(folder)
    saved(folder, "model.safetensors", bytes(999) + b"\1")
    os.utime(file, (1, 1))
    assert weights.of(folder) != seen


# -- recipe --------------------------------------------------------------------------------------


def recipe(folder: Path, **more: Any) -> str:
    """The word for the model in `folder` under an er.toml that says `more`."""
    files = model_files.read(folder)
    model = Model(name="m", task=more.pop("task", "embed"), path=folder, **more)
    prompt = model.prompt or files.prompt
    prompter = Prompter(
        files,
        prompt=prompt,
        max_tokens=model.max_tokens,
        instruction=model.instruction,
        task=model.task,
    )
    return digest(files, prompter, prompt=prompt, task=model.task, kind=model.kind)


def changed(file: Path, **more: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def test_a_recipe_is_the_same_elsewhere_and_by_another_transformers(tmp_path: Path) -> None:
    one = recipe(model_folder(tmp_path / "a"))
    other = model_folder(tmp_path / "b")
    changed(other / "config.json", transformers_version="9.9", torch_dtype="bfloat16")
    assert len(one) == 8 and recipe(other) == one


def test_what_makes_other_vectors_makes_another_recipe(tmp_path: Path) -> None:
    """Each of these alone; all words differ."""
    found = [recipe(folder := model_folder(tmp_path / "m"))]
    found.append(recipe(folder, prompt="plain"))
    found.append(recipe(folder, kind="query"))
    found.append(recipe(folder, kind="query", instruction="Find it"))
    changed(folder / "config.json", rope_theta=10_000)
    found.append(recipe(folder))
    changed(folder / "tokenizer.json", version="1.1")
    found.append(recipe(folder))
    found.append(recipe(folder, task="score"))
    found.append(recipe(folder, task="score", instruction="Judge it"))
    assert len({*found}) == len(found)


def test_what_a_client_may_choose_itself_is_no_part_of_it(tmp_path: Path) -> None:
    """Documents, which are what is stored, have no task sentence; a vector is cut at the end."""
    one = recipe(folder := model_folder(tmp_path / "m"))
    assert recipe(folder, instruction="Find it") == one
    assert recipe(folder, dimensions=8, max_tokens=100, over_length="cut") == one


def test_a_template_that_er_changes_is_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an upgrade would: the word is made of the ids that texts become."""
    one = recipe(folder := model_folder(tmp_path / "m"))
    as_query = Prompter._as_query
    monkeypatch.setattr(Prompter, "_as_query", lambda *given: as_query(*given) + "!")
    monkeypatch.setattr(Prompter, "_started", lambda *given: None)
    assert recipe(folder) != one


# -- number format, parts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "config", "args", "said"),
    [
        ("bfloat16", {}, (), "bf16"),
        ("float32", {}, ("--enforce-eager",), "fp32"),
        ("bfloat16", {"quantization_config": {"quant_method": "awq"}}, (), "bf16.awq"),
        ("bfloat16", {"quantization_config": None}, ("--quantization", "fp8"), "bf16.fp8"),
        ("bfloat16", {}, ("--quantization=compressed-tensors",), "bf16.compressedtensors"),
        ("float32", {}, ("--dtype", "half", "-q", "fp8"), "half.fp8"),
    ],
)
def test_number_formats(dtype: str, config: Any, args: tuple[str, ...], said: str) -> None:
    assert number_format(dtype, config, args) == said


def test_replicas_are_told_together() -> None:
    """What they agree in; unknown where one can't tell."""
    gpu, cpu = parsed(WORD), parsed(WORD.replace("bf16", "fp32"))
    assert str(together([gpu, gpu])) == WORD
    assert str(together([gpu, cpu])) == "0123456789ab-01234567-mixed"
    assert str(together([gpu, Fingerprint()])) == "unknown-unknown-unknown" == str(together([]))
    for text in ("", "a-b", "a--c", None, 7, "a-b-c-d"):
        assert parsed(text) == Fingerprint()


# -- what was applied ----------------------------------------------------------------------------


def given(weights: str, recipe: str = "r", task: Any = "embed") -> Given:
    return Given(task, weights, recipe, "/m", "m")


def test_what_differs_and_what_is_not_known() -> None:
    one = given("w")
    assert differs(None, given("x")) == differs(one, given("w")) == ""
    assert differs(one, given("x")) == "weights"
    assert differs(one, given("w", "s")) == "recipe"
    assert differs(one, Fingerprint("x", "s", "bf16")) == "weights and recipe"
    assert differs(one, given("unknown")) == differs(given("unknown"), one) == ""


def test_what_is_not_known_now_is_as_it_was_and_names_that_are_gone_stay() -> None:
    before = after(Applied(), {"a": given("w"), "b": given("v")})
    later = after(before, {"a": given("unknown", "s")})
    assert later.names["a"] == given("w", "s") and later.names["b"] == given("v")
    assert after(later, {"b": given("u")}).names["b"] == given("u")


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """Damaged, of another form, a link, or not there."""
    file = tmp_path / "fingerprints.json"
    whole = after(Applied(), {"a": given("w")})
    file.write_text(applied.written(whole))
    assert applied.read(file) == whole
    link = tmp_path / "link"
    link.symlink_to(file)
    bad = tmp_path / "bad"
    bad.write_bytes(b"{\xff")
    form = tmp_path / "form"
    form.write_text(applied.written(msgspec.structs.replace(whole, form=0)))
    for path, why in (
        (link, "it is a link"),
        (bad, "it is damaged"),
        (form, "it is of another ER"),
        (tmp_path / "none", ""),
    ):
        assert applied.read(path) == Applied() and applied.wrong(path) == why
    assert applied.wrong(file) == ""


# -- the gateway ---------------------------------------------------------------------------------

TOML = """
[[model]]
name = "embed"
task = "embed"
path = "{path}"
[[model]]
name = "bi"
task = "score"
via = "embed"
[[replica]]
name = "one"
model = "embed"
gpu = "cpu"
port = 18001
[[replica]]
name = "two"
model = "embed"
{two}
"""


def told(runtime: Path, name: str, word: str | None = WORD, **more: Any) -> None:
    """What a launcher of that name says."""
    folder = runtime / "replicas" / name
    folder.mkdir(parents=True, exist_ok=True)
    sample = {"time": time.time(), "phase": "ready", "fingerprint": word, **more}
    (folder / "sample.json").write_text(json.dumps(sample))


async def test_weights_are_the_engines_word_and_the_recipe_is_the_gateways(tmp_path: Path) -> None:
    path = model_folder(tmp_path / "m")
    text = TOML.format(path=path, two='gpu = "cpu"\nport = 18002')
    served = Served(parse(text, tmp_path / "er.toml"))
    looking = Fingerprints(served, tmp_path)
    looking.look()
    assert served.fingerprints["embed"] == b"unknown-unknown-unknown"
    await served.load_once(lambda _: None)
    mine = recipe(path)
    looking.look()
    assert served.fingerprints["embed"] == f"unknown-{mine}-unknown".encode()
    told(tmp_path, "one")
    told(tmp_path, "two", None)  # it waits for its model
    looking.look()
    whole = f"0123456789ab-{mine}-bf16".encode()
    assert served.fingerprints == {"embed": whole, "bi": whole}
    told(tmp_path, "two", WORD.replace("bf16", "fp32"))
    looking.look()
    assert served.fingerprints["embed"].endswith(b"-mixed")
    looking.look(time.time() + 60)  # nobody lives any more
    assert served.fingerprints["embed"].endswith(b"-mixed"), "the last word stays"


async def test_nobody_vouches_for_an_engine_at_a_url(tmp_path: Path) -> None:
    path = model_folder(tmp_path / "m")
    text = TOML.format(path=path, two='url = "http://10.0.0.7:8000"')
    served = Served(parse(text, tmp_path / "er.toml"))
    await served.load_once(lambda _: None)
    told(tmp_path, "one")
    Fingerprints(served, tmp_path).look()
    assert served.fingerprints["embed"] == f"unknown-{recipe(path)}-unknown".encode()


@pytest.fixture(scope="module")
def er(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose one engine has a launcher, as far as its sample shows."""
    folder = tmp_path_factory.mktemp("fingerprint")
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(EngineProcess(dim=DIMENSIONS))
        running = Gateway(folder, [engine])
        port = int(engine.address.rsplit(":", 1)[1])
        running.replicas = [{"name": "e0", "model": "embed", "gpu": "cpu", "port": port}]
        stack.callback(running.kill)
        yield running.start()


@pytest.fixture
def living(er: Gateway) -> str:
    """The fingerprint that is to be seen: its launcher lives, and the gateway has heard it."""
    told(er.runtime, "e0", time=time.time() + 4)  # for nine seconds
    whole = f"0123456789ab-{recipe(er.folder / 'model')}-bf16"
    until(lambda: er.ask("GET", "/v1/models/embed").json["fingerprint"] == whole)
    return whole


def test_every_answer_of_every_dialect_says_it(er: Gateway, living: str) -> None:
    """By the door's quick way and through ASGI; a rerank by vectors says its embedding model's."""
    documents = ["a", "b"]
    for path, body in (
        ("/v1/embeddings", {"model": "embed", "input": "plain"}),
        ("/v1/embeddings", {"model": "embed", "input": ["one", "two"], "dimensions": 8}),
        ("/v1/embeddings", {"model": "embed", "input": "x" * 400}),
        ("/v2/embed", {"model": "embed", "texts": ["x"], "input_type": "search_query"}),
        ("/embed", {"inputs": "x", "model": "embed"}),
        ("/api/embed", {"model": "embed", "input": "x"}),
        ("/v1/rerank", {"model": "bi", "query": "q", "documents": documents}),
        ("/v2/rerank", {"model": "bi", "query": "q", "documents": documents}),
    ):
        reply = er.ask("POST", path, body)
        assert reply.status == 200, (path, reply.body)
        assert reply.headers.get(HEADER) == living, path
    for refused in (
        er.ask("POST", "/v1/embeddings", {"model": "none", "input": "x"}),
        er.ask("POST", "/tokenize", {"model": "embed", "prompt": "x"}),
    ):
        assert HEADER not in refused.headers


def test_the_lists_of_models_say_it(er: Gateway, living: str) -> None:
    listed = er.ask("GET", "/v1/models").json
    assert {row["id"]: row["fingerprint"] for row in listed["data"]} == {
        "embed": living,
        "bi": living,
    }
    assert listed["models"] == listed["data"]
    assert er.ask("GET", "/v1/models/embed").json["fingerprint"] == living


# -- the launcher --------------------------------------------------------------------------------


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Launched]:
    """A replica that runs from what was applied, as units do."""
    launched = Launched(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/applied.toml").write_text(launched.config.read_text())
    launched.config = tmp_path / "state/applied.toml"
    yield launched
    launched.close()


def remembered(one: Launched, weights: str, recipe: str) -> None:
    """What root applied."""
    record = Applied(names={"tiny": Given("embed", weights, recipe, str(one.model), "tiny")})
    (one.folder / "fingerprints.json").write_text(applied.written(record))


@pytest.mark.slow
def test_files_exchanged_in_place_are_not_served(one: Launched) -> None:
    """Until the old ones are back; each look costs no attempt, and STATUS says which and how."""
    mine = weights.of(one.model)
    assert mine is not None
    remembered(one, mine, recipe(one.model))
    kept = (one.model / "model.safetensors").read_bytes()
    (one.model / "model.safetensors").write_bytes(bytes(64))
    one.systemd()
    del one.env["NOTIFY_SOCKET"]  # it stays itself; with systemd the unit is started anew
    one.start(patience=QUICK)
    said = f"{one.model} has other weights than what was applied"
    one.said(f"{said} ({weights.of(one.model)}-{recipe(one.model)}, applied is {mine}-")
    one.said("sudo er apply --new-vectors")
    sample = until(lambda: (s := one.sample()).get("phase", "").startswith("waiting") and s)
    assert sample["phase"] == "waiting for the model" and said in sample["last_error"]
    assert sample["fingerprint"] is None and sample["attempt"] == 1 and one.starts() == []
    (one.model / "model.safetensors").write_bytes(kept)
    one.ready()
    made = f"{mine}-{recipe(one.model)}-fp32"
    until(lambda: (s := one.sample()).get("phase") == "ready" and s["fingerprint"] == made)


@pytest.mark.slow
def test_what_nobody_applied_and_what_is_as_applied_is_served(one: Launched) -> None:
    """Weights that came after the apply are not known in it; another name's are its own."""
    remembered(one, "unknown", recipe(one.model))
    one.start(patience=QUICK)
    one.ready()


# -- a reload ------------------------------------------------------------------------------------

TWO = """
[[model]]
name = "a"
task = "embed"
path = "/m/a"
aliases = ["search"]
[[model]]
name = "b"
task = "embed"
path = "/m/b"
[[replica]]
name = "one"
model = "a"
url = "http://10.0.0.7:8000"
"""


@pytest.mark.parametrize(
    ("old", "new", "held"),
    [
        ('aliases = ["search"]', 'kind = "query"', "model a: kind (other vectors under a name)"),
        ('path = "/m/a"', 'path = "/m/c"', "model a: path (other vectors under a name)"),
        ('aliases = ["search"]', 'aliases = ["search", "more"]', ""),
        ('aliases = ["search"]', 'instruction = "Find it"', ""),
        ('aliases = ["search"]', "dimensions = 8", ""),
    ],
)
def test_a_reload_leaves_other_vectors_to_apply(old: str, new: str, held: str) -> None:
    """It knows no fingerprints, so it takes up nothing that may give others."""
    merged = takeup.merge(parse(TWO, Path("x")), parse(TWO.replace(old, new), Path("x")))
    assert merged.held == ((held,) if held else ())
    assert (merged.config.model("a") == parse(TWO, Path("x")).model("a")) is bool(held)


def test_an_alias_that_moves_waits_for_apply() -> None:
    """On both sides, so that it always names one of them."""
    moved = TWO.replace('aliases = ["search"]\n', "").replace(
        'path = "/m/b"', 'path = "/m/b"\naliases = ["search"]'
    )
    merged = takeup.merge(parse(TWO, Path("x")), parse(moved, Path("x")))
    assert merged.held == tuple(
        f"model {name}: the alias search (other vectors under a name)" for name in "ab"
    )
    found = merged.config.model("search")
    assert found is not None and found.name == "a"
    same = TWO.replace('"/m/b"', '"/m/a"\nkind = "query"')
    merged = takeup.merge(
        parse(same, Path("x")), parse(moved.replace('"/m/b"', '"/m/a"\nkind = "query"'), Path("x"))
    )
    assert len(merged.held) == 2  # of one folder, by another recipe
    gone = takeup.merge(
        parse(TWO, Path("x")), parse(TWO.replace('aliases = ["search"]\n', ""), Path("x"))
    )
    assert gone.held == () and gone.config.model("search") is None


@pytest.mark.parametrize(
    ("old", "new", "held"),
    [
        (
            'name = "b"',
            'name = "c"\naliases = ["b"]',
            ("model b: its name goes to c", "model c: the alias b"),
        ),
        (
            'aliases = ["search"]\n[[model]]\nname = "b"',
            '[[model]]\nname = "search"',
            ("model a: the alias search", "model search: the name search"),
        ),
    ],
)
def test_a_name_that_a_new_model_takes_over_waits_for_apply(
    old: str, new: str, held: tuple[str, ...]
) -> None:
    """With other vectors; whoever had it keeps it until then."""
    edited = TWO.replace(old, new).replace("/m/b", "/m/c")
    merged = takeup.merge(parse(TWO, Path("x")), parse(edited, Path("x")))
    assert merged.held == tuple(f"{one} (other vectors under a name)" for one in held)
    beside = takeup.merge(parse(TWO, Path("x")), parse(TWO.replace(old, new), Path("x")))
    assert len(beside.held) == (0 if "aliases = [" in new else 2)  # the same folder, renamed
