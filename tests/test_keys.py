"""Keys: the file's shape, changes that hold or leave all as it was, and who gets in."""

from __future__ import annotations

import json
import re
import resource
import shutil
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from er import keys
from er.keys import file, record, replaced, used
from er.keys.reader import Keys
from er.quantities import Rate

NOW = datetime(2026, 11, 23, 16, 0, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where this test's key file lies."""
    return tmp_path / "er_api_keys.json"


def make(path: Path, name: str = "web", **more: object) -> keys.Created:
    return keys.create(path, name=name, now=NOW, **more)  # type: ignore[arg-type]


def test_a_key_looks_as_the_contract_has_it(path: Path) -> None:
    """The secret's shape, what `create --json` prints and what the file holds."""
    created = make(path, models=["A"], rate_limit="5/second", expires=NOW + timedelta(days=1))
    assert re.fullmatch(r"k[a-z2-7]{8}", created.record.id)
    assert re.fullmatch(rf"sk-er-{created.record.id}-[A-Za-z0-9_-]{{43}}", created.secret)
    assert created.shown() == {
        "id": created.record.id,
        "name": "web",
        "secret": created.secret,
        "created": "2026-11-23T16:00:00Z",
        "expires": "2026-11-24T16:00:00Z",
        "rate_limit": "5/second",
        "models": ["A"],
        "scopes": ["inference", "metrics"],
        **dict.fromkeys(("team", "concurrency", "token_limit", "quota", "networks", "weight")),
    }
    text = path.read_text()
    tree = json.loads(text)
    assert tree["version"] == 1
    fields = "id name sha256 previous created expires rate_limit models revoked"
    assert list(tree["keys"][0]) == fields.split()
    assert created.secret not in text
    assert created.secret.rsplit("-", 1)[1] not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_secret_opens_and_nothing_else_does(path: Path) -> None:
    """A right secret is the key; one letter off, or another key's id, is nobody."""
    created, other = make(path, rate_limit="off"), make(path, "other")
    known = Keys(path)
    found = known.check(created.secret, NOW)
    assert found is not None
    assert (found.id, found.name, found.rate_limit) == (created.record.id, "web", None)
    mine = known.check(other.secret, NOW)
    assert mine is not None
    assert mine.rate_limit == "default"
    wrong = created.secret[:-1] + ("A" if created.secret[-1] != "A" else "B")
    mixed = f"sk-er-{other.record.id}-{created.secret[-43:]}"
    for secret in (wrong, mixed, "", "sk-er-", "x" * 10_000, created.secret + "x", "sk-er-\udc80"):
        assert known.check(secret, NOW) is None


@given(st.text())
def test_no_text_opens_by_chance_or_raises(text: str) -> None:
    """Whatever a client sends as its key."""
    assert record.SECRET.match(text) is None or len(text) == 59
    record.digest(text)


def test_a_rotated_key_has_two_secrets_until_the_grace_is_over(path: Path) -> None:
    """The id stays; the old secret ends when it was said to."""
    created = make(path)
    rotated = keys.rotate(path, "web", grace_s=3600, now=NOW)
    assert rotated.record.id == created.record.id
    assert rotated.secret != created.secret
    known = Keys(path)
    assert known.check(created.secret, NOW + timedelta(minutes=59))
    assert known.check(created.secret, NOW + timedelta(minutes=60)) is None
    assert known.check(rotated.secret, NOW + timedelta(days=9))
    assert "rotated" in known.why_not(created.secret, NOW + timedelta(hours=2))
    assert keys.list_keys(path)[0]["previous_valid_until"] == "2026-11-23T17:00:00Z"
    at_once = keys.rotate(path, created.record.id, grace_s=0, now=NOW)
    assert known.check(rotated.secret, NOW) is None
    assert known.check(at_once.secret, NOW)


def test_expired_and_revoked_keys_are_out_and_told_why(path: Path) -> None:
    """Only the holder of the right secret learns the reason."""
    brief = make(path, "brief", expires=NOW + timedelta(seconds=10))
    gone = make(path, "gone")
    known = Keys(path)
    assert known.check(brief.secret, NOW)
    assert known.check(brief.secret, NOW + timedelta(seconds=10)) is None
    assert "expired" in known.why_not(brief.secret, NOW + timedelta(seconds=10))
    assert known.check(gone.secret, NOW)
    keys.revoke(path, "gone", now=NOW)
    assert known.check(gone.secret, NOW) is None
    assert "revoked" in known.why_not(gone.secret, NOW)
    assert "revoked" not in known.why_not(gone.secret[:-4] + "AAAA", NOW)
    assert keys.create(path, name="gone", now=NOW).record.id != gone.record.id


def test_each_change_is_seen_by_the_next_check(path: Path) -> None:
    """With no restart and no signal."""
    created = make(path)
    known = Keys(path)
    keys.change(path, "web", now=NOW, rate_limit="7/minute", models=["A", "B"])
    found = known.check(created.secret, NOW)
    assert found is not None
    assert found.rate_limit == Rate(7, 60)
    assert found.models == {"A", "B"}
    keys.change(path, "web", now=NOW, rate_limit=None, models=None, name="site")
    found = known.check(created.secret, NOW)
    assert found is not None
    assert (found.name, found.rate_limit, found.models) == ("site", "default", None)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": ""}, "invalid"),
        ({"name": "a\nb"}, "invalid"),
        ({"name": "kabcdefgh"}, "invalid"),
        ({"name": "x" * 65}, "invalid"),
        ({"name": "taken"}, "exists"),
        ({"rate_limit": "many"}, "invalid"),
        ({"models": []}, "invalid"),
        ({"expires": NOW}, "invalid"),
    ],
)
def test_what_an_operator_can_not_mean_is_refused(
    path: Path, fields: dict[str, object], code: str
) -> None:
    """And nothing is written."""
    make(path, "taken")
    before = path.read_bytes()
    with pytest.raises(keys.KeysError) as refused:
        keys.create(path, **{"name": "new", "now": NOW, **fields})  # type: ignore[arg-type]
    assert refused.value.code == code
    assert path.read_bytes() == before


def test_unknown_and_ambiguous_names_are_said_to_be_so(path: Path) -> None:
    """By id it always works."""
    for _ in range(2):
        keys.revoke(path, make(path, "old").record.id, now=NOW)
    with pytest.raises(keys.KeysError, match="give the id"):
        keys.rotate(path, "old", grace_s=0, now=NOW)
    with pytest.raises(keys.KeysError, match="no key 'nobody'"):
        keys.revoke(path, "nobody", now=NOW)


def test_the_first_key_is_made_once(path: Path) -> None:
    """Not again when the file is lost: that would lock everybody out and let a stranger in."""
    first = keys.ensure_first(path, now=NOW)
    assert first is not None
    assert Keys(path).check(first.secret, NOW)
    assert keys.ensure_first(path, now=NOW) is None
    path.unlink()
    assert keys.ensure_first(path, now=NOW) is None
    assert not path.exists()


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "version", "duplicate", "binary"])
def test_a_damaged_file_locks_nobody_out(
    path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the running process and after a restart; the journal shouts once a minute; it stays."""
    created = make(path)
    known = Keys(path)
    assert known.check(created.secret, NOW)
    text = path.read_text()
    tree = json.loads(text)
    broken = {
        "cut": text[: len(text) // 2].encode(),
        "empty": b"",
        "version": text.replace('"version": 1', '"version": 3').encode(),
        "duplicate": json.dumps({**tree, "keys": tree["keys"] * 2}).encode(),
        "binary": b"\x00\xff" * 40,
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(broken[damage])
    for reader in (known, Keys(path), known, Keys(path)):
        assert reader.check(created.secret, NOW)
    shouted = capfd.readouterr().out
    assert shouted.count("stays in force") == 1
    assert "cp -p" in shouted
    with pytest.raises(keys.KeysError) as refused:
        make(path, "more")
    assert refused.value.code == "damaged"
    file.good_copy(path).replace(path)
    assert known.check(make(path, "more").secret, NOW)


def test_where_nothing_can_be_written_the_last_good_keys_stay(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The state directory gone, or its disk full: said all the same, nobody is locked out."""
    created = make(path)
    known = Keys(path)
    shutil.rmtree(path.parent)
    for _ in range(3):
        assert known.check(created.secret, NOW)
    assert capfd.readouterr().out.count("stays in force") == 1


def test_a_file_made_readable_again_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """chown and chmod change neither its time nor its size."""
    created = make(path)
    path.chmod(0o600)
    closed = PermissionError(13, "Permission denied")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", Mock(side_effect=closed))
        known = Keys(path)
        assert known.check(created.secret, NOW) is None
    time.sleep(0.02)  # the clock of files goes in steps of some milliseconds
    path.chmod(0o640)
    assert known.check(created.secret, NOW)


def test_a_file_edited_by_hand_becomes_the_good_copy(path: Path) -> None:
    """So that damage later falls back to the edit and not to what was before it."""
    first, second = make(path, "a"), make(path, "b")
    known = Keys(path)
    tree = json.loads(path.read_text())
    tree["keys"] = tree["keys"][1:]
    path.write_text(json.dumps(tree))
    assert known.check(first.secret, NOW) is None
    path.unlink()
    again = Keys(path)
    assert again.check(first.secret, NOW) is None
    assert again.check(second.secret, NOW)


def test_a_full_disk_leaves_the_old_file_and_says_so(path: Path) -> None:
    """A write that fails halfway changes nothing."""
    created = make(path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(keys.KeysError, match="no key changed") as refused:
            make(path, "more")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.code == "disk"
    assert path.read_bytes() == before
    assert Keys(path).check(created.secret, NOW)
    assert not list(path.parent.glob("*.tmp"))


def test_changes_at_the_same_time_all_count(path: Path) -> None:
    """Eight processes create a key each: eight keys."""
    code = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC; from er import "
        "keys; keys.create(Path(sys.argv[1]), name=sys.argv[2], now=datetime.now(UTC))"
    )
    makers = [subprocess.Popen([sys.executable, "-c", code, str(path), f"n{i}"]) for i in range(8)]
    assert [maker.wait(30) for maker in makers] == [0] * 8
    assert {row["name"] for row in keys.list_keys(path)} == {f"n{i}" for i in range(8)}


def test_last_use_is_listed_and_the_key_file_is_not_touched(path: Path) -> None:
    """A request must not write the key file."""
    created = make(path)
    make(path, "idle")
    before = path.stat().st_mtime_ns
    Keys(path).check(created.secret, NOW + timedelta(minutes=5))
    Keys(path).check(created.secret, NOW + timedelta(minutes=6))
    by_name = {row["name"]: row for row in keys.list_keys(path)}
    assert by_name["web"]["last_used"] == "2026-11-23T16:06:00Z"
    assert by_name["idle"]["last_used"] is None
    assert path.stat().st_mtime_ns == before
    assert "sha256" not in by_name["web"]


def test_who_still_uses_the_old_secret_is_listed(path: Path) -> None:
    """By address, the latest first; neither uses of the new secret nor of still older ones."""
    first = make(path)
    assert keys.list_keys(path)[0]["previous_used_by"] is None  # no rotation, nothing to ask
    second = keys.rotate(path, "web", grace_s=3600, now=NOW)
    assert keys.list_keys(path)[0]["previous_used_by"] is None  # no worker was there to see
    known, later = Keys(path), NOW + timedelta(seconds=10)
    assert keys.list_keys(path)[0]["previous_used_by"] == []
    known.check(second.secret, NOW, "10.0.0.8")
    known.check(first.secret, NOW, "10.0.0.9")
    known.check(first.secret, later, "2001:db8::1")
    Keys(path).check(first.secret, NOW + timedelta(seconds=20), "10.0.0.9")
    assert keys.list_keys(path)[0]["previous_used_by"] == [
        {"client": "10.0.0.9", "last": "2026-11-23T16:00:20Z"},
        {"client": "2001:db8::1", "last": "2026-11-23T16:00:10Z"},
    ]
    keys.rotate(path, "web", grace_s=3600, now=later)
    known.check(second.secret, later, "10.0.0.8")
    assert keys.list_keys(path)[0]["previous_used_by"] == [
        {"client": "10.0.0.8", "last": "2026-11-23T16:00:10Z"}
    ]
    keys.rotate(path, "web", grace_s=0, now=later)
    assert keys.list_keys(path)[0]["previous_used_by"] is None


def test_a_full_table_of_old_secrets_forgets_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows for three addresses; a damaged file names nobody and breaks nothing."""
    monkeypatch.setattr(replaced, "SIZE", 2 * replaced.ROW_BYTES)
    file, mark = tmp_path / "keys_replaced", replaced.mark("ab" * 32)
    table = replaced.Replaced(file)
    for at, address in enumerate(("10.0.0.1", "10.0.0.2", "10.0.0.1", "x" * 90), 1):
        table.note("kaaaaaaaa", mark, address, at)
    found = replaced.read(file) or {}
    assert found == {("kaaaaaaaa", mark): [("x" * 56, 4), ("10.0.0.1", 3)]}
    file.write_bytes(b"\xff" * 1000)
    assert replaced.read(file) == {}


def test_a_table_of_last_uses_that_is_full_is_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later keys are only shown without their last use."""
    monkeypatch.setattr(used, "SIZE", used.ROW_BYTES)
    table = used.Used(tmp_path / "keys_used")
    table.note("kaaaaaaaa", 1)
    table.note("kbbbbbbbb", 2)
    assert used.read(tmp_path / "keys_used") == {"kaaaaaaaa": "1970-01-01T00:00:01Z"}


def test_no_file_at_all_is_an_empty_list(path: Path) -> None:
    """Before the first key."""
    assert keys.list_keys(path) == []
    known = Keys(path)
    assert known.check("sk-er-kaaaaaaaa-" + "x" * 43, NOW) is None
    assert "er keys create" in known.why_not("x", NOW)
    assert {p.name for p in path.parent.iterdir()} == {"keys_used", "keys_replaced"}


@pytest.mark.parametrize(
    "previous",
    [
        {"sha256": "0" * 64, "until": "2026-11-24T16:00:00"},
        {"sha256": "é" * 64, "until": "2026-11-24T16:00:00Z"},
    ],
)
def test_what_no_secret_can_be_compared_with_is_a_damaged_file(
    path: Path, previous: dict[str, str]
) -> None:
    """Found when it is read, not by the request of who has the key."""
    created = make(path)
    tree = json.loads(path.read_text())
    tree["keys"][0]["previous"] = previous
    known = Keys(path)
    path.write_text(json.dumps(tree))
    assert known.check(created.secret[:-1] + "_", NOW) is None
    assert known.check(created.secret, NOW) is not None  # the last good one stays in force
    with pytest.raises(keys.KeysError, match=r"times|sha256"):
        keys.create(path, name="other", now=NOW)


def test_the_lock_is_taken_through_nobodys_link(path: Path, tmp_path: Path) -> None:
    """Root gives the lock to user er: a link in its place would give its target away."""
    (victim := tmp_path / "shadow").write_text("root")
    path.with_suffix(".lock").symlink_to(victim)
    with pytest.raises(keys.KeysError, match="no key changed"):
        make(path)
    assert not path.exists() and victim.read_text() == "root"
