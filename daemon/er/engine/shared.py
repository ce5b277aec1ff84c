"""Makes what replicas find in /run/er and can't make themselves: the ledger, the engines' secret.

A replica's unit lets it write the ledger and nothing else there, so both must be there before it
starts. er-runtime.service runs this as user er.
"""

from __future__ import annotations

import sys

from er import engine_secret
from er.config import directory
from er.ledger import Ledger, LedgerError


def main() -> int:
    """Returns the exit code: 0, or 1 and a line that says why they are not there."""
    runtime = directory("runtime")
    try:
        engine_secret.known(runtime)
        Ledger.open(runtime / "ledger", ()).close()
    except (OSError, LedgerError) as error:
        print(f"replicas can't start: {error}; look at {runtime}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
