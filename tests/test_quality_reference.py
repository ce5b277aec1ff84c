"""`er quality reference`: right numbers from real transformers, and every reason why not."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pwd
import struct
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from er import model_files, quality
from er.cli import __main__ as cli
from er.cli import as_user, quality_reference
from er.cli.embed_run import Progress
from er.cli.quality_reference import CannotError
from er.config import Model
from er.fingerprint import weights
from er.quality import by_transformers, reference
from er.quality.reference import Reference
from real_vllm import ENVIRONMENT, MODELS
from running import model_folder

TASK = by_transformers.TASK
STANDS_IN = """
import json, os, sys
asked = json.load(sys.stdin)
assert os.path.isfile(asked["folder"] + "/config.json")
print(json.dumps({"done": 1, "of": 2}), flush=True)
scores = [[0.5 for _ in query["documents"]] for query in asked["queries"]]
print(json.dumps({"scores": scores, "torch": "2", "transformers": "5"}), flush=True)
"""


def safetensors(path: Path, **shapes: list[int]) -> None:
    """A header, which is all that is read."""
    listed = {n: {"dtype": "BF16", "shape": s, "data_offsets": [0, 0]} for n, s in shapes.items()}
    header = json.dumps(listed | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of an ER with a model `tiny`, and this Python in the place of vLLM's."""
    folder = model_folder(tmp_path / "model")
    safetensors(folder / "model.safetensors", a=[1000, 10], b=[5])
    (tmp_path / "state").mkdir()
    (tmp_path / "er.toml").write_text(
        f'[gateway]\n[[model]]\nname = "org/tiny"\naliases = ["t"]\ntask = "embed"\n'
        f'path = "{folder}"\n[[model]]\nname = "bi"\ntask = "score"\nvia = "org/tiny"\n'
        '[[replica]]\nname = "r"\nmodel = "org/tiny"\nurl = "http://127.0.0.1:9"\n'
    )
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("ER_VLLM_PYTHON", sys.executable)
    return tmp_path


def ask(*words: str) -> tuple[int, str, str]:
    """(status, standard output, standard error) of the command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(["quality", "reference", *words])
    return code, out.getvalue(), err.getvalue()


def stand_in(site: Path, code: str) -> Any:
    """Another script in the place of by_transformers."""
    script = site / "script.py"
    script.write_text(code)
    return mock.patch.object(by_transformers, "__file__", str(script))


def test_what_it_keeps_and_says(site: Path) -> None:
    """The canary's file, by an alias too, and how far the recorded one is from it."""
    canary = quality.load()
    recorded = Reference(
        kind="recorded",
        model="org/tiny",
        at=1.0,
        set=canary.sha256,
        made_with={},
        scores=tuple((0.25,) * 8 for _ in canary.queries),
    )
    state = site / "state"
    reference.write(reference.path(state, "org/tiny", "recorded"), recorded)
    with stand_in(site, STANDS_IN):
        code, out, err = ask("t")
        assert code == 0, err
        answer = json.loads(ask("t", "--json")[1])
    assert "org/tiny: 320 pairs by transformers 5 in float32" in out
    assert "from what was recorded: 0.25 in the mean, 0.25 at most" in out
    assert answer["from_recorded"]["mean"] == 0.25 and answer["pairs"] == 320
    kept = reference.read(reference.path(state, "org/tiny", "transformers"))
    assert kept is not None and kept.fits(canary) and kept.kind == "transformers"
    assert kept.made_with == {
        "torch": "2",
        "transformers": "5",
        "dtype": "float32",
        "weights": weights.fingerprint(site / "model"),
    }
    assert str(reference.path(state, "org/tiny", "transformers")) == answer["file"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise ValueError('a bad weight')", "transformers failed: ValueError: a bad weight"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9; 9 mostly means: out of memory"),
        ("print('hello')", "transformers failed: no output"),
        ("import torch_that_is_not_there", "it takes vLLM's environment: run install.sh"),
        (STANDS_IN.replace("[0.5 for", "[0.5, *[0.5][:0]] or [0 for"), "other scores than were"),
    ],
)
def test_a_computation_that_fails_leaves_nothing(site: Path, code: str, says: str) -> None:
    with stand_in(site, code):
        status, out, err = ask("t")
    assert (status, out) == (1, "") and says in err
    assert not (site / "state/quality").exists()


def test_root_has_it_computed_by_user_er(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's files are read by no more than the service's own user, past closed parents."""
    monkeypatch.setenv("ER_VLLM_PYTHON", "/usr/bin/python3")  # that any user may read
    (site / "model").chmod(0o755)
    site.chmod(0o700)
    telling = STANDS_IN.replace('"torch": "2"', '"torch": f"by {os.getuid()} {os.getgroups()}"')
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        user = mock.patch.object(as_user, "account", return_value=pwd.getpwnam("nobody"))
        with user, stand_in(Path(open_to_all), telling):
            code, out, err = ask("t", "--json")
            assert code == 0, err
            (site / "model/model.safetensors").chmod(0o600)
            closed = ask("t")
    assert json.loads(out)["made_with"]["torch"] == "by 65534 []"
    assert closed[0] == 1 and f"{site}/model/model.safetensors: Permission denied" in closed[2]


def test_a_python_that_is_not_there(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ER_VLLM_PYTHON", "/nowhere/python")
    assert "/nowhere/python can't be run: No such file or directory; run install.sh" in ask("t")[2]


def test_who_is_not_known_or_has_no_weights(site: Path) -> None:
    assert "has no model nope; there are: org/tiny" in ask("nope")[2]
    assert "bi ranks by the vectors of org/tiny; name that model" in ask("bi")[2]
    (site / "model/model.safetensors").unlink()
    code, _, err = ask("t")
    assert code == 1 and f"{site}/model: no weights (*.safetensors) in it" in err
    (site / "model/tokenizer.json").unlink()
    assert f"{site}/model/tokenizer.json: missing" in ask("t")[2]
    (site / "er.toml").write_text("[gateway]\nlisten = 7\n")
    assert f"{site}/er.toml:2: " in ask("t")[2]


def test_what_does_not_fit_into_memory_is_not_begun(site: Path) -> None:
    """Ten billion numbers take 40 GB; the machine is asked before anything is loaded."""
    safetensors(site / "model/model.safetensors", a=[100_000, 100_000])
    with mock.patch("psutil.virtual_memory", return_value=mock.Mock(available=8 << 30)):
        code, _, err = ask("t")
    assert code == 1
    assert (
        "it needs 38.3 GiB of main memory (37.3 GiB of weights in float32), and 8.0 GiB are" in err
    )


def test_weights_are_counted_as_float32(tmp_path: Path) -> None:
    safetensors(tmp_path / "a.safetensors", a=[7, 11], scalar=[])
    safetensors(tmp_path / "b.safetensors", b=[2])
    assert quality_reference.float32_bytes(tmp_path, "bfloat16") == 4 * (77 + 1 + 2)
    (tmp_path / "b.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(CannotError, match=r"b\.safetensors: not a safetensors file"):
        quality_reference.float32_bytes(tmp_path, "bfloat16")
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 100)
    assert quality_reference.float32_bytes(tmp_path, "float16") == 200
    assert quality_reference.float32_bytes(tmp_path, "float32") == 100


def test_recipes_that_it_has_and_has_not(tmp_path: Path) -> None:
    files = model_files.read(model_folder(tmp_path / "m"))

    def asked(task: str, **changed: Any) -> dict[str, Any]:
        given = files.__class__(**{k: getattr(files, k) for k in files.__struct_fields__} | changed)
        model = Model(name="m", task=task, path=tmp_path / "m", max_tokens=300)  # type: ignore[arg-type]
        return quality_reference.question_of(model, given)

    assert asked("embed")["recipe"] == "qwen3" and asked("score")["max_tokens"] == 300
    plain = {"prompt": "plain", "architecture": "BertModel"}
    assert asked("embed", **plain, pooling="CLS", query_prefix="q: ") == {
        "task": "embed", "recipe": "plain", "pooling": "CLS", "query_prefix": "q: ",
        "document_prefix": "", "max_tokens": 300,
    }  # fmt: skip
    for task, changed in (
        ("score", {"architecture": "Qwen3ForSequenceClassification"}),
        ("embed", {"architecture": "Gemma3Model", "prompt": "plain", "pooling": "MEAN"}),
        ("embed", plain),
        ("score", plain),
    ):
        with pytest.raises(CannotError, match="this command has no recipe for"):
            asked(task, **changed)
    with pytest.raises(CannotError, match="has 2_Dense behind its pooling"):
        asked("embed", **plain, pooling="CLS", dense=("2_Dense",))


def test_interrupted_it_ends_what_it_began(site: Path) -> None:
    """Ctrl-C reaches the computation, which is in a session of its own, and nothing is written."""
    script = site / "slow.py"
    script.write_text(
        "import os, sys, time; sys.stdin.read(); "
        f"open({str(site / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    code = (
        "import signal, sys, threading, time, os\n"
        "from er.quality import by_transformers; from er.cli import __main__ as cli\n"
        f"by_transformers.__file__ = {str(script)!r}\n"
        "def stop():\n"
        f"    while not os.path.exists({str(site / 'pid')!r}) or not "
        f"open({str(site / 'pid')!r}).read():\n        time.sleep(0.05)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=stop, daemon=True).start()\n"
        "sys.exit(cli.main(['quality', 'reference', 't']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.endswith("interrupted\n"), done
    with pytest.raises(ProcessLookupError):
        os.kill(int((site / "pid").read_text()), 0)
    assert not (site / "state/quality").exists()


# -- real transformers ---------------------------------------------------------------------------


def computed(folder: Path, **question: Any) -> list[list[float]]:
    said = {"query_prefix": "", "document_prefix": "", "pooling": "LAST", "threads": 1}
    with quality_reference.opened(folder) as seen:
        answer = quality_reference.computed(
            ENVIRONMENT / "bin" / "python",
            said | question | {"folder": str(seen)},
            seen,
            Progress(sys.stderr),
        )
    return [list(row) for row in answer["scores"]]


def vectors(rows: list[dict[str, Any]]) -> tuple[list[str], np.ndarray]:
    return [row["text"] for row in rows], np.array([row["embedding"] for row in rows])


def cosines_are_right(folder: Path, queries: Any, documents: Any, **question: Any) -> None:
    """Each query with each document, against vectors that were made another way."""
    (asked, mine), (told, theirs) = vectors(queries), vectors(documents)
    groups = [{"query": text, "documents": told} for text in asked[:4]]
    found = computed(folder, task="embed", queries=groups, **question)
    assert np.abs(np.array(found) - mine[:4] @ theirs.T).max() < 1e-5


@pytest.mark.vllm
@pytest.mark.timeout(300)
@pytest.mark.parametrize("task", ["embed", "score"])
def test_qwen3_as_the_other_reference_has_it(task: str) -> None:
    """Control tokens' names, Chinese, cut texts: to 1e-5 what tests/lab/reference.py found."""
    right = json.loads((MODELS / "reference.json").read_text(encoding="utf-8"))
    if task == "embed":
        rows = [row for row in right["embeddings"] if row["max_tokens"] == 4096]
        queries = [row for row in rows if row["instruction"] == TASK]
        documents = [row for row in rows if row["instruction"] is None][:20]
        more = {"recipe": "qwen3", "max_tokens": 4096}
        cosines_are_right(MODELS / "tiny-embed", queries, documents, **more)
        return
    by_limit: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in right["scores"]:
        if row["instruction"] in (None, TASK):
            by_limit[row["max_tokens"]].append(row)
    limit, rows = max(by_limit.items(), key=lambda pair: len(pair[1]))
    groups = [{"query": row["query"], "documents": [row["document"]]} for row in rows]
    found = computed(
        MODELS / "tiny-rerank", task=task, recipe="qwen3", max_tokens=limit, queries=groups
    )
    apart = np.abs(np.array(found)[:, 0] - [row["score"] for row in rows])
    assert len(rows) > 10 and apart.max() < 1e-5


@pytest.mark.vllm
@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", ["minilm", "e5", "bert-cross", "bge-reranker"])
def test_other_families_as_the_other_reference_has_them(family: str) -> None:
    known = json.loads((MODELS / "families/families.json").read_text(encoding="utf-8"))
    folder = MODELS / family if family == "minilm" else MODELS / "families" / family
    files, one = model_files.read(folder), known["families"][family]
    plain = [row for row in one["rows"] if not row["cut"] and row["instruction"] is None]
    limit = max(row["max_tokens"] for row in plain)
    rows = [row for row in plain if row["max_tokens"] == limit]
    more = {"recipe": "plain", "max_tokens": limit}
    if one["task"] == "embed":
        prefixes = {"query_prefix": files.query_prefix, "document_prefix": files.document_prefix}
        sides = [[row for row in rows if row["side"] == s] for s in ("query", "document")]
        pooling = files.pooling or "LAST"
        cosines_are_right(folder, sides[0], sides[1][:20], pooling=pooling, **prefixes, **more)
        return
    groups = [{"query": row["query"], "documents": [row["document"]]} for row in rows]
    found = computed(folder, task="score", queries=groups, **more)
    apart = np.abs(np.array(found)[:, 0] - [row["score"] for row in rows])
    assert len(rows) > 10 and apart.max() < 1e-5
