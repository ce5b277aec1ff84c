"""`er audit` over a stand-in for journalctl; the audit's retention, and whether it is enough."""

from __future__ import annotations

import json
import os
import struct
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from er.cli import audit_journal
from er.cli.__main__ import main
from er.config import Audit, Config, parse
from er.config.render import render
from er.units import texts as unit_texts
from er.units.takeup import merge
from fake_journalctl import BEGAN, Journal
from test_units import CPU, Machine

GOOD = {"METHOD": "POST", "PATH": "/v1/embeddings", "CLIENT": "10.0.0.7", "MODEL": "embed"}
DROP_IN = "etc/systemd/journald@er-audit.conf.d/10-er.conf"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """A journal with five records of three requests and two changes, first on PATH."""
    found = Journal(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(audit_journal, "ROOTS", tuple(found.roots))
    found.audited(
        REQUEST_ID="r-1", KEY_ID="kab2cd3ef", STATUS=200, ITEMS=2, TOKENS=9, TOTAL_MS=4.2, **GOOD
    )
    found.audited(REQUEST_ID="r-2", KEY_ID="kab2cd3ef", STATUS=429, TOTAL_MS=0.1, **GOOD)
    found.audited(ACTION="keys.create", TARGET="kzz2cd3ef", UID=1000)
    found.audited(REQUEST_ID="r-3", KEY_ID="kzz2cd3ef", STATUS=503, CODE="overloaded", **GOOD)
    found.write("audit.jsonl", MESSAGE="journald's own words", PRIORITY=6)
    return found


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[str]:
    """What `er audit` prints."""
    assert main(["audit", *words]) == code
    return capsys.readouterr().out.splitlines()


def test_records_as_lines(there: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    """A line each; what journald says itself is none."""
    lines = shown(capsys)
    at = datetime.fromtimestamp(BEGAN + 1, UTC)
    assert lines == [
        f"{at:%Y-%m-%d %H:%M:%S}.000Z  200 POST /v1/embeddings key=kab2cd3ef 10.0.0.7 embed "
        "texts=2 tokens=9 4.2 ms id=r-1",
        *lines[1:2],
        f"{datetime.fromtimestamp(BEGAN + 3, UTC):%Y-%m-%d %H:%M:%S}.000Z  "
        "keys.create kzz2cd3ef by uid 1000",
        *lines[3:],
    ]
    assert "429" in lines[1] and "503 overloaded POST" in lines[3] and len(lines) == 4
    assert there.asked()[0].endswith("-o json -n 50")


def test_a_record_of_a_trace_names_it(there: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    """To read, and as data; others have no such field."""
    there.audited(REQUEST_ID="r-9", STATUS=200, TOTAL_MS=1, TRACE_ID="ab" * 16, **GOOD)
    first, *_, last = shown(capsys)
    assert last.endswith(" id=r-9 trace=" + "ab" * 16) and "trace" not in first
    first, *_, last = shown(capsys, "--json")
    assert json.loads(last)["TRACE_ID"] == "ab" * 16 and "TRACE_ID" not in json.loads(first)


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--status", "4xx,503"], ["r-2", "r-3"]),
        (["--key", "kab2cd3ef"], ["r-1", "r-2"]),
        (["--key", "kab2cd3ef", "--status", "200"], ["r-1"]),
        (["--request-id", "r-3"], ["r-3"]),
        (["--path", "/v1/rerank"], []),
        (["--model", "embed", "-n", "1"], ["r-3"]),
        (["--model", "embed", "--since", "2026-01-01", "-n", "2"], ["r-2", "r-3"]),
        (["--model", "embed", "--until", "2999-01-01", "-n", "1"], ["r-3"]),
        (["--since", "1d"], []),
        (["--since", "2026-11-01", "--until", "2026-11-02"], []),
    ],
)
def test_only_some(
    there: Journal, capsys: pytest.CaptureFixture[str], words: list[str], ids: list[str]
) -> None:
    """By key, status, model, address, id and time, one beside the other."""
    lines = [json.loads(line) for line in shown(capsys, "--json", *words)]
    assert [line["REQUEST_ID"] for line in lines] == ids
    assert all(line["time"].startswith("2026-") for line in lines)


def test_a_key_by_its_name(there: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the key file can be read; the id is what the audit has."""
    (there.folder / "state").mkdir()
    assert main(["keys", "create", "--name", "web", "--json"]) == 0
    key = json.loads(capsys.readouterr().out)["id"]
    there.audited(REQUEST_ID="r-9", KEY_ID=key, STATUS=200, **GOOD)
    assert len(shown(capsys, "--key", "web")) == 1


def test_follow_goes_on_until_journalctl_ends(
    there: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    (there.folder / "end").touch()
    assert len(shown(capsys, "--follow")) == 4
    assert there.asked()[0].endswith("-n 10 -f")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--status", "6xx"], '"4xx,503"'),
        (["--since", "soon"], '"7d"'),
        (["-n", "-1"], "-n 20"),
        (["--follow", "--until", "1h"], "don't go together"),
        (["--follow", "--since", "1h", "-n", "3"], "not from both"),
    ],
)
def test_wrong_words(
    there: Journal, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(["audit", *words]) == 64
    assert told in capsys.readouterr().err and not there.asked()


def test_why_nothing_is_shown(
    there: Journal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such record, no right, no journal, no systemd: each with what to do."""
    assert main(["audit", "--request-id", "none"]) == 0
    assert "no such record" in capsys.readouterr().err
    (there.folder / "audit.jsonl").write_text("")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main(["audit"]) == 1
    assert "systemd-journal" in capsys.readouterr().err
    monkeypatch.setattr(audit_journal, "ROOTS", (there.folder / "nowhere",))
    assert main(["audit"]) == 1
    assert "nothing was recorded yet" in capsys.readouterr().err
    Path(there.command).write_text("#!/bin/sh\necho no such option >&2; exit 3\n")
    monkeypatch.setattr(audit_journal, "ROOTS", tuple(there.roots))
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(there.folder))
    monkeypatch.setattr(audit_journal, "ROOTS", tuple(there.roots))
    assert main(["audit"]) == 1
    assert "ended with 3: no such option" in capsys.readouterr().err
    Path(there.command).unlink()
    assert main(["audit"]) == 1
    assert "Without systemd" in capsys.readouterr().err


# -- how long it is kept ------------------------------------------------------------------------


def config(text: str) -> Config:
    return parse(text, Path("er.toml"))


def test_apply_writes_what_journald_shall_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop-in beside the shipped file, and that journald alone restarted. Default: no file."""
    machine = Machine(tmp_path, monkeypatch)
    active = {"er.target", "er-gateway.service"}
    machine.apply(CPU)
    text = CPU + '[audit]\nkeep = "30d"\nsize = "1GiB"\n'
    assert machine.apply(text, active) == [
        "daemon-reload",
        "try-restart systemd-journald@er-audit.service",
    ]
    written = (tmp_path / DROP_IN).read_text()
    assert "SystemMaxUse=1073741824\n" in written and "MaxRetentionSec=2592000s\n" in written
    assert not machine.plan(text, active)
    assert machine.apply(CPU, active)[-1] == "try-restart systemd-journald@er-audit.service"
    assert not (tmp_path / DROP_IN).exists() and not (tmp_path / DROP_IN).parent.exists()
    assert unit_texts.audit(config(CPU)) is None


def test_the_setting_waits_for_apply() -> None:
    """`er reload` can't restart a journal: it says so, and what is stored is as it was."""
    edited = config(CPU + '[audit]\nkeep = "30d"\n')
    found = merge(config(CPU), edited)
    assert found.config.audit == Audit() and "[audit] keep" in found.held[0]
    assert config(render(edited)).audit == edited.audit != Audit()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("audit = 1\n", "audit must be an [audit] table"),
        ('[audit]\nkeep = "1m"\n', "keep is 1m; it must be from 1h"),
        ('[audit]\nsize = "1MiB"\n', "size must be at least 16MiB"),
        ('[audit]\nsizes = "1GiB"\n', "did you mean size?"),
    ],
)
def test_wrong_settings(text: str, told: str) -> None:
    with pytest.raises(Exception, match=r"er\.toml") as error:
        config(text + CPU)
    assert told in str(error.value)


def journal_file(path: Path, *, used: int, entries: int, first: float, last: float) -> None:
    """The head of a journal's file, as systemd's documentation has it."""
    head = struct.pack(
        "<8s128xQ8xQ24xQQ", b"LPKSHHRH", used, entries, int(first * 1e6), int(last * 1e6)
    )
    path.write_bytes(head + bytes(100))


def test_the_days_that_fit(tmp_path: Path) -> None:
    """At the rate of the last day or so; older files say nothing of it."""
    folder = tmp_path / "0a1b.er-audit"
    folder.mkdir()
    now = time.time()
    day = 86400.0
    journal_file(
        folder / "system.journal", used=8 << 20, entries=1000, first=now - day / 2, last=now
    )
    older = {"used": 24 << 20, "entries": 3000, "first": now - 2 * day, "last": now - day / 2}
    journal_file(folder / "system@1.journal", **older)  # type: ignore[arg-type]
    journal_file(
        folder / "system@0.journal", used=1 << 40, entries=9, first=1.0, last=now - 2 * day
    )
    (folder / "system@2.journal~").write_bytes(b"damaged")
    found = audit_journal.pieces([tmp_path])
    assert [piece.entries for piece in found] == [1000, 3000, 9]
    good, told = audit_journal.fits(found, Audit(size=160 << 20, keep_s=9 * day), now)
    assert good and told == (
        '2,000 records a day take 16.0 MiB; size = "160MiB" keeps 10 days of that, enough for '
        'keep = "9d"'
    )
    audit = msgspec.structs.replace(Audit(), size=64 << 20)
    good, told = audit_journal.fits(found, audit, now)
    assert not good and told.endswith('keeps 4.0 days of that, too little for keep = "90d"')


def test_a_reload_takes_up_every_table_but_the_audits_and_the_hosts() -> None:
    """A table that `merge` forgot would fall back to its defaults with the next reload."""
    plain = config(CPU)
    written = """
[cache]
size = "1GiB"
[batches]
quota = "2GiB"
[costs]
gpu_hour = 2.5
[quality]
every = "20m"
[feedback]
keep = "30d"
[tracing]
endpoint = "http://127.0.0.1:4318"
[[alert]]
command = ["/bin/true"]
"""
    edited = parse(CPU + written, Path("er.toml"))
    found = merge(plain, edited)
    applied = config(render(edited))
    own = {"gateway", "audit", "models", "replicas", "source", "state", "host"}
    for table in set(Config.__struct_fields__) - own:
        assert getattr(edited, table) != getattr(plain, table), table
        assert getattr(found.config, table) == getattr(edited, table), table
        assert getattr(applied, table) == getattr(edited, table), table
        named = "alert" if table == "alerts" else table
        assert any(f"[{named}]" in line for line in found.taken), table
