"""`er tls`: a certificate of one's own making, what is configured and served, and its renewal."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Literal

import msgspec

from er import systemctl
from er.cli.admin_client import NoAdmin, call, told
from er.cli.screen import clean
from er.config import ConfigError, Tls, active_path, directory, edited_path, load
from er.tls import Credentials, TlsError, context, facts, made
from er.tls.credentials import contents, from_files
from er.tls.facts import Facts
from er.units import kept

ROOT = Path("/")
DAYS_MAX = 3650
SETTLE_S, TRIES = 0.5, 6  # the files of one renewal come one after the other
ANSWER_S = 5.0


class TlsWish(msgspec.Struct, kw_only=True):
    """What the command line asked for."""

    action: Literal["self-signed", "show", "renew"]
    name: list[str] | None = None
    days: int = 365
    force: bool = False


def run(wish: TlsWish) -> int:
    """The command; 1 when it could not be done."""
    try:
        if wish.action == "self-signed":
            return _self_signed(wish)
        return _show() if wish.action == "show" else _renew()
    except TlsError as error:
        return _fail(wish, str(error))
    except ConfigError as error:
        return _fail(wish, str(error.findings[0]))


def _fail(wish: TlsWish, text: str) -> int:
    print(f"er tls {wish.action}: {text}", file=sys.stderr)
    return 1


# -- self-signed ---------------------------------------------------------------------------------


def _self_signed(wish: TlsWish) -> int:
    if not 1 <= wish.days <= DAYS_MAX:
        raise TlsError(f"--days {wish.days}: from 1 to {DAYS_MAX}")
    tls = _edited()
    folder = directory("configuration") / "tls"
    certificate = tls.certificate if tls else folder / "cert.pem"
    key = tls.key if tls else folder / "key.pem"
    names = wish.name or made.own_names()
    pair = made.self_signed(names, wish.days)
    made.write(pair, certificate, key, force=wish.force)
    known = facts.read(pair.certificate)
    print(f"certificate  {certificate}\nkey          {key} (mode 0600)")
    print(f"for          {', '.join(known.names)}\nuntil        {facts.day(known.not_after)}")
    print(f"SHA-256      {known.fingerprint}\n")
    if tls is None:
        print("HTTPS begins with these lines in er.toml, and: sudo er apply\n")
        print(f'    [gateway.tls]\n    certificate = "{certificate}"\n    key = "{key}"\n')
    host = known.names[0]
    where = f"https://{f'[{host}]' if ':' in host else host}:{_port(tls or Tls())}/livez"
    print(f"Clients trust it when they have {certificate.name}, which is no secret:\n")
    print(f"    curl --cacert {certificate} {where}")
    print(f"    SSL_CERT_FILE={certificate.name}          (Python's httpx, openai and the like)")
    print(f"    NODE_EXTRA_CA_CERTS={certificate.name}    (node)")
    return 0


def _edited() -> Tls | None:
    """[gateway.tls] of the er.toml that is edited; None where there is none, or no er.toml."""
    if not os.access(edited_path(), os.F_OK):
        return None
    return load(edited_path()).gateway.tls


def _port(tls: Tls) -> int:
    return int(tls.listen[0].rpartition(":")[2])


# -- show ----------------------------------------------------------------------------------------


def _running() -> Tls:
    """What is applied. Root reads no file that user er names, and hands over no such file."""
    mine = os.geteuid() == 0 and systemctl.booted()
    path = kept.source(ROOT) if mine else active_path()
    tls = load(path).gateway.tls
    if tls is None:
        raise TlsError(f"{path} has no [gateway.tls]; see: er help tls")
    return tls


def _show() -> int:
    tls, now = _running(), time.time()
    print(f"configured   {tls.certificate}")
    configured: Facts | None = None
    try:
        configured = facts.read(contents(tls.certificate, "certificate"))
    except TlsError as error:
        print(f"  {error}")
    if configured is not None:
        _print(configured, now)
    good = configured is not None and not facts.ending(configured, now)
    for address in tls.listen:
        print(f"served       {address}")
        try:
            served = facts.of_der(_shown_at(address))
        except (OSError, TlsError) as error:
            print(f"  nothing: {clean(str(error))}")
            good = False
            continue
        if configured is not None and served.fingerprint == configured.fingerprint:
            print("  the same")
            continue
        _print(served, now)
        if configured is not None:
            print("  not the one configured: sudo er tls renew says why")
            good = False
    return 0 if good else 1


def _print(known: Facts, now: float) -> None:
    print(f"  for        {clean(', '.join(known.names) or 'no name')}")
    issuer = "itself" if known.self_signed else clean(known.issuer)
    print(f"  issued by  {issuer}; key {known.kind}")
    print(f"  until      {facts.day(known.not_after)}, {(known.not_after - now) / 86400:.0f} days")
    print(f"  SHA-256    {known.fingerprint}")
    if said := facts.ending(known, now):
        print(f"  {said}")


def _shown_at(address: str) -> bytes:
    """The certificate that is shown there, as DER. Raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    asked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asked.check_hostname, asked.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), ANSWER_S) as link,
        asked.wrap_socket(link) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


# -- renew ---------------------------------------------------------------------------------------


def _renew() -> int:
    """Hand the files' contents to the running gateway, once they fit together."""
    tls = _running()
    found = _settled(tls)
    body = {k: base64.b64encode(getattr(found, k)).decode() for k in found.__struct_fields__}
    try:
        code, answer = call("POST", "/tls", body, timeout_s=ANSWER_S * 2)
    except NoAdmin as error:
        print(f"not handed over, the gateway reads the files at its start: {error}")
        return 0
    if code != 200:
        raise TlsError(told(answer))
    end = facts.day(answer["not_after"])
    if answer["changed"]:
        print(f"in force: {', '.join(answer['names'])}, until {end}, {answer['fingerprint']}")
    else:
        print(f"nothing new: what is in force ends on {end}")
    return 0


def _settled(tls: Tls) -> Credentials:
    """The files once they fit together and stay as they are. Raises TlsError."""
    before: Credentials | None = None
    wrong: TlsError | None = None
    for _ in range(TRIES):
        try:
            found = from_files(tls)
            context.make(found, tls.client_certificates)
        except TlsError as error:
            wrong, before = error, None
        else:
            if found == before:
                return found
            wrong, before = None, found
        time.sleep(SETTLE_S)
    raise wrong or TlsError("the files change all the time; try again when they are at rest")
