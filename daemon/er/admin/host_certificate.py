"""This host's own certificate, as the admin process cares for it: the next one in time."""

from __future__ import annotations

import asyncio

from er.config import Config, directory
from er.config.state import host_name
from er.journal import log, mishap
from er.tls import TlsError
from er.tls.made_own import care

LOOK_S = 600.0


class HostCertificate:
    """Of one generation."""

    def __init__(self, config: Config) -> None:
        self._host = host_name(config.host)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await asyncio.to_thread(care, directory("state"), self._host)
            except (OSError, TlsError) as error:
                log("err", f"the certificate for other hosts stays as it is: {error}")
            except Exception as error:
                mishap(error, "looking at the certificate for other hosts")
            await asyncio.sleep(LOOK_S)
