"""What a certificate says of itself: names, issuer, end. Too large an import for workers."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from er.config import Tls
from er.tls.credentials import TlsError, contents

SOON_S = 14 * 86400.0  # what has less left is warned of
RSA_LEAST = 2048  # bits


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Of one certificate; times in Unix seconds."""

    names: tuple[str, ...]
    issuer: str
    self_signed: bool
    not_before: float
    not_after: float
    fingerprint: str  # SHA-256 of the certificate, as openssl writes it
    kind: str  # of its key
    too_small: bool


def read(pem: bytes) -> Facts:
    """The first certificate of a PEM file. Raises TlsError."""
    try:
        first = x509.load_pem_x509_certificates(pem)[0]
    except (ValueError, IndexError):
        raise TlsError("the certificate is not PEM, or it is damaged") from None
    return of(first)


def of_der(der: bytes) -> Facts:
    """A certificate as a server shows it. Raises TlsError."""
    try:
        return of(x509.load_der_x509_certificate(der))
    except ValueError:
        raise TlsError("the server's certificate is damaged") from None


def of(certificate: x509.Certificate) -> Facts:
    key = certificate.public_key()
    kind, too_small = type(key).__name__.removesuffix("PublicKey"), False
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        kind, too_small = f"RSA {key.key_size}", key.key_size < RSA_LEAST
    elif isinstance(key, ec.EllipticCurvePublicKey):
        kind = f"ECDSA {key.curve.name}"
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        kind = "EdDSA"
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest().upper()
    return Facts(
        names=_names(certificate),
        issuer=certificate.issuer.rfc4514_string(),
        self_signed=certificate.issuer == certificate.subject,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint=":".join(digest[i : i + 2] for i in range(0, len(digest), 2)),
        kind=kind,
        too_small=too_small,
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = (str(a) for a in found.get_values_for_type(x509.IPAddress))
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def row(tls: Tls, facts: Facts | None, reason: str) -> dict[str, Any]:
    """What GET /status and `er status --json` say of HTTPS; `reason`: why it does not answer."""
    return {
        "listen": list(tls.listen),
        "client_certificates": tls.client_certificates,
        "names": list(facts.names) if facts else [],
        "issuer": facts.issuer if facts else None,
        "not_before": facts.not_before if facts else None,
        "not_after": facts.not_after if facts else None,
        "fingerprint": facts.fingerprint if facts else None,
        "reason": reason,
    }


def row_of_files(tls: Tls) -> dict[str, Any]:
    """The same without the gateway's help, from the file that er.toml names."""
    try:
        return row(tls, read(contents(tls.certificate, "certificate")), "")
    except TlsError as error:
        return row(tls, None, str(error))


def day(seconds: float) -> str:
    """A time as people write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def ending(facts: Facts, now: float) -> str:
    """What is wrong with its time, "" while it is good for a while."""
    left = facts.not_after - now
    if left <= 0:
        return f"expired on {day(facts.not_after)}; clients refuse it. Renew it"
    if now < facts.not_before:
        return f"is not valid before {day(facts.not_before)}; clients refuse it until then"
    if left < SOON_S:
        days = int(left // 86400)
        return f"ends in {days} day{'s' * (days != 1)}, on {day(facts.not_after)}; renew it"
    return ""
