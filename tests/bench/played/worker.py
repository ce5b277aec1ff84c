"""A worker: the scheduler as it is, and around it what `replicas/mover` does, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from er.scheduler import Scheduler, others
from er.tickets import Batch, Load, Ticket
from played.cluster import BUDGET, Cluster, Host, Replica
from played.engine import STEP_TOKENS, Call
from played.events import MS, SECOND

RECHECK_NS, STUCK_NS, WATCH_NS = 2 * MS, 20 * MS, 250 * MS  # as the mover's
LATE_NS = 20 * SECOND
BACKOFF_NS, BACKOFF_MAX_NS = 250 * MS, 4_000 * MS  # as replicas/pools'


class Request(Ticket):
    """One request of a client; `ends` hears of its end, once."""

    def __init__(self, sequences: list[range], key: str, ends: Callable[[Request], None]) -> None:
        super().__init__(sequences, deadline=1 << 62)
        self.key, self.ends = key, ends


class Worker:
    """One process of a host's gateway, with one model's queue."""

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self._cluster, self.host, self._day = cluster, host, cluster.day
        self.scheduler = Scheduler(STEP_TOKENS)
        self.scheduler.others = others.Others(BUDGET, cluster.day.pick)
        self.mine: dict[str, int] = dict.fromkeys(cluster.replicas, 0)
        self.let_in: dict[str, int] = dict.fromkeys(host.replicas, 0)  # tokens of other hosts
        self.computed = {"own": 0, "other": 0}  # sequences, by whose replica
        self.calls = {"own": 0, "other": 0, "busy": 0, "failed": 0, "twins": 0}
        self._away = [r for r in cluster.replicas.values() if r.host is not host]
        self._flying: dict[Batch, Call | None] = {}
        self._shunned: dict[str, tuple[int, int]] = {}  # replica -> until when, times in a row
        self._recheck = self._watching = self._watching_stuck = False

    # -- in ------------------------------------------------------------------------------------

    def admit(self, request: Request) -> None:
        """Queue it and send what may go."""
        self.scheduler.admit(request, self._day.now)
        if not (self._recheck and self.scheduler.full(self.host.replicas)):
            self.pump()

    def dies(self) -> list[Request]:
        """With its host; returns the requests that end with it."""
        lost = [ticket for ticket in self.scheduler.tickets if isinstance(ticket, Request)]
        for ticket in lost:
            self.scheduler.cancel(ticket)
        self._flying.clear()
        return lost

    # -- out -----------------------------------------------------------------------------------

    def _load(self, replica: Replica) -> Load:
        name, host = replica.name, self.host
        rank = 2 if self._cluster.seems_up(host, replica) else 0
        if rank and name in self._shunned and self._shunned[name][0] > self._day.now:
            rank = 1
        if replica.host is host:
            return Load(name, rank, replica.tokens, self.mine[name])
        tokens = host.heard[name][0] + host.sent[name]
        return Load(name, rank, tokens, self.mine[name], self._cluster.away_s(host, replica.host))

    def _look(self) -> Iterable[Load]:
        return [self._load(replica) for replica in self._away]

    def _loads(self) -> dict[str, Load]:
        loads = {r.name: self._load(r) for r in self.host.replicas.values()}
        if self._away:
            for name in self.scheduler.others.some(self._day.now, self._look):
                loads[name] = self._load(self._cluster.replicas[name])
        return loads

    def pump(self) -> None:
        """Send what may go; see to it that what may not is looked at again."""
        scheduler, day = self.scheduler, self._day
        if scheduler.tickets and not self._watching:
            self._watching = True
            day.after(WATCH_NS, self._watch)
        if scheduler.tickets and not self._watching_stuck:
            self._watching_stuck = True
            day.after(STUCK_NS, self._watch_stuck)
        if not (scheduler.waiting or scheduler.stuck):
            return
        loads = self._loads()
        while scheduler.waiting or scheduler.stuck:
            batch = scheduler.take(list(loads.values()), day.now)
            if batch is None:
                if not self._recheck and scheduler.hungry(list(loads.values())):
                    self._recheck = True
                    day.after(RECHECK_NS, self._look_again)
                return
            self._send(batch)
            loads[batch.replica] = self._load(self._cluster.replicas[batch.replica])

    def _look_again(self) -> None:
        self._recheck = False
        if self.host.alive:
            self.pump()

    def _send(self, batch: Batch) -> None:
        replica = self._cluster.replicas[batch.replica]
        self.mine[batch.replica] += batch.tokens
        self._flying[batch] = None
        self.calls["twins"] += batch.twin is not None
        if replica.host is self.host:
            self.calls["own"] += 1
            self._asks(replica, batch, self, 0)
            return
        self.calls["other"] += 1
        self.host.sent[batch.replica] += batch.tokens
        half = int(self._cluster.away_s(self.host, replica.host) * 5e8)
        owner = self._day.pick.choice(replica.host.workers)
        self._day.after(half, owner.asked, self, batch, replica, half)

    def asked(self, by: Worker, batch: Batch, replica: Replica, half: int) -> None:
        """Another host's call arrives, `half` ns from there: in to the replica, or busy."""
        if not self.host.alive or batch not in by._flying:
            return
        in_flight = replica.tokens, self.let_in[replica.name]
        if replica.up and not others.admits(*in_flight, batch.tokens, BUDGET):
            self._day.after(half, by._busy, batch)
        else:
            by._asks(replica, batch, self, half)

    def _asks(self, replica: Replica, batch: Batch, owner: Worker, half: int) -> None:
        """The call is before the engine, `half` ns from here."""
        day, tokens = self._day, batch.tokens
        if replica.engine.dead:
            day.after(half, self._fails, batch)
            return
        foreign = tokens if owner is not self else 0
        replica.tokens += tokens
        owner.let_in[replica.name] += foreign

        def out() -> None:
            replica.tokens -= tokens
            owner.let_in[replica.name] -= foreign

        call = self._flying[batch] = Call(
            [item.tokens for item in batch.items],
            lambda: day.after(half, self._done, batch) if half else self._done(batch),
            lambda: day.after(half, self._fails, batch),
            out,
        )
        replica.engine.ask(call)

    # -- back ----------------------------------------------------------------------------------

    def _forget(self, batch: Batch) -> None:
        """It is on its way no more: answered, or hung up on."""
        call = self._flying.pop(batch)
        self.mine[batch.replica] -= batch.tokens
        if batch.replica in self.host.sent:
            self.host.sent[batch.replica] -= batch.tokens
        if call is not None:
            call.ends()

    def _done(self, batch: Batch) -> None:
        if batch not in self._flying:
            return  # given up meanwhile
        self._forget(batch)
        twin = batch.twin
        handed, finished = self.scheduler.done(batch, self._day.now)
        own = self._cluster.replicas[batch.replica].host is self.host
        self.computed["own" if own else "other"] += len(handed)
        self._shunned.pop(batch.replica, None)
        if twin is not None:
            if twin.taken < batch.taken:
                self._outrun(twin.replica)
            self._drop(self.scheduler.unwanted())
        self.pump()
        for ticket in finished:
            assert isinstance(ticket, Request)
            ticket.ends(ticket)

    def _outrun(self, replica: str) -> None:
        """Another one was faster with the same call: it is the last choice for a moment."""
        _, times = self._shunned.get(replica, (0, 0))
        until = self._day.now + min(BACKOFF_MAX_NS, BACKOFF_NS * 2**times)
        self._shunned[replica] = until, times + 1

    def _busy(self, batch: Batch) -> None:
        if batch in self._flying:
            self.calls["busy"] += 1
            self._forget(batch)
            self.scheduler.busy(batch)
            self.pump()

    def _fails(self, batch: Batch) -> None:
        if batch in self._flying:
            self.calls["failed"] += 1
            self._forget(batch)
            for item in self.scheduler.failed(batch):
                assert isinstance(item.ticket, Request)
                item.ticket.ends(item.ticket)
            self.pump()

    def _drop(self, batches: list[Batch]) -> None:
        for batch in batches:
            self._forget(batch)
            self.scheduler.dropped(batch)

    def hears_of(self, host: Host) -> None:
        """A host that was dead is back, and knows nothing of the calls that went there before."""
        for batch in list(self._flying):
            if self._cluster.replicas[batch.replica].host is host:
                self._fails(batch)

    # -- time ----------------------------------------------------------------------------------

    def _watch_stuck(self) -> None:
        self._watching_stuck = False
        if not self.host.alive:
            return
        self.scheduler.watch(self._day.now)
        if self.scheduler.stuck:
            self.pump()
        if self.scheduler.tickets and not self._watching_stuck:
            self._watching_stuck = True
            self._day.after(STUCK_NS, self._watch_stuck)

    def _watch(self) -> None:
        """Give up calls to replicas that were found down, or that took too long."""
        self._watching = False
        if not self.host.alive:
            return
        for batch in list(self._flying):
            age, replica = self._day.now - batch.taken, self._cluster.replicas[batch.replica]
            down = not self._cluster.seems_up(self.host, replica)
            if age >= LATE_NS or (down and age >= self._cluster.times.doubt_ns):
                self._fails(batch)
        self.pump()
