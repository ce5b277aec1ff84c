"""`er embed`: its options for Ray, and which of its two ways they ask for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRONG_USE = 64
OF_RAY = ("part", "actors", "gpus", "vllm", "endpoint")


def ray(embed: argparse.ArgumentParser) -> None:
    """The options that go with --ray alone."""
    title = "with Ray, from and to folders or s3://, also of Parquet (er help bulk)"
    group = embed.add_argument_group(title)
    where = 'HOST:PORT, "auto" for the one this host is in, "local" for this machine alone'
    group.add_argument("--ray", metavar="ADDRESS", help=where)
    part = "bytes of input that are done as a whole (default: 64MiB)"
    group.add_argument("--part", metavar="SIZE", help=part)
    actors = "how many embed at once (default: one a host, with --vllm one a GPU)"
    group.add_argument("--actors", metavar="N", type=int, help=actors)
    gpus = "that the gateways have, for the cost; with --vllm: that an actor takes (default: 1)"
    group.add_argument("--gpus", metavar="N", type=float, help=gpus)
    vllm = "the model's folder on each host: vLLM in the actors, no gateway"
    group.add_argument("--vllm", metavar="DIR", type=Path, help=vllm)
    s3 = "another service than Amazon's (default: the variable AWS_ENDPOINT_URL)"
    group.add_argument("--endpoint", metavar="U", help=s3)


def run(given: dict[str, Any], of: Callable[[type], dict[str, Any]]) -> int:
    """Run it with all its options `given`, of which `of` picks those of a struct."""
    said = [name for name in OF_RAY if given[name] is not None]
    urls = given["url"] or []
    if given["ray"] is None and (said or len(urls) > 1):
        what = "several --url go" if not said else f"--{said[0].replace('_', '-')} goes"
        print(f"er embed: {what} with --ray", file=sys.stderr)
        return WRONG_USE
    if given["ray"] is not None:
        from er.cli import embed_ray

        found = of(embed_ray.Wish)
        return embed_ray.run(
            embed_ray.Wish(**{k: v for k, v in found.items() if k != "part" or v is not None})
        )
    from er.cli import embed

    more = {"output": Path(given["output"]), "url": urls[0] if urls else None}
    return embed.run(embed.Wish(**{**of(embed.Wish), **more}))
