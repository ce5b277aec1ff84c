"""The ledger's file: where each number lies, how it is made, adopted, recreated and locked.

Rules that keep it safe with many writers, any of which may be killed at any moment:
* Each number is 8 aligned bytes (texts aside), so it is written whole or not at all.
* A number that several processes change is changed under a lock that dies with its holder: an
  fcntl lock on one byte. Numbers of a worker's own slot are written by that worker alone.
* A file is never truncated or rewritten in place: whoever had it mapped would be killed by SIGBUS.
  A bad one is replaced by rename. Who opens holds a lock on the directory meanwhile, so that two
  who find it bad do not both replace it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import pwd
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

REPLICAS = 512  # 64 of er.toml, and those of other hosts
SLOTS = 72  # 64 workers, and room for a new generation beside the old one
COUNTERS = ("requests", "ok", "refused", "failed", "sequences", "tokens")
RETIRED = SLOTS  # the row of counters that dead workers' figures are added to
NAME_BYTES = 104  # REPLICA@HOST, 48 each
REASON_BYTES = 240

MAGIC = b"ERLEDGER"
VERSION = 3
HEADER = struct.Struct("<8sII36s")  # magic, version, size, the boot it belongs to
HEADER_BYTES = 128
LOCK_TABLE, LOCK_ADMISSION = 120, 121  # bytes of the header that nothing is stored in

# name -> how many 8-byte numbers, in the order they lie in the file
NUMBERS = {
    **dict.fromkeys(("state", "since", "checked", "answered", "wrong", "turn"), REPLICAS),
    **dict.fromkeys(("drained", "drained_since", "pace", "elsewhere"), REPLICAS),
    "tokens": REPLICAS * SLOTS,  # a replica's 72 numbers side by side: summed with each decision
    **dict.fromkeys(("pid", "start", "queued", "in_flight"), SLOTS),
    "counters": (SLOTS + 1) * len(COUNTERS),
}
FLOATS = {"since", "checked", "drained_since", "pace"}
TEXTS_AT = HEADER_BYTES + 8 * sum(NUMBERS.values())
SIZE = TEXTS_AT + REPLICAS * (NAME_BYTES + REASON_BYTES)


class Table:
    """The mapped file. `ints`/`floats` give a memoryview of 8-byte numbers by name."""

    def __init__(self, fd: int, recreated: str | None) -> None:
        self._fd = fd
        self.recreated = recreated
        self._map = mmap.mmap(fd, SIZE)
        self._bytes = memoryview(self._map)
        self._views: dict[str, memoryview[int] | memoryview[float]] = {}
        self._threads = threading.RLock()  # fcntl locks exclude processes, not threads
        at = HEADER_BYTES
        for name, count in NUMBERS.items():
            code = "d" if name in FLOATS else "q"
            self._views[name] = self._bytes[at : at + 8 * count].cast(code)  # type: ignore[call-overload]
            at += 8 * count

    def ints(self, name: str) -> memoryview[int]:
        return self._views[name]  # type: ignore[return-value]

    def floats(self, name: str) -> memoryview[float]:
        return self._views[name]  # type: ignore[return-value]

    def name(self, row: int) -> str:
        return self._text(TEXTS_AT + row * NAME_BYTES, NAME_BYTES)

    def set_name(self, row: int, name: str) -> None:
        self._set_text(TEXTS_AT + row * NAME_BYTES, NAME_BYTES, name)

    def reason(self, row: int) -> str:
        return self._text(TEXTS_AT + REPLICAS * NAME_BYTES + row * REASON_BYTES, REASON_BYTES)

    def set_reason(self, row: int, reason: str) -> None:
        at = TEXTS_AT + REPLICAS * NAME_BYTES + row * REASON_BYTES
        self._set_text(at, REASON_BYTES, reason)

    def _text(self, at: int, room: int) -> str:
        return bytes(self._bytes[at : at + room]).partition(b"\0")[0].decode(errors="replace")

    def _set_text(self, at: int, room: int, text: str) -> None:
        cut = text.encode()[: room - 1].decode(errors="ignore").encode()
        self._bytes[at : at + room] = cut.ljust(room, b"\0")

    @contextlib.contextmanager
    def locked(self, byte: int = LOCK_TABLE) -> Iterator[None]:
        """Hold the lock on `byte` over processes and threads. Held for microseconds only."""
        self.lock(byte)
        try:
            yield
        finally:
            self.unlock(byte)

    def lock(self, byte: int) -> None:
        """What `locked` does at its beginning, for what happens with each request."""
        self._threads.acquire()
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, byte)
        except BaseException:
            self._threads.release()
            raise

    def unlock(self, byte: int) -> None:
        """What `locked` does at its end."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, byte)
        finally:
            self._threads.release()

    def close(self) -> None:
        for view in self._views.values():
            view.release()
        self._bytes.release()
        self._map.close()
        os.close(self._fd)


def open_table(path: Path, *, make: bool = True) -> Table:
    """Map the ledger at `path`; make it when it is missing or not a ledger of this boot.

    `recreated` of the result says what was wrong with the old file, None when nothing was.
    Raises OSError when the directory or the file may not be used, and without `make` for a file
    that is none of this boot.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        fd, fault = _adopt(path)
        if fd is None:
            if not make:
                raise OSError(f"{path} is no ledger to look into: {fault or 'it is missing'}")
            _create(path)
            fd, still = _adopt(path)
            if fd is None:
                raise OSError(f"{path} can't be made: {still}")
        return Table(fd, fault)
    finally:
        os.close(directory)


def _adopt(path: Path) -> tuple[int | None, str | None]:
    """A descriptor of a good ledger; or None and what is wrong (None when there is none)."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        return None, f"it is not a plain file ({error.strerror})"
    fault = None
    size = os.fstat(fd).st_size
    head = os.pread(fd, HEADER.size, 0)
    if len(head) < HEADER.size or head[: len(MAGIC)] != MAGIC:
        fault = "it is not a ledger"
    else:
        _, version, told, boot = HEADER.unpack(head)
        if version != VERSION or told != SIZE:
            fault = f"its layout is version {version}, this ER uses {VERSION}"
        elif size != SIZE:
            fault = f"it has {size} bytes in place of {SIZE}"
        elif boot != _boot():
            fault = "it is from before the last boot"
    if fault is None:
        return fd, None
    os.close(fd)
    return None, fault


def _create(path: Path) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)
    try:
        os.fchmod(fd, 0o660)  # whatever the umask said
        with contextlib.suppress(KeyError, PermissionError):
            if os.geteuid() == 0:  # the file is er's, whoever was first
                er = pwd.getpwnam("er")
                os.fchown(fd, er.pw_uid, er.pw_gid)
        # Written out, not just sized: a full disk must fail here and not as SIGBUS later.
        header = HEADER.pack(MAGIC, VERSION, SIZE, _boot()).ljust(SIZE, b"\0")
        os.write(fd, header)
        fresh.rename(path)
    finally:
        os.close(fd)


def _boot() -> bytes:
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:36].ljust(36, b"\0")


def start_time(pid: int) -> int:
    """When that process started, in the kernel's ticks since boot; 0 when it is gone or a zombie.

    Process ids are reused; a pid and its start time together are not.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()  # after the name, which may hold anything
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
