"""`er backup` and `er restore`: what is taken, what is refused; a failure changes nothing."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pty
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from er import __version__, backup, durable, keys, usage
from er.backup import archive, swapped, taken
from er.cli import as_user
from er.cli.__main__ import main
from er.usage import HOUR_S, Sums, hours
from er.usage.book import Book

NOW = 1_790_000_000.0
FULL = OSError(28, "No space left on device")
TOML = '[gateway.tls]\ncertificate = "{0}/tls/cert.pem"\nkey = "{0}/tls/key.pem"\n'


class Machine:
    """The folders of one, as the environment names them."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self._patch = root, patch
        self.configuration, self.state = root / "etc", root / "lib"
        for folder in (self.configuration, self.state, root / "run"):
            folder.mkdir(parents=True)
        self.here()

    def here(self) -> None:
        """Commands are this machine's from now on."""
        self._patch.setenv("CONFIGURATION_DIRECTORY", str(self.configuration))
        self._patch.setenv("STATE_DIRECTORY", str(self.state))
        self._patch.setenv("RUNTIME_DIRECTORY", str(self.root / "run"))

    def filled(self) -> Machine:
        """With something of each part."""
        (self.configuration / "er.toml").write_text("# mine\n")
        (self.configuration / "canary").mkdir()
        (self.configuration / "canary/自己的 1.jsonl").write_text("{}\n")
        keys.create(self.state / "er_api_keys.json", name="web", now=datetime.now(UTC))
        with contextlib.closing(hours.Hours.open(usage.folder(self.state))) as table:
            table.add({("kaaaaaaaa", "embed"): Sums(7, 0, 9, 90)}, NOW)
        for name in ("feedback/2026-11.jsonl", "hourly/2026-11.jsonl", "usage/2026-10.jsonl"):
            self.write(name, b"one\ntwo\n")
        self.write("hourly/now.json", b"{}")
        self.write("quality/reference/Qwen%2FEmbedding.recorded.json", b"{}")
        self.write(f"quality/reference/{'%E4%B8%AD' * 25}.recorded.json", b"long")
        self.write("history", b"\x01\x02")
        self.write("batches/open/kaaaaaaaa.batch_1", b"")
        self.write("batches/kaaaaaaaa/batch_1.json", b"{}")
        self.write("batches/kaaaaaaaa/file-2.part", b"half")  # is not taken, nor are these
        self.write("batches/lock", b"")
        self.write("applied.toml", b"# applied\n")
        return self

    def write(self, name: str, data: bytes) -> None:
        """A file of the state."""
        path = self.state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def tree(self) -> dict[str, bytes]:
        """Every file there is; locks aside, which say nothing."""
        found = {}
        for path in self.root.rglob("*"):
            if path.is_file() and not path.name.endswith("lock"):
                found[str(path.relative_to(self.root))] = path.read_bytes()
        return found


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One that has something of everything."""
    return Machine(tmp_path / "one", monkeypatch).filled()


@pytest.fixture
def file(tmp_path: Path, machine: Machine) -> Path:
    """A backup of it."""
    path = tmp_path / "er.backup"
    assert main(["backup", str(path)]) == 0
    return path


@pytest.fixture
def fresh(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Another one that has other keys; it is the one that is spoken of from then on."""
    other = Machine(tmp_path / "two", monkeypatch)
    keys.create(other.state / "er_api_keys.json", name="other", now=datetime.now(UTC))
    other.write("feedback/2026-12.jsonl", b"later\n")
    other.write("applied.toml", b"# stays\n")
    return other


def restored(path: Path, *words: str) -> int:
    return main(["restore", str(path), "--yes", *words])


# -- what is taken -----------------------------------------------------------------------------


def test_all_parts_come_back_and_nothing_else(
    machine: Machine, file: Path, fresh: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the backup has takes the place of its whole part; the rest stays."""
    before = fresh.tree()
    assert restored(file, "--dry-run") == 0
    assert fresh.tree() == before and "feedback" in capsys.readouterr().out
    assert restored(file) == 0
    said = capsys.readouterr().out
    assert "before-restore-" in said and "er restore --undo" in said and "sudo er apply" in said
    wanted = machine.tree()
    for name in ("lib/applied.toml", "lib/batches/kaaaaaaaa/file-2.part"):
        wanted.pop(name)
    now = {name: data for name, data in fresh.tree().items() if "before-restore" not in name}
    assert now.pop("lib/applied.toml") == b"# stays\n"
    assert now == wanted
    kept = {name.split("Z/")[1] for name in fresh.tree() if "lib/before-restore" in name}
    assert {"feedback/2026-12.jsonl", "er_api_keys.json", ".scope.json"} <= kept

    assert main(["restore", "--undo", "--yes"]) == 0
    assert {n: d for n, d in fresh.tree().items() if "before-restore" not in n} == before
    assert main(["restore", "--undo", "--yes"]) == 0
    again = {name: data for name, data in fresh.tree().items() if "before-restore" not in name}
    assert again == {**wanted, "lib/applied.toml": b"# stays\n"}
    assert len(list(fresh.state.glob("before-restore-*"))) == 1


def test_other_programs_can_look_into_it(file: Path) -> None:
    with tarfile.open(file) as tar:
        names = tar.getnames()
        manifest = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
    assert names[0] == "manifest.json" and "state/er_api_keys.json" in names
    assert manifest["er"] == __version__ and manifest["format"] == backup.FORMAT
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_line_that_is_being_written_is_left_out(machine: Machine, tmp_path: Path) -> None:
    whole = b"x" * (2 << 20) + b"\n"
    machine.write("feedback/2026-11.jsonl", whole + b"y" * (2 << 20))
    machine.write("hourly/2026-11.jsonl", b"no line at all")
    with contextlib.closing(taken.Taken(machine.configuration, machine.state)) as found:
        found.collect(None)
        sources = {source.member.inside: b"".join(source.chunks()) for source in found.sources}
    assert sources["feedback/2026-11.jsonl"] == whole and sources["hourly/2026-11.jsonl"] == b""


@pytest.mark.parametrize("early", [True, False])
def test_hours_that_go_into_the_book_meanwhile_count_once(
    early: bool, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just before the table is read, into a file that was not there; or just after."""
    folder, true = usage.folder(machine.state), hours.snapshot

    def written_down(where: Path) -> bytes:
        data = true(where)
        with contextlib.closing(hours.Hours.open(folder)) as table:
            rows = table.due(NOW + 2 * HOUR_S)
            Book(folder).write(rows, {})
            table.written(rows)
        return true(where) if early else data

    monkeypatch.setattr(hours, "snapshot", written_down)
    path = tmp_path / "er.backup"
    assert main(["backup", str(path)]) == 0
    monkeypatch.setattr(hours, "snapshot", true)
    other = Machine(tmp_path / "two", monkeypatch)
    assert restored(path) == 0
    there = usage.folder(other.state)
    (month,) = [m for m in Book(there).months() if m.begins <= NOW // HOUR_S < m.ends]
    rows, _ = Book(there).read(month, hours.read(there))
    assert [row.sums for row in rows] == [Sums(7, 0, 9, 90)]
    assert len(hours.read(there)) == (0 if early else 1)  # or in both


def test_a_file_that_changes_while_it_is_read(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not appended to but written over: it is said, and no backup is there."""
    with contextlib.closing(taken.Taken(machine.configuration, machine.state)) as found:
        found.collect(None)
        machine.write("feedback/2026-11.jsonl", b"two\none\n")
        manifest = backup.Manifest(
            format=1, er="1", host="h", at="", parts=(), members=tuple(s[0] for s in found.sources)
        )
        with pytest.raises(backup.BackupError, match="changed while it was read; try again"):
            archive.write(io.BytesIO(), manifest, found.sources)


def test_batches_that_are_too_large_are_left_out_and_stay(
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(taken, "BATCHES_MAX", 1)
    path = tmp_path / "er.backup"
    assert main(["backup", str(path)]) == 0
    assert "are left out: copy" in capsys.readouterr().err
    machine.write("batches/kaaaaaaaa/batch_2.json", b"{}")
    assert restored(path) == 0
    assert (machine.state / "batches/kaaaaaaaa/batch_2.json").exists()


def test_the_files_of_https(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where they lie beside er.toml; from elsewhere a restore could not put them back."""
    path, root = tmp_path / "er.backup", machine.configuration
    assert main(["backup", str(path), "--with-tls"]) == 1
    assert "can't be used" in capsys.readouterr().err
    model = '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
    model += '[[replica]]\nname = "r"\nmodel = "m"\nurl = "http://127.0.0.1:1"\n'
    (root / "er.toml").write_text(model)
    assert main(["backup", str(path), "--with-tls"]) == 1
    assert "has no [gateway.tls]" in capsys.readouterr().err
    (root / "er.toml").write_text(TOML.format("/etc/letsencrypt") + model)
    assert main(["backup", str(path), "--with-tls"]) == 1
    assert "does not lie in" in capsys.readouterr().err
    (root / "er.toml").write_text(TOML.format(root) + model)
    assert main(["backup", str(path), "--with-tls"]) == 1
    assert "there is no" in capsys.readouterr().err and not path.exists()
    (root / "tls").mkdir()
    (root / "tls/cert.pem").write_text("cert")
    (root / "tls/key.pem").write_text("key")
    (root / "tls/key.pem").chmod(0o600)
    assert main(["backup", str(path), "--with-tls"]) == 0
    assert "the private key of HTTPS" in capsys.readouterr().out
    (root / "tls/key.pem").write_text("another")
    (root / "tls/other.pem").write_text("stays")
    assert restored(path) == 0
    assert (root / "tls/key.pem").read_text() == "key" and (root / "tls/other.pem").exists()
    assert (root / "tls/key.pem").stat().st_mode & 0o777 == 0o600
    assert main(["restore", "--undo", "--yes"]) == 0
    assert (root / "tls/key.pem").read_text() == "another"


# -- where it may be written --------------------------------------------------------------------


def test_a_backup_is_written_over_and_nothing_else(
    machine: Machine, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_bytes()
    machine.write("feedback/2026-11.jsonl", b"more\n" * 3)
    assert main(["backup", str(file)]) == 0 and file.read_bytes() != before
    mine = tmp_path / "mine"
    for data in (b"", b"text", gzip.compress(b"x" * 2000)):
        mine.write_bytes(data)
        assert main(["backup", str(mine)]) == 1 and mine.read_bytes() == data
        assert "no backup of ER; name another file" in capsys.readouterr().err
    assert main(["backup", str(tmp_path)]) == 1 and "is a folder" in capsys.readouterr().err
    assert main(["backup", str(tmp_path / "no/er")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_damaged_keys_are_put_right_first(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.write("er_api_keys.json", b"{")
    assert main(["backup", str(tmp_path / "er.backup")]) == 1
    said = capsys.readouterr().err
    assert "cp -p" in said and "Then make the backup" in said
    assert not (tmp_path / "er.backup").exists()


def test_an_empty_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Machine(tmp_path / "empty", monkeypatch)
    assert main(["backup", str(tmp_path / "er.backup")]) == 1
    assert "nothing to back up" in capsys.readouterr().err
    assert main(["restore", "--undo"]) == 1 and "nothing to undo" in capsys.readouterr().err
    assert main(["restore"]) == 64 and main(["restore", "x", "--undo"]) == 64


def small_files() -> None:
    """As a full disk does it, to a process of its own: no file of more than 400 bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_full_disk(command: str, machine: Machine, file: Path, fresh: Machine) -> None:
    """Nothing has changed, nothing half is left, and it says what to do."""
    (fresh.configuration / "er.toml").write_text("# theirs\n")
    before, old = fresh.tree(), file.read_bytes()
    words = [command, str(file)] + ["--yes"] * (command == "restore")
    done = subprocess.run(
        [sys.executable, "-m", "er.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=small_files,
    )
    assert done.returncode == 1 and "make room there and try again" in done.stderr, done
    assert fresh.tree() == before and file.read_bytes() == old
    assert [p.name for p in file.parent.iterdir() if p.name.startswith(".")] == []
    assert not list(fresh.root.rglob(".restoring"))


def test_a_disk_that_is_too_small_is_known_before(
    file: Path,
    fresh: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, true = fresh.tree(), os.statvfs

    def small(path: Any) -> Any:
        found = true(path)
        return type("Small", (), {"f_bavail": 1, "f_frsize": 4096, "f_flag": found.f_flag})()

    monkeypatch.setattr(os, "statvfs", small)
    assert restored(file) == 1 and "MiB are needed in" in capsys.readouterr().err
    assert fresh.tree() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_read_only_place(command: str, machine: Machine, file: Path) -> None:
    place = file.parent if command == "backup" else machine.state
    mount = f'mount --bind -o ro {place} {place} && mount -o remount,bind,ro {place} && exec "$@"'
    words = [command, str(file)] + ["--yes"] * (command == "restore")
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh"]
    done = subprocess.run(
        [*alone, sys.executable, "-m", "er.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "lies on a read-only file system" in done.stderr, done


# -- what is no backup --------------------------------------------------------------------------


def test_damage_is_found_before_anything_changes(
    file: Path, fresh: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut anywhere, or one byte of it another: refused by name, with what to do."""
    whole, before = file.read_bytes(), fresh.tree()
    step = max(1, len(whole) // 40)
    damaged = [whole[:at] for at in range(0, len(whole), step)]
    damaged += [
        whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        for at in range(12, len(whole), step)
    ]
    damaged += [whole + b"more", whole + whole]
    for data in damaged:
        file.write_bytes(data)
        assert restored(file) == 1, len(data)
        said = capsys.readouterr().err
        assert str(file) in said and ("is damaged" in said or "is no backup" in said), said
    assert fresh.tree() == before


def other_tar(name: str = "x", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = 2 if kind == tarfile.REGTYPE else 0
        tar.addfile(info, io.BytesIO(b"{}"))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"just text",
        gzip.compress(b"text"),
        other_tar(),
        other_tar("manifest.json"),
        other_tar("manifest.json", tarfile.SYMTYPE, "/etc/shadow"),
        gzip.compress(bytes(1 << 20)),
    ],
    ids=["text", "gzip", "other tar", "manifest", "link", "zeros"],
)
def test_what_is_no_backup(
    data: bytes, fresh: Machine, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fresh.tree()
    file.write_bytes(data)
    assert restored(file) == 1 and fresh.tree() == before
    said = capsys.readouterr().err
    assert "is no backup of ER" in said or "is damaged" in said


def test_no_plain_file(fresh: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        assert restored(path) == 1 and "no plain file" in capsys.readouterr().err
    assert restored(tmp_path / "none") == 1
    assert "No such file" in capsys.readouterr().err


def made(path: Path, change: Callable[[dict[str, Any]], None], *, blocks: bool = True) -> None:
    """The backup at `path` with another manifest."""
    with tarfile.open(path) as tar:
        found = [(m, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]
    manifest = json.loads(found[0][1])
    change(manifest)
    data = json.dumps(manifest).encode()
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
        found[0][0].size = len(data)
        tar.addfile(found[0][0], io.BytesIO(data))
        for info, bytes_ in found[1:]:
            tar.addfile(info, io.BytesIO(bytes_))


def named(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["members"][0].update(name=name)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (named("/etc/passwd"), "which no backup has"),
        (named("state/../../escaped"), "which no backup has"),
        (named("configuration/canary/../../x.jsonl"), "which no backup has"),
        (named("state/applied.toml"), "which no backup has"),
        (named("state/usage/2026-10.jsonl\n"), "which no backup has"),
        (named("cache/er"), "which no backup has"),
        (named("state/usage/hours"), "a file twice"),
        (lambda m: m["members"][0].update(size=1 << 40), "size or mode"),
        (lambda m: m["members"][0].update(size=65 << 20), "size or mode"),
        (lambda m: m["members"][0].update(size=-1), "size or mode"),
        (lambda m: m["members"][0].update(mode=0o4755), "size or mode"),
        (lambda m: m["members"][0].update(sha256="x"), "checksum"),
        (lambda m: m["members"][0].update(sha256="0" * 64), "is not what was written"),
        (lambda m: m["members"].pop(), "behind its end"),
        (lambda m: m["members"].reverse(), "is not"),
        (lambda m: m.update(parts=["models"]), "which no ER has"),
        (lambda m: m.update(members=5), "its manifest is not one"),
        (lambda m: m.update(er="99.0"), "upgrade ER here first"),
        (lambda m: m.update(er="0.1.1"), "upgrade ER here first"),
        (lambda m: m.update(format=2, members="other"), "upgrade ER here first"),
        (lambda m: m.update(er="next"), "upgrade ER here first"),
    ],
)
def test_a_manifest_is_not_believed(
    change: Callable[[dict[str, Any]], None],
    why: str,
    fresh: Machine,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Names that leave their place, sizes that can't be, checksums, a newer ER."""
    before = fresh.tree()
    made(file, change)
    assert restored(file) == 1 and why in capsys.readouterr().err
    assert fresh.tree() == before and not list(file.parent.glob("escaped"))


def test_one_of_an_older_er_is_taken_up(file: Path, fresh: Machine) -> None:
    """Its key file of version 1 too, which is changed as it ever was."""
    made(file, lambda manifest: manifest.update(er="0.0.9"))
    assert restored(file) == 0
    path = fresh.state / "er_api_keys.json"
    assert json.loads(path.read_bytes())["version"] == 1
    keys.change(path, "web", now=datetime.now(UTC), concurrency=3)
    assert json.loads(path.read_bytes())["version"] == 2


def test_keys_that_this_er_can_t_read(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "er.backup"
    machine.write("er_api_keys.json", b'{"version": 3, "keys": []}')
    with contextlib.closing(taken.Taken(machine.configuration, machine.state)) as found:
        found.collect(None)
        members = tuple(source.member for source in found.sources)
        manifest = backup.Manifest(
            format=1, er="0.1.0", host="h", at="", parts=tuple(found.parts), members=members
        )
        with path.open("wb") as out:
            archive.write(out, manifest, found.sources)
    before = machine.tree()
    assert restored(path) == 1 and "keys that this ER can't read" in capsys.readouterr().err
    assert machine.tree() == before


# -- while it is done --------------------------------------------------------------------------


def test_a_failure_in_the_midst_changes_nothing(
    file: Path, fresh: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file can't be moved, also those of the second folder; at an undo too."""
    (fresh.configuration / "er.toml").write_text("# theirs\n")
    true = Path.rename
    for undo in (False, True):
        words = ["--undo"] if undo else [str(file)]
        before, failed = fresh.tree(), 0
        for at in range(100):
            left = at

            def rename(self: Path, target: Any) -> Path:
                nonlocal left
                left -= 1
                if left == -1:
                    raise FULL
                return true(self, target)

            monkeypatch.setattr(Path, "rename", rename)
            code = main(["restore", *words, "--yes"])
            monkeypatch.setattr(Path, "rename", true)
            if code == 0:
                break
            failed += 1
            assert fresh.tree() == before, at
        assert failed > 15 and fresh.tree() != before


def killed(at: int, *words: str) -> bool:
    """`er restore` in a process that is killed when it renames for that time; whether it was."""
    child = os.fork()
    if child == 0:
        true, left = Path.rename, at

        def rename(self: Path, target: Any) -> Path:
            nonlocal left
            left -= 1
            if left == -1:
                os.kill(os.getpid(), signal.SIGKILL)
            return true(self, target)

        Path.rename = rename  # type: ignore[method-assign,assignment]
        os._exit(main(["restore", *words, "--yes"]))
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_killed_one_is_taken_back(
    file: Path, fresh: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever it was, an undo as well: the next command puts all as it was before it."""
    (fresh.configuration / "er.toml").write_text("# theirs\n")
    for words in ([str(file)], ["--undo"]):
        before, at = fresh.tree(), 0
        while killed(at, *words):
            assert main(["restore", "--undo", "--yes"]) == 0
            assert "was killed amid its work" in capsys.readouterr().out
            left = {n: d for n, d in fresh.tree().items() if ".restoring" not in n}
            assert left == before, at
            at += 1
        assert at > 15 and fresh.tree() != before


def test_ctrl_c(
    request: pytest.FixtureRequest,
    file: Path,
    fresh: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While files are written: nothing has changed. While they are swapped: it goes to its end."""
    before, true = fresh.tree(), os.fchmod
    # a test before this one, or a library of its, may have left another
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    count = 0

    def interrupted(descriptor: int, mode: int) -> None:
        nonlocal count
        count += 1
        true(descriptor, mode)
        if count == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fchmod", interrupted)
    assert restored(file) == 1 and "interrupted" in capsys.readouterr().err
    assert fresh.tree() == before and count == 5
    monkeypatch.setattr(os, "fchmod", true)
    put = swapped.put

    def putting(*given: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        put(*given)

    monkeypatch.setattr(swapped, "put", putting)
    assert restored(file) == 0 and (fresh.state / "usage/hours").exists()


def test_it_asks_first(file: Path, fresh: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal it wants --yes."""
    before = fresh.tree()
    assert main(["restore", str(file)]) == 1 and "--yes" in capsys.readouterr().err
    for answer, code in ((b"n\n", 1), (b"\n", 1), (b"y\n", 0)):
        assert fresh.tree() == before
        mine, theirs = pty.openpty()
        os.write(mine, answer)
        command = [sys.executable, "-m", "er.cli", "restore", str(file)]
        assert subprocess.call(command, stdin=theirs, stdout=theirs, stderr=theirs) == code
        os.close(theirs)
        os.close(mine)
    assert fresh.tree() != before


def test_not_beside_an_apply(
    file: Path, fresh: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fresh.tree()
    holder = "import fcntl, os, sys; file = os.open(sys.argv[1], os.O_RDONLY);"
    holder += "fcntl.flock(file, fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(fresh.state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as apply:
        assert apply.stdout is not None
        assert apply.stdout.readline()
        assert restored(file) == 1 and "er apply" in capsys.readouterr().err
        apply.communicate(b"\n")
    assert fresh.tree() == before


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that others can reach, and user nobody in the place of er."""
    monkeypatch.setattr(as_user, "USER", "nobody")
    monkeypatch.setattr(durable, "OWNER", "nobody")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_root_gives_the_state_to_user_er(
    as_nobody: Path,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who writes them himself: a link in there leads root nowhere. The configuration is root's."""
    other = Machine(as_nobody / "two", monkeypatch)
    account = pwd.getpwnam("nobody")
    for folder in (other.state, other.root / "run"):
        os.chown(folder, account.pw_uid, account.pw_gid)
    assert restored(file) == 0, capsys.readouterr().err
    files = [path for path in other.state.rglob("*") if not path.is_symlink()]
    assert len(files) > 20 and {path.stat().st_uid for path in files} == {account.pw_uid}
    assert all(path.stat().st_mode & 0o7 == 0 for path in files if path.is_file())
    assert {path.stat().st_uid for path in other.configuration.rglob("*")} == {0}
    assert (other.root / "run/gateway.lock").stat().st_uid == account.pw_uid
    assert main(["restore", "--undo", "--yes"]) == 0

    elsewhere = as_nobody / "roots"
    elsewhere.mkdir()
    (other.state / "usage").rmdir()
    (other.state / "usage").symlink_to(elsewhere)
    before = other.tree()
    assert restored(file) == 1 and "Permission denied" in capsys.readouterr().err
    assert not list(elsewhere.iterdir()) and other.tree() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_who_may_not_is_told_sudo(
    command: str, as_nobody: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who is neither root nor in group er."""
    theirs = Machine(as_nobody / "two", monkeypatch).filled()
    theirs.state.chmod(0o750)
    copy, said = as_nobody / "er.backup", as_nobody / "said"
    as_nobody.chmod(0o777)
    before = theirs.tree()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with said.open("w") as out, contextlib.redirect_stderr(out):
            code = main([command, str(copy)])
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert f"sudo er {command}" in said.read_text() and not copy.exists()
    assert theirs.tree() == before
