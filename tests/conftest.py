"""For all tests: coroutines run on the loop that workers run on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio asks for the loops to run coroutine tests on."""
    return {"uvloop": uvloop.new_event_loop}
