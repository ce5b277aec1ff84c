"""The batch API for the OpenAPI document: its addresses, bodies and answers."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from er.batches.records import Counts, Problem, Status
from er.gateway import batches, listed
from er.openapi.answers import Shown
from er.openapi.bounds import WORDS, Schema
from er.openapi.operations import Body, Operation

TAG = "Batches"


def _query(kind: str) -> tuple[tuple[str, str, Schema], ...]:
    limit = {"type": "integer", "minimum": 1, "maximum": listed.LIST_MAX[kind]}
    order = {"type": "string", "enum": ["asc", "desc"]}
    return (
        ("limit", f"At most so many; {listed.LIST_DEFAULT[kind]} where nothing is said", limit),
        ("order", "The oldest first, or the newest, which is so where nothing is said", order),
        ("after", "Only those behind the one of this id", WORDS),
    )


class FileObject(Shown):
    """A file of requests or of results; times in Unix seconds."""

    object: Literal["file"]
    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]


class FileList(Shown):
    """The key's files."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    hosts_missing: list[str] | UnsetType = UNSET  # that did not answer


class FileDeleted(Shown):
    """The file is gone."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class BatchErrors(Shown):
    """Why a batch failed."""

    object: Literal["list"]
    data: list[Problem]


class BatchObject(Shown):
    """A batch; times in Unix seconds, null where it has not come to that."""

    object: Literal["batch"]
    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    status: Status
    errors: BatchErrors | None
    output_file_id: str | None
    error_file_id: str | None
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    metadata: dict[str, str] | None


class BatchList(Shown):
    """The key's batches."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    hosts_missing: list[str] | UnsetType = UNSET  # that did not answer


def _asked(path: str, name: str, summary: str, answer: Any, **more: Any) -> Operation:
    return Operation("get", path, TAG, name, summary, answer=answer, more=(404,), **more)


OPERATIONS = (
    Operation(
        "post",
        "/v1/files",
        TAG,
        "uploadFile",
        "Upload a file of requests, one JSON object a line",
        answer=FileObject,
        form=(("purpose", "batch"), ("file", "The file, JSON lines in UTF-8")),
        more=(404, 429, 503),
    ),
    _asked(
        "/v1/files",
        "listFiles",
        "List files",
        FileList,
        query=(*_query("files"), ("purpose", "Only files of this purpose", WORDS)),
    ),
    _asked("/v1/files/{file}", "getFile", "Describe a file", FileObject),
    Operation(
        "delete",
        "/v1/files/{file}",
        TAG,
        "deleteFile",
        "Delete a file",
        answer=FileDeleted,
        more=(404,),
    ),
    _asked(
        "/v1/files/{file}/content",
        "getFileContent",
        "A file as it was uploaded or made",
        None,
        media="application/octet-stream",
    ),
    Operation(
        "post",
        "/v1/batches",
        TAG,
        "createBatch",
        "Have a file's requests computed",
        bodies=(Body(None, batches.SHAPE, BatchObject, "embed"),),
        more=(404, 429, 503),
    ),
    _asked("/v1/batches", "listBatches", "List batches", BatchList, query=_query("batches")),
    _asked("/v1/batches/{batch}", "getBatch", "Describe a batch", BatchObject),
    Operation(
        "post",
        "/v1/batches/{batch}/cancel",
        TAG,
        "cancelBatch",
        "Cancel a batch; what is done is kept",
        answer=BatchObject,
        more=(404,),
    ),
)
