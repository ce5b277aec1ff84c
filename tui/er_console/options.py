"""er-console's command line, in the language spoken."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import NoReturn

from er_console.language import LANGUAGES, heard, noted, say

WRONG_USE = 64
INTERVAL_S = (0.2, 3600.0)
PORT = 2050
ABOUT = noted("""Watch and steer ER: health, GPUs, traffic, keys, logs, start and stop.

Reads the admin API (RUNTIME_DIRECTORY/admin.sock, default /run/er), systemd, the journal and the
GPU driver; each may be missing. To act it needs root or group er. ? in the console lists its keys.
""")
AFTER = noted("""Exit codes of --once, --json, --watch: 0 ok, 1 degraded, 2 down, 3 unknown.
Without a terminal it acts as --once. NO_COLOR and TERM are obeyed; without UTF-8 it draws in ASCII.
--demo plays a recorded day: after 45 s a replica fails. Nothing real is read, changed or touched.
More: er help console
""")
READS_NO_FURTHER = noted("--once, --watch and --serve exclude each other; --json goes with --watch")


class Help(argparse.RawDescriptionHelpFormatter):
    """argparse's help, with its own words in the language spoken."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        """The first line."""
        super().add_usage(usage, actions, groups, say("usage: ") if prefix is None else prefix)


class Parser(argparse.ArgumentParser):
    """argparse with the contract's exit code for wrong use."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and where help is, and ends with 64."""
        known = say("Try: er-console --help")
        self.exit(WRONG_USE, f"er-console: {heard(message)}\n{known}\n")


def parser() -> Parser:
    """The options."""
    found = Parser(
        "er-console",
        usage=say("er-console [options]"),
        description=say(ABOUT),
        epilog=say(AFTER),
        formatter_class=Help,
        add_help=False,
        allow_abbrev=False,
    )
    own = found.add_argument_group(say("options"))
    own.add_argument("-h", "--help", action="help", help=say("show this and end"))
    own.add_argument("--once", action="store_true", help=say("print one frame and end"))
    said = say("print the status as JSON and end (with --watch: a line at each change)")
    own.add_argument("--json", action="store_true", help=said)
    said = say("one frame again and again; without a terminal a line at each change")
    own.add_argument("--watch", action="store_true", help=said)
    said = say("seconds between two looks (default 1; 2 over ssh)")
    own.add_argument("--interval", type=float, metavar="S", help=said)
    said = say("show it in a browser on this machine, read-only")
    own.add_argument("--serve", action="store_true", help=said)
    said = say("port on 127.0.0.1 for --serve (default {port})", port=PORT)
    own.add_argument("--port", type=int, metavar="PORT", help=said)
    said = say("play a recorded day with an outage; needs no GPU")
    own.add_argument("--demo", action="store_true", help=said)
    own.add_argument("--readonly", action="store_true", help=say("watch only, offer no action"))
    said = say("leave the mouse to the terminal, for marking and copying")
    own.add_argument("--no-mouse", action="store_true", help=said)
    said = say("language of the screens; else LC_ALL, LC_MESSAGES, LANG say it")
    own.add_argument("--lang", choices=LANGUAGES, help=said)
    version = f"er-console {_version()}"
    own.add_argument("--version", action="version", version=version, help=say("show the version"))
    return found


def read(argv: Sequence[str]) -> argparse.Namespace:
    """The options given, checked; ends the process with 64 and a sentence when they are wrong."""
    reader = parser()
    given = reader.parse_args(argv)
    if given.once + given.watch + given.serve > 1 or (given.serve and given.json):
        reader.error(say(READS_NO_FURTHER))
    if given.port is not None and not given.serve:
        reader.error(say("--port goes with --serve"))
    given.port = PORT if given.port is None else given.port
    if not 1 <= given.port <= 65535:
        reader.error(say("--port is a number from 1 to 65535"))
    low, high = INTERVAL_S
    if given.interval is not None and not low <= given.interval <= high:
        reader.error(say("--interval is {low} to {high} seconds", low=low, high=f"{high:.0f}"))
    return given


def asked_language(argv: Sequence[str]) -> str | None:
    """--lang, found before the options are read: their help and errors are in it too."""
    early = Parser(add_help=False, allow_abbrev=False)
    early.add_argument("--lang", nargs="?")
    found: str | None = early.parse_known_args(argv)[0].lang
    return found


def _version() -> str:
    try:
        return metadata.version("er")
    except metadata.PackageNotFoundError:
        return say("(not installed)")
