"""What messages say, in English and Chinese. Reasons come from the status, which is in English."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from er.alert import Ending, Message
from er.chinese import in_chinese
from er.quantities import bytes_text

NAMED = 5  # of several keys or places; the rest is a number
REASON_MOST = 500  # characters
WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "down": "ER on {host} is down",
        "degraded": "ER on {host} is degraded: some models or replicas don't answer",
        "still down": "ER on {host} is still down",
        "still degraded": "ER on {host} is still degraded",
        "better": "ER on {host} is no longer down, but degraded",
        "recovered": "ER on {host} is ok again",
        "partly": "ER on {host} is no longer {before}; it is {status}",
        "since": "since {since}, {span}",
        "certificate": "ER on {host}: the certificate of {what} ends in {left}, on {until}; renew "
        "it",
        "certificate over": "ER on {host}: the certificate of {what} ended on {until}; clients "
        "refuse it. Renew it",
        "key": "ER on {host}: {n} API key(s) end within a week: {list}",
        "one key": "{what} in {left}, on {until}",
        "disk": "ER on {host}: little room is left: {list}",
        "disk over": "ER on {host}: there is room again: {list}",
        "one disk": "{what}, {free} free",
        "more": "{n} more",
        "test": "ER on {host}: a test of the alert {name}. Nothing is wrong.",
        "cure": "er status on that machine says more",
    },
    "zh": {
        "down": "ER（{host}）不可用",
        "degraded": "ER（{host}）部分可用：有的模型或副本没有应答",
        "still down": "ER（{host}）仍然不可用",
        "still degraded": "ER（{host}）仍然只有部分可用",
        "better": "ER（{host}）已不是完全不可用，但只有部分可用",
        "recovered": "ER（{host}）恢复正常",
        "partly": "ER（{host}）不再是 {before}，现在是 {status}",
        "since": "从 {since} 起，{span}",
        "certificate": "ER（{host}）：{what} 的证书还有 {left} 到期（{until}），请更换",
        "certificate over": "ER（{host}）：{what} 的证书已于 {until} 到期，客户端会拒绝，请更换",
        "key": "ER（{host}）：{n} 个 API key 一周内到期：{list}",
        "one key": "{what} 还有 {left}（{until}）",
        "disk": "ER（{host}）：磁盘空间不足：{list}",
        "disk over": "ER（{host}）：磁盘空间恢复：{list}",
        "one disk": "{what} 剩余 {free}",
        "more": "还有 {n} 个",
        "test": "ER（{host}）：这是通知 {name} 的测试，一切正常。",
        "cure": "详情请在该机器上运行 er status",
    },
}
UNITS = {
    "en": (("day", "days"), ("hour", "hours"), ("minute", "minutes"), ("second", "seconds")),
    "zh": (("天", "天"), ("小时", "小时"), ("分钟", "分钟"), ("秒", "秒")),
}
LENGTHS = (86400, 3600, 60, 1)


def text(message: Message, language: str, *, host: str, name: str, now: float) -> str:
    """The whole message, a few lines. `now` in Unix seconds."""
    words = WORDS[language]
    if message.event == "test":
        return words["test"].format(host=host, name=name)
    if message.endings:
        return _endings(message, language, host, now)
    if message.event == "recovered":
        head = words["recovered" if message.status == "ok" else "partly"]
    elif message.repeated:
        head = words[f"still {message.event}"]
    else:
        head = words["better" if message.before == "down" else message.event]
    heard = in_chinese if language == "zh" else str
    states = {"before": heard(message.before), "status": heard(message.status)}
    lines = [head.format(host=host, **states)]
    if message.since is not None:
        lasted = span(max(now - message.since, 0.0), language)
        lines.append(words["since"].format(since=day(message.since), span=lasted))
    if message.reason:
        lines.append(heard(message.reason)[:REASON_MOST])
    if message.event != "recovered":
        lines.append(words["cure"])
    return "\n".join(lines)


def _endings(message: Message, language: str, host: str, now: float) -> str:
    words, many = WORDS[language], message.endings
    if message.event == "certificate":
        over = many[0].until is not None and many[0].until <= now
        head = words["certificate over" if over else "certificate"]
        return "\n".join(head.format(host=host, **_of(one, language, now)) for one in many)
    kind = "key" if message.event == "key" else "disk"
    known = [words[f"one {kind}"].format(**_of(one, language, now)) for one in many[:NAMED]]
    if len(many) > NAMED:
        known.append(words["more"].format(n=len(many) - NAMED))
    head = words["disk over" if message.event == "recovered" else kind]
    return head.format(host=host, n=len(many), list="; ".join(known))


def _of(one: Ending, language: str, now: float) -> dict[str, str]:
    return {
        "what": one.what,
        "until": "" if one.until is None else day(one.until),
        "left": "" if one.until is None else span(max(one.until - now, 0.0), language),
        "free": "" if one.free is None else bytes_text(one.free),
    }


def span(seconds: float, language: str) -> str:
    """A length of time in its largest unit: "3 minutes"."""
    for length, unit in zip(LENGTHS, UNITS[language], strict=True):
        if seconds >= length or length == 1:
            count = int(seconds // length)
            return f"{count} {unit[count != 1]}"
    raise AssertionError


def day(seconds: float) -> str:
    """A moment as people write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def plain(
    message: Message, language: str, *, host: str, name: str, version: str, now: float
) -> dict[str, Any]:
    """The message for programs: what kind = "json" posts and a command reads."""
    return {
        "event": message.event,
        "alert": name,
        "host": host,
        "status": message.status,
        "before": message.before,
        "reason": message.reason,
        "since": message.since,
        "repeated": message.repeated,
        "endings": [
            {"what": one.what, "until": one.until, "free": one.free, "stage": one.stage}
            for one in message.endings
        ],
        "text": text(message, language, host=host, name=name, now=now),
        "time": now,
        "version": version,
    }
