"""HTTPS: which certificate and key are in force, the connections that use them, what they say."""

from __future__ import annotations

from er.tls.credentials import Credentials, Safe, TlsError, given

__all__ = ["Credentials", "Safe", "TlsError", "given"]
