"""What ER asks of the Valkey: the one list of its commands, and the user that may no more.

A command that is new in a script or a client belongs in here; tests/test_check_state.py finds what
is missing.
"""

from __future__ import annotations

LEAST = (6, 2)  # the server's version: ZADD with GT
# Each with a harmless call, by which `er check` asks whether the user may: KEY is an entry that is
# there for the moment of the check. None: not asked, as it says something of the connection.
CALLS: dict[str, str | None] = {
    "ping": "",
    "time": "",
    "info": "server",
    "select": None,
    "eval": "return(1) 1 KEY",
    "evalsha": f"{'0' * 40} 1 KEY",
    "set": "KEY 1 PX 1000",
    "get": "KEY",
    "append": "KEY a",
    "mget": "KEY",
    "exists": "KEY",
    "del": "KEY",
    "unlink": "KEY",
    "expire": "KEY 1",
    "pexpire": "KEY 1",
    "hset": "KEY a 1",
    "hget": "KEY a",
    "hmget": "KEY a",
    "hgetall": "KEY",
    "hkeys": "KEY",
    "hdel": "KEY a",
    "rpush": "KEY a",
    "lindex": "KEY 0",
    "lset": "KEY 0 a",
    "linsert": "KEY BEFORE a b",
    "lrange": "KEY 0 1",
    "lpop": "KEY",
    "rpop": "KEY",
    "blpop": "KEY 0.01",
    "sadd": "KEY a",
    "smembers": "KEY",
    "zadd": "KEY 1 a",
    "zrange": "KEY 0 1",
    "zcard": "KEY",
    "zremrangebyscore": "KEY 0 1",
}
OF_CLUSTERS = ("cluster|slots", "cluster|nodes", "command", "readonly", "asking")


def pattern(name: str) -> str:
    """The names of all entries of the installation `name` ([state] name)."""
    return f"er:{{{name}}}:*"


def line(name: str, user: str, *, cluster: bool = False) -> str:
    """The command that makes the user as ER needs it; in place of PASSWORD stands its own."""
    allowed = " ".join(f"+{command}" for command in (*CALLS, *(OF_CLUSTERS if cluster else ())))
    return f"ACL SETUSER {user} on >PASSWORD resetkeys ~{pattern(name)} -@all {allowed}"


def calls(name: str) -> list[list[str]]:
    """The calls of `CALLS`, and what cleans up behind them."""
    entry = f"er:{{{name}}}:check"
    found = [
        [command, *(entry if word == "KEY" else word for word in call.split())]
        for command, call in CALLS.items()
        if call is not None
    ]
    return [*found, ["del", entry]]
