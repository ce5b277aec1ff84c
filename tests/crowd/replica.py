"""A stand-in engine as a process: started, killed, told to fail."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from fakes import free_port

TOP = Path(__file__).parent.parent.parent
SEEN = os.pathsep.join([str(TOP / "tests"), str(TOP / "daemon"), os.environ.get("PYTHONPATH", "")])
ENVIRONMENT = {**os.environ, "PYTHONPATH": SEEN}


class Replica:
    """One stand-in process, which is two replicas: `e` and `s` and its number."""

    def __init__(
        self, number: int, folder: Path, chance: float, *, pooling_only: bool, swaps: bool
    ) -> None:
        self.number, self.names = number, (f"e{number}", f"s{number}")
        self.ports = free_port(), free_port()
        self.path = folder / f"engine{number}"
        self._argv = [sys.executable, "-m", "crowd.standin", "--tally", str(self.path)]
        self._argv += ["--embed", str(self.ports[0]), "--score", str(self.ports[1])]
        self._argv += ["--chance", str(chance), "--seed", str(number)]
        self._argv += ["--pooling-only"] if pooling_only else []
        self._argv += ["--swaps"] if swaps else []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self._argv, env=ENVIRONMENT)

    def listens(self) -> bool:
        for port in self.ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return False
        return True

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def order(self, kind: str, count: int) -> None:
        """Have its next calls fail."""
        link = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            link.request("POST", "/_fault", json.dumps({"kind": kind, "count": count}))
            link.getresponse().read()
        link.close()
