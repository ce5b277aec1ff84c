"""The tables [[alert]] of an er.toml: who is told, of what, when. A webhook is never repeated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from er.config.fields import Fields
from er.config.reader import Reader
from er.config.structs import ALERT_EVENTS, Alert, AlertKind

KINDS = ("feishu", "dingtalk", "wecom", "slack", "json")
SIGNED = ("feishu", "dingtalk")
LANGUAGES = ("en", "zh")
KEYS = {*("name", "kind", "webhook", "webhook_file", "secret_file", "command", "after", "again")}
KEYS |= {"on", "language"}
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}\Z")
ADDRESS = re.compile(r"(https?://)[^\s'\"]+")
ALERTS_MAX = 16
AFTER_MIN_S, AGAIN_MIN_S, MOST_S = 1.0, 60.0, 30 * 86400.0


def alerts(reader: Reader, tree: dict[str, Any]) -> tuple[Alert, ...]:
    """What the tables say; one that can't be used is left out, as its findings say."""
    tables = reader.tables(tree, "alert")
    if len(tables) > ALERTS_MAX:
        reader.say("alert", ALERTS_MAX, "", f"more than {ALERTS_MAX} alerts")
    found: dict[str, Alert] = {}
    for index, table in enumerate(tables):
        one = _alert(reader, table, index)
        if one is None:
            continue
        if one.name in found:
            key = "name" if "name" in table else ""
            told = f"{one.name!r} already names another alert; give each its own name"
            reader.say("alert", index, key, told)
        found[one.name] = one
    return tuple(found.values())


def _alert(reader: Reader, table: dict[str, Any], index: int) -> Alert | None:

    def say(name: str, number: int, key: str, message: str) -> None:
        # An address on the wrong line is a secret all the same.
        reader.say(name, number, key, ADDRESS.sub(r"\1…", message))

    f = Fields(say, table, "alert", index)
    before = len(reader.findings)
    reader.unknown(table, KEYS, "alert", index)
    kind = f.choice("kind", KINDS, None)
    command = f.texts("command")
    name = f.text("name") or kind or "command"
    if not NAME.match(name):
        f.wrong("name", f"is {name!r}; write small letters, digits and -, 48 at most")
    webhook, webhook_file = f.text("webhook"), _file(f, "webhook_file")
    secret_file = _file(f, "secret_file")
    _who(f, kind, command, webhook, webhook_file)
    if secret_file is not None and kind not in SIGNED:
        f.wrong("secret_file", 'is for kind = "feishu" and "dingtalk"; leave it out')
    if webhook is not None and (why := unusable(webhook)):
        f.wrong("webhook", why)
    on = f.texts("on") if "on" in table else ALERT_EVENTS
    for event in on:
        if event not in ALERT_EVENTS:
            f.wrong("on", f"has {event!r}; it takes: {', '.join(ALERT_EVENTS)}")
    if "on" in table and not set(on) - {"recovered"}:
        f.wrong("on", 'names nothing to be told of, as in on = ["down", "recovered"]')
    after_s = f.duration("after", 60.0, AFTER_MIN_S, MOST_S)
    again_s = f.duration("again", 4 * 3600.0, AGAIN_MIN_S, MOST_S)
    language = f.choice("language", LANGUAGES, "en")
    if len(reader.findings) > before:
        return None
    return Alert(
        name=name,
        kind=cast(AlertKind | None, kind),
        webhook=webhook,
        webhook_file=webhook_file,
        secret_file=secret_file,
        command=command,
        after_s=after_s,
        again_s=again_s,
        on=on,
        language="zh" if language == "zh" else "en",
    )


def _file(f: Fields, key: str) -> Path | None:
    """A file's absolute path; what else stands there may be the secret itself, and is not shown."""
    value = f.text(key)
    if value is None or Path(value).is_absolute():
        return None if value is None else Path(value)
    f.wrong(key, f'is no absolute path; write the file\'s, as in {key} = "/etc/er/robot"')
    return None


def _who(
    f: Fields,
    kind: str | None,
    command: tuple[str, ...],
    webhook: str | None,
    webhook_file: Path | None,
) -> None:
    """A command, or a kind with one address."""
    if "command" in f.table:
        if any(key in f.table for key in ("kind", "webhook", "webhook_file")):
            f.wrong("command", "stands beside a webhook; write an [[alert]] for each")
        elif not command or not Path(command[0]).is_absolute():
            f.wrong("command", 'must begin with an absolute path, as in ["/usr/local/bin/page-me"]')
    elif "kind" not in f.table:
        f.wrong("kind", f"is missing from this [[alert]]: {', '.join(KINDS)}; or write a command")
    elif kind is not None and ("webhook" in f.table) == ("webhook_file" in f.table):
        told = "write webhook or webhook_file: the address, or a file with nothing else in it"
        f.say(f.name, f.index, "webhook" if webhook is not None else "kind", told)


def unusable(webhook: str) -> str:
    """Why that is no address to post to, without repeating it; "" when it is one."""
    try:
        parts = urlsplit(webhook)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return "is no address; write https://HOST/…, as its maker shows it"
    plain = webhook.isascii() and webhook.isprintable() and " " not in webhook
    if not good or not plain or parts.fragment:
        return "is no address; write https://HOST/…, as its maker shows it"
    if "@" in parts.netloc:
        return "has a user or password in it, which ER does not send; leave it out"
    return ""
