"""A systemctl for tests: its units are real launchers, begun and ended as systemd would do it.

`install` lays it out as a program; FAKE_SYSTEMD names the folder with its state: a pid file and a
log for each unit, and `environment.json`, which launchers are started with.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from launched import alive

GATEWAY = "er-gateway.service"


def install(folder: Path) -> dict[str, str]:
    """A program `systemctl` in `folder`/bin; returns the variables that make it be found."""
    bin_ = folder / "bin"
    bin_.mkdir(parents=True)
    program = bin_ / "systemctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{bin_}:{os.environ['PATH']}", "FAKE_SYSTEMD": str(folder)}


class Units:
    """The units whose state lies in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pid(self, unit: str) -> int:
        """Of the unit's main process; 0 when none runs."""
        try:
            found = int((self.folder / unit).read_text() or 0)
        except (FileNotFoundError, ValueError):
            return 0
        return found if found and alive(found) else 0

    def start(self, unit: str) -> None:
        if self.pid(unit):
            return
        name = unit.removeprefix("er-vllm@").removesuffix(".service")
        environment = json.loads((self.folder / "environment.json").read_text())
        with (self.folder / f"{unit}.log").open("ab") as log:
            launcher = ["-m", "er.launcher"]
            if "LAUNCHER" in environment:  # a program of a test's own that ends in its main()
                launcher = ["-c", environment["LAUNCHER"]]
            started = subprocess.Popen(
                [sys.executable, *launcher, name, "--config", environment["ER_CONFIG"]],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        (self.folder / unit).write_text(str(started.pid))

    def stop(self, unit: str) -> None:
        pid = self.pid(unit)
        if pid:
            os.kill(pid, signal.SIGTERM)
        while pid and alive(pid):
            time.sleep(0.02)
        (self.folder / unit).unlink(missing_ok=True)

    def close(self) -> None:
        """End all launchers."""
        for unit in [f.name for f in self.folder.glob("er-vllm@*.service")]:
            self.stop(unit)

    def shown(self, unit: str) -> str:
        pid = self.pid(unit)
        state = "active" if pid else "inactive"
        return (
            f"Id={unit}\nLoadState=loaded\nActiveState={state}\nSubState=\nStatusText=\n"
            f"NRestarts=0\nMainPID={pid}\nResult=success\n"
            f"StateChangeTimestampMonotonic={int(time.monotonic() * 1e6)}\n"
        )


def main(argv: list[str]) -> None:
    units = Units(Path(os.environ["FAKE_SYSTEMD"]))
    with (units.folder / "asked").open("a") as asked:
        asked.write(" ".join(argv) + "\n")
    verb, named = argv[0], [word for word in argv if word.startswith("er-")]
    if verb == "show":
        print("\n".join(map(units.shown, named)))
    elif verb == "kill":
        os.kill(units.pid(GATEWAY), signal.SIGHUP)
    elif "--no-block" in argv:
        again = [sys.executable, __file__, verb, *named]
        subprocess.Popen(again, start_new_session=True, stdout=subprocess.DEVNULL)
    else:
        for unit in named:
            if verb in ("stop", "restart"):
                units.stop(unit)
            if verb in ("start", "restart"):
                units.start(unit)


if __name__ == "__main__":
    main(sys.argv[1:])
