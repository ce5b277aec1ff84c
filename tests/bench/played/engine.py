"""A replica's engine: one process that speaks HTTP, and steps of up to 8,192 tokens on a GPU.

The prices are those of vLLM 0.25 on an H200 with a model of Qwen3-0.6B's shape, as in
`calls_sim.py`: 3 ms a call and 0.27 ms a sequence of the API process, 60 and 40 % of them before
the engine; 6 ms a step, 0.12 ms a sequence in it, 2.75 µs a token. Each replica has a GPU of its
own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from played.events import US, Day

CALL_NS, SEQUENCE_NS = 3000 * US, 270 * US
STEP_NS, STEP_SEQUENCE_NS, TOKEN_NS = 6000 * US, 120 * US, 2750
STEP_TOKENS, STEP_SEQUENCES = 8192, 1024


def texts_s(mean_tokens: float) -> float:
    """Texts a second that one engine computes while it is full."""
    each = STEP_TOKENS / mean_tokens
    return each / (STEP_NS + each * STEP_SEQUENCE_NS + STEP_TOKENS * TOKEN_NS) * 1e9


class Call:
    """Sequences that came together. `out` takes it off its replica's ledger, in any case, once."""

    __slots__ = ("_answered", "_out", "failed", "left", "over", "sequences")

    def __init__(
        self,
        sequences: list[int],
        answered: Callable[[], None],
        failed: Callable[[], None],
        out: Callable[[], None],
    ) -> None:
        self.sequences, self._answered, self.failed, self._out = sequences, answered, failed, out
        self.left = len(sequences)  # tokens of each
        self.over = False  # answered, or who asked hung up, or it ended with its engine

    def ends(self) -> bool:
        """Whether it was under way until now."""
        if self.over:
            return False
        self.over = True
        self._out()
        return True

    def answers(self) -> None:
        """It is computed."""
        if self.ends():
            self._answered()


class Engine:
    """Computes calls; `slow` times as slowly as it should."""

    def __init__(self, day: Day) -> None:
        self._day = day
        self.slow = 1
        self.dead = False
        self.busy_ns = 0  # a step was computed, since it was set to 0
        self.computed = 0  # tokens, likewise
        self._api_free = 0  # when its API process is done with what it has
        self._waiting: deque[tuple[int, Call]] = deque()  # sequences
        self._stepping = False
        self._life = 0
        self._calls: dict[Call, None] = {}

    def ask(self, call: Call) -> None:
        """A call arrives."""
        self._calls[call] = None
        n = len(call.sequences)
        self._api(6 * CALL_NS // 10 + 4 * SEQUENCE_NS * n // 10, self._reaches, call)

    def dies(self) -> list[Call]:
        """All that is in it is lost: these calls."""
        self.dead = True
        self._life += 1
        lost, self._calls = [call for call in self._calls if call.ends()], {}
        self._waiting.clear()
        self._stepping = False
        return lost

    def returns(self) -> None:
        """A new one in its place."""
        self.dead, self._api_free = False, self._day.now

    def _api(self, price: int, then: Callable[[Call], None], call: Call) -> None:
        self._api_free = max(self._api_free, self._day.now) + price * self.slow
        self._day.at(self._api_free, self._if_alive, self._life, then, call)

    def _if_alive(self, life: int, then: Callable[[Call], None], call: Call) -> None:
        if life == self._life:
            then(call)

    def _reaches(self, call: Call) -> None:
        if call.over:
            del self._calls[call]
            return
        self._waiting.extend([(tokens, call) for tokens in call.sequences])
        if not self._stepping:
            self._step()

    def _step(self) -> None:
        """One step of all that waits, from whatever calls."""
        waiting, room, taken, ended = self._waiting, STEP_TOKENS, 0, list[Call]()
        while waiting and waiting[0][0] <= room and taken < STEP_SEQUENCES:
            tokens, call = waiting.popleft()
            if call.over:
                self._calls.pop(call, None)
                continue
            room -= tokens
            taken += 1
            call.left -= 1
            if not call.left:
                ended.append(call)
        self._stepping = taken > 0
        if taken:
            tokens = STEP_TOKENS - room
            price = self.slow * (STEP_NS + taken * STEP_SEQUENCE_NS + tokens * TOKEN_NS)
            self.busy_ns += price
            self.computed += tokens
            self._day.after(price, self._stepped, self._life, ended)

    def _stepped(self, life: int, ended: list[Call]) -> None:
        if life != self._life:
            return
        for call in ended:
            n = len(call.sequences)
            self._api(4 * CALL_NS // 10 + 6 * SEQUENCE_NS * n // 10, self._answers, call)
        self._step()

    def _answers(self, call: Call) -> None:
        del self._calls[call]
        call.answers()
