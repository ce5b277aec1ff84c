"""What may stand behind `er replica` and `er model`."""

from __future__ import annotations

import argparse
from pathlib import Path

from er import __version__


def replica(top: argparse.ArgumentParser) -> None:
    """`er replica add | remove | set`."""
    top.epilog = "example: sudo er replica add --model M --gpu 2 --dry-run. More: er help changes"
    actions = top.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="one more replica of a model that er.toml has")
    add.add_argument("--model", metavar="M", required=True, help="its model: a name or an alias")
    add.add_argument("--name", metavar="N", help="default: that of the model's others, numbered")
    _place(add, new=True)
    remove = actions.add_parser("remove", help="end a replica; it finishes what it has")
    move = actions.add_parser("set", help="give a replica another port, card, cache or address")
    add.epilog = "example: sudo er replica add --model M --gpu 2"
    remove.epilog = "example: sudo er replica remove embedding-2 --dry-run"
    move.epilog = "example: sudo er replica set embedding --port 8010"
    for found in (remove, move):
        found.add_argument("name", metavar="NAME", help="the replica's name")
    _place(move, new=False)
    _will(add, remove, move)


def model(top: argparse.ArgumentParser) -> None:
    """`er model add | remove`."""
    top.epilog = "example: sudo er model add /srv/models/bge-m3 --dry-run. More: er help changes"
    actions = top.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = actions.add_parser("add", help="a model from its folder, with one replica")
    add.add_argument("path", metavar="PATH", type=Path, help="the folder that holds config.json")
    add.add_argument("--name", metavar="N", help="what clients ask for (default: the folder's)")
    task = "default: as its files say"
    add.add_argument("--task", choices=("embed", "score"), help=task)
    add.add_argument("--replica", metavar="N", help="its replica's name (default: the model's)")
    _place(add, new=True)
    remove = actions.add_parser("remove", help="take a model out, with its replicas")
    remove.add_argument("name", metavar="NAME", help="the model's name")
    add.epilog = "example: sudo er model add /srv/models/bge-m3 --name bge --gpu 2"
    remove.epilog = "example: sudo er model remove bge --dry-run"
    _will(add, remove)


def _place(found: argparse.ArgumentParser, *, new: bool) -> None:
    card = " (default: the least used)" if new else ""
    gpu = f'index, UUID or "cpu"; several: one engine over all of them{card}'
    found.add_argument("--gpu", metavar="G", nargs="+", help=gpu)
    port = " (default: the next free one from 8000)" if new else ""
    found.add_argument("--port", metavar="P", type=int, help=f"on loopback{port}")
    cache = 'memory for its cache, as "6GiB", in place of a share of the card'
    found.add_argument("--kv-cache", metavar="S", help=cache)
    url = "a vLLM that something else runs, in place of GPU and port"
    found.add_argument("--url", metavar="U", help=url)


def _will(*actions: argparse.ArgumentParser) -> None:
    for found in actions:
        show = "show the change and what a restart does to clients"
        found.add_argument("--dry-run", action="store_true", help=show)
        found.add_argument("--yes", action="store_true", help="do it without asking")
        later = "change er.toml alone; sudo er apply puts it in force"
        found.add_argument("--no-apply", action="store_true", help=later)
        found.add_argument("--version", action="version", version=f"er {__version__}")
