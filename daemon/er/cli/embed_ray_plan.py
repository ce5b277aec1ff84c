"""The plan of `er embed --ray`: found beside the output, or made by a first look at the input."""

from __future__ import annotations

import msgspec

from er.cli.embed_ray_parts import LISTED, InputPart, Plan, Scanned, cut
from er.cli.embed_ray_session import Broken, Session
from er.cli.embed_ray_store import Store
from er.cli.embed_ray_work import Stop
from er.cli.embed_rows import Columns, TooManyColumns
from er.cli.embed_run import Progress
from er.cli.screen import clean

SUCCESS = "_SUCCESS"


class Planning:
    """What a run needs to find or make its plan."""

    def __init__(self, source: Store, out: Store, notes: str, progress: Progress) -> None:
        """`notes` is the folder of the plan and of what is known of parts."""
        self._source, self._out, self._notes = source, out, notes
        self._progress = progress

    def begun(self, plan: Plan, names: dict[str, int]) -> Plan | None:
        """The plan that is there, which must be of the same; None where none is. Raises Stop."""
        found = [name for name in names if name.startswith("plan-")]
        if not found:
            return None
        data = self._out.read(f"{self._notes}/{found[0]}") or b""
        try:
            begun = msgspec.json.decode(data, type=Plan)
        except msgspec.MsgspecError:
            cure = "begin anew with --force"
            raise Stop(f"{self._out.place}: its plan can't be read; {cure}") from None
        if other := plan.differs(begun):
            cure = "go on as then, or begin anew with --force"
            raise Stop(f"{self._out.place} was begun with another {other}; {cure}")
        return begun

    def clear(self) -> None:
        """Away with what an earlier run has written, and with nothing else."""
        out, top = self._out, self._out.under()
        own = [f"{top}/{n}" for n in out.listed(top) if n.startswith("part-") or n == SUCCESS]
        notes = sorted(out.listed(self._notes), key=lambda n: not n.startswith("plan-"))
        out.remove([f"{self._notes}/{n}" for n in notes] + own)

    def begin(
        self, plan: Plan, session: Session, *, part_bytes: int, parquet: bool, skip: bool
    ) -> Plan:
        """Cut the input, read it once, and put the plan down.

        With `skip`, rows that can't be embedded are left out. Raises Stop, StoreError, Damaged.
        """
        source, name = self._source, self._source.place
        parts = cut(source, plan.files, part_bytes, plan.field, plan.vector)
        asked = {name: getattr(plan, name) for name in ("field", "plain", "vector")}
        asked["kinds"] = parquet
        seen: dict[int, Scanned] = {}
        try:
            for one in session.scanned(source, parts, asked) if parts else ():
                if one is not None:
                    if one.error:
                        raise Stop(one.error)
                    seen[one.number] = one
                self._progress.show(f"reading {name}: {len(seen)} of {len(parts)} parts")
        except Broken as error:
            raise Stop(f"Ray gave the reading up: {error}; try again") from None
        self._progress.end()
        parts = _with_lines(parts, seen)
        self._tell_wrong(plan, parts, seen, skip=skip)
        columns = Columns()
        try:
            for part in parts:
                if (one_s := seen[part.number].columns) is not None:
                    columns.merge(one_s)
        except TooManyColumns:
            raise Stop(
                "over 1000 different fields; a table is not for that: write .jsonl"
            ) from None
        plan = msgspec.structs.replace(plan, parts=parts, kinds=columns.kinds())
        path = f"{self._notes}/plan-{plan.id}.json"
        self._out.put(path, msgspec.json.encode(plan))
        return plan

    def _tell_wrong(
        self, plan: Plan, parts: list[InputPart], seen: dict[int, Scanned], *, skip: bool
    ) -> None:
        """Name the rows that can't be embedded. Raises Stop."""
        place, told = self._source.place, 0
        for part in parts:
            one, name = seen[part.number], self._source.name(part.file)
            if one.clash:
                why = f"has a field {plan.vector}, as the vectors' would be; choose --vector NAME"
                raise Stop(f"{name}: line {_line(part, one.clash)} {clean(why)}")
            for at, why in one.listed[: LISTED - told]:
                told += 1
                self._progress.say(f"{name}: line {_line(part, at)} {clean(why)}")
        count, wrong = (sum(getattr(s, n) for s in seen.values()) for n in ("rows", "wrong"))
        if wrong > told:
            self._progress.say(f"and {wrong - told:,} lines more")
        if wrong and not skip:
            cure = "correct them, or leave them out with --bad skip"
            if wrong == count and not plan.plain:
                cure = "name the text's field by --field, or say --plain if each line is a text"
            raise Stop(f"{place}: {wrong:,} of {count:,} rows can't be embedded; {cure}")
        if wrong == count:
            raise Stop(f"{place} has no row that can be embedded")


def _line(part: InputPart, at: int) -> int:
    """A row's line in its file, of the one that a first look at its part told."""
    return at if part.parquet else part.line + at - 1


def _with_lines(parts: list[InputPart], seen: dict[int, Scanned]) -> list[InputPart]:
    """The parts with what a first look told of them, and with the line that each begins at."""
    found: list[InputPart] = []
    line, file = 1, ""
    for part in parts:
        one = seen[part.number]
        line, file = (line if part.file == file else 1), part.file
        found.append(msgspec.structs.replace(part, line=line, rows=one.rows, digest=one.digest))
        line += one.lines
    return found
