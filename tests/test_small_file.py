"""Small files that somebody else may have exchanged: what is no plain file is an error at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from er import small_file


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 70_000)
    assert small_file.read(tmp_path / "a") == b"x" * 70_000


def test_traps_are_errors(tmp_path: Path) -> None:
    """A pipe that nobody writes to, a link, a folder, a device, a file without end, and none."""
    (tmp_path / "there").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    for trap in ("link", "folder", "pipe", "huge", "none"):
        with pytest.raises(OSError):
            small_file.read(tmp_path / trap)
    with pytest.raises(OSError, match="no plain file"):
        small_file.read(Path("/dev/zero"))
