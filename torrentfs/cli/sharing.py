"""What a person sees while torrents are shared: a table on a terminal, log lines elsewhere.

The table is redrawn twice a second at the bottom of the terminal, log lines scroll above it. Where
there is no terminal a line is logged when peers came or went, and while something is sent, every
`SAY_EVERY` seconds at most.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from torrentfs.cli.output import printable
from torrentfs.daemon.quantities import format_rate, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.table import Table

    from torrentfs.daemon.sharing import Sharing
    from torrentfs.engine.stats import PeerStatistics, SessionStatistics, TorrentStatistics

log = logging.getLogger(__name__)

REFRESH = 0.5
"""Seconds between two drawings."""
SAY_EVERY = 10.0
"""Seconds between two lines of one torrent in a log."""
MAX_PEERS = 10
"""Peers of a torrent in the table: those that get most now."""
MAX_TORRENTS = 20
"""Torrents in the table."""


class TerminalReport:
    """A `ShareReport`; `console` is None when stderr is no terminal."""

    def __init__(self, announce: Callable[[Sharing], None], console: Console | None) -> None:
        self._announce = announce
        self._console = console

    def on_ready(self, sharing: Sharing) -> None:
        """Print what is shared, and how to end it."""
        self._announce(sharing)
        if self._console is not None:
            from rich.text import Text

            self._console.print(Text("Ctrl-C ends it", style="bold"))

    async def follow(self, status: Callable[[], SessionStatistics]) -> None:
        """Show it until cancelled."""
        if self._console is None:
            await self._follow_in_log(status)
        else:
            await self._follow_in_table(status, self._console)

    async def _follow_in_table(
        self, status: Callable[[], SessionStatistics], console: Console
    ) -> None:
        from rich.live import Live

        live = Live(table(status()), console=console, auto_refresh=False, transient=True)
        with live:
            while True:
                await trio.sleep(REFRESH)
                live.update(table(status()), refresh=True)

    async def _follow_in_log(self, status: Callable[[], SessionStatistics]) -> None:
        told: dict[str, tuple[int, int]] = {}
        while True:
            for torrent in status().torrents:
                now = (len(torrent.peers), torrent.uploaded)
                if now != told.get(torrent.key, (0, 0)):
                    log.info("%s: %s", printable(torrent.name), status_line(torrent))
                told[torrent.key] = now
            await trio.sleep(SAY_EVERY)


def status_line(torrent: TorrentStatistics) -> str:
    """`3 peers · ↑ 2 MiB/s · 1.5 GiB sent`, and what is missing of it."""
    count = len(torrent.peers)
    parts = [
        "1 peer" if count == 1 else f"{count} peers",
        f"↑ {format_rate(torrent.upload_rate)}",
        f"{format_size(torrent.uploaded)} sent",
    ]
    if torrent.pieces_have < torrent.pieces_total:
        lost = torrent.pieces_total - torrent.pieces_have
        parts.append(f"{lost} of {torrent.pieces_total} pieces changed or gone")
    return " · ".join(parts)


def table(status: SessionStatistics) -> Table:
    """All torrents, and under each the peers that get most."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("Shared", overflow="ellipsis", no_wrap=True)
    for label in ("Has", "↑ now", "Sent"):
        drawn.add_column(label, justify="right", no_wrap=True)
    for torrent in status.torrents[:MAX_TORRENTS]:
        drawn.add_row(Text(printable(torrent.name), style="bold"), "", "", "")
        drawn.add_row(Text(f"  {status_line(torrent)}"), "", "", "")
        for cells in _peers(torrent):
            drawn.add_row(*map(Text, cells))
    left = len(status.torrents) - MAX_TORRENTS
    if left > 0:
        drawn.add_row(Text(f"and {left} more", style="dim"), "", "", "")
    return drawn


def _peers(torrent: TorrentStatistics) -> Iterator[tuple[str, str, str, str]]:
    def key(peer: PeerStatistics) -> tuple[float, int]:
        return (-peer.upload_rate, -peer.uploaded)

    for peer in sorted(torrent.peers, key=key)[:MAX_PEERS]:
        yield (
            f"  {printable(peer.address)} {peer.kind} {printable(peer.client)}",
            f"{int(peer.progress * 100)}%",
            format_rate(peer.upload_rate),
            format_size(peer.uploaded),
        )
