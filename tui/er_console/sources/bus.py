"""One connection to the system's D-Bus: calls with a limit of time, signals handed on.

Only what the console needs of dbus-fast, which is imported here alone: a machine without systemd
never pays for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

CONNECT_S = 5.0
DAEMON = "org.freedesktop.DBus"
DAEMON_PATH = "/org/freedesktop/DBus"
PROPERTIES = "org.freedesktop.DBus.Properties"

# Its warnings would be written across the screen.
logging.getLogger("dbus_fast").addHandler(logging.NullHandler())


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The other side answered with an error: its D-Bus name, and what it says."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name}: {said}")
        self.name = name
        self.said = said


class Lost(Exception):  # noqa: N818 - a state of the world
    """The connection has ended."""


class Bus:
    """A connection. `hear` gets each signal as a dbus-fast Message; `lost` is called at its end."""

    def __init__(self, bus: MessageBus, hear: Callable[[Message], None]) -> None:
        self._bus = bus
        self._hear = hear
        self._ending: asyncio.Future[None] | None = None
        bus.add_message_handler(self._take)

    @classmethod
    async def connect(
        cls, address: str | None, hear: Callable[[Message], None], lost: Callable[[], None]
    ) -> Bus:
        """To the system bus, or to that address. Raises OSError, TimeoutError, Lost."""
        bus = MessageBus(address, BusType.SYSTEM)
        try:
            async with asyncio.timeout(CONNECT_S):
                await bus.connect()
        except OSError:
            raise
        except Exception as error:  # a login refused, nonsense instead of an answer
            raise Lost(str(error)) from None
        found = cls(bus, hear)
        found._ending = asyncio.ensure_future(found._wait(lost))
        return found

    async def _wait(self, lost: Callable[[], None]) -> None:
        with contextlib.suppress(Exception):  # however it ends
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        lost()

    def _take(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL:
            self._hear(message)

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[Any] = (),
        *,
        limit_s: float,
    ) -> list[Any]:
        """The answer's values. Raises Refused, Lost, TimeoutError."""
        if not self._bus.connected:
            raise Lost
        asked = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._bus.call(asked)
        except TimeoutError:
            raise
        except Exception as error:  # whatever broke the connection under the call
            raise Lost(str(error)) from None
        if answer is None:
            raise Lost
        if answer.message_type is MessageType.ERROR:
            said = answer.body[0] if answer.body else ""
            raise Refused(answer.error_name or "", said if isinstance(said, str) else "")
        return list(answer.body)

    async def match(self, rule: str, *, limit_s: float) -> None:
        """Hear the signals of this match rule. Raises as `call`."""
        await self.call(DAEMON, DAEMON_PATH, DAEMON, "AddMatch", "s", [rule], limit_s=limit_s)

    def close(self) -> None:
        """Ends the connection; `lost` is not called any more."""
        if self._ending is not None and not self._ending.get_loop().is_closed():
            self._ending.cancel()
        if self._bus.connected:
            self._bus.disconnect()
