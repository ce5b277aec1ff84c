"""Runs a question as another user: whether user er can read a file, asked by root."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from typing import Any

import orjson

USER = "er"


def account() -> pwd.struct_passwd | None:
    """The account that ER's units run as; None where install.sh has not made it."""
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


def ask(question: Callable[[], Any]) -> Any:
    """`question()` as user er when this is root and that user exists, else as it is.

    The answer must be JSON (it crosses a pipe). An exception in there comes back as RuntimeError.
    """
    user = account()
    if os.geteuid() != 0 or user is None:
        return question()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_answer(question, user, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    answer = orjson.loads(data) if data else {"error": "the child process ended without a word"}
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["value"]


def _answer(question: Callable[[], Any], user: pwd.struct_passwd, writing: int) -> int:
    """The child's part: become `user`, ask, write the answer. Returns the exit status."""
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        data = orjson.dumps({"value": question()})
    except BaseException as error:  # whatever it is, the parent must hear of it
        data = orjson.dumps({"error": f"{type(error).__name__}: {error}"})
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(data)
    return 0
