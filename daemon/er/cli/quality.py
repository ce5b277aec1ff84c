"""`er quality`: its command line, and which file does the work."""

from __future__ import annotations

import argparse
from pathlib import Path

from er import __version__


def options(quality: argparse.ArgumentParser) -> None:
    """What may stand behind `er quality`; nothing shows how it is."""
    quality.add_argument("--json", action="store_true", help="for programs")
    actions = quality.add_subparsers(dest="action", metavar="ACTION")
    run_now = actions.add_parser("run", help="put the canary's questions now, and wait")
    run_now.add_argument("replica", metavar="REPLICA", nargs="?", help="default: all that answer")
    accept = actions.add_parser("accept", help="what a replica answers now is the reference")
    accept.add_argument("replica", metavar="REPLICA", help="one of those to be as it")
    compare = actions.add_parser("compare", help="which of two ranks better, and how sure it is")
    what = "MODEL, replica=NAME, or either with :dimensions=N"
    compare.add_argument("a", metavar="A", help=what)
    compare.add_argument("b", metavar="B", help="the same")
    sets = "over this set alone; may be said again (default: the shipped one and all own ones)"
    compare.add_argument(
        "--set", dest="sets", metavar="FILE", type=Path, action="append", help=sets
    )
    computed = actions.add_parser("reference", help="what a model should answer, by transformers")
    computed.add_argument("model", metavar="MODEL", help="of er.toml, with its weights here")
    for found in (run_now, accept, compare, computed):
        found.add_argument("--version", action="version", version=f"er {__version__}")
        found.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="for programs"
        )


def run(args: argparse.Namespace) -> int:
    """Do it. Returns the exit status: 0 good, 1 something drifted or could not be done."""
    if args.action == "compare":
        from er.cli import quality_compare

        given = quality_compare.Wish(a=args.a, b=args.b, sets=tuple(args.sets or ()))
        given.as_json = args.json
        return quality_compare.run(given)
    if args.action == "reference":
        from er.cli import quality_reference

        return quality_reference.run(quality_reference.Wish(args.model, as_json=args.json))
    from er.cli import quality_show

    if args.action is None:
        return quality_show.show(as_json=args.json)
    return quality_show.ask(args.action, args.replica, as_json=args.json)
