"""10,000 idle keep-alive connections: what each costs, and what 32 busy ones lose by them.

Each idle connection has asked once, as a client's pool does. The rate is counted a core of ER's, so
that wrk's share of the machine does not enter; wall-clock rates are among the raw figures.
"""

from __future__ import annotations

import contextlib
import resource
import socket

from load import Stream, drive, request
from measure import BenchError, instant, memory, wrk
from result import Options, Report, at_least, at_most
from served import Er, served

from fakes import free_port

CONNECTIONS = 10_000
BUSY = 32
AT_ONCE = 500
SPARE = 200  # descriptors for everything else


def allow(count: int) -> None:
    """Let this process and its children have so many descriptors. Raises BenchError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
        except (ValueError, OSError):
            raise BenchError(f"ulimit -Hn is {hard}; this bench needs {count}") from None
    elif soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def ask_once(er: Er, sockets: list[socket.socket]) -> None:
    """One request on each of `sockets`, answers read whole. Raises BenchError."""
    body = b'{"model":"embed","input":"hello","encoding_format":"base64"}'
    data = request(er.address, "/v1/embeddings", body, er.key)
    for one in sockets:
        one.sendall(data)
    for one in sockets:
        with one.makefile("rb") as answer:
            status = answer.readline()
            if b" 200 " not in status:
                raise BenchError(f"an idle connection's first answer: {status!r}")
            length = 0
            while (line := answer.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            answer.read(length)


def warmed(er: Er) -> None:
    """As many requests at once as the idle ones send, so that what those reach stays allocated."""

    def make() -> tuple[bytes, None]:
        body = b'{"model":"embed","input":"hello","encoding_format":"base64"}'
        return request(er.address, "/v1/embeddings", body, er.key), None

    drive(er.address, Stream(AT_ONCE, make), seconds=2)


def idle(options: Options) -> Report:
    """A fresh ER for each run: memory once taken is not given back to the system."""
    report, port = Report(), free_port()
    allow(CONNECTIONS + SPARE)
    for number in range(options.runs):
        folder = options.folder / str(number)
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            stack.enter_context(instant(folder, port))
            er = stack.enter_context(served(folder / "er", [port]))
            (worker,) = er.children("er.worker")
            common = {"key": er.key, "clients": BUSY, "folder": folder}
            wrk(er.port, er.pid, seconds=2, **common)  # type: ignore[arg-type]
            warmed(er)
            alone = wrk(er.port, er.pid, seconds=options.seconds, **common)  # type: ignore[arg-type]
            before = memory(worker, "Pss_Anon")
            for _ in range(CONNECTIONS // AT_ONCE):
                some = []
                for _ in range(AT_ONCE):
                    some.append(socket.create_connection(er.address, 30))
                    stack.callback(some[-1].close)
                ask_once(er, some)
            after = memory(worker, "Pss_Anon")
            beside = wrk(er.port, er.pid, seconds=options.seconds, **common)  # type: ignore[arg-type]
            report.raw.append(
                {
                    "KB_each": (after - before) / 1000 / CONNECTIONS,
                    "ratio": beside.core_rate / alone.core_rate,
                    "alone": alone.raw(),
                    "beside": beside.raw(),
                }
            )
    each = [float(r["KB_each"]) for r in report.raw]
    ratios = [float(r["ratio"]) for r in report.raw]
    report.line(f"KB for each of {CONNECTIONS} idle connections", each, at_most(10))
    report.line(f"rate of {BUSY} busy ones beside them, of that alone", ratios, at_least(0.9))
    return report
