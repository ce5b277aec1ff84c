"""What er-gateway does before it starts a process: directories, lock, sockets, the first key."""

from __future__ import annotations

import errno
import fcntl
import os
from datetime import UTC, datetime

from er import config, journal, keys, leaving
from er.chinese import at_terminal
from er.config import Config
from er.config.state import host_name
from er.keys import KeysError
from er.limits import Limits
from er.supervisor.listen import Kind, ListenError, Sockets
from er.tls import TlsError, context, given

METRICS = "metrics"  # in the runtime directory: the files of prometheus_client
_kept: list[int] = []  # the lock is held as long as the process lives


def take(settings: Config) -> Sockets | None:
    """Make the directories, take the lock, bind the sockets. None: impossible, and it was said."""
    runtime = config.directory("runtime")
    sockets = Sockets()
    try:
        for directory in (runtime, config.directory("state"), runtime / METRICS):
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        _listen(sockets, settings)
        lock = os.open(runtime / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        _kept.append(lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sockets.bind_unix(runtime)
        leaving.stay(runtime)
        for file in (runtime / METRICS).glob("*.db"):
            file.unlink(missing_ok=True)
        # Made here once, so that workers find it as it should be.
        Limits.open(runtime / "limits").close()
    except BlockingIOError:
        _refuse(f"another er-gateway runs with {runtime}; stop that one first")
    except ListenError as error:
        _refuse(_in_use(error))
    except OSError as error:
        cure = "make it writable for this user, or set RUNTIME_DIRECTORY and STATE_DIRECTORY"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            cure = f"make room in {runtime}"
        _refuse(f"{error.filename or runtime}: {error.strerror}; {cure}")
    else:
        return sockets
    sockets.close()
    return None


def _refuse(why: str) -> None:
    journal.log("err", at_terminal(why))


def _listen(sockets: Sockets, settings: Config) -> None:
    """The clients' addresses, and what HTTPS needs. Raises ListenError."""
    sockets.bind_tcp("http", settings.gateway.listen)
    wanted: dict[Kind, tuple[str, ...]] = {"http": settings.gateway.listen}
    tls = settings.gateway.tls
    if tls is not None:
        sockets.bind_tcp("https", tls.listen)
        wanted["https"] = tls.listen
        try:
            credentials = given(tls)
            context.make(credentials, tls.client_certificates)
            sockets.safe.put(credentials)
        except TlsError as error:
            # Plain HTTP need not suffer, and good ones are taken up as soon as they are there.
            journal.log("err", f"HTTPS refuses every client: {error}")
    if settings.state is not None:
        sockets.bind_tcp("hosts", settings.host.listen)
        wanted["hosts"] = settings.host.listen
        _own_certificate(settings)
    for name, addresses in wanted.items():
        held, said = sockets.addresses(name), addresses
        if set(held) != set(said):
            what = f"systemd listens on {', '.join(held)}, er.toml says {', '.join(said)}"
            journal.log("warning", f"{what}: run `er apply`")


def _own_certificate(settings: Config) -> None:
    """What other hosts know this one by; without it they can't use its replicas, no more."""
    from er.tls import made_own  # brings cryptography along, which only this needs

    try:
        made_own.care(config.directory("state"), host_name(settings.host))
    except (OSError, TlsError) as error:
        journal.log("err", f"no certificate for other hosts: {error}")


def moved(old: Config, new: Config) -> bool:
    """Whether the addresses for clients differ."""
    before, after = (_addresses(c) for c in (old, new))
    return before != after


def _addresses(settings: Config) -> tuple[tuple[str, ...], ...]:
    tls = settings.gateway.tls.listen if settings.gateway.tls else ()
    return settings.gateway.listen, tls, settings.host.listen if settings.state else ()


def first_key(settings: Config) -> None:
    """Make the first key where there never was one, unless the operator wants none so."""
    if not settings.gateway.first_key_in_log:
        return
    try:
        made = keys.ensure_first(keys.where(settings), now=datetime.now(UTC))
    except KeysError as error:
        journal.log("err", f"the first API key could not be made: {error}")
        return
    if made is not None:
        # The one time that a secret is written to a log, as the operator asked for it.
        journal.log("warning", "no API key existed, so one was made; it is shown this once:")
        journal.secret("warning", made.secret)
        journal.log(
            "warning",
            f"whoever reads this log can use it: note it, then rotate it with "
            f"`er keys rotate {made.record.id}`",
        )


def _in_use(error: ListenError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"can't listen on {error}; change listen in er.toml"
    from er import ports  # brings psutil along, which only this needs

    port = error.address.rpartition(":")[2]
    holder = ports.holder(int(port)) if port.isdigit() else None
    by = f" by {holder}" if holder else ""
    return f"port {port} is already in use{by}; stop that, or change listen in er.toml"
