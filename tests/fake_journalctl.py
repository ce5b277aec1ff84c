"""A stand-in for journalctl: `-o json` over two files of records, with the options er-console uses.

`Journal` writes the files (main and the namespace er-audit) and the command. Options as the real
one has them (tried side by side with systemd 252): -u, -p, FIELD=VALUE (of one field: any of
them), -g, --cursor (that record is the first), -n (the last so many), --no-tail, -f. With -f it
goes on until a file `end` is there, which it takes away. Each start is noted in `asked`.
"""

from __future__ import annotations

import fnmatch
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

BEGAN = 1795449000.0
POLL_S = 0.02
MAIN, AUDIT = "main.jsonl", "audit.jsonl"


class Journal:
    """A folder with records and a `journalctl` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command = str(folder / "journalctl")
        Path(self.command).write_text(
            f"#!/bin/sh\nexec {sys.executable} -SE {__file__} {folder} $@\n"
        )
        Path(self.command).chmod(0o755)
        self._written = 0
        for name in (MAIN, AUDIT):
            (folder / name).touch()
        self.roots = [folder / "log"]
        for name in ("0a1b", "0a1b.er-audit"):
            (folder / "log" / name).mkdir(parents=True)
            (folder / "log" / name / "system.journal").touch()

    def write(self, name: str = MAIN, at: float | None = None, **fields: Any) -> str:
        """One record at a time (one second after another, unless said); its cursor."""
        self._written += 1
        when = BEGAN + self._written if at is None else at
        cursor = f"s=1;i={self._written};x={name}"
        record = {"__CURSOR": cursor, "__REALTIME_TIMESTAMP": str(int(when * 1e6)), **fields}
        said = {k: v if isinstance(v, list) else str(v) for k, v in record.items()}
        with (self.folder / name).open("a") as out:
            out.write(json.dumps(said) + "\n")
        return cursor

    def line(self, text: str, unit: str = "er-gateway.service", priority: int = 6) -> str:
        """A line of a unit."""
        return self.write(MESSAGE=text, PRIORITY=priority, _SYSTEMD_UNIT=unit)

    def audited(self, at: float | None = None, **fields: Any) -> str:
        """A record of the audit, as the gateway makes it."""
        said = " ".join(str(value) for value in fields.values() if value)
        base = {"MESSAGE": said, "PRIORITY": 6, "SYSLOG_IDENTIFIER": "er"}
        return self.write(AUDIT, at, **base, _SYSTEMD_UNIT="er-gateway.service", **fields)

    def asked(self) -> list[str]:
        """How it was called, call by call."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def end(self) -> None:
        """The journalctl that follows ends by itself, as when journald is restarted."""
        (self.folder / "end").touch()
        limit = time.monotonic() + 20
        while (self.folder / "end").exists():
            assert time.monotonic() < limit, "no journalctl runs"
            time.sleep(POLL_S)


def moment(said: str) -> float:
    """--since and --until as er-console writes them."""
    return float(said[1:]) if said.startswith("@") else time.time() - 3600


class Wish:
    """What one call asks for."""

    def __init__(self, words: list[str]) -> None:
        self.names = [MAIN]
        self.units: list[str] = []
        self.fields: dict[str, set[str]] = {}
        self.level, self.last = 7, 10**9
        self.cursor = self.pattern = ""
        self.since, self.until = 0.0, 1e18
        self.spans = False
        self.follows = "-f" in words
        rest = iter(words)
        for word in rest:
            name, _, value = word.partition("=")
            if word in ("-u", "-p", "-n", "-g", "-o"):
                value = next(rest)
            if name == "-u":
                self.units.append(value)
            elif name == "-p":
                self.level = int(value)
            elif name == "-n":
                self.last = int(value)
            elif name == "-g":
                self.pattern = value
            elif name == "--cursor":
                self.cursor = value
            elif name == "--since":
                self.since, self.spans = moment(value), True
            elif name == "--until":
                self.until = moment(value)
            elif name == "--namespace":
                self.names = [MAIN, AUDIT] if value.startswith("+") else [AUDIT]
            elif name.isupper():
                self.fields.setdefault(name, set()).add(value)

    def takes(self, record: dict[str, Any]) -> bool:
        """Whether a record is asked for."""
        at = int(record["__REALTIME_TIMESTAMP"]) / 1e6
        units = [str(record.get(f, "")) for f in ("_SYSTEMD_UNIT", "UNIT")]
        return (
            self.since <= at <= self.until
            and int(record.get("PRIORITY", 6)) <= self.level
            and all(record.get(name) in values for name, values in self.fields.items())
            and (not self.units or any(fnmatch.filter(units, u) for u in self.units))
            and (not self.pattern or re.search(self.pattern, str(record["MESSAGE"])) is not None)
        )


def main(folder: Path, words: list[str]) -> None:
    """Print what is there, then what comes."""
    with (folder / "asked").open("a") as out:
        out.write(" ".join(words) + "\n")
    wish = Wish(words)
    files = [(folder / name).open() for name in wish.names]
    found = [json.loads(row) for file in files for row in file]
    found = [r for r in found if wish.takes(r)]
    found.sort(key=lambda r: int(r["__REALTIME_TIMESTAMP"]))
    if wish.cursor:
        places = [n for n, r in enumerate(found) if r["__CURSOR"] == wish.cursor]
        found = found[places[0] :] if places else found
        found = found[: wish.last] if not wish.follows else found
    else:  # as systemd 252 does: the first of a span's
        found = found[: wish.last] if wish.spans else found[-wish.last :]
    for record in found:
        print(json.dumps(record))
    sys.stdout.flush()
    while wish.follows:
        if (folder / "end").exists():
            (folder / "end").unlink()
            return
        for file in files:
            for row in file:
                if wish.takes(json.loads(row)):
                    print(row, end="", flush=True)
        time.sleep(POLL_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
