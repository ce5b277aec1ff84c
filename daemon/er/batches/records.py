"""What is known of a file and of a batch, in OpenAI's words: pure, no file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Status = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
OVER: frozenset[Status] = frozenset(("failed", "completed", "expired", "cancelled"))
# Where a batch's status is that of the moment it came to it: field of Batch.
MOMENTS: Mapping[Status, str] = {
    "in_progress": "in_progress_at",
    "finalizing": "finalizing_at",
    "completed": "completed_at",
    "failed": "failed_at",
    "expired": "expired_at",
    "cancelled": "cancelled_at",
}


def new_id(kind: Literal["file-", "batch_"]) -> str:
    """An id that nobody has; the later one is the greater."""
    return f"{kind}{time.time_ns():016x}{os.urandom(4).hex()}"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a batch failed; `line` of its input file, from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of requests or of results. Times are Unix seconds."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]

    def shown(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {"object": "file", **msgspec.to_builtins(self), "status": "processed"}


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Lines."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch. Times are Unix seconds.

    `uid` is that of a caller on the local socket, `client` the address of any other, and `ending`
    what `finalizing` leads to.
    """

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    status: Status = "validating"
    errors: tuple[Problem, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = Counts()
    metadata: dict[str, str] | None = None
    uid: int | None = None
    client: str = ""
    ending: Status | None = None

    @property
    def over(self) -> bool:
        """Whether nothing will come any more."""
        return self.status in OVER

    def became(self, status: Status, now: float, **more: Any) -> Batch:
        """The same batch at `now`, in that status and with `more` changed."""
        return msgspec.structs.replace(self, status=status, **{MOMENTS[status]: int(now)}, **more)

    def shown(self) -> dict[str, Any]:
        """OpenAI's batch object."""
        tree = msgspec.to_builtins(self)
        del tree["uid"], tree["client"], tree["ending"]
        errors = tree.pop("errors")
        if self.status != "finalizing" and not self.over:
            tree["output_file_id"] = tree["error_file_id"] = None
        tree["errors"] = {"object": "list", "data": errors} if errors else None
        return {"object": "batch", **tree}

    def ended_at(self) -> int:
        """When it was over; for one that is not, when it was made."""
        ends = (self.completed_at, self.failed_at, self.expired_at, self.cancelled_at)
        return max((moment for moment in ends if moment is not None), default=self.created_at)
