"""A batch of another host becomes one of this one's, or one of this one's another's. Blocks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from er.batches.disk import private, replace, sync_folder
from er.batches.records import Batch, File
from er.batches.store import NotThere, Store

Bytes = Callable[[str], Iterable[bytes]]  # of "input", "output" or "errors"


def adopt(store: Store, owner: str, batch: Batch, file: File, read: Bytes) -> None:
    """Have it here, with all that is done of it. Raises OSError, and Full for the quota.

    Who asks has seen to the room. Its mark is made last, so a batch that was taken over halfway is
    nobody's and is tried again.
    """
    folder = store.folder(owner, make=True)
    _write(folder / file.id, read("input"))
    replace(folder / f"{file.id}.json", msgspec.json.encode(file))
    wanted = batch.status == "cancelling"
    if wanted:  # a wish of its owner's, which lies beside the record
        began = batch.in_progress_at is not None
        status = "in_progress" if began else "validating"
        batch = msgspec.structs.replace(batch, status=status, cancelling_at=None)
    for what, path in zip(("output", "errors"), store.results(owner, batch.id), strict=True):
        _write(path, read(what))
    if batch.over:
        store.hand_over(owner, batch)
        store.save(owner, batch)
        return
    store.add_batch(owner, batch)
    if wanted:
        store.cancel(owner, batch.id)


def let_go(store: Store, owner: str, batch_id: str) -> None:
    """It is another host's: nothing of it is here any more. Raises OSError."""
    with contextlib.suppress(NotThere):
        batch = store.begun(owner, batch_id)
        folder = store.folder(owner)
        (folder / f"{batch_id}.json").unlink(missing_ok=True)
        store.close(owner, batch_id)
        for path in store.results(owner, batch_id):
            path.unlink(missing_ok=True)
        files = [batch.output_file_id, batch.error_file_id]
        if store.user_of(owner, batch.input_file_id) is None:
            files.append(batch.input_file_id)
        for name in files:
            with contextlib.suppress(NotThere):
                if name is not None:
                    store.delete_file(owner, name)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    part = path.with_name(f"{path.name}.part")
    with open(private(part), "wb") as file:
        file.truncate()
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)
