"""`er embed --ray`: folders of texts into a folder of vectors, by all hosts of a Ray cluster.

What is there decides what is left: the plan is written once, each part is a file and a note of it,
and the command begins by looking which notes are missing. So nothing that dies loses or doubles a
row, and nothing has to be repaired: neither Ray nor this process holds anything that counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from er import config, quantities
from er.cli import embed_ray_vllm
from er.cli.bench_load import Where, Wrong
from er.cli.embed import Common, summary
from er.cli.embed_ask import Unreached, cards
from er.cli.embed_ask import Wish as Request
from er.cli.embed_out import ENDINGS
from er.cli.embed_ray_cost import Cost, Price, Watch
from er.cli.embed_ray_gateways import Lane
from er.cli.embed_ray_parts import INPUTS, InputPart, PartDone, Plan, kind_of
from er.cli.embed_ray_plan import SUCCESS, Planning
from er.cli.embed_ray_session import Broken, Session
from er.cli.embed_ray_store import S3, WRITING, S3Access, Secret, Store, StoreError
from er.cli.embed_ray_work import DONE, Stop, Work, ending, kept
from er.cli.embed_rows import Damaged
from er.cli.embed_run import Progress
from er.cli.screen import clean

PART = "64MiB"
PART_MIN = 1024
ROUNDS = 3  # that Ray may break off one after the other without a part between
THREADS = 32  # for many small files in S3


class Wish(Common, kw_only=True):
    """What the command line asked for with Ray. None = not said."""

    output: str
    ray: str
    url: list[str] | None = None
    part: str = PART
    actors: int | None = None
    gpus: float | None = None
    vllm: Path | None = None
    endpoint: str | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A wish that can be tried."""

    source: Store
    out: Store
    parquet: bool
    part_bytes: int
    gateways: tuple[Where, ...]
    key: Secret


def run(wish: Wish) -> int:
    """Embed it. Returns 0 when all is written, 1 when not, 64 for wrong use."""
    try:
        checked = check(wish)
    except ValueError as error:
        print(f"er embed: {error}", file=sys.stderr)
        return 64
    job = _Job(wish, checked)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        job.run()
    except (Stop, StoreError, Damaged) as error:
        return job.ended(clean(error))
    except Wrong as error:
        return job.ended(clean(error))
    except KeyboardInterrupt:
        return job.ended("interrupted")
    finally:
        job.close()
    return 0


def check(wish: Wish) -> Checked:
    """Raises ValueError for what can't be asked."""
    wish.check()
    kind = kind_of(wish.output)
    if kind is None:
        raise ValueError(f"-o {wish.output}: the name must end in one of: {', '.join(ENDINGS)}")
    if wish.file == "-":
        raise ValueError("standard input is no input for --ray; name files, a folder or s3://…")
    if wish.ray.startswith("ray://"):
        raise ValueError("--ray ray://…: run the command on a host of the cluster: --ray auto")
    if wish.actors is not None and wish.actors <= 0:
        raise ValueError(f"--actors {wish.actors}: it must be over 0")
    if wish.gpus is not None and wish.gpus < 0:
        raise ValueError(f"--gpus {wish.gpus}: 0 or more")
    try:
        size = quantities.size_bytes(wish.part)
    except ValueError as error:
        raise ValueError(f"--part {wish.part}: {error}") from None
    if size < PART_MIN:
        raise ValueError(f"--part {wish.part}: at least {PART_MIN} bytes")
    for place in (wish.file, wish.output):
        if place.startswith(S3) and "@" in place:
            raise ValueError(
                "put the key of S3 into AWS_ACCESS_KEY_ID and its like, not into s3://"
            )
    if wish.vllm is not None and (wish.url or wish.key_file or wish.model):
        raise ValueError("--vllm computes by itself: leave out --url, --key-file and --model")
    if wish.key_file is not None and not wish.url:
        raise ValueError("--key-file goes with --url; gateway.sock takes no key")
    access = S3Access.of(dict(os.environ), wish.endpoint)
    own = (Where(config.directory("runtime") / "gateway.sock"),)
    return Checked(
        source=Store(wish.file, access),
        out=Store(wish.output, access),
        parquet=kind == "parquet",
        part_bytes=size,
        gateways=tuple(map(Where.parse, wish.url)) if wish.url else own,
        key=Secret(wish.key() if wish.url else ""),
    )


class _Job:
    """One run of the command."""

    def __init__(self, wish: Wish, checked: Checked) -> None:
        self._wish, self._checked, self._out = wish, checked, checked.out
        name = hashlib.blake2b(checked.out.root.encode(), digest_size=8).hexdigest()
        self._session = Session(wish.ray, f"er-embed-{name}")
        self._notes = checked.out.under("_parts")
        self._plan: Plan | None = None
        self._done: dict[int, PartDone] = {}
        self._progress = Progress(sys.stderr)
        self._cost: Cost | None = None

    def close(self) -> None:
        """Leave the cluster; what was done stays."""
        self._progress.end()
        self._session.close()

    def ended(self, why: str) -> int:
        """Say why it ended before its end, and how to go on."""
        self._progress.end()
        if self._cost is not None:
            with contextlib.suppress(StoreError):
                self._cost.keep(at_once=True)
        print(f"er embed: {why}", file=sys.stderr)
        if self._plan is not None:
            with contextlib.suppress(StoreError):
                self._look_up(self._plan)
            rows = sum(done.rows for done in self._done.values())
            done = f"{rows:,} of {self._plan.rows:,} rows are done and kept in {self._out.place}"
            again = self._wish.again(self._wish.output)
            print(f"{done}. To go on:\n  {again}", file=sys.stderr)
        return 1

    def run(self) -> None:
        """All of it. Raises Stop, StoreError, Damaged, Wrong."""
        wish, out = self._wish, self._out
        there = out.listed(out.under())
        begun = out.listed(self._notes)
        if there and not begun:
            raise Stop(f"{out.place} is there already, and not from er embed --ray; name another")
        if SUCCESS in there and not wish.force:
            raise Stop(f"{out.place} is there already; to write it anew: --force")
        files = self._checked.source.inputs(INPUTS)
        if not files:
            raise Stop(f"{wish.file} has no file that ends in one of: {', '.join(INPUTS)}")
        plan = self._wanted(files)
        self._session.open()
        planning = Planning(self._checked.source, out, self._notes, self._progress)
        if wish.force:
            planning.clear()
            begun = {}
        out.make(self._notes)
        self._plan = planning.begun(plan, begun) or planning.begin(
            plan,
            self._session,
            part_bytes=self._checked.part_bytes,
            parquet=self._checked.parquet,
            skip=wish.bad == "skip",
        )
        self._embed(self._plan)

    def _wanted(self, files: list[Any]) -> Plan:
        wish = self._wish
        return Plan(
            files=files,
            parts=[],
            kinds={},
            plain=wish.plain,
            field=wish.field,
            vector=wish.vector,
            model=wish.model or (wish.vllm.name if wish.vllm else self._model()),
            vllm=str(wish.vllm or ""),
            kind=wish.kind,
            instruction=wish.instruction,
            dimensions=wish.dimensions,
        )

    def _model(self) -> str:
        """The first embedding model of the first gateway that answers. Raises Stop, Wrong."""
        why = ""
        for where in self._checked.gateways:
            try:
                found = asyncio.run(cards(where, self._checked.key.value))
            except Unreached as error:
                name = where.path or f"{where.host}:{where.port}"
                why = why or f"no gateway answers at {name} ({error.args[0]})"
                continue
            for card in found:
                if card.get("model_type", "embedding") == "embedding":
                    return str(card["id"])
            raise Wrong("no embedding model is served there")
        raise Stop(f"{why}; start it, name one by --url, or name the --model")

    # -- the parts ---------------------------------------------------------------------------

    def _embed(self, plan: Plan) -> None:
        """Every part that is not there yet; then what makes the output whole. Raises Stop."""
        out, work = self._out, self._work(plan)
        cost = self._cost = Cost(out, self._notes, Price.here())
        self._look_up(plan)
        before = self._sum("rows"), self._sum("tokens")
        broken = 0
        while left := [p for p in plan.parts if p.number not in self._done]:
            count = len(left)
            try:
                self._session.look(out, work.plan_path)
                self._round(plan, work, left, cost, before)
            except Broken as error:
                self._look_up(plan)
                fewer = count - (len(plan.parts) - len(self._done))  # all of them: it is whole
                broken = 1 if fewer else broken + 1
                if broken >= ROUNDS:
                    raise Stop(f"Ray gave the work up: {error}") from None
                self._session.close()
                if fewer != count:
                    self._progress.say(f"Ray gave the work up ({clean(error)}); once more")
                    self._session.open(patient=True)
            else:
                self._look_up(plan)
        self._progress.end()
        cost.keep(at_once=True)
        self._finish(plan, cost, before)

    def _round(
        self,
        plan: Plan,
        work: Work,
        left: list[InputPart],
        cost: Cost,
        before: tuple[int, int],
    ) -> None:
        """One job of Ray for all that is left. Raises Broken, Stop."""
        actors = self._session.actors(work.lane, self._wish.actors)
        own = self._wish.vllm is not None
        cost.gpus = actors * work.lane.gpus if own else self._wish.gpus or 0.0
        watch = Watch(self._session, plan, cost, (self._done, before), self._progress)
        parts = [(part, plan.stem(part)) for part in left]
        for result in self._session.embedded(work, parts, actors):
            if result is None:
                watch.look(actors, work.lane)
                cost.keep()
                continue
            for said in result.listed:
                self._progress.say(clean(said))
            if result.stop:
                raise Stop(result.stop)
            watch.take(result)

    def _work(self, plan: Plan) -> Work:
        wish, checked = self._wish, self._checked
        request = Request(
            model=plan.model,
            kind=plan.kind,
            instruction=plan.instruction,
            dimensions=plan.dimensions,
            cut=wish.cut,
        )
        lane: Any
        if wish.vllm is not None:
            gpus = 1.0 if wish.gpus is None else wish.gpus
            lane = embed_ray_vllm.Lane(folder=wish.vllm, wish=request, gpus=gpus)
        else:
            lane = Lane(
                gateways=checked.gateways, key=checked.key, wish=request, clients=wish.clients
            )
        return Work(
            source=checked.source,
            out=checked.out,
            id=plan.id,
            plain=plan.plain,
            field=plan.field,
            vector=plan.vector,
            parquet=checked.parquet,
            kinds=plan.kinds,
            skip=wish.bad == "skip",
            inputs=wish.inputs,
            lane=lane,
        )

    def _look_up(self, plan: Plan) -> None:
        """Which parts are done: those with a note, and the file of which it speaks."""
        out, top = self._out, self._out.under()
        notes, files = out.listed(self._notes), out.listed(top)
        end = ending(self._checked.parquet)
        new = [p for p in plan.parts if f"{plan.stem(p)}{DONE}" in notes]

        def one(part: InputPart) -> PartDone | None:
            return self._done.get(part.number) or kept(out, self._notes, plan.stem(part))

        with ThreadPoolExecutor(THREADS) as threads:
            found = list(threads.map(one, new))
        self._done = {
            part.number: done
            for part, done in zip(new, found, strict=True)
            if done is not None and files.get(plan.stem(part) + end, 0) == done.bytes
        }

    def _sum(self, name: str) -> int:
        return sum(getattr(done, name) for done in self._done.values())

    def _finish(self, plan: Plan, cost: Cost, before: tuple[int, int]) -> None:
        """All is there: say so in the output, and leave nothing else in it. Raises Stop."""
        out, done = self._out, list(self._done.values())
        for what in ("dimensions", "model"):
            kinds = sorted({str(getattr(d, what)) for d in done if d.dimensions})
            if len(kinds) > 1:
                cure = "begin anew with --force"
                raise Stop(f"parts differ in their {what}: {', '.join(kinds)}; {cure}")
        if not any(d.dimensions for d in done):
            raise Stop(f"no row of {self._wish.file} could be embedded")
        names = {plan.stem(part) + ending(self._checked.parquet) for part in plan.parts}
        top = out.under()
        others = [n for n in out.listed(top) if n.startswith("part-") and n not in names]
        killed = [n for n in out.listed(self._notes) if n.endswith(WRITING)]
        out.remove([f"{top}/{n}" for n in others] + [f"{self._notes}/{n}" for n in killed])
        counts = {n: self._sum(n) for n in ("rows", "missing", "tokens", "cut")}
        out.put(f"{top}/{SUCCESS}", msgspec.json.encode(counts | {"parts": len(done)}))
        text = summary(out.place, before=before, took=cost.took, **counts)
        print(text + (f"; {said}" if (said := cost.text()) else ""))
