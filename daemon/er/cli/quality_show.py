"""`er quality`, `er quality run` and `er quality accept`: asks the admin API, says it in words."""

from __future__ import annotations

import sys
import time
from typing import Any
from urllib.parse import quote

import orjson

from er.cli.admin_client import NoAdmin, call, told
from er.cli.screen import age, clean, table

LOOK_EVERY_S = 0.5
BAD = ("drifted", "wrong")
COLUMNS = ("REPLICA", "MODEL", "STATE", "NDCG@10", "MRR", "RECALL@3", "DRIFT", "TOLERATED", "LAST")


def show(*, as_json: bool) -> int:
    """Print how it is: 0 all good, 1 a replica drifted, or the gateway can't be asked."""
    found = _quality()
    if found is None:
        return 1
    if as_json:
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(lines(found, time.time())))
    return 1 if any(row["state"] in BAD or row["out"] for row in found["replicas"]) else 0


def ask(action: str, replica: str | None, *, as_json: bool) -> int:
    """Have runs now, wait for their ends, then show how it is."""
    where = f"/quality/{action}" + (f"?replica={quote(replica)}" if replica else "")
    try:
        code, answer = call("POST", where)
    except NoAdmin as error:
        return _fail(str(error))
    if code != 202:
        return _fail(told(answer))
    names = answer["started"]
    if not as_json:
        print(f"asking {', '.join(names)}; Ctrl-C ends the waiting, not the run", file=sys.stderr)
    while True:
        found = _quality()
        if found is None:
            return 1
        rows = [row for row in found["replicas"] if row["name"] in names]
        if all(row["state"] != "running" and row["due"] != "asked for" for row in rows):
            break
        time.sleep(LOOK_EVERY_S)
    failed = [row for row in rows if row["trouble"]]
    for row in failed:
        print(f"er quality: replica {row['name']}: {clean(row['trouble'])}", file=sys.stderr)
    return show(as_json=as_json) or int(bool(failed))


def _quality() -> dict[str, Any] | None:
    """GET /quality; None, told, where it can't be had."""
    try:
        code, found = call("GET", "/quality")
    except NoAdmin as error:
        _fail(str(error))
        return None
    if code != 200:
        _fail(told(found))
        return None
    return found


def _fail(text: str) -> int:
    print(f"er quality: {text}", file=sys.stderr)
    return 1


def lines(found: dict[str, Any], now: float) -> list[str]:
    """The answer to GET /quality as text. Pure."""
    asked, every_s = found["set"], found["every_s"]
    languages = ", ".join(f"{name} {n}" for name, n in asked["languages"].items())
    when = f"every {age(every_s)} when idle" if every_s else "only when asked: er quality run"
    shown = [
        f"canary set {asked['sha256'][:12]}: {asked['queries']} queries ({languages}), "
        f"{asked['pairs']} judged documents; {when}"
    ]
    for own in asked["own"]:
        what = own["error"] or f"{own['queries']} queries"
        shown.append(f"own set {clean(own['file'])}: {clean(what)}")
    rows: list[tuple[str, ...]] = [COLUMNS]
    rows += [_row(row, now) for row in found["replicas"]]
    shown += ["", *table(rows)]
    for row in found["replicas"]:
        why = row["reason"] or (row["trouble"] and f"last try: {row['trouble']}")
        if why:
            out = " is out" if row["out"] else ""
            shown += ["", f"{row['name']}{out}: {clean(why)}"]
        for file, own in ((row["last"] or {}).get("own") or {}).items():
            figures = f"nDCG@10 {own['ndcg10']:.3f}, MRR {own['mrr']:.3f}"
            shown.append(f"{row['name']}, {clean(file)}: {figures}, recall@3 {own['recall3']:.3f}")
    return shown


def _row(row: dict[str, Any], now: float) -> tuple[str, ...]:
    state, last = row["state"] + (", out" if row["out"] else ""), row["last"]
    if last is None:
        return (row["name"], row["model"], state, *("-",) * 6)
    drift = last["drift"]
    figures = [f"{last[name]:.3f}" for name in ("ndcg10", "mrr", "recall3")]
    apart = [f"{drift['mean']:.2g}", f"{drift['tolerance']:.2g}"] if drift else ["-", "-"]
    ago = age(max(0.0, now - last["at"]))
    return (row["name"], row["model"], state, *figures, *apart, f"{ago} ago")
