"""What may stand behind `er vllm`; light, as every command reads it."""

from __future__ import annotations

import argparse

from er import __version__


def options(vllm: argparse.ArgumentParser) -> None:
    """What may stand behind `er vllm`."""
    vllm.epilog = "example: sudo er vllm install 0.26.0. One replica on it, then all: er help vllm"
    actions = vllm.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="which are here, which is in use, by which replicas")
    listed.add_argument("--json", action="store_true", help="for programs")
    install = actions.add_parser("install", help="make an environment with that version")
    use = actions.add_parser("use", help="take that version; restarts replicas one by one")
    back = actions.add_parser("rollback", help="take the version that was in use before")
    for found in (install, use):
        found.add_argument("wanted", metavar="VERSION", help="as er vllm list shows it: 0.26.0")
    install.add_argument("--cpu", action="store_true", help="the build for CPUs")
    index = (
        "an index of packages in place of pip's own (with a password: the variable PIP_INDEX_URL)"
    )
    install.add_argument("--index-url", metavar="U", help=index)
    for found in (install, use, back):
        found.add_argument("--yes", action="store_true", help="do it without asking")
    for found in (listed, install, use, back):
        found.add_argument("--version", action="version", version=f"er {__version__}")
