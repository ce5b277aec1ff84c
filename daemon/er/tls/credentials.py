"""The certificate, its key and the clients' CAs: where they are read, where they are kept.

systemd hands them to the sandboxed gateway at its start (LoadCredential=); without systemd they are
read from their files. Those in force lie in the safe, memory that the gateway's processes share:
the admin process puts new ones in, each worker looks twice a second, and one that is born later
finds the newest. Nothing of it is ever written to a disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from er.config import Tls

CERTIFICATE, KEY, CLIENT_CA = "er-tls-certificate", "er-tls-key", "er-tls-client-ca"
ABSENT = "missing"  # what systemd gives in place of a file that is not there
VARIABLE = "CREDENTIALS_DIRECTORY"
LARGEST = 1 << 20  # bytes of a file; systemd takes no larger credential either
DIGEST = 32  # bytes


class TlsError(Exception):
    """Credentials that can't be used; the text says why and what to do."""


class Credentials(msgspec.Struct, frozen=True):
    """The contents of the files, as PEM."""

    certificate: bytes
    key: bytes
    client_ca: bytes = b""

    def digest(self) -> str:
        """Tells one set from another; says nothing of the key."""
        return hashlib.sha256(msgspec.msgpack.encode(self)).hexdigest()


def by_systemd(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether systemd gave this process credentials of its own."""
    folder = environment.get(VARIABLE)
    return bool(folder) and os.access(Path(folder or "") / CERTIFICATE, os.F_OK)


def given(tls: Tls, environment: Mapping[str, str] = os.environ) -> Credentials:
    """What systemd gave, else what lies in the files that er.toml names. Raises TlsError."""
    if by_systemd(environment):
        folder = Path(environment[VARIABLE])
        ca = folder / CLIENT_CA if tls.client_ca else None
        found = _read(folder / CERTIFICATE, folder / KEY, ca)
        if ABSENT.encode() in (found.certificate, found.key, found.client_ca):
            cure = "put it there; er check says which"
            raise TlsError(f"a file was missing when the gateway was started; {cure}")
        return found
    return from_files(tls)


def from_files(tls: Tls) -> Credentials:
    """What lies in the files that er.toml names. Raises TlsError."""
    return _read(tls.certificate, tls.key, tls.client_ca)


def _read(certificate: Path, key: Path, client_ca: Path | None) -> Credentials:
    return Credentials(
        contents(certificate, "certificate"),
        contents(key, "key"),
        contents(client_ca, "client_ca") if client_ca else b"",
    )


def contents(path: Path, what: str) -> bytes:
    """One of the files. Raises TlsError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        cure = "put it there, or make one: er tls self-signed"
        raise TlsError(f"{what} {path} is missing; {cure}") from None
    except OSError as error:
        raise TlsError(f"{what} {path} can't be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise TlsError(f"{what} {path} is over {LARGEST >> 20} MiB; it is no PEM file of that kind")
    return data


class Safe:
    """The credentials in force. One process writes, the others look."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def make(cls) -> Safe:
        """An empty one. Raises OSError."""
        return cls(os.memfd_create("er.tls", os.MFD_CLOEXEC))

    def put(self, credentials: Credentials) -> None:
        """Make them those in force. Raises OSError."""
        data = msgspec.msgpack.encode(credentials)
        os.pwrite(self.fd, hashlib.sha256(data).digest() + data, 0)
        os.ftruncate(self.fd, DIGEST + len(data))

    def mark(self) -> bytes:
        """Differs once others are in force; b"" while there are none."""
        return os.pread(self.fd, DIGEST, 0)

    def take(self) -> Credentials | None:
        """Those in force; None while there are none, or when they are just being exchanged."""
        size = os.fstat(self.fd).st_size
        whole = os.pread(self.fd, size, 0)
        mark, data = whole[:DIGEST], whole[DIGEST:]
        if not data or hashlib.sha256(data).digest() != mark:
            return None
        return msgspec.msgpack.decode(data, type=Credentials)
