"""What a torrentfs under test never does by itself: speak to anybody that the test did not name.

By default torrentfs asks the gateway for a port, greets the local network and looks for routers of
the DHT. A test, demo or benchmark that wants one of these says so, with nodes of its own.
"""

from __future__ import annotations

import os

QUIET = {
    "TORRENTFS_NO_PORT_MAPPING": "1",
    "TORRENTFS_NO_LSD": "1",
    "TORRENTFS_NO_DHT": "1",
}
"""Variables that switch off what asks strangers; one set to "0" switches it on again."""


UNCOMPILED = "PYTHONDONTWRITEBYTECODE"
"""With this set, each start of a checkout's torrentfs compiles all of it anew, which takes longer
than the rest of the start; an installed one has been compiled by pip."""


def quiet_environment(*, without: tuple[str, ...] = ("TORRENTFS_",)) -> dict[str, str]:
    """Ours, less the variables with the prefixes `without` (what a user has set), and quiet."""
    without += (UNCOMPILED,)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(without)}
    return {**kept, **QUIET}
