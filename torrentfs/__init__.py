"""torrentfs mounts a torrent as a directory; each read fetches just the pieces it needs.

`torrentfs.open` reads one without a mount (`torrentfs.api`), and `torrentfs.sync` is the same for
code that does not await. They are imported when they are used: the package itself costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torrentfs import sync as sync
    from torrentfs.api import open as open

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    import importlib

    if name == "open":
        return importlib.import_module("torrentfs.api").open
    if name == "sync":
        return importlib.import_module("torrentfs.sync")
    raise AttributeError(f"module 'torrentfs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "open", "sync"])
