"""`er quality`: its command line, and which file does the work."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

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


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    action: str | None
    as_json: bool
    replica: str | None = None
    a: str = ""
    b: str = ""
    sets: list[Path] | None = None
    model: str = ""


def run(wish: Wish) -> int:
    """Do it. Returns the exit status: 0 good, 1 something drifted or could not be done."""
    if wish.action == "compare":
        from er.cli import quality_compare

        given = quality_compare.Wish(a=wish.a, b=wish.b, sets=tuple(wish.sets or ()))
        given.as_json = wish.as_json
        return quality_compare.run(given)
    if wish.action == "reference":
        from er.cli import quality_reference

        return quality_reference.run(quality_reference.Wish(wish.model, as_json=wish.as_json))
    from er.cli import quality_show

    if wish.action is None:
        return quality_show.show(as_json=wish.as_json)
    return quality_show.ask(wish.action, wish.replica, as_json=wish.as_json)
