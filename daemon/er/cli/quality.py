"""`er quality`: its command line, and which file does the work."""

from __future__ import annotations

import argparse

from er import __version__


def options(quality: argparse.ArgumentParser) -> None:
    """What may stand behind `er quality`; nothing shows how it is."""
    quality.add_argument("--json", action="store_true", help="for programs")
    actions = quality.add_subparsers(dest="action", metavar="ACTION")
    run_now = actions.add_parser("run", help="put the canary's questions now, and wait")
    run_now.add_argument("replica", metavar="REPLICA", nargs="?", help="default: all that answer")
    accept = actions.add_parser("accept", help="what a replica answers now is the reference")
    accept.add_argument("replica", metavar="REPLICA", help="one of those to be as it")
    for found in (run_now, accept):
        found.add_argument("--version", action="version", version=f"er {__version__}")
        found.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="for programs"
        )


def run(args: argparse.Namespace) -> int:
    """Do it. Returns the exit status: 0 good, 1 something drifted or could not be done."""
    from er.cli import quality_show

    if args.action is None:
        return quality_show.show(as_json=args.json)
    return quality_show.ask(args.action, args.replica, as_json=args.json)
