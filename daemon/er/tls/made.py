"""A self-signed certificate and its key: made, and written so that nobody else reads the key."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from er.tls.credentials import Credentials, TlsError

HOST = re.compile(r"(?=.{1,253}\Z)(\*\.)?[a-z0-9][a-z0-9_-]{0,62}(\.[a-z0-9_-]{1,63})*\Z")
EARLIER = timedelta(hours=1)  # for clients whose clocks are behind


def own_names() -> list[str]:
    """What this machine is called, as far as it knows itself."""
    found = [socket.getfqdn(), socket.gethostname(), "localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(n.lower() for n in found if _name(n.lower()) is not None))


def self_signed(names: list[str], days: int) -> Credentials:
    """A certificate for `names` (hosts and addresses). Raises TlsError."""
    found = []
    for name in names:
        one = _name(name.lower())
        if one is None:
            raise TlsError(f"--name {name}: neither a host's name nor an address")
        found.append(one)
    key = ec.generate_private_key(ec.SECP256R1())
    common = next((n for n in names if len(n) <= 64), "er")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    now = datetime.now(UTC)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(found), critical=False)
        # No CA: browsers refuse one in this place, and who trusts it trusts this server alone.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Credentials(certificate, private)


def _name(name: str) -> x509.GeneralName | None:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name) if HOST.match(name) else None


def write(pair: Credentials, certificate: Path, key: Path, *, force: bool) -> None:
    """Write both, each whole or not at all, the key 0600 from its first byte. Raises TlsError."""
    there = [str(path) for path in (certificate, key) if os.path.lexists(path)]
    if there and not force:
        raise TlsError(f"{' and '.join(there)} would be written over; --force does so")
    try:
        # The key last: what watches these files finds a pair that fits once it is there.
        for path, data, mode in ((certificate, pair.certificate, 0o644), (key, pair.key, 0o600)):
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _put(path, data, mode)
    except OSError as error:
        cure = "choose another place in er.toml, or use sudo"
        raise TlsError(f"{error.filename or key}: {error.strerror}; {cure}") from None


def _put(path: Path, data: bytes, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(file, "wb") as out:
            os.fchmod(file, mode)  # whatever the umask
            out.write(data)
            out.flush()
            os.fsync(file)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
