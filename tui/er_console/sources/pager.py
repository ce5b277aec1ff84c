"""Show a text in the operator's own pager; the terminal must be its own while it runs."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping

from er_console.language import say
from er_console.state import Missing

USUAL = ("less", "more")


def pager(environment: Mapping[str, str]) -> list[str]:
    """The command of $PAGER, else less, else more. Raises Missing where there is none."""
    try:
        wanted = shlex.split(environment.get("PAGER", ""))
    except ValueError:
        wanted = []
    for command in ([*wanted], *([name] for name in USUAL)):
        if command and shutil.which(command[0], path=environment.get("PATH")):
            return command
    raise Missing("off", say("there is no pager here"), say("install less, or set PAGER"))


def show(text: str) -> None:
    """Run the pager on the text until it is left. Raises Missing when it can't be started."""
    command = pager(os.environ)
    # ctrl-c in the pager is the pager's: it must not end the console behind it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        subprocess.run(command, input=text.encode(errors="replace"), check=False)
    except OSError as error:
        said = say(
            "{command} can't be started: {reason}", command=command[0], reason=error.strerror
        )
        raise Missing("wrong", said, say("install less, or set PAGER")) from None
    finally:
        signal.signal(signal.SIGINT, before)
