"""The console process of one browser window: the screens, read-only whatever it is told."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from er_console import console
from er_console.console import Console
from er_console.demo import Demo
from er_console.language import LANGUAGES, say, speak, wanted
from er_console.looks import Looks
from er_console.sources import Sources
from er_console.sources.machine import Machine
from er_console.state import Missing

INTERVAL_S = 1.0
LOOKS_FOR_SERVER_S = 5.0


class Looker(Console):
    """It ends when its server is gone, even killed."""

    CSS_PATH = str(Path(console.__file__).with_name("console.tcss"))

    def on_mount(self) -> None:
        """A look at the server now and then; Textual calls the console's own beside it."""
        self._server = os.getppid()
        self.set_interval(LOOKS_FOR_SERVER_S, self._look_for_server)

    def _look_for_server(self) -> None:
        if os.getppid() != self._server:
            self.exit()


def main() -> int:
    """Run by serve, with textual's web driver in the environment."""
    reader = argparse.ArgumentParser()
    reader.add_argument("--demo", action="store_true")
    reader.add_argument("--lang", choices=LANGUAGES)
    options = reader.parse_args()
    speak(wanted(os.environ, options.lang, ascii_only=False))
    sources: Sources = Demo() if options.demo else Machine()
    try:
        app = Looker(sources, Looks(), readonly=True, interval_s=INTERVAL_S)
        app.desk.closed = Missing(
            "rights", say("a browser only looks"), say("to act, run er-console in a terminal")
        )
        app.run()
    finally:
        sources.close()
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
