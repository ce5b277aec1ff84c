"""`er replica` and `er model` before a systemd that takes notes: shown, asked, written, applied."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from er import config, durable, units
from er.cli import consent, edited, model, placing
from er.cli import replica as replica_command
from er.cli import units as cli_units
from er.cli.__main__ import main
from er.config import parse
from er.gpus import Driver, Gpu, User
from er.units import UnitsError
from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway, model_folder
from test_apply import Machine, applied, machine

__all__ = ["machine"]
GIB = 1 << 30


class Cards:
    """What NVML would tell."""

    reason = "no driver"

    def __init__(self, *cards: Gpu) -> None:
        self.cards = list(cards)

    def __call__(self) -> Cards:
        return self

    def read(self, *, users: bool = False) -> list[Gpu]:
        return self.cards

    def driver(self) -> Driver:
        return Driver("580.95.05", (13, 0))


def card(index: int, used: int = 0, total: int = 80 * GIB, **more: Any) -> Gpu:
    return Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name="H100",
        bus=f"0{index}",
        minor=index,
        memory_total=total,
        memory_used=used,
        memory_free=total - used,
        **more,
    )


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    """Two cards that everybody here sees."""
    found = Cards(card(0, used=8 * GIB), card(1))
    monkeypatch.setattr(replica_command, "Gpus", found)
    monkeypatch.setattr("er.gpus.Gpus", found)
    monkeypatch.setattr(cli_units, "Gpus", found)
    return found


def written(machine: Machine) -> dict[str, Any]:
    return tomllib.loads(machine.toml.read_text())


def replica(machine: Machine, name: str) -> dict[str, Any]:
    return next(r for r in written(machine)["replica"] if r["name"] == name)


def running(machine: Machine) -> None:
    """The first configuration applied, and its units at work."""
    assert cli_units.run_apply(dry_run=False) == 0
    machine.active = ["er-gateway.service", "er.target", "er-vllm@e.service"]
    machine.ran.clear()


def earlier_workers(machine: Machine) -> None:
    """Those that a change made are known by their number, which is one and the same here."""
    (machine.folder / "runtime/generation.json").unlink(missing_ok=True)


def test_a_replica_is_added_as_the_others_are(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """A free name, port and card; both shares of memory as caches where they must share."""
    running(machine)
    extra = '\nargs = ["--x"]\nenv = { A = "b" }  # ours\n# the end'
    machine.toml.write_text(machine.text.rstrip("\n") + extra)
    port = replica(machine, "e")["port"]
    capsys.readouterr()
    assert main(["replica", "add", "--model", "m", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "GPU 1 (H100): the least used; no replica there, 0 B of 80.0 GiB in use" in out
    assert '+name = "e-2"' in out and "-" not in {line[:1] for line in diff(out)}
    new = replica(machine, "e-2")
    assert new["port"] >= 8000 and new["port"] != port
    assert new == {
        "name": "e-2",
        "model": "m",
        "gpu": 1,
        "port": new["port"],
        "args": ["--x"],
        "env": {"A": "b"},
    }
    assert machine.toml.read_text().endswith("# the end\n[[replica]]" + tail(machine))
    assert applied(machine).read_text() == machine.toml.read_text()
    assert "systemctl start --no-block er-vllm@e-2.service" in machine.ran
    assert f"cp {machine.toml}.before {machine.toml} && sudo er apply" in out
    assert "other changes that are not applied yet" in out


def tail(machine: Machine) -> str:
    return machine.toml.read_text().rpartition("[[replica]]")[2]


def diff(out: str) -> list[str]:
    """The lines of the diff in what was said, without its head."""
    rows = out.splitlines()
    start = next(i for i, row in enumerate(rows) if row.startswith("@@"))
    end = next(i for i, row in enumerate(rows) if row.startswith("er apply then"))
    return rows[start + 1 : end]


def test_two_on_a_card_share_its_memory(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """A share of the card becomes a cache of its own size, with its words kept; both are shown."""
    words = "gpu_memory_utilization = 0.90    # of the card\n"
    machine.toml.write_text(machine.text + words)
    machine.text += words
    running(machine)
    capsys.readouterr()
    assert main(["replica", "add", "--model", "m", "--gpu", "0", "--yes"]) == 0
    out = capsys.readouterr().out
    assert replica(machine, "e-2")["kv_cache"] == replica(machine, "e")["kv_cache"] == "6GiB"
    assert "gpu_memory_utilization" not in replica(machine, "e")
    assert f"# {words}" in machine.toml.read_text()
    assert 'GPU 0: e takes 0.90 of it; beside e-2 it gets kv_cache = "6GiB"' in out
    assert "is the only replica of m" not in out, "it has company then"
    assert "systemctl restart --no-block er-vllm@e.service" in machine.ran


def test_what_does_not_fit_is_refused_by_figures(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others' memory counts; nothing is written."""
    cards.cards[0] = card(0, used=70 * GIB, users=(User(1, "theirs", 70 * GIB),))
    assert main(["replica", "add", "--model", "m", "--gpu", "0", "--yes"]) == 1
    err = capsys.readouterr().err
    assert "e-2 does not fit: GPU 0 has 80.0 GiB, of which others than ER leave 10.0 GiB" in err
    assert "needed at the least: e 8.0 GiB, e-2 8.0 GiB" in err
    assert machine.toml.read_text() == machine.text and machine.ran == []
    assert main(["replica", "add", "--model", "m", "--gpu", "0", "--kv-cache", "200GiB"]) == 1
    assert "does not fit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "--model", "x"], "no model 'x'; there are: m"),
        (["add", "--model", "m", "--name", "e"], "there is a replica 'e' already"),
        (["add", "--model", "m", "--name", "E"], "has only a-z, 0-9 and -"),
        (["add", "--model", "m", "--name", "e-surge"], "no name may end in -surge"),
        (["add", "--model", "m", "--gpu", "7"], "GPU 7 is not there"),
        (["add", "--model", "m", "--kv-cache", "much"], "write a size"),
        (["add", "--model", "m", "--url", "http://h:1", "--gpu", "0"], "leave the others out"),
        (["add", "--model", "m", "--url", "ftp://h:1"], "url"),
        (["remove", "x"], "no replica 'x'; there are: e"),
        (["set", "x", "--port", "1"], "no replica 'x'; there are: e"),
        (["set", "e"], "say --gpu, --port, --kv-cache or --url"),
        (["set", "e", "--url", "http://h:1"], "runs here: not --url"),
        (["set", "e", "--port", "70000"], "from 1 to 65535"),
    ],
)
def test_what_can_t_be_done_is_said_and_changes_nothing(
    machine: Machine,
    cards: Cards,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    assert main(["replica", *words, "--yes"]) == 1
    assert said in capsys.readouterr().err
    assert machine.toml.read_text() == machine.text and not applied(machine).exists()
    assert not Path(f"{machine.toml}{edited.BEFORE}").exists()


def test_a_port_moves_and_that_replica_alone_is_restarted(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its clients' gap is said; a port that is taken is refused."""
    more = f'[[replica]]\nname = "f"\nmodel = "m"\ngpu = 1\nport = {free_port()}\n'
    machine.toml.write_text(machine.text + more)
    running(machine)
    machine.active.append("er-vllm@f.service")
    port = free_port()
    assert main(["replica", "set", "f", "--port", str(port), "--yes"]) == 0
    assert replica(machine, "f")["port"] == port
    assert [line for line in machine.ran if "restart" in line] == [
        "systemctl restart --no-block er-vllm@f.service"
    ]
    out = capsys.readouterr().out
    assert "f: another port; it alone is restarted" in out and "only replica" not in out
    taken = replica(machine, "e")["port"]
    assert main(["replica", "set", "f", "--port", str(taken), "--yes"]) == 1
    assert f"port {taken} is taken by replica e" in capsys.readouterr().err
    assert main(["replica", "set", "f", "--port", str(port), "--yes"]) == 1
    assert "has that already" in capsys.readouterr().err


def test_another_card(machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]) -> None:
    """With what it means for the only one of its model."""
    running(machine)
    assert main(["replica", "set", "e", "--gpu", "1", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "e is the only replica of m: its clients get 503" in out
    assert machine.toml.read_text() == machine.text and machine.ran == []
    assert main(["replica", "set", "e", "--gpu", "0", "1", "--yes"]) == 0
    assert replica(machine, "e")["gpu"] == [0, 1]


def test_the_last_replica_is_asked_about(
    machine: Machine,
    cards: Cards,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No leaves all as it is; yes stops its unit."""
    running(machine)
    capsys.readouterr()
    for answer, code in (("n", 1), ("", 1), ("y", 0)):
        terminal = io.StringIO(f"{answer}\n")
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", terminal)
        assert main(["replica", "remove", "e"]) == code
        said = capsys.readouterr()
        assert "e is the last replica of m: from then on requests for m are answered" in said.out
        assert "Do this? [y/N]" in said.out
        assert ("er-vllm@e.service" in machine.ran) is False
        assert bool(written(machine).get("replica")) is (code == 1)
    assert "systemctl stop er-vllm@e.service" in machine.ran


def test_without_a_terminal_nobody_is_asked(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replica", "remove", "e"]) == 64
    assert "to have it done: --yes" in capsys.readouterr().err
    assert machine.toml.read_text() == machine.text


def test_one_at_a_url_comes_and_goes_without_a_restart(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    running(machine)
    assert main(["replica", "add", "--model", "m", "--url", "http://10.0.0.7:8000", "--yes"]) == 0
    assert replica(machine, "e-2") == {"name": "e-2", "model": "m", "url": "http://10.0.0.7:8000"}
    assert machine.ran == ["systemctl kill --kill-who=main --signal=HUP er-gateway.service"]
    earlier_workers(machine)
    assert main(["replica", "set", "e-2", "--url", "http://10.0.0.8:8000", "--yes"]) == 0
    assert main(["replica", "set", "e-2", "--port", "8005", "--yes"]) == 1
    assert "is a vLLM elsewhere: --url alone" in capsys.readouterr().err
    earlier_workers(machine)
    assert main(["replica", "remove", "e-2", "--yes"]) == 0
    assert machine.toml.read_text() == machine.text


def test_the_printed_line_brings_it_back(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """er.toml to the byte, with mode and owner kept on the way, and units with the apply."""
    machine.toml.write_bytes(machine.text.replace("\n", "\r\n").encode())
    machine.toml.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(machine.toml, 0, 4)
    owner = machine.toml.stat()
    before = machine.toml.read_bytes()
    running(machine)
    assert main(["replica", "add", "--model", "m", "--yes"]) == 0
    out = capsys.readouterr().out
    now = machine.toml.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (owner.st_mode, owner.st_uid, owner.st_gid)
    kept = Path(f"{machine.toml}{edited.BEFORE}")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640 and kept.read_bytes() == before
    line = next(row for row in out.splitlines() if row.startswith("Back to what it was: "))
    words = line.removeprefix("Back to what it was: sudo ").split(" && ")[0].split()
    assert words[0] == "cp" and words[1:] == [str(kept), str(machine.toml)]
    shutil.copyfile(*words[1:])
    machine.active.append("er-vllm@e-2.service")
    earlier_workers(machine)
    assert main(["apply"]) == 0
    assert machine.toml.read_bytes() == before
    assert "systemctl stop er-vllm@e-2.service" in machine.ran
    assert not any("er-vllm@e.service" in one for one in machine.ran)


def test_a_file_that_changed_while_the_question_stood_is_left_alone(
    machine: Machine,
    cards: Cards,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.StringIO("y\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    theirs = machine.text + "# somebody's\n"

    def given(*_: object) -> bool:
        machine.toml.write_text(theirs)
        return True

    monkeypatch.setattr(consent, "given", given)
    assert main(["replica", "add", "--model", "m"]) == 1
    assert "was changed meanwhile" in capsys.readouterr().err
    assert machine.toml.read_text() == theirs and machine.ran == []
    assert not Path(f"{machine.toml}{edited.BEFORE}").exists()  # another command's way back


def test_two_that_write_at_once(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one is refused, and waits for nobody."""
    with open(machine.toml, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["replica", "add", "--model", "m", "--yes"]) == 1
    assert "was changed meanwhile, by somebody else" in capsys.readouterr().err
    assert machine.toml.read_text() == machine.text and machine.ran == []
    assert main(["replica", "add", "--model", "m", "--yes"]) == 0


def test_a_full_disk_leaves_er_toml_as_it_is(
    machine: Machine,
    cards: Cards,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(durable, "put", full)
    assert main(["replica", "add", "--model", "m", "--yes"]) == 1
    assert "No space left on device; er.toml is as it was" in capsys.readouterr().err
    assert machine.toml.read_text() == machine.text and machine.ran == []


@pytest.mark.parametrize("fails", ["daemon-reload", "HUP"])
def test_an_apply_that_fails_half_way_is_told_apart(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str], fails: str
) -> None:
    """What er.toml says, what units run from, how to go on and how to go back."""
    running(machine)
    machine.fails = fails
    assert main(["replica", "add", "--model", "m", "--yes"]) == 1
    err = capsys.readouterr().err
    assert "has the change, and it is not applied whole" in err
    assert "units run from the new configuration, but not all was done" in err
    assert "go on: sudo er apply" in err and "Back to what it was: sudo cp" in err
    machine.fails = ""
    assert main(["apply"]) == 0
    assert applied(machine).read_text() == machine.toml.read_text()


def test_one_that_fails_before_it_is_stored_too(
    machine: Machine,
    cards: Cards,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running(machine)

    def no(*_: object, **__: object) -> None:
        raise UnitsError("no room")

    monkeypatch.setattr(units, "apply", no)
    assert main(["replica", "add", "--model", "m", "--yes"]) == 1
    assert "units run from the former one" in capsys.readouterr().err


def test_somebody_without_rights_may_look(
    machine: Machine,
    cards: Cards,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And is told who may change it."""
    running(machine)
    capsys.readouterr()
    monkeypatch.setattr(edited.os, "geteuid", lambda: 1000)
    assert main(["replica", "add", "--model", "m", "--dry-run"]) == 0
    assert "er apply then does:" in capsys.readouterr().out
    assert main(["replica", "add", "--model", "m", "--yes"]) == 1
    assert "sudo er replica add" in capsys.readouterr().err
    assert machine.toml.read_text() == machine.text and machine.ran == []


def test_er_toml_alone(
    machine: Machine,
    cards: Cards,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--no-apply: for later, and where systemd does not run the machine."""
    monkeypatch.setattr(cli_units.systemctl, "booted", lambda: False)
    assert main(["replica", "add", "--model", "m", "--yes"]) == 1
    assert "er.toml alone is changed with --no-apply" in capsys.readouterr().err
    assert machine.toml.read_text() == machine.text
    assert main(["replica", "add", "--model", "m", "--yes", "--no-apply"]) == 0
    assert "In force with: sudo er apply" in capsys.readouterr().out
    assert replica(machine, "e-2") and not applied(machine).exists() and machine.ran == []


def test_an_er_toml_that_can_t_be_used_is_not_edited(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in (machine.text + "[half", machine.text + "x = 1\n"):
        machine.toml.write_text(text)
        assert main(["replica", "add", "--model", "m", "--yes"]) == 1
        assert "correct that first; nothing was changed" in capsys.readouterr().err
        assert machine.toml.read_text() == text
    machine.toml.unlink()
    assert main(["replica", "remove", "e"]) == 1
    assert "can't be read" in capsys.readouterr().err


def test_a_link_stays_a_link(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it leads to is changed, and the line back names what is kept beside that."""
    real = machine.folder / "elsewhere.toml"
    machine.toml.rename(real)
    machine.toml.symlink_to(real)
    assert main(["replica", "add", "--model", "m", "--yes"]) == 0
    assert machine.toml.is_symlink() and "e-2" in real.read_text()
    out = capsys.readouterr().out
    kept = Path(f"{real}{edited.BEFORE}")
    assert kept.read_text() == machine.text and f"as it was before: {kept}\n" in out
    assert f"sudo cp {kept} {machine.toml} && sudo er apply" in out


def test_a_form_of_its_own_is_left_with_the_lines_to_write(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    head, table = machine.text.split("[[replica]]\n")
    inline = f"replica = [{{ {', '.join(table.strip().splitlines())} }}]\n"
    text = inline + head
    machine.toml.write_text(text)
    assert main(["replica", "add", "--model", "m", "--yes"]) == 1
    err = capsys.readouterr().err
    assert "not all [[replica]] tables" in err and '    name = "e-2"' in err
    assert machine.toml.read_text() == text


def test_no_secret_is_shown(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """An alert's table may stand beside the change."""
    alert = '[[alert]]\nkind = "slack"\nwebhook = "https://x.example/TOKEN"\n'
    machine.toml.write_text(machine.text + alert)
    assert main(["replica", "add", "--model", "m", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert 'webhook = "…"' in said.out and "TOKEN" not in said.out + said.err


def test_another_engine_is_the_same_engine(machine: Machine, cards: Cards) -> None:
    """The version of vLLM that its model's first one names comes along."""
    home = machine.folder / "vllm"
    machine.toml.write_text(f'{machine.text}vllm = "{home}"\n')
    held = edited.read()
    wish = replica_command.Wish(action="add", gpu=["1"])
    text, _ = replica_command.added(held, held.text, "m", "e-2", wish)
    assert tomllib.loads(text)["replica"][1]["vllm"] == str(home)


def test_on_the_cpu_too(machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]) -> None:
    """As the others are there; what is more than the machine's memory is refused."""
    machine.toml.write_text(machine.text.replace("gpu = 0", 'gpu = "cpu"\nkv_cache = "2GiB"'))
    assert main(["replica", "add", "--model", "m", "--yes", "--no-apply"]) == 0
    assert 'gpu = "cpu", as e has' in capsys.readouterr().out
    assert (replica(machine, "e-2")["gpu"], replica(machine, "e-2")["kv_cache"]) == ("cpu", "2GiB")
    assert main(["model", "add", str(folder(machine, "x")), "--yes", "--no-apply"]) == 0
    assert replica(machine, "x")["kv_cache"] == "2GiB"
    before = machine.toml.read_text()
    assert main(["replica", "add", "--model", "m", "--kv-cache", "9000GiB", "--yes"]) == 1
    err = capsys.readouterr().err
    assert "e-3 needs 9000.0 GiB of memory at the least" in err and "are free" in err
    assert machine.toml.read_text() == before


# -- models ------------------------------------------------------------------------------------


def folder(machine: Machine, name: str, *, embeds: bool = True) -> Path:
    path = model_folder(machine.folder / name)
    (path / "model.safetensors").write_bytes(b"x")
    if embeds:
        modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
        (path / "modules.json").write_text(json.dumps(modules))
    return path


def test_a_model_comes_with_a_replica_and_goes_with_it(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """Task and recipe from its files; taken out it leaves er.toml as it was."""
    running(machine)
    path = folder(machine, "Tiny-Embed")
    assert main(["model", "add", str(path), "--yes"]) == 0
    out = capsys.readouterr().out
    assert "embed, as it has sentence-transformers' modules.json" in out
    assert "Tiny-Embed: embed with Qwen3's official prompt" in out and "\nm: embed" not in out
    assert written(machine)["model"][-1] == {
        "name": "Tiny-Embed",
        "task": "embed",
        "path": str(path),
    }
    assert replica(machine, "tiny-embed")["gpu"] == 1
    assert "systemctl start --no-block er-vllm@tiny-embed.service" in machine.ran
    assert main(["model", "add", str(path), "--yes"]) == 1
    assert "'Tiny-Embed' is a model already" in capsys.readouterr().err
    earlier_workers(machine)
    assert main(["model", "remove", "Tiny-Embed", "--yes"]) == 0
    assert "requests for Tiny-Embed get 404" in capsys.readouterr().out
    assert machine.toml.read_text() == machine.text


def test_another_model_under_a_name_that_is_gone(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vectors may still be stored under it: refused with a way that works."""
    running(machine)
    path = folder(machine, "Tiny-Embed")
    add = ["model", "add", str(path), "--yes"]
    assert main(add) == 0
    earlier_workers(machine)
    assert main(["model", "remove", "Tiny-Embed", "--yes"]) == 0
    (path / "model.safetensors").write_bytes(b"another training")
    capsys.readouterr()
    assert main(add) == 1
    err = capsys.readouterr().err
    assert "Tiny-Embed gives other vectors than before" in err
    assert "For er apply --new-vectors er.toml alone is changed with --no-apply" in err
    assert machine.toml.read_text() == machine.text
    assert main([*add, "--no-apply"]) == 0
    earlier_workers(machine)
    assert main(["apply"]) == 1
    assert main(["apply", "--new-vectors"]) == 0
    assert "Tiny-Embed" in applied(machine).read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone", "no such folder"),
        ("file", "is a file"),
        ("empty", "has no config.json"),
        ("gguf", "is GGUF, which no engine of ER's serves"),
        ("m.gguf", "is GGUF"),
        ("chat", "say which with --task embed or --task score"),
        ("bare", "no weights (*.safetensors)"),
        ("odd", "type_vocab"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_with_what_to_do(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (machine.folder / "file").write_text("x")
    for kind in ("empty", "gguf"):
        (machine.folder / kind).mkdir()
    (machine.folder / "gguf/model-Q4.gguf").write_bytes(b"GGUF")
    folder(machine, "chat", embeds=False)
    (folder(machine, "bare") / "model.safetensors").unlink()
    odd = folder(machine, "odd") / "config.json"
    odd.write_text(odd.read_text().replace('"hidden_size"', '"type_vocab"'))
    assert main(["model", "add", str(machine.folder / name), "--yes"]) == 1
    err = capsys.readouterr().err
    assert said in err or (name == "odd" and "hidden_size is missing" in err)
    assert machine.toml.read_text() == machine.text


def test_what_another_model_is_made_of_stays(
    machine: Machine, cards: Cards, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.toml.write_text(machine.text + '[[model]]\nname = "v"\ntask = "score"\nvia = "m"\n')
    assert main(["model", "remove", "m", "--yes"]) == 1
    assert "v goes via m" in capsys.readouterr().err
    assert main(["replica", "add", "--model", "v", "--yes"]) == 1
    assert "v goes via m; add a replica of that" in capsys.readouterr().err
    assert main(["model", "remove", "x", "--yes"]) == 1
    assert main(["model", "remove", "v", "--yes"]) == 0
    assert main(["model", "remove", "m", "--yes"]) == 1
    assert "no [[model]]; name at least one" in capsys.readouterr().err


def test_what_a_folder_says() -> None:
    """Names and tasks by files and folders, in a cache of a hub too."""
    hub = Path("/h/models--BAAI--bge-m3/snapshots/5617a9f61b028005a4858fdac845db406aefb181")
    assert model.name_of(hub) == "bge-m3" and model.name_of(Path("/srv/x")) == "x"

    def task(name: str, architecture: str, *, embeds: bool = False) -> str | None:
        prompt = "qwen3" if architecture.startswith("Qwen3") else "plain"
        facts = {"architecture": architecture, "embeds": embeds, "prompt": prompt}
        found = model.task_of(Path("/srv") / name, facts)
        return None if found is None else found[0]

    assert task("Qwen3-Reranker-8B", "Qwen3ForCausalLM") == "score"
    assert task("Qwen3-Embedding-8B", "Qwen3ForCausalLM") == "embed"
    assert task("x", "Qwen3ForCausalLM", embeds=True) == "embed"
    assert task("Qwen3-8B", "Qwen3ForCausalLM") is None
    assert task("x", "BertForSequenceClassification", embeds=True) == "score"
    assert task("bge", "BertModel") == "embed" and task("x", "LlamaForCausalLM") is None


def test_a_running_gateway_takes_it_up_and_lets_it_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without systemd by a reload; the first engine may end then, and come back later."""
    with EngineProcess(dim=DIMENSIONS) as one, EngineProcess(dim=DIMENSIONS) as two:
        gateway = Gateway(tmp_path, [one]).start()
        for name, value in gateway.environment().items():
            monkeypatch.setenv(name, value)
        before = gateway.config.read_bytes()
        add = ["replica", "add", "--model", "embed", "--url", two.address]
        try:
            assert main([*add, "--yes", "--no-apply"]) == 0
            assert main(["reload"]) == 0
            assert "replica e-2: is new" in capsys.readouterr().out
            assert main(["wait", "--timeout", "30s"]) == 0
            one.kill()
            assert gateway.embed().status == 200
            one.start()
            assert main(["wait", "--timeout", "30s"]) == 0
            assert main(["replica", "remove", "e-2", "--yes", "--no-apply"]) == 0
            assert gateway.config.read_bytes() == before
            assert main(["reload"]) == 0
            assert "replica e-2: gone" in capsys.readouterr().out
            two.kill()
            assert main(["wait", "--timeout", "30s"]) == 0
            assert gateway.embed().status == 200
        finally:
            gateway.stop()
            gateway.kill()


# -- where a replica goes ----------------------------------------------------------------------


def toml(*replicas: str) -> config.Config:
    text = '[[model]]\nname = "Big Model.v2"\ntask = "embed"\npath = "/m"\n'
    tables = "".join(f'[[replica]]\nmodel = "Big Model.v2"\n{one}\n' for one in replicas)
    return parse(text + tables, Path("er.toml"))


def test_names_and_ports() -> None:
    assert placing.name_for(toml(), "Big Model.v2") == "big-model-v2"
    two = toml('name = "e"\ngpu = 0\nport = 8000', 'name = "e-2"\ngpu = 1\nport = 8002')
    assert placing.name_for(two, "Big Model.v2") == "e-3"
    assert placing.port_for(two, lambda port: port in (8001, 8003)) == 8004


def test_the_least_used_card() -> None:
    """By what is promised, then by what is used; of a divided one its instances."""
    on = toml('name = "e"\ngpu = 0\nport = 1\nkv_cache = "6GiB"')
    assert placing.card_for(on, [card(0), card(1, used=70 * GIB)], {}).gpu == 1
    assert placing.card_for(toml(), [card(0, used=GIB), card(1)], {}).gpu == 1
    parts = tuple(Gpu(**_part(k)) for k in (1, 2))
    divided = card(0, instances=parts)
    mine = toml('name = "e"\ngpu = "MIG-1"\nport = 1\nkv_cache = "6GiB"')
    assert placing.card_for(mine, [divided], {}).gpu == "MIG-2"
    with pytest.raises(placing.PlaceError):
        placing.card_for(toml(), [], {})


def _part(k: int) -> dict[str, Any]:
    memory = {"memory_total": 20 * GIB, "memory_used": 0, "memory_free": 20 * GIB}
    return {
        "index": 0,
        "uuid": f"MIG-{k}",
        "name": "MIG 1g.20gb",
        "bus": "",
        "minor": None,
    } | memory


def test_memory_is_taken_from_others_only_where_it_must_be() -> None:
    e, new = 'name = "e"\ngpu = 0\nport = 1', 'name = "n"\ngpu = 0\nport = 2'
    weights = {"Big Model.v2": 2 * GIB}

    def changed(*replicas: str, total: int = 80 * GIB) -> dict[str, str]:
        return placing.memory_for(toml(*replicas), "n", [card(0, total=total)], weights).kv_cache

    assert changed(new) == {}
    assert changed(f"{e}\ngpu_memory_utilization = 0.45", new) == {"n": "6GiB"}
    assert changed(e, new) == {"n": "6GiB", "e": "6GiB"}
    assert changed(f'{e}\nkv_cache = "6GiB"', f'{new}\nkv_cache = "6GiB"') == {}
    half = "gpu_memory_utilization = 0.45"
    assert changed(f"{e}\n{half}", f"{new}\n{half}") == {}
    with pytest.raises(placing.PlaceError, match=r"e 10\.0 GiB, n 10\.0 GiB"):
        changed(e, new, total=16 * GIB)
    assert changed(e, new, total=0) == {"n": "6GiB", "e": "6GiB"}, "nobody can tell"
