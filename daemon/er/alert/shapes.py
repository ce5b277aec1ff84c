"""What each kind of webhook wants to be posted, how it is signed, and what its answer means. Pure.

Feishu, DingTalk and WeCom answer 200 also to what they refuse: their code stands in the body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

SHOWN = 200  # characters of an answer
# What each takes of a text: bytes, with room left for the rest of the body.
MOST = {"wecom": 2000, "feishu": 18_000, "dingtalk": 18_000, "slack": 18_000}


def posted(
    kind: str, webhook: str, secret: str | None, message: dict[str, Any], now: float
) -> tuple[str, bytes]:
    """(address, body) of the message in the kind's shape; signed where there is a `secret`."""
    if kind == "json":
        return webhook, _json(message)
    text = _cut(str(message["text"]), MOST[kind])
    if kind == "slack":
        return webhook, _json({"text": text})
    if kind == "feishu":
        body: dict[str, Any] = {"msg_type": "text", "content": {"text": text}}
        if secret:
            stamp = str(int(now))
            body = {"timestamp": stamp, "sign": _signed(f"{stamp}\n{secret}", ""), **body}
        return webhook, _json(body)
    if kind == "dingtalk" and secret:
        stamp = str(int(now * 1000))
        sign = _signed(secret, f"{stamp}\n{secret}")
        parts = urlsplit(webhook)
        query = "&".join(filter(None, (parts.query, urlencode({"timestamp": stamp, "sign": sign}))))
        webhook = urlunsplit(parts._replace(query=query))
    return webhook, _json({"msgtype": "text", "text": {"content": text}})


def _signed(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _cut(text: str, most: int) -> str:
    """At most so many bytes, no character in two."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[: most - 3].decode("utf-8", "ignore") + "…"


def refused(kind: str, status: int, body: bytes) -> str:
    """Why the receiver did not take it, "" when it did."""
    said = " ".join(body.decode("utf-8", "replace").split())[:SHOWN]
    if not 200 <= status < 300:
        return f"it answered HTTP {status}" + (f": {said}" if said else "")
    if kind in ("json", "slack"):
        return ""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return f"it answered what a {kind} robot does not: {said or 'nothing'}"
    # Feishu's older robots write StatusCode in place of code.
    names = ("code", "StatusCode") if kind == "feishu" else ("errcode",)
    code = next((answer[name] for name in names if name in answer), None)
    if code == 0 and not isinstance(code, bool):
        return ""
    return f"it refused the message: {said}"
