"""The command `er`: reads the command line and calls what does the work."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from er import __version__, chinese
from er.chinese.wording import worded
from er.cli import embed_options, registered
from er.cli.manual import LANGUAGES, WRONG_USE, pages, show_help

__all__ = ["main", "pages", "parser", "show_help"]

AS_IT_IS = ("audit", "help", "report", "sbom")  # records, and what has its own --lang
WISHED = ("audit", "bench", "embed", "restart", "tls", "usage")
OVERVIEW = """\
er {version}: embedding and reranking on your own GPUs

  er status            what runs, what does not, and why
  er wait              waits until every replica answers
  er doctor            looks for the cause of trouble
  er keys list         who may ask; create, rotate, revoke, set
  er tls               the certificate of HTTPS: make one, show it, renew it
  er audit             who asked what, and what became of it
  er usage             requests, texts and tokens by key, team, model, month
  er bench             how fast it is, measured on the running service
{registered}
  er embed             a file of texts into a file of vectors
  er check             what is wrong with er.toml on this machine
  sudo er apply        makes systemd match er.toml
  er restart NAME      restarts a replica so that nobody is refused
  er help              the manual

Start and stop: sudo systemctl start er.target, sudo systemctl stop er.target
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong, then how it is used; ends with 64 as the contract has it."""

    def error(self, message: str) -> NoReturn:
        first, *more = self.format_usage().rstrip().split("\n")
        usage = "\n".join((first, *map(chinese.settled, more)))  # NAME alone in a line is no word
        print(f"{self.prog}: {message}\n{usage}", file=sys.stderr)
        print(f"More: {self.prog} --help", file=sys.stderr)
        sys.exit(WRONG_USE)


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="er", description="Embedding and reranking on your own GPUs.")
    top.add_argument("--version", action="version", version=f"er {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        found.add_argument("--version", action="version", version=f"er {__version__}")
        return found

    check = command("check", "say what is wrong with er.toml, in itself and on this machine")
    check.add_argument("--config", metavar="F", type=Path, help="another file than er.toml")
    check.add_argument("--json", action="store_true", help="for programs")
    apply = command("apply", "make systemd match er.toml, restarting only what changed")
    apply.add_argument("--dry-run", action="store_true", help="show what would be done")
    which = apply.add_mutually_exclusive_group()
    which.add_argument("--previous", action="store_true", help="go back to the one before")
    which.add_argument("--again", action="store_true", help="what is applied, er.toml aside")
    new = "names may give other vectors than before: what is stored is to be built again"
    apply.add_argument("--new-vectors", action="store_true", help=new)
    apply.add_argument("--json", action="store_true", help="for programs; only with --dry-run")
    command("reload", "take up what needs no restart; returns when it is in force")
    _restart(command("restart", "restart replicas one after the other; nobody is refused"))
    status = command("status", "show what runs; exit 0 ok, 1 degraded, 2 down, 3 unknown")
    status.add_argument("--json", action="store_true", help="for programs")
    wait = command("wait", "wait until every replica answers, showing phases")
    wait.add_argument("--timeout", metavar="T", default="30m", help='as "10m" (default: 30m)')
    _drain(command("drain", "give a replica, or a whole host, nothing new"))
    resume = command("resume", "give a drained replica work again")
    resume.add_argument("name", metavar="NAME", help="the replica's name")
    _keys(command("keys", "the clients' keys"))
    _tls(command("tls", "the certificate of HTTPS"))
    _bench(command("bench", "measure the running service: rate and percentiles"))
    _embed(command("embed", "embed the texts of a file; goes on where it was interrupted"))
    command("doctor", "look for the cause of trouble, with cures")
    _usage(command("usage", "requests, texts and tokens, for bills; also with the gateway down"))
    _audit(command("audit", "the records of requests and changes; --follow: as they come"))
    registered.add(command)
    sbom = command("sbom", "what is installed, with licences and hashes, as CycloneDX JSON")
    environments = "with vLLM's environment (default: where there is one)"
    sbom.add_argument("--vllm", action=argparse.BooleanOptionalAction, help=environments)
    topic = command("help", "the manual's pages")
    topic.add_argument("topic", nargs="?", metavar="TOPIC")
    language = "en or zh (default: by LC_ALL, LC_MESSAGES, LANG)"
    topic.add_argument("--lang", choices=LANGUAGES, help=language)
    return top


def _drain(drain: argparse.ArgumentParser) -> None:
    drain.add_argument("name", metavar="NAME", help="a replica's name, or a host's")
    drain.add_argument("--host", action="store_true", help="NAME is a host's, whatever else is")
    drain.add_argument(
        "--wait", action="store_true", help="return when it has finished what it had"
    )


def _restart(restart: argparse.ArgumentParser) -> None:
    names = "replicas, in the order of er.toml; all: every one"
    restart.add_argument("names", metavar="NAME", nargs="*", help=names)
    restart.add_argument("--model", metavar="M", help="in place of names: its replicas")
    rolling = "each while another of its model serves"
    restart.add_argument("--rolling", action="store_true", help=rolling)
    surge = "each while a successor serves that is started beside it, where memory allows"
    restart.add_argument("--surge", action="store_true", help=surge)
    yes = "where neither is possible: accept 503 for as long as it takes"
    restart.add_argument("--yes", action="store_true", help=yes)


def _keys(keys: argparse.ArgumentParser) -> None:
    actions = keys.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = {
        "list": actions.add_parser("list", help="all keys, without secrets"),
        "show": actions.add_parser("show", help="all that is said of one key"),
        "create": actions.add_parser("create", help="make a key; its secret is shown once"),
        "rotate": actions.add_parser("rotate", help="a new secret; the old stays good for a while"),
        "revoke": actions.add_parser("revoke", help="end a key at once"),
        "set": actions.add_parser("set", help="change a key"),
        "import": actions.add_parser("import", help="another server's keys; clients keep theirs"),
    }
    for name, found in made.items():
        found.add_argument("--version", action="version", version=f"er {__version__}")
        found.add_argument("--json", action="store_true", help="for programs")
        if name in ("show", "rotate", "revoke", "set"):
            found.add_argument("ref", metavar="KEY", help="its id, or a name that only it has")
        if name in ("create", "set"):
            found.add_argument("--name", required=name == "create")
        if name in ("create", "set", "import"):
            found.add_argument("--expires", metavar="T", help='"30d", "2027-01-31" or "never"')
            _bounds(found)
    plain = 'plain text or JSON, in any usual form; "-": standard input'
    made["import"].add_argument("files", metavar="FILE", nargs="+", help=plain)
    made["import"].add_argument("--dry-run", action="store_true", help="show what would come in")
    weak = "also keys of under 16 characters"
    made["import"].add_argument("--allow-weak", action="store_true", help=weak)
    made["rotate"].add_argument("--grace", default="24h", metavar="T", help="default: 24h")


def _tls(tls: argparse.ArgumentParser) -> None:
    actions = tls.add_subparsers(dest="action", metavar="ACTION", required=True)
    made = actions.add_parser("self-signed", help="make a certificate and its key")
    what = "a host or an address; may be said again (default: what this machine is called)"
    made.add_argument("--name", action="append", metavar="HOST", help=what)
    made.add_argument("--days", type=int, default=365, metavar="N", help="default: 365")
    made.add_argument("--force", action="store_true", help="write over what is there")
    shown = actions.add_parser("show", help="what is configured, and what is served")
    renewed = actions.add_parser("renew", help="hand the files to the running gateway, as root")
    for found in (made, shown, renewed):
        found.add_argument("--version", action="version", version=f"er {__version__}")


def _usage(usage: argparse.ArgumentParser) -> None:
    by = "sums by key, team, model, hour, day, month, with commas (default: key)"
    usage.add_argument("--by", metavar="B,C", default="key", help=by)
    since = '"7d", "2026-11-01" or a moment (default: the first of this month, UTC)'
    usage.add_argument("--since", metavar="T", help=since)
    usage.add_argument("--until", metavar="T", help="up to there (default: now)")
    usage.add_argument("--key", metavar="K", action="append", help="of this id or name alone")
    usage.add_argument("--model", metavar="M", action="append", help="of this model alone")
    form = usage.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="for spreadsheets and bills")
    form.add_argument("--json", action="store_true", help="for programs")


def _bounds(found: argparse.ArgumentParser) -> None:
    for option, metavar, text in (
        ("--rate-limit", "R", '"1000/minute", "off" or "default"'),
        ("--models", "M,N", 'names, or "all"'),
        ("--scopes", "S,T", 'of inference, metrics, admin-read; or "default"'),
        ("--team", "T", 'whose it is, for lists and usage; or "none"'),
        ("--concurrency", "N", 'requests at once, or "off"'),
        ("--token-limit", "R", '"1000000/minute" or "off"'),
        ("--quota", "Q", '"50M tokens/month", "100000 requests/month" or "off"'),
        ("--networks", "N,M", '"10.0.0.0/8,192.0.2.7", where it may ask from; or "all"'),
        ("--weight", "N", "its share beside other keys when it is busy (default: 1)"),
    ):
        found.add_argument(option, metavar=metavar, help=text)


def _audit(audit: argparse.ArgumentParser) -> None:
    for option, metavar, text in (
        ("--key", "K", "of this id or name alone"),
        ("--model", "M", "of this model alone"),
        ("--path", "P", 'of this address alone, as "/v1/embeddings"'),
        ("--request-id", "R", "of this request alone"),
    ):
        audit.add_argument(option, metavar=metavar, action="append", help=text)
    audit.add_argument("--status", metavar="S,T", help='as "4xx,503"')
    audit.add_argument("--since", metavar="T", help='"2h", "2026-11-01" or a moment')
    audit.add_argument("--until", metavar="T", help="up to there")
    audit.add_argument("--follow", "-f", action="store_true", help="go on with what comes")
    last = "the last N (default: 50; all with --since, --until or --request-id)"
    audit.add_argument("-n", metavar="N", type=int, help=last)
    audit.add_argument("--json", action="store_true", help="a line of JSON each, for programs")


def _bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("--model", metavar="M", help="default: the first one of the task")
    bench.add_argument("--task", choices=("embed", "score"), help="default: the model's")
    for name, default, text in (
        ("clients", 32, "that ask at once, each one request at a time"),
        ("tokens", 128, "in a text, about"),
        ("inputs", 1, "texts (documents) in a request"),
    ):
        what = f"{text} (default: {default})"
        bench.add_argument(f"--{name}", type=int, metavar="N", default=default, help=what)
    bench.add_argument("--seconds", type=float, metavar="S", default=10.0, help="default: 10")
    where = "another service, with the key in ER_API_KEY (default: gateway.sock, without a key)"
    bench.add_argument("--url", metavar="U", help=where)
    bench.add_argument("--json", action="store_true", help="for programs")


def _embed(embed: argparse.ArgumentParser) -> None:
    lines = 'JSON lines, or texts where it ends in .txt; .gz too; "-": standard input'
    embed.add_argument("file", metavar="FILE", help=lines)
    out = "the rows with their vectors: .parquet or .jsonl"
    embed.add_argument("-o", "--output", metavar="OUT", required=True, help=out)
    embed.add_argument("--field", metavar="F", default="text", help="the text's (default: text)")
    embed.add_argument("--plain", action="store_true", help="each line is a text")
    name = "what the vectors' is called (default: embedding)"
    embed.add_argument("--vector", metavar="F", default="embedding", help=name)
    embed.add_argument("--model", metavar="M", help="default: the first embedding model")
    side = embed.add_mutually_exclusive_group()
    side.add_argument("--query", action="store_true", help="the texts are queries")
    side.add_argument("--document", action="store_true", help="(default: the model's kind)")
    embed.add_argument("--instruction", metavar="S", help="the task in a sentence, for queries")
    embed.add_argument("--dimensions", metavar="N", type=int, help="the first so many numbers")
    embed.add_argument("--cut", action="store_true", help="cut the end of texts that are too long")
    bad = "rows that are empty, too long or no row: end there (default), or leave them out"
    embed.add_argument("--bad", choices=("stop", "skip"), default="stop", help=bad)
    for option, default, text in (
        ("inputs", 256, "texts in a request"),
        ("clients", 8, "requests at once"),
    ):
        what = f"{text} (default: {default})"
        embed.add_argument(f"--{option}", type=int, metavar="N", default=default, help=what)
    where = "another service, with a key (default: gateway.sock, without one)"
    embed.add_argument("--url", metavar="U", action="append", help=where)
    key = "a file with the key for --url (default: the variable ER_API_KEY)"
    embed.add_argument("--key-file", metavar="F", type=Path, help=key)
    embed.add_argument("--force", action="store_true", help="begin anew, over what is there")
    embed_options.ray(embed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a name in Chinese must not end a C locale
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with chinese.speaking():
        return _run(worded(parser()).parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    if args.command in AS_IT_IS or vars(args).get("json") or vars(args).get("csv"):
        chinese.as_it_is()
    try:
        return _dispatch(args)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(args: argparse.Namespace) -> int:
    # Imported where they are used: `er keys` must not wait for what `er check` needs.
    command = args.command
    if command is None:
        print(OVERVIEW.format(version=__version__, registered=registered.overview()), end="")
        return 0
    if command == "help":
        return show_help(args.topic, args.lang)
    if command == "keys":
        return _run_keys(args)
    if command in WISHED:
        return _run_wished(args)
    if command in registered.COMMANDS:
        return registered.run(args)
    if command in ("status", "wait", "doctor"):
        return _run_status(args)
    if command == "sbom":
        from er.cli import sbom

        return sbom.run(args.vllm)
    if command in ("drain", "resume"):
        from er.cli import drain

        if command == "resume":
            return drain.resume(args.name)
        return drain.run(args.name, host=args.host, wait=args.wait)
    from er.cli import units as cli_units

    if command == "check":
        return cli_units.run_check(args.config, as_json=args.json)
    if command == "apply":
        which: cli_units.Which = "edited"
        if args.previous or args.again:
            which = "previous" if args.previous else "applied"
        if args.json and not args.dry_run:
            print("er apply: --json goes with --dry-run", file=sys.stderr)
            return WRONG_USE
        new: dict[str, bool] = {"new_vectors": args.new_vectors}
        return (
            cli_units.run_plan(which, **new)
            if args.json
            else cli_units.run_apply(which, dry_run=args.dry_run, **new)
        )
    return cli_units.run_reload()


def _run_wished(args: argparse.Namespace) -> int:
    """The commands that take a Wish of all their options."""
    given = vars(args) | {"as_json": vars(args).get("json")}
    if "names" in given:
        given["names"] = tuple(args.names)

    def of(wish: type) -> dict[str, Any]:
        return {name: given[name] for name in wish.__struct_fields__ if name in given}  # type: ignore[attr-defined]

    match args.command:
        case "audit":
            from er.cli import audit_read

            return audit_read.run(audit_read.Wish(**of(audit_read.Wish)))
        case "bench":
            from er.cli import bench

            return bench.run(bench.Wish(**of(bench.Wish)))
        case "embed":
            return embed_options.run(given, of)
        case "restart":
            from er.cli import restart

            return restart.run(restart.Wish(**of(restart.Wish)))
        case "tls":
            from er.cli import tls

            return tls.run(tls.TlsWish(**of(tls.TlsWish)))
    from er.cli import usage

    return usage.run(usage.Wish(**of(usage.Wish)))


def _run_keys(args: argparse.Namespace) -> int:
    from er.cli.keys import KeyWish, run

    given = {k: v for k, v in vars(args).items() if k in KeyWish.__struct_fields__}
    wish = KeyWish(as_json=args.json, **given)
    if args.action == "import":
        from er.cli import keys_import

        return keys_import.run(wish, args.files, dry_run=args.dry_run, allow_weak=args.allow_weak)
    return run(wish)


def _run_status(args: argparse.Namespace) -> int:
    from er.cli import status as cli_status
    from er.quantities import duration_s

    if args.command == "status":
        return cli_status.run_status(args.json)
    if args.command == "doctor":
        from er.cli import doctor

        return doctor.run(cli_status.current())
    try:
        timeout_s = duration_s(args.timeout)
    except ValueError as error:
        print(f"er wait: --timeout {args.timeout}: {error}", file=sys.stderr)
        return WRONG_USE
    return cli_status.run_wait(timeout_s)


if __name__ == "__main__":
    sys.exit(main())
