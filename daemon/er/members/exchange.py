"""How hosts tell and hear: one script a question, so each costs one round trip.

Keys, all behind one prefix (`shared_state.key`), so that in a cluster they are on one node:

    :hosts        hash, id -> what it announced last, kept while it is silent
    :member:ID    there as long as the host is announced; the server lets it go
    :drains       hash, host's name -> Drain
    :forgotten    hash, id -> when somebody said that it won't come back
    :secret       hash: form, present, previous, made

The scripts are given the first of them, and take the time from the server alone. Whoever calls
turns their errors into Away.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import msgspec

from er.members.announced import Announced, Drain, read, read_drains

SECRET_S = 24 * 3600  # how long one is the present one
SECRET_SOON_S = 5  # hosts need a moment to hear of a new one before the next is made

NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local base = string.sub(KEYS[1], 1, -6)
"""
# ARGV: the announcement without its time ("" to hear only), id, ms that it lasts ("0": gone).
BEAT = (
    NOW
    + """
local hosts, forgotten = base .. 'hosts', base .. 'forgotten'
local was = redis.call('HGET', hosts, ARGV[2]) or ''
if ARGV[1] ~= '' then
  local said = '{"at":' .. string.format('%.0f', now) .. ',' .. string.sub(ARGV[1], 2)
  redis.call('HSET', hosts, ARGV[2], said)
  redis.call('HDEL', forgotten, ARGV[2])
  if ARGV[3] == '0' then
    redis.call('DEL', base .. 'member:' .. ARGV[2])
  else
    redis.call('SET', base .. 'member:' .. ARGV[2], said, 'PX', ARGV[3])
  end
end
local all, alive = redis.call('HGETALL', hosts), {}
for i = 1, #all, 2 do
  alive[#alive + 1] = redis.call('EXISTS', base .. 'member:' .. all[i])
end
return {string.format('%.0f', now), all, alive, redis.call('HGETALL', base .. 'drains'),
        redis.call('HKEYS', forgotten),
        redis.call('HGET', base .. 'secret', 'made') or '0', was}
"""
)
# ARGV: host, "1" or "0", when (ms; "0": now). An older word changes nothing.
DRAIN = (
    NOW
    + """
local at = tonumber(ARGV[3])
if at == 0 then at = now end
local there = redis.call('HGET', base .. 'drains', ARGV[1])
if there then
  local was = tonumber(string.match(there, '"at":(%d+)'))
  if was and was >= at then
    if ARGV[3] ~= '0' then return there end
    at = was + 1
  end
end
local on = 'false'
if ARGV[2] == '1' then on = 'true' end
local said = '{"form":1,"at":' .. string.format('%.0f', at) .. ',"on":' .. on .. '}'
redis.call('HSET', base .. 'drains', ARGV[1], said)
return said
"""
)
# ARGV: ids that are gone for good
FORGET = (
    NOW
    + """
local forgotten = base .. 'forgotten'
local old = redis.call('HGETALL', forgotten)
for i = 1, #old, 2 do
  if now - tonumber(old[i + 1]) > 86400000 then redis.call('HDEL', forgotten, old[i]) end
end
for _, id in ipairs(ARGV) do
  redis.call('HDEL', base .. 'hosts', id)
  redis.call('DEL', base .. 'member:' .. id)
  redis.call('HSET', forgotten, id, string.format('%.0f', now))
end
return #ARGV
"""
)
# ARGV: a new one; present and previous as known here ("" where not); ms after which a present one
# is old. Where the shared state has lost it, what is known here is put back.
SECRET = (
    NOW
    + """
local key = base .. 'secret'
local there = redis.call('HMGET', key, 'present', 'made')
if not there[1] then
  local present = ARGV[2]
  if present == '' then present = ARGV[1] end
  redis.call('HSET', key, 'form', '1', 'present', present, 'previous', ARGV[3],
             'made', string.format('%.0f', now))
elseif now - tonumber(there[2]) >= tonumber(ARGV[4]) then
  redis.call('HSET', key, 'present', ARGV[1], 'previous', there[1],
             'made', string.format('%.0f', now))
end
return redis.call('HMGET', key, 'present', 'previous', 'made')
"""
)


class Client(Protocol):
    """What is used of a client of the shared state; one for an event loop answers later."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any: ...


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is heard at once. Times in ms by the shared state's clock."""

    now: int
    hosts: tuple[Announced, ...]
    alive: frozenset[str] = frozenset()  # ids that are announced at present
    drains: dict[str, Drain] = {}
    forgotten: frozenset[str] = frozenset()
    secret_made: int = 0  # 0: there is none
    was: Announced | None = None  # what stood there under the id of the one that asked


class Secret(msgspec.Struct, frozen=True):
    """By which hosts know each other. Both are good; the first is the one to send."""

    present: str
    previous: str = ""
    made: int = 0

    def __repr__(self) -> str:
        """Without either."""
        return f"Secret(made={self.made})"

    def all(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.present, self.previous)))


def beat(prefix: str, own: Announced | None, *, gone: bool = False) -> tuple[Any, ...]:
    """What to give `eval`: announce `own` (None: only hear), for as long as it says.

    `gone`: its gateway stops; from now on it is not announced.
    """
    if own is None:
        return BEAT, 1, f"{prefix}:hosts", "", "", "0"
    said = msgspec.to_builtins(own)
    del said["at"]
    lasts = "0" if gone else str(int(own.lasts_s * 1000) + 1000)
    return BEAT, 1, f"{prefix}:hosts", msgspec.json.encode(said), own.id, lasts


def heard(answer: Sequence[Any]) -> Answer:
    """What `beat` was answered. Raises ValueError for what is none."""
    now, rows, alive, drains, forgotten, made, was = answer[:7]
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    hosts = tuple(one for _, text in pairs if (one := read(bytes(text))) is not None)
    living = {bytes(pair[0]).decode() for pair, there in zip(pairs, alive, strict=True) if there}
    return Answer(
        now=int(now),
        hosts=tuple(sorted(hosts, key=lambda one: (one.host, one.started, one.id))),
        alive=frozenset(living),
        drains=read_drains(zip(drains[::2], drains[1::2], strict=True)),
        forgotten=frozenset(bytes(one).decode() for one in forgotten),
        secret_made=int(made),
        was=read(bytes(was)) if was else None,
    )


def drain(prefix: str, host: str, on: bool, at: int = 0) -> tuple[Any, ...]:
    """What to give `eval`: say that `host` is drained or not; `at` (ms) puts an old word back."""
    return DRAIN, 1, f"{prefix}:hosts", host, "1" if on else "0", str(at)


def forget(prefix: str, ids: Sequence[str]) -> tuple[Any, ...]:
    """What to give `eval`: these hosts will not come back."""
    return FORGET, 1, f"{prefix}:hosts", *ids


def secret(
    prefix: str, known: Secret | None, *, old_s: float = SECRET_S, fresh: str = ""
) -> tuple[Any, ...]:
    """What to give `eval`: the members' secret, made where there is none, changed where old."""
    present, previous = (known.present, known.previous) if known else ("", "")
    new = fresh or secrets.token_urlsafe(32)
    return SECRET, 1, f"{prefix}:hosts", new, present, previous, str(int(old_s * 1000))


def secret_heard(answer: Sequence[Any]) -> Secret:
    """What `secret` was answered."""
    present, previous, made = (bytes(one or b"").decode() for one in answer)
    return Secret(present, previous, int(made or 0))


async def ask(client: Client, words: tuple[Any, ...]) -> Any:
    """Ask a client for an event loop."""
    answer: Awaitable[Any] = client.eval(*words)
    return await answer


def ask_now(client: Client, words: tuple[Any, ...]) -> Any:
    """The same of a client that waits."""
    return client.eval(*words)
