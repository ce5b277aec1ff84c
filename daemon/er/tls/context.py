"""From credentials to an SSLContext: TLS 1.2 and 1.3 with modern ciphers, and nothing else.

OpenSSL reads files only; memory is shown to it as one, so that the key is nowhere on a disk.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator, Sequence
from typing import Literal

from er.tls.credentials import Credentials, TlsError

HTTP1, HTTP2 = "http/1.1", "h2"
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all good
VERIFY = {"off": ssl.CERT_NONE, "ask": ssl.CERT_OPTIONAL, "require": ssl.CERT_REQUIRED}
TOLD = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "KEY_TYPE_MISMATCH": "the key does not belong to the certificate",
    "EE_KEY_TOO_SMALL": "the certificate's key is too small; RSA needs 2048 bits, or take ECDSA",
    "CA_MD_TOO_WEAK": "the certificate is signed with a hash that clients refuse; get a new one",
    "NO_START_LINE": "it is not PEM (-----BEGIN …)",
}


def make(
    credentials: Credentials | None,
    client_certificates: Literal["off", "ask", "require"] = "off",
    protocols: Sequence[str] = (HTTP1,),
) -> ssl.SSLContext:
    """A server's context. Raises TlsError for credentials that can't be used.

    Without credentials it refuses every handshake at once, with an alert.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(protocols))
    if credentials is None:
        return context
    if b"ENCRYPTED" in credentials.key:
        cure = "decrypt it: openssl pkey -in KEY -out NEW"
        raise TlsError(f"the key is encrypted, and nobody is there to type its password; {cure}")
    with _shown(credentials.certificate) as certificate, _shown(credentials.key) as key:
        try:
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except ssl.SSLError as error:
            raise TlsError(_why(error, credentials)) from None
    context.verify_mode = VERIFY[client_certificates]
    if client_certificates != "off":
        with _shown(credentials.client_ca) as authorities:
            try:
                context.load_verify_locations(authorities)
            except ssl.SSLError:
                raise TlsError("client_ca has no certificate in it; it must be PEM") from None
    return context


@contextlib.contextmanager
def _shown(data: bytes) -> Iterator[str]:
    """A path under which this process alone reads `data`."""
    file = os.memfd_create("er.pem", os.MFD_CLOEXEC)
    try:
        os.write(file, data)
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def _why(error: ssl.SSLError, credentials: Credentials) -> str:
    # OpenSSL names neither file; both begin alike when they are PEM.
    for what, data in (("certificate", credentials.certificate), ("key", credentials.key)):
        if b"-----BEGIN " not in data:
            return f"the {what} is not PEM (-----BEGIN …); it is half written, or another format"
    said = TOLD.get(error.reason or "")
    return said or f"certificate and key can't be used ({error.reason or 'no PEM in them'})"
