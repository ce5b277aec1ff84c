"""`er alert test`: sends a test message through what er.toml says, and tells what came of it."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from pathlib import Path

import msgspec

from er import __version__
from er.alert import Message
from er.alert.send import SendError, once, receiver
from er.alert.words import plain
from er.cli import as_user
from er.config import Alert, ConfigError, active_path, edited_path, load

FEW = 'name one with an [[alert]] in er.toml, as in kind = "feishu"; er help alerts'


def options(alert: argparse.ArgumentParser) -> None:
    """What may stand behind `er alert`."""
    alert.epilog = "example: sudo er alert test --name page. Who is told, and when: er help alerts"
    actions = alert.add_subparsers(dest="action", metavar="ACTION", required=True)
    test = actions.add_parser("test", help="send a test message to each, and say what came of it")
    test.add_argument("--name", metavar="N", help="to this alert alone")
    which = test.add_mutually_exclusive_group()
    which.add_argument("--applied", action="store_true", help="as units run, not as er.toml is now")
    which.add_argument("--config", metavar="F", type=Path, help="another file than er.toml")
    test.add_argument("--version", action="version", version=f"er {__version__}")


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    action: str
    name: str | None = None
    applied: bool = False
    config: Path | None = None


def run(wish: Wish) -> int:
    """Send it. Returns the exit status: 0 each took it, 1 not, or there is none."""
    path = wish.config or (active_path() if wish.applied else edited_path())
    try:
        alerts = load(path).alerts
    except ConfigError as error:
        print("\n".join(map(str, error.findings)), file=sys.stderr)
        return 1
    chosen = [a for a in alerts if wish.name in (None, a.name)]
    if not chosen:
        known = ", ".join(a.name for a in alerts)
        told = f"no alert {wish.name!r}; there are: {known}" if known else f"none there; {FEW}"
        print(f"er alert: {path}: {told}", file=sys.stderr)
        return 1
    return max(map(_test, chosen))


def _test(alert: Alert) -> int:
    """One message, one try: who waits sees at once what is wrong."""
    try:
        # As user er, like the gateway: what only root may read or run would fail at night.
        good, said = as_user.ask(lambda: _sent(alert))
    except RuntimeError as error:
        good, said = False, str(error)
    if good:
        print(f"{alert.name}: sent to {receiver(alert)}: {said}")
    else:
        print(f"{alert.name}: not sent to {receiver(alert)}: {said}", file=sys.stderr)
    return 0 if good else 1


def _sent(alert: Alert) -> tuple[bool, str]:
    now = time.time()
    message = plain(
        Message(event="test"),
        alert.language,
        host=socket.gethostname(),
        name=alert.name,
        version=__version__,
        now=now,
    )
    try:
        return True, once(alert, message, now)
    except SendError as error:
        return False, str(error)
