"""`er keys import`: every usual form of a key file, no secret shown, twice is as once."""

from __future__ import annotations

import json
import secrets as chance
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from er import keys
from er.keys import imported
from er.keys.imported import Found, Wrong
from running import Gateway, gateway

NOW = datetime.now(UTC)
A, B, C = ("sk-" + letter * 32 for letter in "abc")
ODD = "Zm9v+/bar==~!$%&'()*,;=:@[]{}|^`<>?_-.0123"  # what a header can carry


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"{A}\n\n{B}\r\n", [("", A), ("", B)]),
        (f"# ours\n// old\n; more\n{A}", [("", A)]),
        (f"web: {A}\netl:{B}", [("web", A), ("etl", B)]),
        (f"name,key\nweb,{A}\n{B}, etl", [("web", A), ("etl", B)]),
        (f"{A} web\nthe team {B}", [("web", A), ("the team", B)]),
        (f"{A}  # web\n{B}\tetl", [("web", A), ("etl", B)]),
        (f'- "{A}"\n- {B}', [("", A), ("", B)]),
        (f"export OPENAI_API_KEY='{A}'\nOTHER={B}", [("OPENAI_API_KEY", A), ("OTHER", B)]),
        (f"API_KEYS={A},{B} # two", [("API_KEYS 1", A), ("API_KEYS 2", B)]),
        ("0123456789abcdef0123456789abcdef", [("", "0123456789abcdef0123456789abcdef")]),
        ("c2VjcmV0IHNlY3JldA==", [("", "c2VjcmV0IHNlY3JldA==")]),
        ("search: c2VjcmV0IHNlY3JldA==", [("search", "c2VjcmV0IHNlY3JldA==")]),
        (json.dumps([A, B]), [("", A), ("", B)]),
        (json.dumps({"web": A, B: "etl"}), [("web", A), ("etl", B)]),
        (json.dumps([{"key": A, "key_alias": "web"}, {"token": B}]), [("web", A), ("", B)]),
        (json.dumps({"keys": [{"name": "web", "api_key": A}]}), [("web", A)]),
        (json.dumps({A: {"name": "web"}, B: {}}), [("web", A), ("", B)]),
        ("\ufeff" + json.dumps({"data": {"web": {"key": A}}}), [("web", A)]),
        (f"{A} {B}", [("", A)]),  # a second secret is no name
    ],
)
def test_each_usual_form_is_read(text: str, wanted: list[tuple[str, str]]) -> None:
    """Without being told which one it is."""
    found = imported.read(text.encode())
    got = [(one.name, one.secret) if isinstance(one, Found) else one for one in found]
    if text == f"{A} {B}":
        assert len(got) == 1 and got[0] in [("", A), ("", B)]
    else:
        assert got == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("short", "8 to 512"),
        ("x" * 513, "513"),
        ("web: schlüssel-für-alle", "ASCII"),
        ("[1, null]", "8 to 512"),
        ("{broken", "JSON"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_what_is_no_key_is_said_by_its_place_alone(text: str, why: str) -> None:
    """The line's number, and nothing of the line."""
    found = imported.read(text.encode())
    assert found
    for one in found:
        assert isinstance(one, Wrong) and why in one.why
        assert text[:20] not in one.why


@given(st.binary(max_size=300))
def test_no_file_breaks_the_reader(data: bytes) -> None:
    """Whatever is in it; names are names, and never the secret."""
    for one in imported.read(data):
        if isinstance(one, Found):
            assert one.secret not in one.name
            assert 8 <= len(one.secret) <= 512


# -- the command ---------------------------------------------------------------------------------


def er(running: Gateway, *args: str, data: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "er.cli", "keys", *args],
        env=running.environment(),
        input=data,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway of two workers."""
    with gateway(tmp_path_factory.mktemp("gw"), workers=2) as started:
        yield started


def fresh() -> str:
    return "sk-" + chance.token_hex(24)


def test_clients_keep_their_keys(running: Gateway, tmp_path: Path) -> None:
    """Bearer and ?api_key=, sk-… and any other shape, over both workers, from the next request."""
    names = {"web": fresh(), "etl": ODD, "other er": "sk-er-kaaaaaaaa-" + "x" * 43}
    file = tmp_path / "old keys.txt"
    file.write_text("".join(f"{name}: {secret}\n" for name, secret in names.items()))
    before = file.read_bytes()
    dry = er(running, "import", str(file), "--dry-run")
    assert (dry.returncode, "3 keys would come in." in dry.stdout) == (0, True), dry
    assert running.embed(key=names["web"]).status == 401
    done = er(running, "import", str(file), "--team", "search", "--rate-limit", "50/minute")
    assert done.returncode == 0, done
    assert "3 keys came in." in done.stdout and "shred -u" in done.stdout
    assert all(f"  {name}  (old keys.txt, line " in done.stdout for name in names)
    for secret in names.values():
        for _ in range(4):
            reply = running.embed(key=secret)
            assert reply.status == 200
            assert reply.headers["x-ratelimit-limit-requests"] == "50"
        path = f"/v1/models?api_key={quote(secret, safe='')}"
        assert running.ask("GET", path, key=None).status == 200
        assert running.embed(key=secret[:-1]).status == 401
        assert running.embed(key=secret + "x").status == 401
    again = er(running, "import", str(file))
    assert (again.returncode, "0 keys came in, 3 were in already." in again.stdout) == (0, True)
    listed = {k["name"]: k for k in keys.list_keys(running.state / "er_api_keys.json")}
    assert {listed[name]["team"] for name in names} == {"search"}
    assert {listed[name]["imported"] for name in names} == {True}
    assert file.read_bytes() == before
    everywhere = dry.stdout + done.stdout + done.stderr + again.stdout + running.text()
    everywhere += "".join(p.read_bytes().decode("latin-1") for p in running.state.glob("er_*"))
    everywhere += er(running, "show", "etl").stdout + er(running, "list").stdout
    for secret in names.values():
        assert secret not in everywhere


def test_weak_double_and_revoked_ones_stay_out_and_are_said(running: Gateway) -> None:
    """The others come in all the same; the exit status says that not all did."""
    good, gone = fresh(), fresh()
    assert er(running, "import", "-", data=f"gone {gone}").returncode == 0
    assert er(running, "revoke", "gone").returncode == 0
    text = f"{good}\nweak: pass-word-12\nagain: {good}\n{gone}\nxyz"
    done = er(running, "import", "-", data=text)
    assert done.returncode == 1
    assert "1 key came in, 4 did not." in done.stdout
    assert "line 2: its 12 characters can be guessed" in done.stdout
    assert "line 3: the same key as standard input, line 1" in done.stdout
    assert "line 4" in done.stdout and "revoked" in done.stdout
    assert running.embed(key=good).status == 200
    assert running.embed(key="pass-word-12").status == 401
    revoked = running.embed(key=gone)
    assert revoked.status == 401 and "was revoked" in revoked.message
    done = er(running, "import", "-", "--allow-weak", "--json", data="weak: pass-word-12")
    tree = json.loads(done.stdout)
    assert tree["imported"] == 1 and tree["keys"][0]["name"] == "weak"
    assert running.embed(key="pass-word-12").status == 200
    assert "pass-word" not in done.stdout


def test_an_imported_key_is_rotated_like_any_other(running: Gateway) -> None:
    """Its old secret is good for the grace, then it is told when it ended."""
    old = fresh()
    er(running, "import", "-", data=f"turned {old}")
    new = json.loads(er(running, "rotate", "turned", "--json").stdout)["secret"]
    assert {running.embed(key=secret).status for secret in (old, new)} == {200}
    newest = json.loads(er(running, "rotate", "turned", "--grace", "0", "--json").stdout)["secret"]
    assert [running.embed(key=s).status for s in (old, new, newest)] == [401, 401, 200]


def test_names_are_made_where_there_are_none_and_never_of_a_secret(running: Gateway) -> None:
    """After the file and the line; one that is taken gets a number."""
    one, two, three = fresh(), fresh(), fresh()
    done = er(running, "import", "-", data=f"{one}\nfirst: {two}\n{'a1' * 12},{three}\n")
    assert done.returncode == 0, done
    rows = {r["name"] for r in keys.list_keys(running.state / "er_api_keys.json")}
    assert {"imported 1", "first 2", "imported 3"} <= rows


@pytest.mark.parametrize(
    ("args", "status", "why"),
    [
        (("import",), 64, "FILE"),
        (("import", "/nowhere/keys"), 1, "No such file"),
        (("import", "-", "--scopes", "all"), 64, "admin-read"),
        (("import", "-", "--expires", "soon"), 64, "not a time"),
    ],
)
def test_wrong_use_is_told(running: Gateway, args: Any, status: int, why: str) -> None:
    """And nothing comes in."""
    before = (running.state / "er_api_keys.json").read_bytes()
    done = er(running, *args, data=fresh())
    assert (done.returncode, why in done.stderr) == (status, True), done
    assert (running.state / "er_api_keys.json").read_bytes() == before


def test_an_older_er_refuses_a_file_with_imported_keys(tmp_path: Path) -> None:
    """It could not find them: the file says so by its version, and has the hash alone."""
    path = tmp_path / "keys.json"
    secret = fresh()
    found = [Found("line 1", "web", secret)]
    how: dict[str, Any] = {"now": NOW, "expires": None, "allow_weak": False, "dry_run": False}
    keys.import_keys(path, found, fields={}, **how)
    assert json.loads(path.read_text())["version"] == 2
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
