"""Why the shared state gave no answer, in words that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

from valkey import exceptions as theirs

from er.config.state import address
from er.config.structs import State

# The library's errors have two roots: that of a cluster none of whose nodes is reached is apart.
WRONG = (theirs.ValkeyError, theirs.ValkeyClusterException, OSError, TimeoutError, UnicodeError)
Cause = Literal["unreachable", "late", "refused", "full", "read_only", "starting", "broken"]


class Away(Exception):  # noqa: N818 - what it is, where it is
    """The shared state can't be used at present; the text says why and what to do.

    `cause`: unreachable, late (no answer in time), refused (password, user or what it may),
    full (its memory), read_only (a replica), starting (it loads its data), broken (all else).
    """

    def __init__(self, cause: Cause, text: str) -> None:
        super().__init__(text)
        self.cause: Cause = cause
        self.text = text


@contextlib.contextmanager
def asked(state: State) -> Iterator[None]:
    """Turns what goes wrong inside into Away."""
    try:
        yield
    except WRONG as error:
        cause, why = _told(error, state)
        raise Away(cause, f"the shared state ({address(state.url)}) {why}") from None


def _told(error: Exception, state: State) -> tuple[Cause, str]:
    text = " ".join(str(error).split())[:200]
    if isinstance(error, theirs.AuthenticationError) or _begins(text, "WRONGPASS", "NOAUTH"):
        where = state.password_file or "[state] password_file"
        return "refused", f"takes neither user nor password: look at {where} and url"
    if isinstance(error, theirs.NoPermissionError | theirs.AuthorizationError):
        return "refused", f"does not let this user do that: {text}; er help hosts has its rights"
    if isinstance(error, theirs.OutOfMemoryError):
        return "full", "has no memory left: raise its maxmemory"
    if isinstance(error, theirs.ReadOnlyError):
        return "read_only", "is a copy that takes no changes: name the first one, or its Sentinels"
    if isinstance(error, theirs.BusyLoadingError):
        return "starting", "still loads its data"
    if isinstance(error, theirs.TimeoutError | TimeoutError):
        return "late", "does not answer in time"
    if isinstance(error, theirs.ConnectionError | theirs.ValkeyClusterException | OSError):
        return "unreachable", f"is not reached: {text or type(error).__name__}"
    return "broken", f"answers {text or type(error).__name__}"


def _begins(text: str, *words: str) -> bool:
    return text.upper().startswith(words)
