"""Steps of an apply for what names give vectors of: remembered, never two kinds at once. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from er.config import Config
from er.fingerprint.applied import Applied, Given, after, differs, written
from er.systemctl import GATEWAY, replica_unit
from er.units.change import Change
from er.units.rolling import BY_TURNS

REMEMBER = "remember what each model's vectors are of, by its fingerprint"
HUP = ("systemctl", "kill", "--kill-who=main", "--signal=HUP", GATEWAY)


def steps(
    planned: Sequence[Change],
    config: Config,
    *,
    applied: Applied,
    now: Mapping[str, Given],
    active: Collection[str],
) -> list[Change]:
    """`planned` with what must be done because of what the names in `now` give.

    What is remembered is so before any unit starts, as a replica goes by it. Replicas whose model
    gives other vectors are all restarted at once: by turns, half of the answers would be of the old
    weights. Those that loaded nothing yet may wait for this very step.
    """
    found = list(planned)
    record = after(applied, now)
    if record != applied:
        at = max((i for i, step in enumerate(found) if step.kind != "run"), default=-1) + 1
        found.insert(at, Change(kind="remember", says=REMEMBER, text=written(record)))
    if not (new := renewed(config, applied, now)):
        return found
    units = [replica_unit(r.name) for r in config.replicas if r.model in new and not r.url]
    found = [_at_once(step) if step.rolls and {*units} & {*step.argv} else step for step in found]
    restarts = {word for step in found if "restart" in step.argv for word in step.argv}
    for unit in units:
        if unit in active and unit not in restarts:
            says = f"restart {unit}: its model gives new vectors"
            argv = ("systemctl", "restart", "--no-block", unit)
            found.append(Change(kind="run", says=says, argv=argv))
    if GATEWAY in active and not any(GATEWAY in step.argv for step in found):
        says = "give the gateway new workers, which read the models' files anew"
        found.append(Change(kind="run", says=says, argv=HUP))
    return found


def renewed(config: Config, applied: Applied, now: Mapping[str, Given]) -> list[str]:
    """The configured names of embedding models that give other vectors than was applied."""
    return [
        m.name
        for m in config.models
        if m.task == "embed" and m.name in now and differs(applied.names.get(m.name), now[m.name])
    ]


def _at_once(step: Change) -> Change:
    says = step.says.removesuffix(f"; {BY_TURNS}")
    return msgspec.structs.replace(step, rolls=False, says=says)
