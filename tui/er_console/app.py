"""er-console: options, one frame or JSON without Textual, else the screens."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import NoReturn

from er_console.judgement import EXIT_CODES, verdict
from er_console.language import LANGUAGES, heard, noted, say, speak, wanted
from er_console.look import as_json, frame, snapshot
from er_console.looks import Looks, wants_ansi, wants_ascii
from er_console.sources import Sources

WRONG_USE = 64
ABOUT = noted("""Watch and steer ER: health, GPUs, traffic, keys, logs, start and stop.

Reads the admin API (RUNTIME_DIRECTORY/admin.sock, default /run/er), systemd, the journal and the
GPU driver; each may be missing. To act it needs root or group er. ? in the console lists its keys.
""")
AFTER = noted("""Exit codes of --once and --json: 0 ok, 1 degraded, 2 down, 3 unknown; wrong use 64.
Without a terminal it acts as --once. NO_COLOR and TERM are obeyed; without UTF-8 it draws in ASCII.
--demo plays a recorded day: after 45 s a replica fails. Nothing real is read, changed or touched.
""")


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
    """The options, in the language spoken."""
    found = Parser(
        "er-console",
        description=say(ABOUT),
        epilog=say(AFTER),
        formatter_class=Help,
        add_help=False,
        allow_abbrev=False,
    )
    own = found.add_argument_group(say("options"))
    own.add_argument("-h", "--help", action="help", help=say("show this and end"))
    own.add_argument("--once", action="store_true", help=say("print one frame and end"))
    own.add_argument("--json", action="store_true", help=say("print the status as JSON and end"))
    own.add_argument(
        "--demo", action="store_true", help=say("play a recorded day with an outage; needs no GPU")
    )
    own.add_argument("--readonly", action="store_true", help=say("watch only, offer no action"))
    spoken = say("language of the screens; else LC_ALL, LC_MESSAGES, LANG say it")
    own.add_argument("--lang", choices=LANGUAGES, help=spoken)
    version = f"er-console {_version()}"
    own.add_argument("--version", action="version", version=version, help=say("show the version"))
    return found


def _version() -> str:
    try:
        return metadata.version("er")
    except metadata.PackageNotFoundError:
        return say("(not installed)")


def _asked_language(argv: Sequence[str]) -> str | None:
    """--lang, found before the options are read: their help and errors are in it too."""
    early = Parser(add_help=False, allow_abbrev=False)
    early.add_argument("--lang", nargs="?")
    found: str | None = early.parse_known_args(argv)[0].lang
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = sys.argv[1:] if argv is None else argv
    looks = Looks(ascii_only=wants_ascii(os.environ, sys.stdout.encoding))
    speak(wanted(os.environ, _asked_language(given), ascii_only=looks.ascii_only))
    options = parser().parse_args(given)
    if options.json:
        speak("en")  # scripts read the same words everywhere
    sources = _sources(demo=options.demo)
    # Textual draws on stderr and reads stdin: without both there is no one to show screens to.
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
    try:
        if options.json or options.once or not on_terminal:
            return once(sources, looks, as_text=not options.json)
        return _screens(sources, looks, readonly=options.readonly)
    except KeyboardInterrupt:
        return 130
    except Exception:
        # Python's own exit code for this, 1, would read as "degraded".
        traceback.print_exc()
        return EXIT_CODES["unknown"]
    finally:
        sources.close()


def _sources(*, demo: bool) -> Sources:
    if demo:
        from er_console.demo import Demo

        return Demo()
    from er_console.sources.machine import Machine

    return Machine()


def once(sources: Sources, looks: Looks, *, as_text: bool) -> int:
    """Print one look; returns the verdict's exit code."""
    now = time.time()
    found = asyncio.run(snapshot(sources, now))
    judged = verdict(found, now)
    if as_text:
        width = max(60, min(200, shutil.get_terminal_size((100, 24)).columns))
        said = "\n".join(frame(found, now, looks, width, sources.tag))
    else:
        said = as_json(found, judged, now, ascii_only=looks.ascii_only)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal can't write must not cost the answer; in JSON \ud800 stays JSON.
        sys.stdout.reconfigure(errors="replace" if as_text else "backslashreplace")
    try:
        sys.stdout.write(said + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, grep -q) has seen enough; Python must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return judged.exit_code


def _screens(sources: Sources, looks: Looks, *, readonly: bool) -> int:
    # Read by Textual when it is imported. Animation costs bytes, and means nothing here.
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")
    ansi = wants_ansi(os.environ)
    if ansi:
        # NO_COLOR's filter is chosen when the app object is made, by the theme it has then.
        os.environ["TEXTUAL_THEME"] = "ansi-dark"
    from er_console.console import Console
    from er_console.ending import Ending

    app = Console(sources, looks, readonly=readonly, ansi=ansi)
    with Ending(app.end_by, sys.stdin.fileno()):
        app.run()
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
