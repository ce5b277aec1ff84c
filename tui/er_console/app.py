"""er-console: one frame, JSON or a watch without Textual, a browser's server, else the screens."""

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

from er_console.judgement import EXIT_CODES, verdict
from er_console.language import speak, wanted
from er_console.look import as_json, frame, snapshot
from er_console.looks import Looks, wants_ansi, wants_ascii
from er_console.options import asked_language, read
from er_console.sources import Sources
from er_console.watch import MAX_WIDTH, MIN_WIDTH, Watch, keep_watching


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = sys.argv[1:] if argv is None else argv
    looks = Looks(ascii_only=wants_ascii(os.environ, sys.stdout.encoding))
    speak(wanted(os.environ, asked_language(given), ascii_only=looks.ascii_only))
    options = read(given)
    if options.json:
        speak("en")  # scripts read the same words everywhere
    if options.serve:
        from er_console.serve import serve

        return serve(options.port, demo=options.demo, lang=options.lang)
    sources = _sources(demo=options.demo)
    try:
        return _shown(sources, looks, options)
    except KeyboardInterrupt:
        return 130
    except Exception:
        # Python's own exit code for this, 1, would read as "degraded".
        traceback.print_exc()
        return EXIT_CODES["unknown"]
    finally:
        sources.close()


def _shown(sources: Sources, looks: Looks, options: argparse.Namespace) -> int:
    # Textual draws on stderr and reads stdin: without both there is no one to show screens to.
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
    interval_s = options.interval or (2.0 if os.environ.get("SSH_CONNECTION") else 1.0)
    if options.watch:
        _writes_anything(as_text=not options.json)
        style = "json" if options.json else "frame" if sys.stdout.isatty() else "line"
        watch = Watch(sources, looks, interval_s, style)
        return asyncio.run(keep_watching(watch, asyncio.sleep))
    if options.json or options.once or not on_terminal:
        return once(sources, looks, as_text=not options.json)
    # Read by Textual when it is imported. Animation costs bytes, and means nothing here.
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")
    ansi = wants_ansi(os.environ)
    if ansi:
        # NO_COLOR's filter is chosen when the app object is made, by the theme it has then.
        os.environ["TEXTUAL_THEME"] = "ansi-dark"
    from er_console.console import Console
    from er_console.ending import Ending

    app = Console(sources, looks, readonly=options.readonly, ansi=ansi, interval_s=interval_s)
    with Ending(app.end_by, sys.stdin.fileno()):
        app.run(mouse=not options.no_mouse)
    return app.return_code or 0


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
        columns = shutil.get_terminal_size((100, 24)).columns
        width = max(MIN_WIDTH, min(MAX_WIDTH, columns))
        said = "\n".join(frame(found, now, looks, width, sources.tag))
    else:
        said = as_json(found, judged, now, ascii_only=looks.ascii_only)
    _writes_anything(as_text=as_text)
    try:
        sys.stdout.write(said + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, grep -q) has seen enough; Python must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return judged.exit_code


def _writes_anything(*, as_text: bool) -> None:
    """A name that the terminal can't write must not cost the answer; in JSON \\ud800 stays JSON."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace" if as_text else "backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
