"""`er quality compare A B`: which of two ranks better, and how sure that is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson
import uvloop

from er.cli.bench_load import Where, Wrong
from er.cli.embed_ask import Hopeless, Unreached
from er.cli.quality_ask import Asked, Engine, Gateway, Subject
from er.cli.screen import clean, table
from er.config import Config, ConfigError, active_path, directory
from er.config import load as load_config
from er.job import Task
from er.quality import (
    CanarySet,
    Judged,
    Query,
    SetError,
    Significance,
    averaged,
    drift,
    judge,
    load,
    own_files,
    significance,
)
from er.quality.reference import flat
from er.quality.significance import FEWEST

SURE = 0.05  # p below this is called a difference
TITLES = {"ndcg10": "nDCG@10", "mrr": "MRR", "recall3": "recall@3"}


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for."""

    a: str
    b: str
    sets: tuple[Path, ...] = ()  # () = the shipped one and all of /etc/er/canary
    as_json: bool = False


def run(wish: Wish) -> int:
    """Compare, and print it. Returns 0, 1 where it can't be done, 64 for wrong use."""
    try:
        sides = Subject.parse(wish.a), Subject.parse(wish.b)
        if wish.a == wish.b:
            raise ValueError("A and B are the same; name two models, replicas or dimensions")
    except ValueError as error:
        return _fail(str(error), 64)
    where = Where(directory("runtime") / "gateway.sock")
    try:
        sets = chosen(wish.sets)
        queries = [query for one in sets for query in one.queries]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            a, b = (runner.run(_asked(where, side, queries)) for side in sides)
    except (SetError, Hopeless, Wrong) as error:
        return _fail(clean(error), 1)
    except Unreached as error:
        return _fail(_nobody(where, error.args[0]), 1)
    found = compared(sides, (a, b), sets)
    if wish.as_json:
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(lines(found)))
    return 0


def _fail(text: str, code: int) -> int:
    print(f"er quality compare: {text}", file=sys.stderr)
    return code


def _nobody(where: Where, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{where.path} is for root and members of group er: use sudo"
    return f"no gateway answers at {where.path} ({error.strerror or error}); start it"


def chosen(files: Sequence[Path]) -> list[CanarySet]:
    """The sets to compare over. Raises SetError."""
    if files:
        return [load(file) for file in files]
    folder = directory("configuration") / "canary"
    try:
        own = own_files(folder)
    except OSError as error:
        raise SetError(str(folder), 0, f"can't be read: {error.strerror}; use sudo") from None
    return [load(), *(load(file) for file in own)]


async def _asked(where: Where, side: Subject, queries: Sequence[Query]) -> Asked:
    """Raises Hopeless, Wrong, Unreached."""
    if side.replica:
        engine = Engine(_config(), directory("runtime"), side)
        _demand(side, engine.task)
        return Asked(task=engine.task, scores=await engine.scores(queries))
    gateway = Gateway(where)
    task = await gateway.task(side)
    _demand(side, task)
    return Asked(task=task, scores=await gateway.scores(side, task, queries))


def _config() -> Config:
    try:
        return load_config(active_path())
    except ConfigError as error:
        raise Hopeless(f"{error.findings[0]}; er check tells all") from None


def _demand(side: Subject, task: Task) -> None:
    if task == "score" and side.dimensions is not None:
        raise Hopeless(f"{side.said}: a reranker has no dimensions")


# -- what came of it -----------------------------------------------------------------------------


def compared(
    sides: tuple[Subject, Subject], asked: tuple[Asked, Asked], sets: Sequence[CanarySet]
) -> dict[str, Any]:
    """All figures, as --json has them."""
    queries = [query for one in sets for query in one.queries]
    a, b = (judge(queries, one.scores) for one in asked)
    places = list(range(len(queries)))
    measures = {name: _measured(a, b, places, name) for name in TITLES}
    apart = None
    if asked[0].task == asked[1].task:
        apart = drift(flat(asked[0].scores), flat(asked[1].scores))._asdict()
    same = all(orders(q, x) == orders(q, y) for q, x, y in _by_query(queries, asked))
    return {
        "a": {"what": sides[0].said, "task": asked[0].task},
        "b": {"what": sides[1].said, "task": asked[1].task},
        "sets": [
            {"name": s.name, "sha256": s.sha256, "queries": len(s.queries), "pairs": s.pairs}
            for s in sets
        ],
        "queries": len(queries),
        "measures": measures,
        "groups": _groups(sets, a, b),
        "scores_apart": apart,
        "same_order": same,
        "verdict": verdict(
            sides[0].said, sides[1].said, len(queries), measures["ndcg10"], same=same
        ),
    }


def _by_query(queries: Sequence[Query], asked: tuple[Asked, Asked]) -> Any:
    return zip(queries, asked[0].scores, asked[1].scores, strict=True)


def orders(query: Query, scores: Sequence[float]) -> list[int]:
    """The documents' places in the file, best score first; equal scores in the file's order."""
    return sorted(range(len(query.documents)), key=lambda i: -scores[i])


def _measured(
    a: Sequence[Judged], b: Sequence[Judged], places: Sequence[int], name: str
) -> dict[str, Any]:
    left, right = ([float(getattr(side[i], name)) for i in places] for side in (a, b))
    found: Significance | None = significance(left, right) if len(places) > 1 else None
    mean_a, mean_b = sum(left) / len(left), sum(right) / len(right)
    return {
        "a": mean_a,
        "b": mean_b,
        "difference": mean_a - mean_b,
        "p": found.p if found else None,
        "interval": [found.low, found.high] if found else None,
    }


def _groups(
    sets: Sequence[CanarySet], a: Sequence[Judged], b: Sequence[Judged]
) -> list[dict[str, Any]]:
    """By language and by set, where there are several."""
    queries = [(one.name, query) for one in sets for query in one.queries]
    kinds: list[tuple[str, Callable[[tuple[str, Query]], str]]] = [
        ("language", lambda pair: pair[1].language),
        ("set", lambda pair: pair[0]),
    ]
    groups = []
    for kind, of in kinds:
        names = list(dict.fromkeys(map(of, queries)))
        for name in names if len(names) > 1 else ():
            places = [i for i, pair in enumerate(queries) if of(pair) == name]
            means = [averaged(side[i] for i in places)._asdict() for side in (a, b)]
            row = {"kind": kind, "name": name, "queries": len(places)}
            groups.append(row | {"a": means[0], "b": means[1]})
    return groups


def verdict(a: str, b: str, queries: int, ndcg: dict[str, Any], *, same: bool) -> str:
    """What may be said of the two, and no more."""
    if same:
        return f"Both put the documents of all {queries} queries in the same order."
    if queries < FEWEST:
        return f"Nothing can be said of so few queries: it takes {FEWEST} at least."
    low, high = ndcg["interval"]
    size = f"{abs(ndcg['difference']):.3f} of nDCG@10"
    interval = f"95% interval {low:+.3f} to {high:+.3f}, p {_p(ndcg['p'])}"
    if ndcg["p"] < SURE:
        better, worse = (a, b) if ndcg["difference"] > 0 else (b, a)
        return (
            f"On these {queries} queries {better} ranks better than {worse}, by {size} ({interval})"
            ". Whether it does on yours, queries of your own will show: --set FILE."
        )
    return (
        f"No difference is shown: {size} over {queries} queries may be chance ({interval}). That "
        "is no proof that they are alike; more queries see smaller differences."
    )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def lines(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    names = [f"{one['name']} ({one['queries']} queries)" for one in found["sets"]]
    shown = [
        f"A  {clean(found['a']['what'])} ({found['a']['task']})",
        f"B  {clean(found['b']['what'])} ({found['b']['task']})",
        f"   over {clean(', '.join(names))}",
        "",
    ]
    rows = [["", "A", "B", "A - B", "95% interval", "p"]]
    for name, one in found["measures"].items():
        numbers = [f"{one['a']:.3f}", f"{one['b']:.3f}", f"{one['difference']:+.3f}"]
        if one["interval"]:
            low, high = one["interval"]
            numbers += [f"{low:+.3f} to {high:+.3f}", _p(one["p"])]
        rows.append([TITLES[name], *numbers])
    for group in found["groups"]:
        a, b = group["a"]["ndcg10"], group["b"]["ndcg10"]
        title = f"nDCG@10, {group['name']}"
        rows.append([title, f"{a:.3f}", f"{b:.3f}", f"{a - b:+.3f}"])
    shown += table(rows)
    apart = found["scores_apart"]
    if apart:
        shown.append(
            f"scores apart: {apart['mean']:.2g} in the mean, {apart['largest']:.2g} at most; "
            f"rank correlation {apart['rank_correlation']:.4f}"
        )
    return [*shown, "", found["verdict"]]
