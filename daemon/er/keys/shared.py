"""Keys that hosts share: the shared state has them, er_api_keys.json is its last known copy.

A change reads all of them from there, is made as in a file, and goes in only if no other host was
first; then the copy is written. Without the shared state nothing is changed, and the copy counts.

Which of the two is newer follows from their histories (`origin`). Where the shared state has lost
what this host still knows (a failover, a server that keeps nothing), that is put back: nobody is
locked out by it, and nobody who was revoked comes back.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from er.config import Config, directory
from er.config.state import host_name
from er.keys import file, origin, used
from er.keys import record as records
from er.keys.entry import FIELDS, PUT, Damaged, Held, begun, counted, decoded, encoded
from er.keys.file import Apply, T
from er.keys.origin import Origin
from er.keys.record import KeysError, Record
from er.quantities import written_time

if TYPE_CHECKING:
    from er.shared_state import Now

TRIES = 60  # of a change where other hosts change keys too
REST_S = 0.05  # between them, at most
UNSURE_S = 6.0  # a change whose answer was lost is looked after for so long
Standing = Literal["ok", "unmoved", "own", "damaged"]
_AGAIN = "try again when it answers (er status)"
_UNSURE = (
    "whether the key changed is not known: look with er keys list when it answers again, and "
    "revoke a key whose secret nobody saw"
)
MOVE = "sudo er state move carries them over"
_LAST_KNOWN = "these are the last known keys"


class News(NamedTuple):
    """How the keys of this host stand to the shared ones, and what a look has changed.

    ok: they are the same. unmoved: there are no shared ones yet, the file counts. own: there are,
    and the file counts still, as it has keys in use that those lack. damaged: what is there can't
    be used, the copy counts. `done` says what a look did, "" for nothing.
    """

    standing: Standing
    text: str = ""
    done: str = ""
    version: int = 0


class Shared:
    """Of one installation; `path` is this host's copy. Its methods may be called by any thread."""

    def __init__(
        self, config: Config, path: Path, *, clock: Callable[[], float] = time.time
    ) -> None:
        assert config.state is not None
        self.path = path
        self.note = ""  # why the last change holds on this host alone
        self._state, self._host, self._clock = config.state, host_name(config.host), clock
        self._client: Now | None = None
        self._making = threading.Lock()

    # -- changes -------------------------------------------------------------------------------

    def changed(self, apply: Apply[T]) -> T:
        """Make a change for all hosts; where the file alone counts yet, in it. Raises KeysError."""
        for _ in range(TRIES):
            held = self._there()
            standing = self._standing(held)
            if standing.standing in ("unmoved", "own"):
                self.note = standing.text
                return file.changed(self.path, apply)
            if held is None and origin.read(self.path) is not None:
                self._lost()  # they are put back first
                continue
            base = held or begun()
            new, answer = apply(base.records)
            if new is None:
                return answer
            if self._put(base, after := base.after(new, self._host)):
                with contextlib.suppress(KeysError, OSError):  # the admin process writes it, too
                    self._adopt(after)
                return answer
            time.sleep(random.uniform(0, REST_S))
        told = "other hosts change keys all the time; no key changed here, try again"
        raise KeysError("away", told)

    def first(self, record: Record) -> bool:
        """Make the first key of all hosts; False where there are some. Raises KeysError."""
        held = self._there()
        if held is None:
            base = begun()
            if self._put(base, after := base.after([record], self._host)):
                self._adopt(after)
                return True
            held = self._there()
        if held is not None:
            self._adopt(held)
        return False

    def take_in(self) -> tuple[int, int]:
        """Add this host's keys to the shared ones; (how many came in, how many there are).

        Of those that are there already only what must not be lost is taken (`origin.united`), so
        it may be done again. Raises KeysError, OSError.
        """
        for _ in range(TRIES):
            before, mine = origin.digest(self.path), self._mine()
            base = after = self._there() or begun()
            new = origin.united(base.records, mine)
            if new != base.records or not base.history:
                after = base.after(new, self._host)
                if not self._put(base, after):
                    time.sleep(random.uniform(0, REST_S))
                    continue
            # A key that was made here meanwhile comes along with the next round.
            if self._adopt(after, only=before):
                return len(new) - len(base.records), len(new)
        raise KeysError("away", "other hosts change keys all the time; no key moved, try again")

    # -- looks ---------------------------------------------------------------------------------

    def mark(self) -> str:
        """What differs once the shared keys have changed; "" without any. Raises Away."""
        with self.asked() as client:
            which, history = client.hmget(self._key(), ["set", "history"])
        return "" if history is None else f"{which!r} {history[-16:]!r}"

    def follow(self) -> News:
        """Have the copy say what the shared state says. Raises Away, KeysError, OSError."""
        try:
            held = self._get()
        except Damaged as error:
            return News("damaged", _damaged(error))
        found = self._standing(held)
        if found.standing != "ok":
            return found
        known = origin.read(self.path)
        if held is None:
            return found if known is None else self._lost()
        if known is None or known.set != held.set:
            aside = self._put_aside()
            self._adopt(held)
            return found._replace(done=f"keys are shared from now on: {held.taken()}" + aside)
        whole = known.sha256 == origin.digest(self.path)
        if known.change == held.change:
            if whole:
                return found
            aside = self._put_aside()
            self._adopt(held)
            done = f"{self.path.name} was changed on this host alone: {held.taken()} again{aside}"
            return found._replace(done=f"{done}; change keys with: er keys")
        if known.change in held.history or not whole:
            self._adopt(held)
            return found._replace(done=held.taken())
        return self._diverged(held, known)

    def freshened(self) -> str:
        """Bring the copy up to date if that can be; what to say of it, "" where all is well."""
        from er.shared_state import Away

        try:
            return self.follow().text
        except Away as error:
            return f"{error.text}; {self._last_known()}"
        except (KeysError, OSError) as error:
            return f"{self._last_known()}; root sees newer ones: {error}"

    def _last_known(self) -> str:
        """How old the copy is: since the shared state answered last, or it was written."""
        from er.shared_state import verdict

        seen, known = verdict.read(directory("runtime")), origin.read(self.path)
        at = max(seen.answered if seen else 0.0, known.at if known else 0.0)
        age = written_time(max(0, round(self._clock() - at)))
        return f"these are the last known keys, of {age} ago" if at else _LAST_KNOWN

    def standing(self) -> News:
        """How the copy stands to the shared ones, changing nothing. Raises Away."""
        try:
            return self._standing(self._get())
        except Damaged as error:
            return News("damaged", _damaged(error))

    def told_uses(self) -> None:
        """Tell when this host's keys were last used, and hear of the others. Raises Away, OSError.

        One sorted set for all hosts: the newest time of each key counts.
        """
        from er.shared_state import key

        where = key(self._state.name, "keys_used")
        mine = used.times(self.path)
        with self.asked() as client:
            if mine:
                client.zadd(where, dict(mine), gt=True)
            told = client.zrange(where, 0, -1, withscores=True)
        used.put_others(self.path, {_text(member): int(when) for member, when in told})

    def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            self._client.close()

    # -- what it is made of --------------------------------------------------------------------

    def _key(self) -> str:
        from er.shared_state import key

        return key(self._state.name, "keys")

    @contextlib.contextmanager
    def asked(self) -> Iterator[Now]:
        """A client; what goes wrong with it is Away."""
        from er.shared_state import asked, connect_now

        with asked(self._state):
            with self._making:
                if self._client is None:
                    self._client = connect_now(self._state)
            yield self._client

    def _get(self) -> Held | None:
        """Raises Away, Damaged."""
        with self.asked() as client:
            fields = client.hmget(self._key(), list(FIELDS))
        return decoded(fields)

    def _there(self) -> Held | None:
        """The same for a change. Raises KeysError."""
        from er.shared_state import Away

        try:
            return self._get()
        except Away as error:
            raise KeysError("away", f"{error.text}; no key changed; {_AGAIN}") from None
        except Damaged as error:
            raise KeysError("damaged", f"{_damaged(error)}; no key changed") from None

    def _put(self, base: Held, after: Held) -> bool:
        """Have it there; False where another change was first. Raises KeysError.

        Asked again with the same id until it is known what became of it: it goes in once at most,
        and once this has said no, never.
        """
        from er.shared_state import Away

        fields = [part for pair in encoded(after, self._clock()).items() for part in pair]
        until, unsure = time.monotonic() + UNSURE_S, False
        while True:
            try:
                with self.asked() as client:
                    done = client.eval(PUT, 1, self._key(), base.change, after.change, *fields)
                    if done == 1 or not unsure:
                        return bool(done)
                    # It may have gone in, and another change after it.
                    held = decoded(client.hmget(self._key(), list(FIELDS)))
                return held is not None and after.change in held.history
            except Away as error:
                if error.cause not in ("unreachable", "late") and not unsure:
                    raise KeysError("away", f"{error.text}; no key changed; {_AGAIN}") from None
                unsure = True
                if time.monotonic() > until:
                    raise KeysError("unsure", f"{error.text}; {_UNSURE}") from None
                time.sleep(0.2)
            except Damaged as error:
                raise KeysError("unsure", f"{_damaged(error)}; {_UNSURE}") from None

    def _standing(self, held: Held | None) -> News:
        """Whose keys count here."""
        known = origin.read(self.path)
        if known is not None and (held is None or known.set == held.set):
            return News("ok", version=held.version if held else known.version)
        mine = self._mine()
        if held is None:
            if not mine:
                return News("ok")
            told = "the shared state has no keys yet, so this host's own count here alone"
            return News("unmoved", f"{told}; {MOVE}")
        if lacking := self._in_use(mine, held):
            told = (
                f"the shared state lacks keys that are in use here ({lacking} of them), so this "
                f"host's own count here alone; {MOVE}"
            )
            return News("own", told, version=held.version)
        return News("ok", version=held.version)

    def _mine(self) -> tuple[Record, ...]:
        """The keys of the file, or of its last good state; none where neither can be read."""
        for path in (self.path, file.good_copy(self.path)):
            with contextlib.suppress(OSError, ValueError):
                return records.decode(path.read_bytes())
        return ()

    def _in_use(self, mine: Sequence[Record], held: Held) -> int:
        """How many keys of this host that were used, and are good, all hosts would not know."""
        there = {r.sha256 for r in held.records}
        last, now = used.times(self.path), datetime.fromtimestamp(self._clock(), UTC)
        return sum(r.id in last and r.valid(now) and r.sha256 not in there for r in mine)

    def _lost(self) -> News:
        """The shared state has lost them: put this host's back. Raises Away, KeysError."""
        known, mine = origin.read(self.path), self._mine()
        assert known is not None
        base = Held(known.set, known.version, (), "", ())
        after = base.after(mine, self._host)
        after = after._replace(history=(*known.history, after.change)[-origin.HISTORY :])
        if not self._put(base, after):
            return News("ok")  # another host was first; the next look has its keys
        self._adopt(after)
        done = f"the shared state had lost all keys; {counted(mine)} of this host were put back"
        return News("ok", "", done, after.version)

    def _diverged(self, held: Held, known: Origin) -> News:
        """The shared state does not come out of what this host knows: nothing of either is lost."""
        mine = self._mine()
        behind = held.change in known.history
        new = mine if behind else origin.united(held.records, mine)
        if new == held.records:
            self._adopt(held)
            return News("ok", "", held.taken(), held.version)
        after = held.after(new, self._host, known.version + 1)
        if behind:
            after = after._replace(history=(*known.history, after.change)[-origin.HISTORY :])
        if not self._put(held, after):
            return News("ok")
        self._adopt(after)
        lost = f"went back from version {known.version} to {held.version}, as after a failover"
        back = f"what was lost is put back, as version {after.version}"
        done = f"the keys in the shared state {lost}; {back}"
        return News("ok", "", done, after.version)

    def _adopt(self, held: Held, *, only: str | None = None) -> bool:
        """Write the copy, unless another process here was further. Raises KeysError, OSError.

        `only`: if the file's digest is that still; False where it is not.
        """
        with file.locked(self.path):
            if only is not None and origin.digest(self.path) != only:
                return False
            known = origin.read(self.path)
            if known is not None and known.set == held.set and held.change in known.history:
                whole = known.sha256 == origin.digest(self.path)
                if known.change != held.change or whole:
                    return True
            file.write(self.path, held.records)
            made = Origin(
                set=held.set,
                version=held.version,
                history=held.history,
                sha256=origin.digest(self.path),
                at=self._clock(),
            )
            origin.write(self.path, made)
        return True

    def _put_aside(self) -> str:
        """Keep the file that makes way; what to say of it."""
        try:
            data = self.path.read_bytes()
        except OSError:
            return ""
        kept = self.path.with_name(self.path.stem + ".before-shared.json")
        file.replace({kept: data})
        return f"; the file as it was is {kept}"


def _damaged(error: Damaged) -> str:
    return f"the entry of the keys in the shared state {error}; the last known keys stay in force"


def _text(member: object) -> str:
    return member.decode("ascii", "replace") if isinstance(member, bytes) else str(member)
