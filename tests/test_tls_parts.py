"""The parts of HTTPS, each alone: er check and er tls, the safe, warnings of an end, handshakes."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
import uvloop

import certificates
from certificates import Authority
from er import systemctl
from er.admin import certificate as admin_certificate
from er.admin.certificate import Certificate
from er.cli import __main__ as cli
from er.cli import check_tls, doctor, status
from er.cli import tls as cli_tls
from er.config import Config, Tls, parse
from er.config.render import render
from er.tls import Credentials, Safe, TlsError, context, facts, listener, made
from er.tls.credentials import given
from er.tls.listener import Handshakes, Listener
from er.units import kept, takeup

DAY = 86400.0
TOML = """
[gateway]
listen = ["127.0.0.1:2048"]
[[model]]
name = "m"
task = "embed"
path = "/m"
[gateway.tls]
"""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def config_with(told: dict[str, str]) -> Config:
    lines = "".join(f'{key} = "{value}"\n' for key, value in told.items())
    return parse(TOML + lines, Path("er.toml"))


def tls_of(told: dict[str, str]) -> Tls:
    tls = config_with(told).gateway.tls
    assert tls is not None
    return tls


# -- er.toml ------------------------------------------------------------------------------------


def test_every_setting_is_kept_by_a_reload_and_waits_for_apply() -> None:
    """Units carry the paths; what a reload stores has the table as it was."""
    told = {"certificate": "/c.pem", "key": "/k.pem", "client_ca": "/a.pem"}
    old = config_with({**told, "client_certificates": "ask"})
    assert parse(render(old), Path("er.toml")) == old
    new = config_with({**told, "client_certificates": "require"})
    merged = takeup.merge(old, new)
    assert merged.held == ("[gateway.tls]: changed",)
    assert merged.config.gateway.tls == old.gateway.tls


# -- er check -----------------------------------------------------------------------------------


def test_a_good_pair_has_no_findings(authority: Authority, tmp_path: Path) -> None:
    told = certificates.put(tmp_path, authority.issue("a.example"), ca=authority.pem)
    told["client_certificates"] = "require"
    assert check_tls.findings(config_with(told)) == []
    assert check_tls.findings(parse(TOML.replace("[gateway.tls]", ""), Path("er.toml"))) == []


@pytest.mark.parametrize(
    ("what", "key", "said", "blocks"),
    [
        ("missing", "certificate", "is missing; put it there, or make one: er tls self-", True),
        ("no key", "key", "is missing", True),
        ("folder", "key", "can't be read: Is a directory", True),
        ("other key", "key", "the key does not belong to the certificate", True),
        ("encrypted", "key", "the key is encrypted, and nobody is there to type", True),
        ("garbage", "certificate", "is not PEM, or it is damaged", True),
        ("garbage key", "key", "the key is not PEM", True),
        ("small", "certificate", "RSA 1024; clients want 2048 bits at least", True),
        ("expired", "certificate", "expired on", False),
        ("early", "certificate", "is not valid before", False),
        ("soon", "certificate", "ends in 9 days", False),
        ("nameless", "certificate", "has no subjectAltName", False),
        ("no ca", "client_ca", "client_ca has no certificate in it", True),
        ("ca gone", "client_ca", "is missing", True),
        ("open", "key", "every user of this machine can read the key; chmod 0600", False),
    ],
)
def test_what_er_check_finds(
    authority: Authority, tmp_path: Path, what: str, key: str, said: str, blocks: bool
) -> None:
    more: dict[str, Any] = {
        "small": {"key": certificates.small()},
        "expired": {"since": -9, "days": -1},
        "early": {"since": 1},
        "soon": {"days": 9.5},
    }.get(what, {})
    names = () if what == "nameless" else ("a.example",)
    told = certificates.put(tmp_path, authority.issue(*names, **more), ca=authority.pem)
    told["client_certificates"] = "ask"
    _spoil(tmp_path, what, authority)
    found = check_tls.findings(config_with(told))
    mine = [odd for odd in found if said in odd.message]
    assert len(mine) == 1, found
    assert (mine[0].key, mine[0].blocks) == (key, blocks)
    assert mine[0].level == ("warning" if what in ("soon", "nameless", "open") else "error")
    if what not in ("small", "garbage"):  # OpenSSL has a word on these as well
        assert found == mine


def _spoil(folder: Path, what: str, authority: Authority) -> None:
    certificate, key, ca = (folder / f"{name}.pem" for name in ("cert", "key", "ca"))
    if what == "missing":
        certificate.unlink()
    elif what in ("no key", "folder"):
        key.unlink()
        if what == "folder":
            key.mkdir(0o700)
    elif what == "other key":
        key.write_bytes(authority.issue("b.example")[1])
    elif what == "encrypted":
        key.write_bytes(certificates.pem_of(authority.key, b"secret"))
    elif what == "garbage":
        certificate.write_bytes(os.urandom(500))
    elif what == "garbage key":
        key.write_bytes(b"hello")
    elif what == "no ca":
        ca.write_bytes(b"nothing")
    elif what == "ca gone":
        ca.unlink()
    elif what == "open":
        key.chmod(0o644)


# -- er tls -------------------------------------------------------------------------------------


def er(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    for kind in ("CONFIGURATION", "STATE", "RUNTIME"):
        monkeypatch.setenv(f"{kind}_DIRECTORY", str(folder))
    return cli.main(["tls", *words])


def test_self_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written where HTTPS looks, for nobody else to read, once; clients that have it trust it."""
    before_it = os.umask(0)
    try:
        assert er(tmp_path, monkeypatch, "self-signed", "--name", "a.example", "--name", "::1") == 0
    finally:
        os.umask(before_it)
    certificate, key = tmp_path / "tls/cert.pem", tmp_path / "tls/key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(certificate.stat().st_mode) == 0o644
    said = capsys.readouterr().out
    assert f'certificate = "{certificate}"' in said and f"--cacert {certificate}" in said
    known = facts.read(certificate.read_bytes())
    assert known.names == ("a.example", "::1") and known.self_signed
    assert known.fingerprint in said and "-----" not in said
    before = key.read_bytes()
    assert er(tmp_path, monkeypatch, "self-signed") == 1
    assert "--force" in capsys.readouterr().err and key.read_bytes() == before
    assert er(tmp_path, monkeypatch, "self-signed", "--force", "--days", "3") == 0
    assert key.read_bytes() != before and stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "localhost" in facts.read(certificate.read_bytes()).names
    tls = tls_of({"certificate": str(certificate), "key": str(key)})
    (odd,) = check_tls.findings(config_with({"certificate": str(certificate), "key": str(key)}))
    assert "ends in 2 days" in odd.message or "ends in 3 days" in odd.message
    assert context.make(given(tls, {})).verify_mode == ssl.CERT_NONE
    assert not list((tmp_path / "tls").glob(".*"))


def test_self_signed_follows_er_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"certificate": f"{tmp_path}/x/c.pem", "key": f"{tmp_path}/y/k.pem"}
    lines = "".join(f'{key} = "{value}"\n' for key, value in told.items())
    (tmp_path / "er.toml").write_text(f'{TOML}listen = ["0.0.0.0:8443"]\n{lines}')
    assert er(tmp_path, monkeypatch, "self-signed", "--name", "localhost") == 0
    assert (tmp_path / "x/c.pem").exists() and (tmp_path / "y/k.pem").exists()
    said = capsys.readouterr().out
    assert "[gateway.tls]" not in said and "https://localhost:8443/livez" in said
    assert er(tmp_path, monkeypatch, "show") == 1  # nobody serves it
    assert "issued by  itself" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "a b"], "--name a b: neither a host's name nor an address"),
        (["--name", ""], "neither a host's name nor an address"),
        (["--days", "0"], "--days 0: from 1 to 3650"),
        (["--days", "9999"], "from 1 to 3650"),
    ],
)
def test_self_signed_refuses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    assert er(tmp_path, monkeypatch, "self-signed", *words) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "tls").exists()


def test_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tls").write_text("a file")
    assert er(tmp_path, monkeypatch, "self-signed") == 1
    assert "choose another place" in capsys.readouterr().err


def test_renew_and_show_without_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "er.toml").write_text(TOML.replace("[gateway.tls]", ""))
    for action in ("show", "renew"):
        assert er(tmp_path, monkeypatch, action) == 1
        assert "has no [gateway.tls]; see: er help tls" in capsys.readouterr().err


def test_root_goes_by_its_own_copy_of_what_is_applied(
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The one that units run from lies in a folder of user er's, and that user may be a thief."""
    (tmp_path / "state").mkdir()
    (tmp_path / "configuration").mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path / "configuration"))
    monkeypatch.setattr(cli_tls, "ROOT", tmp_path)
    monkeypatch.setattr(systemctl, "booted", lambda: True)
    monkeypatch.setattr(cli_tls.os, "geteuid", lambda: 0)
    told = certificates.put(tmp_path, authority.issue("a.example"))
    mine = TOML + "".join(f'{key} = "{value}"\n' for key, value in told.items())
    thief = mine.replace(str(told["key"]), "/etc/letsencrypt/live/mail/privkey.pem")
    (tmp_path / "state/applied.toml").write_text(thief)
    kept.store(tmp_path, mine)
    read: list[Path] = []

    def from_files(tls: Tls) -> Credentials:
        read.append(tls.key)
        raise TlsError("as far as it goes")

    monkeypatch.setattr(cli_tls, "from_files", from_files)
    monkeypatch.setattr(cli_tls, "SETTLE_S", 0.0)
    assert cli_tls.run(cli_tls.TlsWish(action="renew")) == 1
    assert set(read) == {Path(told["key"])}
    kept.applied(tmp_path).unlink()
    (tmp_path / "configuration/er.toml").write_text(TOML.replace("[gateway.tls]\n", ""))
    assert cli_tls.run(cli_tls.TlsWish(action="renew")) == 1
    assert "er.toml has no [gateway.tls]" in capsys.readouterr().err


def test_renew_waits_until_the_files_are_at_rest(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key comes a moment after the certificate; what never fits is said."""
    new = authority.issue("a.example")
    told = certificates.put(tmp_path, authority.issue("a.example"))
    Path(told["certificate"]).write_bytes(new[0])
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            Path(told["key"]).write_bytes(new[1])

    monkeypatch.setattr(cli_tls.time, "sleep", wait)
    assert cli_tls._settled(tls_of(told)) == Credentials(*new) and len(waits) == 3
    Path(told["certificate"]).write_bytes(authority.pem)
    with pytest.raises(TlsError, match="does not belong"):
        cli_tls._settled(tls_of(told))


# -- what is in force -----------------------------------------------------------------------------


def test_the_safe() -> None:
    """Whole sets only: one that is written halfway is none."""
    safe = Safe.make()
    assert safe.take() is None and safe.mark() == b""
    one, two = Credentials(b"c", b"k"), Credentials(b"c" * 5000, b"k", b"ca")
    safe.put(two)
    assert Safe(safe.fd).take() == two
    mark = safe.mark()
    safe.put(one)
    assert safe.take() == one and safe.mark() != mark
    os.pwrite(safe.fd, b"?", 40)
    assert safe.take() is None
    os.close(safe.fd)


def test_what_systemd_gives_comes_before_files(authority: Authority, tmp_path: Path) -> None:
    tls = tls_of(certificates.put(tmp_path / "files", authority.issue("a.example")))
    assert given(tls, {}).certificate == Path(tls.certificate).read_bytes()
    folder = tmp_path / "given"
    folder.mkdir()
    for name, text in (("er-tls-certificate", b"c"), ("er-tls-key", b"k")):
        (folder / name).write_bytes(text)
    environment = {"CREDENTIALS_DIRECTORY": str(folder)}
    assert given(tls, environment) == Credentials(b"c", b"k")
    (folder / "er-tls-key").write_bytes(b"missing")  # as the unit's SetCredential= has it
    with pytest.raises(TlsError, match="a file was missing when the gateway was started"):
        given(tls, environment)
    (folder / "er-tls-certificate").write_bytes(b"x" * (1 << 20) + b"x")
    with pytest.raises(TlsError, match="over 1 MiB"):
        given(tls, environment)


class Wall:
    """A clock on the wall."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_an_end_is_told_once_a_day(
    authority: Authority, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """From 14 days before on; a renewal ends it."""
    told = certificates.put(tmp_path, authority.issue("a.example", days=20))
    tls, safe = tls_of(told), Safe.make()
    safe.put(given(tls, {}))
    end = facts.read(Path(tls.certificate).read_bytes()).not_after
    clock = Wall(end - 15 * DAY)
    kept = Certificate(tls, safe, clock)
    for _ in range(3):
        kept.look()
    assert capfd.readouterr().out == ""
    clock.now = end - 13.5 * DAY
    for _ in range(10):
        kept.look()
        clock.now += 3600
    said = capfd.readouterr().out
    assert said.count("\n") == 1 and "the certificate of HTTPS ends in 13 days" in said
    clock.now = end + 1
    kept.look()
    assert capfd.readouterr().out.startswith("ERR     the certificate of HTTPS expired on")
    certificates.put(tmp_path, authority.issue("a.example", days=90))
    kept.look()
    kept.look()
    new_end = facts.read(Path(tls.certificate).read_bytes()).not_after
    assert kept.end == new_end
    said = capfd.readouterr().out
    assert "HTTPS has a new certificate: for a.example" in said and "ends in" not in said
    os.close(safe.fd)


def test_who_may_exchange_credentials() -> None:
    assert admin_certificate.may("uid:0") and admin_certificate.may(f"uid:{os.geteuid()}")
    assert not admin_certificate.may("uid:4711") and not admin_certificate.may("")


@pytest.mark.parametrize(
    ("left", "mark", "said"), [(90, "ok", "ends on"), (5, "!", "ends on"), (-1, "x", "refuse it")]
)
def test_status_and_doctor_tell_the_end(
    authority: Authority, tmp_path: Path, left: float, mark: str, said: str
) -> None:
    told = certificates.put(tmp_path, authority.issue("a.example", since=-9, days=left))
    row = facts.row_of_files(tls_of(told))
    now = facts.read(Path(told["certificate"]).read_bytes()).not_after - left * DAY
    line = doctor.https(row, now)
    assert line.mark == mark and said in line.told and "a.example" in line.told
    (text,) = status._https(row, now)
    assert "0.0.0.0:2443; the certificate of a.example" in text
    assert ("expired on" if left < 0 else f"in {left} days") in text
    Path(told["certificate"]).unlink()
    row = facts.row_of_files(tls_of(told))
    assert doctor.https(row, now).mark == "x"
    assert "refuses every client: certificate" in status._https(row, now)[0]


# -- handshakes -----------------------------------------------------------------------------------


def test_failures_are_told_once_a_minute(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Wall(1000.0)
    hands = Handshakes(clock)
    hands.say()
    error = ssl.SSLError(1, "…")
    error.reason = "NO_SHARED_CIPHER"
    for _ in range(3):
        hands.failed(error)
        hands.say()
    clock.now += 61
    error.reason = "SOMETHING_NEW"
    hands.failed(error)
    hands.say()
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(
        "1 TLS handshake failed: 1 no cipher in common, or no certificate here"
    )
    assert lines[1].endswith("2 no cipher in common, or no certificate here, 1 something new")


def test_a_late_handshake_is_ended_and_told(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """While a good one beside it becomes a connection, and what left by itself is no word worth."""
    monkeypatch.setattr(listener, "HANDSHAKE_S", 1.0)
    made_ones: list[asyncio.Protocol] = []

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made_ones.append(self)
            transport.write(b"hello")

    async def through() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        safe = Safe.make()
        safe.put(Credentials(*authority.issue("localhost")))
        all_of_it = Listener([sock], safe, Tls(), {"http/1.1": Connection})
        await all_of_it.look()
        port = sock.getsockname()[1]
        _, late = await asyncio.open_connection("127.0.0.1", port)
        late.write(b"\x16\x03")
        _, gone = await asyncio.open_connection("127.0.0.1", port)
        gone.close()
        trusting = ssl.create_default_context(cadata=authority.pem.decode())
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
        )
        assert await reader.readexactly(5) == b"hello"
        await asyncio.sleep(0.1)
        assert len(all_of_it.handshakes) == 1 and len(made_ones) == 1
        await asyncio.sleep(1.2)
        assert len(all_of_it.handshakes) == 0
        writer.close()
        late.close()
        all_of_it.close()
        sock.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(through())
    assert "1 TLS handshake failed: 1 no whole handshake within" in capfd.readouterr().out


def test_names_of_hosts() -> None:
    assert "localhost" in made.own_names() and "127.0.0.1" in made.own_names()
    for name in ("*.a.example", "a-b.example", "10.0.0.1", "fe80::1", "A.Example"):
        assert facts.read(made.self_signed([name], 1).certificate).names == (name.lower(),)
