"""Commands that do the same to several things: each is tried, each that fails is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torrentfs.cli.output import complain
from torrentfs.errors import TorrentFSError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def do_each(
    texts: Sequence[str], work: Callable[[str], Any]
) -> tuple[list[Any], list[TorrentFSError]]:
    """Do all, whatever fails: what came of it, and what failed."""
    done: list[Any] = []
    failed: list[TorrentFSError] = []
    for text in texts:
        try:
            done.append(work(text))
        except TorrentFSError as error:
            failed.append(error)
    return done, failed


def tell_of(failed: Sequence[TorrentFSError]) -> None:
    """Say what failed; the last of it ends the command."""
    for error in failed[:-1]:
        complain(str(error))
    if failed:
        raise failed[-1]
