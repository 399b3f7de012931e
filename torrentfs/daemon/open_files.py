"""How many descriptors this process may have: as many as the machine lets it take.

A login shell and a service start with a *soft* limit of 1024, for the sake of programs that use
`select`, and a *hard* one of up to a billion, to which whoever uses none may raise it by itself.
The processes that we start inherit it: the WebRTC worker, whose peers are descriptors too.
"""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

ENOUGH = 65536
"""More is of no use here, and makes programs slow that close whatever they may have open."""


def attainable() -> int:
    """Descriptors that a mount or share may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    return most if soft == resource.RLIM_INFINITY else max(soft, most)


def raise_limit() -> int:
    """Take them; the soft limit from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = attainable()
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:  # a sandbox forbids it
        log.info("the limit of open files stays at %d: %s", soft, error)
        return soft
    return wanted
