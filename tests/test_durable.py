"""Bytes on the disk: all of them or none, through nobody's link."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from er import durable

FULL = OSError(28, "No space left on device")


def test_put_is_whole_or_nothing(tmp_path: Path) -> None:
    """In place of what was there, also over what a killed one of the same number left."""
    path = tmp_path / "told"
    durable.put(path, b"one", 0o640)
    left = tmp_path / f".told.{os.getpid()}"
    left.symlink_to(tmp_path / "elsewhere")
    durable.put(path, b"two", 0o640, lambda file: os.fchmod(file, 0o600))
    assert path.read_bytes() == b"two" and path.stat().st_mode & 0o777 == 0o600
    with mock.patch("os.fsync", side_effect=FULL), pytest.raises(OSError, match="No space"):
        durable.put(path, b"three", 0o640)
    assert path.read_bytes() == b"two" and [p.name for p in tmp_path.iterdir()] == ["told"]


@pytest.mark.parametrize(("after_torn", "found"), [(b"", b"a\nbc\n"), (b"\n", b"a\nb\nc\n")])
def test_append_is_whole_or_nothing(tmp_path: Path, after_torn: bytes, found: bytes) -> None:
    """What a kill broke off stands alone where the caller wants that."""
    path = tmp_path / "lines"
    durable.append(path, b"a\nb", after_torn)
    with mock.patch("os.fsync", side_effect=FULL), pytest.raises(OSError, match="No space"):
        durable.append(path, b"lost\n", after_torn)
    durable.append(path, b"c\n", after_torn)
    assert path.read_bytes() == found
