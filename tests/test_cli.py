"""The command `er` as people use it: real processes, a real gateway, exit codes, bad use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway, model_folder

COMMANDS = ("check", "apply", "reload", "status", "wait", "drain", "resume", "keys")
COMMANDS += ("doctor", "bench")


def er(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    command = [sys.executable, "-m", "er.cli", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def as_stranger(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """The same as nobody; the modules are read before, since nobody may not read this Python."""
    code = (
        "import os, sys; from er.cli import __main__ as cli, keys; cli.parser().format_help(); "
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """The environment of an ER that never ran: folders and an er.toml, nothing else."""
    gateway = Gateway(tmp_path)
    for folder in (gateway.state, gateway.runtime):
        folder.mkdir()
    gateway.replicas = [{"name": "e0", "model": "embed", "url": "http://127.0.0.1:9"}]
    gateway.write_config()
    return gateway.environment() | {"CACHE_DIRECTORY": str(tmp_path)}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A running gateway with two engines, and its own environment for `er`."""
    folder = tmp_path_factory.mktemp("gateway")
    with EngineProcess(dim=DIMENSIONS) as one, EngineProcess(dim=DIMENSIONS) as two:
        running = Gateway(folder, [one, two], rate_limit="100/minute")
        running.start()
        try:
            yield running
        finally:
            running.stop()
            running.kill()


# -- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nonsense",), "invalid choice: 'nonsense'"),
        (("status", "--jsn"), "unrecognized arguments: --jsn"),
        (("keys",), "required: ACTION"),
        (("keys", "rotate"), "required: KEY"),
        (("keys", "create"), "required: --name"),
        (("keys", "create", "--name", "x", "--expires", "soon"), "'soon' is not a time"),
        (("keys", "create", "--name", "x", "--expires", "2001-01-01"), "already over"),
        (("keys", "create", "--name", "x", "--rate-limit", "fast"), "write a rate as"),
        (("keys", "create", "--name", " "), "needs a name"),
        (("keys", "create", "--name", "x", "--models", ","), "write names with commas"),
        (("keys", "rotate", "x", "--grace", "long"), "write a time as"),
        (("keys", "create", "--name", "x", "--scopes", "all"), "inference, metrics, admin-read"),
        (("keys", "create", "--name", "x", "--concurrency", "many"), "write a whole number"),
        (("keys", "create", "--name", "x", "--quota", "1/day"), "50M tokens/month"),
        (("keys", "create", "--name", "x", "--networks", "10.0.0.1/8"), "write '10.0.0.0/8'"),
        (("keys", "set", "x"), "nothing to change"),
        (("wait", "--timeout", "5"), "--timeout 5: write a time"),
        (("drain",), "required: NAME"),
        (("help", "nothing"), "no page 'nothing'; there are: alerts"),
    ],
)
def test_wrong_use_ends_with_64_and_says_how(
    alone: dict[str, str], words: tuple[str, ...], said: str
) -> None:
    """Nothing on standard output, the cause on standard error, no key made."""
    done = er(alone, *words)
    assert (done.returncode, done.stdout) == (64, "") and said in done.stderr
    assert not (Path(alone["STATE_DIRECTORY"]) / "er_api_keys.json").exists()


def test_every_command_has_help_and_version(alone: dict[str, str]) -> None:
    """--help and --version everywhere end with 0; `er` alone is a short overview."""
    for command in COMMANDS:
        assert er(alone, command, "--help").stdout.startswith(f"usage: er {command}")
        assert er(alone, command, "--version").stdout == "er 0.1.0\n"
    assert er(alone, "keys", "create", "--version").stdout == "er 0.1.0\n"
    done = er(alone)
    assert done.returncode == 0 and "er doctor" in done.stdout
    assert er(alone, "--version").stdout == "er 0.1.0\n"


# -- without a gateway ---------------------------------------------------------------------------


def test_status_with_the_gateway_down(alone: dict[str, str]) -> None:
    """It works from files, says how to start, ends with 2, and starts or makes nothing."""
    done = er(alone, "status", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["status"]) == (2, "down")
    assert answer["gateway"]["state"] == "stopped" and "er-gateway" in answer["reason"]
    assert [m["name"] for m in answer["models"]] == ["embed", "bi"]
    assert answer["models"][1]["via"] == "embed" and answer["models"][1]["replicas"]
    text = er(alone, "status")
    assert text.returncode == 2 and "down" in text.stdout.splitlines()[0]
    assert list(Path(alone["RUNTIME_DIRECTORY"]).iterdir()) == []


def test_status_with_a_broken_er_toml_is_unknown(alone: dict[str, str]) -> None:
    """3, with file and line."""
    path = Path(alone["CONFIGURATION_DIRECTORY"]) / "er.toml"
    path.write_text(path.read_text() + "\n[gatway]\n")
    done = er(alone, "status", "--json")
    assert done.returncode == 3
    assert f"{path}:" in json.loads(done.stdout)["reason"] and "gatway" in done.stdout
    assert er(alone, "status").returncode == 3
    path.unlink()
    assert "no such file" in er(alone, "status").stdout


def test_a_damaged_applied_configuration_is_said_with_its_cure(alone: dict[str, str]) -> None:
    """By status (3), by doctor although er.toml is good, and by a replica (78)."""
    path = Path(alone["STATE_DIRECTORY"]) / "applied.toml"
    for damage in (b"\xff\xfe\x00", b"[gateway"):
        path.write_bytes(damage)
        done = er(alone, "status")
        assert done.returncode == 3
        assert f"{path}:1: error: " in done.stdout and "sudo er apply" in done.stdout
        told = er(alone, "doctor").stdout
        assert f"x   applied.toml: {path}:1: error: " in told and "-> sudo er apply" in told
        launcher = [sys.executable, "-m", "er.launcher", "e0"]
        ended = subprocess.run(launcher, env=alone, capture_output=True, text=True)
        assert ended.returncode == 78
        assert f"{path}:1: error: " in ended.stdout and "sudo er apply" in ended.stdout


def test_doctor_does_not_call_a_stopped_gateway_well(alone: dict[str, str]) -> None:
    told = er(alone, "doctor").stdout
    assert "x   gateway: stopped: no worker runs; start it: er-gateway" in told


def test_a_name_that_no_replica_can_have_is_not_blamed_on_the_socket(alone: dict[str, str]) -> None:
    for name in ("a b", "a/b", "é", ""):
        done = er(alone, "drain", name)
        assert done.returncode == 1 and f"no replica {name!r}" in done.stderr


def test_a_launchers_sample_is_the_reason_while_the_gateway_is_down(
    alone: dict[str, str],
) -> None:
    """Phase and last error come from its file."""
    folder = Path(alone["RUNTIME_DIRECTORY"]) / "replicas/e0"
    folder.mkdir(parents=True)
    sample = {
        "name": "e0",
        "pid": 1,
        "phase": "loading weights",
        "phase_since": time.time() - 5,
        "last_error": "not enough GPU memory",
        "time": time.time(),
        "gpu": [],
    }
    (folder / "sample.json").write_text(json.dumps(sample))
    row = json.loads(er(alone, "status", "--json").stdout)["models"][0]["replicas"][0]
    assert row["state"] == "starting"
    assert row["reason"] == "loading weights; last error: not enough GPU memory"
    assert row["sample"]["phase"] == "loading weights"


def test_commands_that_need_the_gateway_say_so(alone: dict[str, str]) -> None:
    """One sentence with the socket and the cure, exit 1."""
    for words in (("reload",), ("drain", "e0"), ("resume", "e0")):
        done = er(alone, *words)
        assert done.returncode == 1 and "admin.sock is missing" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_apply_without_systemd_says_what_to_do_instead(alone: dict[str, str]) -> None:
    """There are no units; nothing is written."""
    if Path("/run/systemd/system").is_dir():
        pytest.fail("these tests run where systemd does not; tests/whole has the others")
    done = er(alone, "apply")
    assert done.returncode == 1 and "systemd does not run this machine" in done.stderr
    assert list(Path(alone["STATE_DIRECTORY"]).iterdir()) == []


def test_wait_gives_up_and_obeys_ctrl_c(alone: dict[str, str]) -> None:
    """1 and the reason after the time-out; a clean end on Ctrl-C."""
    done = er(alone, "wait", "--timeout", "1s")
    assert done.returncode == 1 and "gave up after 1s: the gateway is stopped" in done.stdout
    assert "e0: unknown" in done.stdout
    waiting = subprocess.Popen(
        [sys.executable, "-m", "er.cli", "wait"],
        env=alone | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where these tests run in the background of a shell, Ctrl-C is ignored by all they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert waiting.stdout is not None and "gateway: stopped" in waiting.stdout.readline()
    waiting.send_signal(signal.SIGINT)
    _, stderr = waiting.communicate(timeout=60)
    assert waiting.returncode == 1 and stderr.strip() == "interrupted"


def test_doctor_names_each_trouble_and_its_cure(alone: dict[str, str]) -> None:
    """Exit 1 with x lines; a clock, disk and memory that are fine are said as well."""
    keys = Path(alone["STATE_DIRECTORY"]) / "er_api_keys.json"
    keys.write_text("{broken")
    keys.chmod(0o666)
    done = er(alone, "doctor")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert any(x.startswith("ok  clock") for x in lines)
    assert any(x.startswith("ok  memory") for x in lines)
    assert any(x.startswith("!   replica e0: unknown") for x in lines)
    assert any(x.startswith("x   keys: ") and "er_api_keys.json" in x for x in lines)
    assert any(x.startswith("x   permissions: ") and "mode 0666" in x for x in lines)
    assert any("-> chmod 0640" in x for x in lines)
    assert lines[-1].endswith("wrong.")


def test_output_survives_a_c_locale_and_a_closed_pipe(alone: dict[str, str]) -> None:
    """Chinese names become escapes, glyphs ASCII; `er … | head -1` is no traceback."""
    done = er(alone, "keys", "create", "--name", "测试")
    assert done.returncode == 0
    bare = alone | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = er(bare, "keys", "list")
    assert done.returncode == 0 and "\\u6d4b\\u8bd5" in done.stdout
    assert "x down" in er(bare, "status").stdout.splitlines()[0]
    both = f"{sys.executable} -m er.cli help configuration | head -1"
    piped = subprocess.run(both, shell=True, env=alone, capture_output=True, text=True)
    assert piped.stderr == "" and piped.stdout.startswith("# Configuration")


# -- keys ----------------------------------------------------------------------------------------


def test_keys_from_birth_to_end_without_a_gateway(alone: dict[str, str]) -> None:
    """The contract's JSON, word for word in its keys; the file never has the secret."""
    made = json.loads(er(alone, "keys", "create", "--name", "web", "--json").stdout)
    contract = ["id", "name", "secret", "created", "expires", "rate_limit", "models"]
    assert list(made)[:7] == contract
    assert (made["name"], made["expires"], made["rate_limit"], made["models"]) == (
        *("web", None),
        *(None, None),
    )
    listed = json.loads(er(alone, "keys", "list", "--json").stdout)["keys"]
    assert listed[0]["id"] == made["id"] and "secret" not in listed[0]
    assert {"last_used", "previous_valid_until"} <= set(listed[0])
    turned = json.loads(er(alone, "keys", "rotate", "web", "--grace", "0", "--json").stdout)
    assert turned["id"] == made["id"] and turned["secret"] != made["secret"]
    options = ("--rate-limit", "5/minute", "--models", "embed,bi", "--expires", "30d")
    changed = json.loads(er(alone, "keys", "set", made["id"], *options, "--json").stdout)
    assert (changed["rate_limit"], changed["models"]) == ("5/minute", ["embed", "bi"])
    back = ("--rate-limit", "default", "--models", "all", "--expires", "never")
    changed = json.loads(er(alone, "keys", "set", "web", *back, "--json").stdout)
    assert (changed["rate_limit"], changed["models"], changed["expires"]) == (None, None, None)
    assert er(alone, "keys", "create", "--name", "web").returncode == 1
    assert "revoked" in er(alone, "keys", "revoke", "web").stdout
    again = er(alone, "keys", "revoke", made["id"])
    assert again.returncode == 1 and "already" in again.stderr
    assert "revoked" in er(alone, "keys", "list").stdout
    text = (Path(alone["STATE_DIRECTORY"]) / "er_api_keys.json").read_text()
    assert made["secret"] not in text and turned["secret"] not in text


def test_all_that_bounds_a_key_is_said_changed_and_lifted(alone: dict[str, str]) -> None:
    """In the list, by itself, and as JSON."""
    options = (
        *("--scopes", "metrics,inference,admin-read", "--team", "search", "--concurrency", "8"),
        *("--token-limit", "1000000/minute", "--quota", "50M tokens/month"),
        *("--networks", "10.0.0.0/8, 192.0.2.7", "--weight", "4"),
    )
    made = json.loads(er(alone, "keys", "create", "--name", "web", *options, "--json").stdout)
    bounds = {
        "scopes": ["inference", "metrics", "admin-read"],
        "team": "search",
        "concurrency": 8,
        "token_limit": "1000000/minute",
        "quota": "50M tokens/month",
        "networks": ["10.0.0.0/8", "192.0.2.7/32"],
        "weight": 4,
    }
    assert {field: made[field] for field in bounds} == bounds
    listed = er(alone, "keys", "list").stdout
    assert "TEAM" in listed and "web *" in listed and "er keys show KEY" in listed
    shown = er(alone, "keys", "show", "web").stdout
    for words in ("search", "10.0.0.0/8, 192.0.2.7/32", "50M tokens/month", "1000000/minute"):
        assert words in shown
    assert made["secret"] not in shown
    tree = json.loads(er(alone, "keys", "show", made["id"], "--json").stdout)
    assert {field: tree[field] for field in bounds} == bounds
    lift = (
        *("--scopes", "default", "--team", "none", "--concurrency", "off"),
        *("--token-limit", "off", "--quota", "off", "--networks", "all", "--weight", "1"),
    )
    back = json.loads(er(alone, "keys", "set", "web", *lift, "--json").stdout)
    assert {back[field] for field in bounds if field != "scopes"} == {None}
    assert back["scopes"] == ["inference", "metrics"]
    assert "*" not in er(alone, "keys", "list").stdout
    assert er(alone, "keys", "show", "nobody").returncode == 1


def test_a_model_that_er_toml_lacks_is_noted(alone: dict[str, str]) -> None:
    """Allowed, since it may come; said, since it is mostly a slip."""
    done = er(alone, "keys", "create", "--name", "x", "--models", "embde", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["models"] == ["embde"]
    assert done.stderr == "note: er.toml has no model embde; it has: embed, bi\n"


def test_without_the_right_one_sentence_says_so(alone: dict[str, str]) -> None:
    """A stranger is told whom the file needs."""
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: only root can try as somebody else")
    er(alone, "keys", "create", "--name", "web")
    state = Path(alone["STATE_DIRECTORY"])
    for folder in (state, *state.parents):
        if folder != Path("/tmp") and folder.is_relative_to("/tmp"):
            folder.chmod(0o755)
    done = as_stranger(alone, "keys", "create", "--name", "y")
    assert done.returncode == 1 and "needs root or user er: sudo er keys create" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = as_stranger(alone, "keys", "list")
    assert done.returncode == 1 and "needs root or user er" in done.stderr


def test_a_damaged_key_file_is_said_and_not_replaced(alone: dict[str, str]) -> None:
    """The cure names the good copy."""
    er(alone, "keys", "create", "--name", "web")
    path = Path(alone["STATE_DIRECTORY"]) / "er_api_keys.json"
    path.write_text('{"version": 1, "keys": [')
    done = er(alone, "keys", "create", "--name", "y")
    assert done.returncode == 1 and "last-good.json" in done.stderr
    assert path.read_text() == '{"version": 1, "keys": ['


def test_a_key_file_that_an_older_er_cannot_read_is_said_once(alone: dict[str, str]) -> None:
    """With the file that such an ER can be given."""
    first = er(alone, "keys", "create", "--name", "web")
    second = er(alone, "keys", "create", "--name", "bound", "--concurrency", "4")
    third = er(alone, "keys", "set", "bound", "--concurrency", "5")
    assert (first.returncode, second.returncode, third.returncode) == (0, 0, 0)
    assert "er_api_keys.version-1.json: er help keys" in second.stderr
    assert "version" not in first.stderr + third.stderr


# -- with a gateway ------------------------------------------------------------------------------


def until_ok(gateway: Gateway) -> None:
    done = er(gateway.environment(), "wait", "--timeout", "30s")
    assert done.returncode == 0, done.stdout


def test_wait_then_status_says_ok(gateway: Gateway) -> None:
    """0 and the whole picture, from the admin process."""
    done = er(gateway.environment(), "wait", "--timeout", "30s")
    assert done.returncode == 0 and "all replicas answer" in done.stdout
    gateway.embed()
    done = er(gateway.environment(), "status", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["status"]) == (0, "ok")
    assert answer["reason"] == "2 of 2 replicas answer"
    assert answer["gateway"]["workers"] == 1 and answer["gateway"]["pid"] == gateway.process.pid  # type: ignore[union-attr]
    text = er(gateway.environment(), "status")
    assert text.returncode == 0 and "ok: 2 of 2 replicas answer" in text.stdout
    assert text.stdout.count("● up") == 4 + 1


def test_a_dead_engine_is_degraded_with_its_reason(gateway: Gateway) -> None:
    """1; requests go on; back up when it is back."""
    until_ok(gateway)
    gateway.engines[1].kill()
    end = time.monotonic() + 60
    while er(gateway.environment(), "status").returncode != 1:
        assert time.monotonic() < end
    answer = json.loads(er(gateway.environment(), "status", "--json").stdout)
    row = answer["models"][0]["replicas"][1]
    assert (row["name"], row["state"]) == ("e1", "down") and "can't be reached" in row["reason"]
    assert "replica e1 is down" in answer["reason"]
    assert gateway.embed().status == 200
    gateway.engines[1].start()
    until_ok(gateway)
    assert "replica e1 answers right" in gateway.text()


def test_drain_and_resume(gateway: Gateway) -> None:
    """The operator's drain is a state of its own; an unknown name lists the known."""
    env = gateway.environment()
    until_ok(gateway)
    assert "er resume e0" in er(env, "drain", "e0").stdout
    done = er(env, "status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["models"][0]["replicas"][0]["state"] == "drained"
    assert gateway.embed().status == 200
    assert er(env, "resume", "e0").stdout == "e0 is in use again\n"
    assert er(env, "status").returncode == 0
    done = er(env, "drain", "e9")
    assert done.returncode == 1 and "there are: e0, e1" in done.stderr


def test_keys_count_from_the_next_request_on(gateway: Gateway) -> None:
    """Made, limited and revoked beside the running gateway."""
    env = gateway.environment()
    made = json.loads(er(env, "keys", "create", "--name", "next", "--json").stdout)
    assert gateway.embed(key=made["secret"]).status == 200
    assert er(env, "keys", "set", "next", "--rate-limit", "1/hour").returncode == 0
    assert gateway.embed(key=made["secret"]).status == 429
    assert er(env, "keys", "revoke", "next").returncode == 0
    assert gateway.embed(key=made["secret"]).status == 401


def test_reload_puts_a_change_in_force_and_refuses_a_bad_file(gateway: Gateway) -> None:
    """When it returns the new workers serve; a bad file changes nothing."""
    env, before = gateway.environment(), gateway.config.read_text()
    assert er(env, "reload").stdout.startswith("Nothing had changed")
    gateway.config.write_text(before.replace('"name": "bi"', "").replace('"bi/encoder"', '"neu"'))
    done = er(env, "reload")
    assert done.returncode == 0 and "model bi: aliases" in done.stdout, done.stderr
    names = str(
        gateway.ask("POST", "/v1/rerank", {"model": "neu", "query": "a", "documents": ["b"]})
    )
    assert "model_not_found" not in names
    gateway.config.write_text(before + "\nworkes = 3\n")
    done = er(env, "reload")
    assert done.returncode == 1 and f"{gateway.config}:" in done.stderr and "workes" in done.stderr
    assert "nothing was changed" in done.stderr
    assert gateway.embed().status == 200
    gateway.config.write_text(before)
    assert er(env, "reload").returncode == 0


def test_status_when_the_gateway_was_killed(tmp_path: Path) -> None:
    """kill -9 leaves a ledger with workers in it; they are not counted as living."""
    with EngineProcess(dim=DIMENSIONS) as engine:
        gateway = Gateway(tmp_path, [engine]).start()
        until_ok(gateway)
        gateway.kill()
        end = time.monotonic() + 60
        while (done := er(gateway.environment(), "status", "--json")).returncode != 2:
            assert time.monotonic() < end, done.stdout
        answer = json.loads(done.stdout)
    assert answer["gateway"]["workers"] == 0 and answer["gateway"]["state"] == "stopped"


def test_wait_shows_phases_as_they_come(tmp_path: Path) -> None:
    """Started before the gateway and before the engine: it sees both come."""
    port = free_port()
    gateway = Gateway(tmp_path)
    gateway.state.mkdir()
    gateway.runtime.mkdir()
    model_folder(tmp_path / "model")
    url = f"http://127.0.0.1:{port}"
    gateway.replicas = [{"name": "e0", "model": "embed", "url": url}]
    gateway.write_config()
    with (tmp_path / "waited").open("w") as out:
        waiting = subprocess.Popen(
            [sys.executable, "-m", "er.cli", "wait", "--timeout", "60s"],
            env=gateway.environment(),
            stdout=out,
        )
        try:
            end = time.monotonic() + 60
            while "gateway: stopped" not in (tmp_path / "waited").read_text():
                assert time.monotonic() < end
                time.sleep(0.05)
            gateway.start()
            with EngineProcess(dim=DIMENSIONS, port=port):
                assert waiting.wait(60) == 0
        finally:
            waiting.kill()
            gateway.kill()
    said = (tmp_path / "waited").read_text()
    assert "gateway: stopped" in said and "gateway: up" in said and "e0: up" in said
    assert said.splitlines()[-1].startswith("all replicas answer")
