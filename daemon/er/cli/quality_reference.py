"""`er quality reference MODEL`: what its weights should answer, by transformers."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import orjson
import psutil

from er import model_files
from er.cli import as_user
from er.cli.embed_run import Progress
from er.cli.screen import age, clean
from er.config import Config, ConfigError, Model, active_path, directory, load
from er.engine.build import find_python
from er.fingerprint import weights
from er.model_files import CLASSIFIER, ModelFiles, ModelFilesError
from er.prompts import recipe
from er.prompts.recipe import EMBED_ARCHITECTURES, PAIR_ARCHITECTURES
from er.quality import CanarySet, averaged, by_transformers, drift, judge, reference
from er.quality import load as load_set
from er.quality.reference import Reference, ReferenceFileError, flat
from er.quantities import bytes_text

BESIDE = 1 << 30  # bytes that Python, torch and the states of one sequence take beside the weights
SMALL = 200 << 20  # bytes of weights: threads would wait for each other longer than they compute
HEADER_MOST = 100 << 20  # bytes of a safetensors' list of tensors
ITEM_BYTES = {"float32": 4, "float64": 8}  # of .bin files, by config.json; else 2
LEFT_OUT = "; what a replica answers is still compared with what was recorded"


class Wish(msgspec.Struct):
    """What the command line asked for."""

    model: str
    as_json: bool = False


class CannotError(Exception):
    """It can't be computed; the text says why and what to do."""


def run(wish: Wish) -> int:
    """Compute and keep it. Returns 0, or 1 where it can't be done."""
    progress = Progress(sys.stderr)
    try:
        said = _run(wish, progress)
    except (CannotError, ReferenceFileError, ModelFilesError) as error:
        progress.end()
        print(f"er quality reference: {clean(error)}", file=sys.stderr)
        return 1
    finally:
        progress.end()
    if wish.as_json:
        print(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(lines(said)))
    return 0


def _run(wish: Wish, progress: Progress) -> dict[str, Any]:
    """What was done, for --json. Raises CannotError, ReferenceFileError, ModelFilesError."""
    model, state, canary = _model(wish.model), directory("state"), load_set()
    assert model.path is not None
    if not os.access(state, os.W_OK | os.X_OK):
        raise CannotError(f"{state} can't be written by this user: sudo er quality reference …")
    with opened(model.path) as seen:
        facts = as_user.ask(lambda: _facts(model, seen))
        if facts["error"]:
            raise CannotError(facts["error"].replace(str(seen), str(model.path)))
        demand_memory(facts["bytes"], psutil.virtual_memory().available)
        question = facts["question"] | {"folder": str(seen), "queries": _asked(canary)}
        question["threads"] = 1 if facts["bytes"] < SMALL else 0
        began = time.monotonic()
        answer = computed(find_python(os.environ), question, seen, progress)
    made = Reference(
        kind="transformers",
        model=model.name,
        at=time.time(),
        set=canary.sha256,
        made_with={
            "torch": answer["torch"],
            "transformers": answer["transformers"],
            "dtype": "float32",
            "weights": facts["weights"],
        },
        scores=tuple(tuple(row) for row in answer["scores"]),
    )
    if not made.fits(canary):
        raise CannotError("transformers gave other scores than were asked for")
    file = reference.path(state, model.name, "transformers")
    reference.write(file, made)
    recorded = reference.read(reference.path(state, model.name, "recorded"))
    apart = None
    if recorded is not None and recorded.fits(canary):
        apart = drift(flat(recorded.scores), flat(made.scores))._asdict()
    return {
        "model": model.name,
        "file": str(file),
        "pairs": canary.pairs,
        "seconds": round(time.monotonic() - began, 1),
        "made_with": made.made_with,
        **averaged(judge(canary.queries, made.scores))._asdict(),
        "from_recorded": apart,
    }


def lines(said: dict[str, Any]) -> list[str]:
    """The same for people."""
    shown = [
        f"{clean(said['model'])}: {said['pairs']} pairs by transformers "
        f"{clean(said['made_with']['transformers'])} in float32, {age(said['seconds'])}: nDCG@10 "
        f"{said['ndcg10']:.3f}, MRR {said['mrr']:.3f}, recall@3 {said['recall3']:.3f}",
        f"kept in {said['file']}; each replica is held against it from its next run on: "
        "er quality run",
    ]
    if apart := said["from_recorded"]:
        shown.append(
            f"from what was recorded: {apart['mean']:.2g} in the mean, {apart['largest']:.2g} at "
            f"most, rank correlation {apart['rank_correlation']:.4f}"
        )
    return shown


# -- what is asked -------------------------------------------------------------------------------


def _model(name: str) -> Model:
    """The model of that name or alias. Raises CannotError."""
    try:
        config: Config = load(active_path())
    except ConfigError as error:
        raise CannotError(f"{error.findings[0]}; er check tells all") from None
    model = next((m for m in config.models if name in (m.name, *m.aliases)), None)
    if model is None:
        there = ", ".join(m.name for m in config.models if m.path is not None)
        raise CannotError(f"{active_path()} has no model {name}; there are: {there or 'none'}")
    if model.path is None:
        raise CannotError(f"{model.name} ranks by the vectors of {model.via}; name that model")
    return model


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder by a way that user er has too, where its parents are closed to that user.

    Raises CannotError. A unit sees the folder without its parents as well.
    """
    try:
        door = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise CannotError(f"{path}: {error.strerror}; er check tells more") from None
    try:
        yield Path(f"/proc/self/fd/{door}")
    finally:
        os.close(door)


def _facts(model: Model, seen: Path) -> dict[str, Any]:
    """Asked as user er: the recipe, the weights' size in float32 and which they are."""
    try:
        files = model_files.read(seen)
        return {
            "error": "",
            "question": question_of(model, files),
            "bytes": float32_bytes(seen, files.dtype),
            "weights": weights.fingerprint(seen),
        }
    except (ModelFilesError, CannotError) as error:
        return {"error": str(error)}


def question_of(model: Model, files: ModelFiles) -> dict[str, Any]:
    """What by_transformers is told of the recipe. Raises CannotError for one that it can't do."""
    prompt, architecture = model.prompt or files.prompt, files.architecture
    pooling = recipe.pooling(files)
    simple = {
        ("qwen3", "embed"): CLASSIFIER not in architecture and pooling == "LAST",
        ("qwen3", "score"): architecture == "Qwen3ForCausalLM",
        ("plain", "embed"): architecture in EMBED_ARCHITECTURES and pooling != "",
        ("plain", "score"): architecture in PAIR_ARCHITECTURES and files.labels == 1,
    }
    if not simple[prompt, model.task]:
        what = f"{model.task} with a {architecture} ({prompt}, {pooling or 'no'} pooling)"
        raise CannotError(f"{model.name}: this command has no recipe for {what}{LEFT_OUT}")
    if files.dense and model.task == "embed":
        raise CannotError(
            f"{model.name}: has {' and '.join(files.dense)} behind its pooling, which this command "
            f"does not compute{LEFT_OUT}"
        )
    return {
        "task": model.task,
        "recipe": prompt,
        "pooling": pooling,
        "query_prefix": files.query_prefix,
        "document_prefix": files.document_prefix,
        "max_tokens": min(model.max_tokens, files.max_tokens),
    }


def _asked(canary: CanarySet) -> list[dict[str, Any]]:
    return [
        {"query": query.query, "documents": [document.text for document in query.documents]}
        for query in canary.queries
    ]


# -- memory --------------------------------------------------------------------------------------


def float32_bytes(folder: Path, dtype: str) -> int:
    """What the weights take in float32: counted from safetensors' headers, else by files' size.

    `dtype` is config.json's, for .bin files. Raises CannotError where there are none to be read.
    """
    try:
        tensors = sorted(folder.glob("*.safetensors"))
        if tensors:
            return 4 * sum(_numbers(file) for file in tensors)
        size = sum(file.stat().st_size for file in folder.glob("*.bin"))
    except OSError as error:
        raise CannotError(f"{error.filename or folder}: {error.strerror or error}") from None
    if not size:
        raise CannotError(f"{folder}: no weights (*.safetensors) in it that can be read")
    return size * 4 // ITEM_BYTES.get(dtype, 2)


def _numbers(file: Path) -> int:
    """How many numbers a safetensors file holds, by its header. Raises CannotError, OSError."""
    with open(file, "rb") as opened_file:
        start = opened_file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        header = opened_file.read(size) if 0 < size <= HEADER_MOST else b""
    try:
        listed = orjson.loads(header)
        shapes = [one["shape"] for name, one in listed.items() if name != "__metadata__"]
        return sum(_product(shape) for shape in shapes)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CannotError(f"{file}: not a safetensors file; copy the model again") from None


def _product(shape: Sequence[int]) -> int:
    count = 1
    for side in shape:
        count *= int(side)
    return count


def demand_memory(weights_bytes: int, available: int) -> None:
    """Raises CannotError where the weights would not fit beside what runs here."""
    needs = weights_bytes + BESIDE
    if needs > available:
        raise CannotError(
            f"it needs {bytes_text(needs)} of main memory ({bytes_text(weights_bytes)} of weights "
            f"in float32), and {bytes_text(available)} are free; run it on a machine with more, "
            f"and copy the file it makes"
        )


# -- computing -----------------------------------------------------------------------------------


def computed(
    python: Path, question: dict[str, Any], seen: Path, progress: Progress
) -> dict[str, Any]:
    """The answer of by_transformers, run by `python` as user er where this is root.

    Raises CannotError; KeyboardInterrupt ends it first.
    """
    account = as_user.account() if os.geteuid() == 0 else None
    who: dict[str, Any] = {}
    if account is not None:
        who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                [str(python), "-I", str(by_transformers.__file__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd="/",
                env=_environment(),
                pass_fds=[int(seen.name)],
                start_new_session=True,  # Ctrl-C is for this process, which ends that one
                **who,
            )
        except OSError as error:
            raise CannotError(f"{python} can't be run: {error.strerror}; run install.sh") from None
        try:
            answer = _listened(process, question, progress)
        finally:
            process.kill()
            process.wait()
        if answer is None:
            raise CannotError(_why(process.returncode, errors, python))
        return answer


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "OMP_NUM_THREADS")}
    said = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "CUDA_VISIBLE_DEVICES": ""}
    # Threads that wait give way to the service's instead of spinning.
    said |= {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    return kept | said | {"HOME": "/nonexistent"}


def _listened(
    process: subprocess.Popen[bytes], question: dict[str, Any], progress: Progress
) -> dict[str, Any] | None:
    """What it answers in the end; None where it ended without."""
    assert process.stdin is not None and process.stdout is not None
    progress.say("loading the weights into main memory as float32; it takes a while")
    try:
        process.stdin.write(json.dumps(question).encode())
        process.stdin.close()
    except BrokenPipeError:
        return None
    for line in process.stdout:
        try:
            said = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if "scores" in said:
            process.wait()
            return dict(said)
        progress.show(f"{said['done']} of {said['of']} sequences")
    process.wait()
    return None


def _why(code: int, errors: IO[bytes], python: Path) -> str:
    """Why it ended without an answer."""
    if code < 0:
        return f"the computation was ended by signal {-code}; 9 mostly means: out of memory"
    errors.seek(0)
    last = (errors.read().decode(errors="replace").strip().splitlines() or ["no output"])[-1]
    if "No module named" in last:
        return f"{python}: {last}; it takes vLLM's environment: run install.sh, without --no-vllm"
    return f"transformers failed: {last}"
