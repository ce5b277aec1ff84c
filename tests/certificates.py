"""Certificates for tests: an authority, and what it or nobody signs."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem_of(key: Any, password: bytes = b"") -> bytes:
    """A private key as PEM."""
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


class Authority:
    """Signs; its own certificate is `pem`."""

    def __init__(self, name: str = "a test's authority") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _named(name)
        self.pem = self._signed(self.name, self.key.public_key(), (), -1, 365, ca=True)

    def issue(
        self,
        *names: str,
        since: float = -1,
        days: float = 90,
        key: Any = None,
        common: str = "a test",
    ) -> tuple[bytes, bytes]:
        """(certificate, key) as PEM; good from `since` days on, for `days` from now."""
        own = key or ec.generate_private_key(ec.SECP256R1())
        return self._signed(_named(common), own.public_key(), names, since, days), pem_of(own)

    def _signed(
        self,
        subject: x509.Name,
        public: Any,
        names: tuple[str, ...],
        since: float,
        days: float,
        *,
        ca: bool = False,
    ) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=since))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            alternative = x509.SubjectAlternativeName([_alternative(n) for n in names])
            builder = builder.add_extension(alternative, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def small() -> Any:
    """A key that nobody should have any more."""
    return rsa.generate_private_key(65537, 1024)


def put(folder: Path, pair: tuple[bytes, bytes], *, ca: bytes = b"") -> dict[str, str]:
    """Write cert.pem and key.pem (and ca.pem); what er.toml says of them."""
    folder.mkdir(exist_ok=True)
    told = {"certificate": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
    (folder / "cert.pem").write_bytes(pair[0])
    (folder / "key.pem").write_bytes(pair[1])
    (folder / "key.pem").chmod(0o600)
    if ca:
        (folder / "ca.pem").write_bytes(ca)
        told["client_ca"] = str(folder / "ca.pem")
    return told


def swap(folder: Path, pair: tuple[bytes, bytes], number: int) -> None:
    """Renew as certbot does: new files elsewhere, then each link anew."""
    archive = folder / "archive"
    archive.mkdir(exist_ok=True)
    for name, data in zip(("cert", "key"), pair, strict=True):
        new = archive / f"{name}{number}.pem"
        new.write_bytes(data)
        link = folder / f".{name}"
        link.symlink_to(new)
        link.replace(folder / f"{name}.pem")


def digest(certificate: bytes) -> str:
    """SHA-256 of a certificate in PEM."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode())).hexdigest()
