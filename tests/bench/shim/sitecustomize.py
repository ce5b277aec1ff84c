"""Put on a gateway's PYTHONPATH by a bench: its audit goes to the bench's own socket, or nowhere.

Python runs this at the start of each process. ER_BENCH_AUDIT is the path of a datagram socket that
takes the records in the journal's place, or "off".
"""

import os
from pathlib import Path
from typing import Any

from er import journal

where = os.environ.get("ER_BENCH_AUDIT", "")
if where == "off":

    class NoAudit(journal.Audit):
        """An audit that costs nothing."""

        def put(self, fields: Any) -> None:
            pass

    journal.Audit = NoAudit  # type: ignore[misc]
elif where:
    journal.AUDIT_SOCKET = Path(where)
