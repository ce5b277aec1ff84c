"""Commands that register here: name, what help says, options, and the module that runs them.

The module has a struct `Wish` of its options and `run(wish)`; it is imported when it is wanted.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from er import __version__
from er.cli import alert, change_options, quality, vllm_options

CLIENTS = ("dify", "ragflow", "fastgpt", "open-webui", "langchain", "llama-index", "curl")


class Registered(NamedTuple):
    """One command."""

    says: str  # the line in `er --help`
    options: Callable[[argparse.ArgumentParser], None]
    module: str
    overview: str  # the line in `er`


def _report(report: argparse.ArgumentParser) -> None:
    since = 'how far back: "7d", "2026-11-01" or a moment (default: 7d)'
    report.add_argument("--since", metavar="T", default="7d", help=since)
    report.add_argument("--until", metavar="T", help="up to there (default: now)")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--html", metavar="FILE", type=Path, help='a page; "-": to standard output')
    form.add_argument("--markdown", action="store_true", help="as text, the default")
    report.add_argument("--lang", choices=("en", "zh"), help="default: as LANG says")


def _capacity(capacity: argparse.ArgumentParser) -> None:
    capacity.add_argument("--model", metavar="M", action="append", help="this one alone")
    minutes = "how long it may take (default: 3)"
    capacity.add_argument("--minutes", metavar="N", type=float, default=3.0, help=minutes)
    goal = "the p99 that is good enough (default: 5 times that of a quiet machine)"
    capacity.add_argument("--p99", metavar="MS", type=float, help=goal)
    for option, default, what in (("tokens", "128,512", "in a text"), ("inputs", "1,16", "texts")):
        text = f"{what}, numbers with commas (default: {default})"
        capacity.add_argument(f"--{option}", metavar="N,M", default=default, help=text)
    where = "another service, with the key in ER_API_KEY; nothing is kept of it"
    capacity.add_argument("--url", metavar="U", help=where)
    capacity.add_argument("--yes", action="store_true", help="load it without asking")
    capacity.add_argument("--json", action="store_true", help="for programs")


def _feedback(feedback: argparse.ArgumentParser) -> None:
    since = 'requests answered since: "7d", "2026-11-01" or a moment (default: 7d)'
    feedback.add_argument("--since", metavar="T", default="7d", help=since)
    feedback.add_argument("--key", metavar="K", action="append", help="an id or a name; repeatable")
    feedback.add_argument("--model", metavar="M", action="append", help="repeatable")
    form = feedback.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="a line for each feedback")
    form.add_argument("--json", action="store_true", help="for programs")


def _connect(connect: argparse.ArgumentParser) -> None:
    connect.add_argument(
        "client", metavar="CLIENT", choices=sorted(CLIENTS), help=", ".join(CLIENTS)
    )
    connect.add_argument("--key", metavar="K", help="the key it will use: its id or name")
    model = "this model in place of the first of its task; repeatable"
    connect.add_argument("--model", metavar="M", action="append", help=model)
    where = "the address that clients use, of a proxy before the gateway"
    connect.add_argument("--url", metavar="U", help=where)


def _models(models: argparse.ArgumentParser) -> None:
    models.epilog = "example: sudo er models pull Qwen3-Embedding-0.6B --from modelscope. "
    models.epilog += "Mirrors, proxies, resuming, machines without a network: er help models"
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    pull = actions.add_parser("pull", help="bring a model; the same command again goes on")
    name = "Qwen3-Embedding-0.6B and its like, or OWNER/NAME; @REVISION behind it"
    pull.add_argument("name", metavar="NAME", help=name)
    hubs = "huggingface (default), modelscope, or the address of a mirror or a folder"
    pull.add_argument("--from", metavar="HUB", dest="source", default="huggingface", help=hubs)
    place = "(default: where er.toml has it, else /mnt/workspace/model/OWNER/NAME)"
    pull.add_argument("--to", metavar="DIR", type=Path, help=place)
    verify = actions.add_parser("verify", help="whether the files are still what was pulled")
    verify.add_argument("folder", metavar="DIR", type=Path, help="a model's folder")
    for found in (pull, verify):
        found.add_argument("--version", action="version", version=f"er {__version__}")


def _disk(disk: argparse.ArgumentParser) -> None:
    disk.add_argument("--json", action="store_true", help="for programs")


def _clean(clean: argparse.ArgumentParser) -> None:
    engines = "also what vLLM compiled; its next start takes longer"
    clean.add_argument("--engines", action="store_true", help=engines)
    clean.add_argument("--dry-run", action="store_true", help="show what would go")
    clean.add_argument("--yes", action="store_true", help="remove it without asking")


def _backup(backup: argparse.ArgumentParser) -> None:
    file = "where to; a backup that is there is written over, nothing else"
    backup.add_argument("file", metavar="FILE", type=Path, help=file)
    tls = "with certificate and private key of HTTPS, where they lie beside er.toml"
    backup.add_argument("--with-tls", action="store_true", help=tls)


def _restore(restore: argparse.ArgumentParser) -> None:
    file = "what er backup wrote, here or on another machine"
    restore.add_argument("file", metavar="FILE", type=Path, nargs="?", help=file)
    undo = "bring back what the last restore took the place of"
    restore.add_argument("--undo", action="store_true", help=undo)
    restore.add_argument("--dry-run", action="store_true", help="check it, show what would be done")
    restore.add_argument("--yes", action="store_true", help="do it without asking")


def _hosts(hosts: argparse.ArgumentParser) -> None:
    hosts.epilog = "example: er hosts. One host out for work on it: er drain gpu2 --wait"
    hosts.add_argument("--json", action="store_true", help="for programs")
    actions = hosts.add_subparsers(dest="action", metavar="ACTION")
    forget = actions.add_parser("forget", help="a silent one that will not come back")
    forget.add_argument("host", metavar="HOST", help="its name")
    rotate = actions.add_parser("rotate", help="a new secret by which the hosts know each other")
    for found in (forget, rotate):
        found.add_argument("--version", action="version", version=f"er {__version__}")


def _state(state: argparse.ArgumentParser) -> None:
    state.epilog = "example: sudo er state move. What hosts share, and how to begin: er help hosts"
    actions = state.add_subparsers(dest="action", metavar="ACTION", required=True)
    move = actions.add_parser("move", help="carry this host's keys, usage and feedback over")
    back = "bring what all hosts have into this host's files, to go on alone"
    move.add_argument("--back", action="store_true", help=back)
    move.add_argument("--dry-run", action="store_true", help="show what is where, move nothing")
    move.add_argument("--version", action="version", version=f"er {__version__}")


def _undrain(undrain: argparse.ArgumentParser) -> None:
    undrain.epilog = "example: er undrain gpu2"
    undrain.add_argument("host", metavar="HOST", help="the host's name")


COMMANDS = {
    "models": Registered(
        "bring a model's files from a hub, whole and checked",
        _models,
        "er.cli.models",
        "bring a model from a hub: er models pull NAME",
    ),
    "connect": Registered(
        "print what to paste into a client: address, models, limits, code or form",
        _connect,
        "er.cli.connect",
        "what to paste into Dify, LangChain and others",
    ),
    "replica": Registered(
        "add, remove or move a replica: er.toml edited, shown, asked, applied",
        change_options.replica,
        "er.cli.replica",
        "one more, one less, another card: er replica add",
    ),
    "model": Registered(
        "add a model from its folder, or take one out: er.toml edited, shown, asked, applied",
        change_options.model,
        "er.cli.model",
        "another model beside: er model add PATH",
    ),
    "hosts": Registered(
        "the machines that share a [state]: who is there, with which replicas",
        _hosts,
        "er.cli.hosts",
        "the machines that serve together",
    ),
    "state": Registered(
        "carry an installation into the state that hosts share, and back",
        _state,
        "er.cli.state",
        "into what several hosts share, and back: er state move",
    ),
    "undrain": Registered(
        "give a drained host work again",
        _undrain,
        "er.cli.hosts",
        "a drained host is used again",
    ),
    "alert": Registered(
        "try whom er.toml's [[alert]] tables tell of trouble",
        alert.options,
        "er.cli.alert",
        "whether messages of trouble arrive: er alert test",
    ),
    "capacity": Registered(
        "measure what load this machine carries, and what to change first",
        _capacity,
        "er.cli.capacity",
        "what load it carries, and what to change first",
    ),
    "quality": Registered(
        "how good the answers are, and what drifted",
        quality.options,
        "er.cli.quality",
        "how good the answers are, and which replica's drifted",
    ),
    "feedback": Registered(
        "what clients said of their answers: clicks, ratings, online MRR",
        _feedback,
        "er.cli.feedback",
        "what clients said of their answers",
    ),
    "vllm": Registered(
        "the versions of vLLM that are here: list, install, use, rollback",
        vllm_options.options,
        "er.cli.vllm",
        "which vLLM is here and in use; another one, and back",
    ),
    "disk": Registered(
        "what takes how much of the disk, what holds it, what frees it",
        _disk,
        "er.cli.disk",
        "what takes how much of the disk",
    ),
    "clean": Registered(
        "remove what nothing of ER uses any more; says it first",
        _clean,
        "er.cli.clean",
        "remove versions and leftovers that nothing uses",
    ),
    "report": Registered(
        "a page on traffic, latency, quality, capacity, keys and incidents",
        _report,
        "er.cli.report",
        "a page on the last days, for you and your boss",
    ),
    "backup": Registered(
        "one file with er.toml, keys, usage, feedback, quality, history; while it runs",
        _backup,
        "er.cli.backup",
        "er.toml, keys, usage, ... in one file",
    ),
    "restore": Registered(
        "take up a backup: checked first, shown, asked; what was there is kept",
        _restore,
        "er.cli.restore",
        "takes up such a file; --undo",
    ),
}


def add(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Make the parsers; `command` makes one by name and text."""
    for name, one in COMMANDS.items():
        one.options(command(name, one.says))


def overview() -> str:
    """The lines of the overview."""
    return "\n".join(f"  er {name:18}{one.overview}" for name, one in COMMANDS.items())


def run(args: argparse.Namespace) -> int:
    """Run it. Returns its exit status."""
    module = importlib.import_module(COMMANDS[args.command].module)
    given = vars(args) | {"as_json": vars(args).get("json")}
    fields = module.Wish.__struct_fields__
    code: int = module.run(module.Wish(**{k: given[k] for k in fields if k in given}))
    return code
