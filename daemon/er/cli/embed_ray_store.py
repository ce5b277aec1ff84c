"""Where the inputs and outputs of `er embed --ray` lie: a folder that all hosts see, or S3.

One object is put as a whole or not at all, whoever is killed meanwhile: on a disk by another name
and a rename, in S3 because an upload that is not closed leaves nothing that a list would show.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from er.cli.embed_out import into_place

S3 = "s3://"
WRITING = ".writing"  # the end of a name that is not a file's own yet
COPIED = 8 << 20  # bytes at a time
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class StoreError(Exception):
    """It can't be read or written there; the text says what and why."""


class Secret:
    """A key or password on its way to the actors: nothing that is printed or logged shows it."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Secret(…)"


class S3Access(msgspec.Struct, frozen=True, kw_only=True):
    """How S3 is reached. Without a key each host uses what it has: a file, or its own role."""

    endpoint: str = ""  # of another service than Amazon's: http[s]://HOST[:PORT]
    region: str = ""
    key: Any = None  # three Secrets, as CREDENTIALS has them

    @classmethod
    def of(cls, environment: dict[str, str], endpoint: str | None) -> S3Access:
        """As the variables of the AWS tools say."""
        found = tuple(Secret(environment.get(name, "")) for name in CREDENTIALS)
        return cls(
            endpoint=endpoint or environment.get("AWS_ENDPOINT_URL", ""),
            region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", ""),
            key=found if found[0].value and found[1].value else None,
        )


class File(NamedTuple):
    """One file there."""

    path: str  # as it is given to `open` and the others
    size: int
    changed: int  # ns since 1970


class Store:
    """A place with files in it. Every method raises StoreError."""

    def __init__(self, place: str, access: S3Access) -> None:
        """`place`: a path of this machine, or s3://BUCKET/PREFIX."""
        self.place = place.rstrip("/") if len(place) > 1 else place
        self._access = access
        self.s3 = place.startswith(S3)
        self.root = self.place.removeprefix(S3) if self.s3 else str(Path(self.place).absolute())
        self._made: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": None}  # connections stay where they are

    def name(self, path: str) -> str:
        """What people call a file there."""
        return S3 + path if self.s3 else path

    def under(self, *names: str) -> str:
        """The path of something in it."""
        return "/".join((self.root, *names))

    @property
    def _files(self) -> Any:
        if self._made is None:
            from pyarrow import fs

            self._made = self._bucket(fs) if self.s3 else fs.LocalFileSystem()
        return self._made

    def _bucket(self, fs: Any) -> Any:
        access = self._access
        more: dict[str, Any] = {}
        scheme, _, host = access.endpoint.rpartition("://")
        if host:
            more = {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
        if access.region:
            more["region"] = access.region
        if access.key is not None:
            key, secret, token = (one.value for one in access.key)
            more |= {"access_key": key, "secret_key": secret, "session_token": token or None}
        return fs.S3FileSystem(**more, request_timeout=60, connect_timeout=10)

    # -- reading -----------------------------------------------------------------------------

    def inputs(self, endings: tuple[str, ...]) -> list[File]:
        """The file that it is, or the files in it with such an ending, by name; "*" is a pattern.

        Names that begin with "_" or "." are nobody's rows, as Spark and others write them.
        """
        from pyarrow import fs

        with self._said(self.root):
            pattern = self.root if "*" in self.root else ""
            top = self.root.partition("*")[0].rpartition("/")[0] if pattern else self.root
            (info,) = self._files.get_file_info([top])
            if info.type == fs.FileType.File:
                return [File(info.path, info.size, info.mtime_ns or 0)]
            if info.type == fs.FileType.NotFound:
                raise StoreError(f"{self.name(top)}: no such file or folder")
            found = self._files.get_file_info(fs.FileSelector(top, recursive=True))
        named = [
            File(i.path, i.size, i.mtime_ns or 0)
            for i in found
            if i.type == fs.FileType.File
            and i.path.lower().endswith(endings)
            and (not pattern or fnmatch.fnmatchcase(i.path, pattern))
            and not any(p.startswith(("_", ".")) for p in i.path[len(top) :].split("/"))
        ]
        return sorted(named)

    def listed(self, folder: str) -> dict[str, int]:
        """Name -> bytes of what lies in a folder of it; {} where there is none."""
        from pyarrow import fs

        with self._said(folder):
            chosen = fs.FileSelector(folder, allow_not_found=True)
            found = self._files.get_file_info(chosen)
        return {i.base_name: i.size for i in found if i.type == fs.FileType.File}

    def open(self, path: str) -> Any:
        """A pyarrow file to read from, at any place of it."""
        with self._said(path):
            return self._files.open_input_file(path)

    def read(self, path: str) -> bytes | None:
        """All of a small file; None where there is none."""
        with self._said(path):
            try:
                with self._files.open_input_stream(path) as file:
                    found: bytes = file.read()
                    return found
            except FileNotFoundError:
                return None

    # -- writing -----------------------------------------------------------------------------

    def make(self, folder: str) -> None:
        """A folder, so that something can be put there; S3 needs none."""
        if not self.s3:
            with self._said(folder):
                Path(folder).mkdir(parents=True, exist_ok=True)

    def put(self, path: str, data: bytes) -> None:
        """A small file, in place of what was there."""
        with self._said(path):
            if self.s3:
                with self._files.open_output_stream(path) as out:
                    out.write(data)
                return
            fresh = Path(f"{path}.{uuid.uuid4().hex}{WRITING}")
            with fresh.open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            into_place(fresh, Path(path))

    def take(self, written: Path, path: str) -> None:
        """A file that was written at `writing()`, put there for good in place of what was there."""
        with self._said(path):
            if not self.s3:
                into_place(written, Path(path))
                return
            with written.open("rb") as file, self._files.open_output_stream(path) as out:
                shutil.copyfileobj(file, out, COPIED)
            written.unlink()

    def writing(self, folder: str) -> Path:
        """A new name on this machine for what `take` puts there: the same disk, where it is one."""
        name = f"{uuid.uuid4().hex}{WRITING}"
        if self.s3:
            import tempfile

            return Path(tempfile.gettempdir()) / f"er-{name}"
        return Path(folder) / name

    def remove(self, paths: list[str]) -> None:
        """Files, whether they are there or not."""
        for path in paths:
            with self._said(path), contextlib.suppress(FileNotFoundError):
                self._files.delete_file(path)

    @contextlib.contextmanager
    def _said(self, path: str) -> Any:
        """Errors of files and of S3 as StoreError."""
        try:
            yield
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else None
            raise StoreError(
                f"{self.name(path)}: {said or ' '.join(str(error).split())[:300]}"
            ) from None
