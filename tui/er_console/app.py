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
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from er_console.judgement import EXIT_CODES, verdict
from er_console.look import as_json, frame, snapshot
from er_console.looks import Looks, wants_ansi, wants_ascii
from er_console.sources import Sources

WRONG_USE = 64
ABOUT = """Watch and steer ER: health, GPUs, traffic, keys, logs, start and stop.

Reads the admin API (RUNTIME_DIRECTORY/admin.sock, default /run/er), systemd, the journal and the
GPU driver; each may be missing. To act it needs root or group er. ? in the console lists its keys.
"""
AFTER = """Exit codes of --once and --json: 0 ok, 1 degraded, 2 down, 3 unknown; wrong use 64.
Without a terminal it acts as --once. NO_COLOR and TERM are obeyed; without UTF-8 it draws in ASCII.
"""


class Parser(argparse.ArgumentParser):
    """argparse with the contract's exit code for wrong use."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and where help is, and ends with 64."""
        self.exit(WRONG_USE, f"er-console: {message}\nTry: er-console --help\n")


def parser() -> Parser:
    """The options."""
    plain = argparse.RawDescriptionHelpFormatter
    found = Parser("er-console", description=ABOUT, epilog=AFTER, formatter_class=plain)
    found.add_argument("--once", action="store_true", help="print one frame and end")
    found.add_argument("--json", action="store_true", help="print the status as JSON and end")
    found.add_argument("--demo", action="store_true", help="show a play instead of this machine")
    found.add_argument("--readonly", action="store_true", help="watch only, offer no action")
    found.add_argument("--version", action="version", version=f"er-console {_version()}")
    return found


def _version() -> str:
    try:
        return metadata.version("er")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parser().parse_args(argv)
    sources = _sources(demo=options.demo)
    looks = Looks(ascii_only=wants_ascii(os.environ, sys.stdout.encoding))
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

    app = Console(sources, looks, readonly=readonly, ansi=ansi)
    app.run()
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
