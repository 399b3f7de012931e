"""`mount -f`: the service in this process, with a live status line on a terminal.

On a terminal one line at the bottom is redrawn twice a second and log lines scroll above it.
Into a pipe or file (systemd, docker logs) only log lines are written, one each. A service manager
that asks for it is told when the mount is there, and that it lives (`daemon.readiness`).
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import trio

from torrentfs.cli.output import complain, printable
from torrentfs.daemon.outcome import DONE
from torrentfs.daemon.quantities import format_rate, format_size
from torrentfs.daemon.readiness import Readiness

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from torrentfs.daemon.config import MountConfig
    from torrentfs.daemon.report import Mounted, MountStatus

REFRESH = 0.5
"""Seconds between two looks at the status."""


def run_in_foreground(config: MountConfig) -> int:
    """Mount and serve here until unmounted or interrupted; the exit code."""
    from torrentfs.cli.mount import serve_forever
    from torrentfs.daemon.logs import file_handler, start_logging

    console = None
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
    handler: logging.Handler
    if config.log_file is not None:
        handler = file_handler(config.log_file, rotate=False)
    elif console is not None and config.log_format == "text":
        handler = TerminalHandler(console)
    else:
        handler = logging.StreamHandler(sys.stderr)
    start_logging(handler, config.verbosity, config.log_format)
    elsewhere = config.log_file is not None
    report = TerminalReport(console, log_is_elsewhere=elsewhere, readiness=Readiness())
    serve_forever(config, report)
    return DONE


class TerminalHandler(logging.Handler):
    """Prints log lines above the live status line."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, with nothing in it taken as markup or as a control sequence."""
        from rich.text import Text

        try:
            lines = self.format(record).splitlines()
            text = "\n".join(printable(line) for line in lines)
            style = "yellow" if record.levelno >= logging.WARNING else "dim"
            self._console.print(Text(text, style=style))
        except Exception:
            self.handleError(record)


class TerminalReport:
    """A `Report` to the user who looks on; `console` is None when stderr is no terminal.

    What is logged is not said again, unless `log_is_elsewhere`.
    """

    def __init__(
        self,
        console: Console | None,
        *,
        log_is_elsewhere: bool = False,
        readiness: Readiness | None = None,
    ) -> None:
        self._console = console
        self._log_is_elsewhere = log_is_elsewhere
        self._readiness = readiness or Readiness({})

    def on_progress(self, text: str) -> None:
        """Say what is being waited for."""
        logging.getLogger(__name__).info("%s", printable(text))
        self._readiness.tell(f"STATUS={printable(text)}")

    def on_ready(self, mounted: Mounted) -> None:
        """Say how to end it; the service has logged that it is mounted."""
        self._readiness.tell("READY=1", f"STATUS={printable(str(mounted))}")
        if mounted.warning and self._log_is_elsewhere:
            complain(f"mounted, but {mounted.warning}")
        if self._console is not None:
            from rich.text import Text

            self._console.print(Text(f"Ctrl-C unmounts {mounted.mountpoint}", style="bold"))

    async def follow(self, status: Callable[[], MountStatus]) -> None:
        """Redraw the line, and tell the service manager that we live, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._readiness.live)
                await self._redraw(status)
        finally:
            self._readiness.tell("STOPPING=1")

    async def _redraw(self, status: Callable[[], MountStatus]) -> None:
        if self._console is None:
            return
        from rich.live import Live
        from rich.text import Text

        def draw() -> Text:
            return Text(status_line(status()), no_wrap=True, overflow="ellipsis")

        live = Live(draw(), console=self._console, auto_refresh=False, transient=True)
        with live:
            while True:
                await trio.sleep(REFRESH)
                live.update(draw(), refresh=True)


def status_line(status: MountStatus) -> str:
    """`have 12% of 4.1 GiB · 3.2 MiB/s down · 7 peers · 2 reads wait`: what there is to say."""
    share = status.have / status.total if status.total else 1.0
    parts = [
        f"have {int(share * 100)}% of {format_size(status.total)}",
        f"↓ {format_rate(status.download_rate)}",
    ]
    if status.upload_rate >= 1:
        parts.append(f"↑ {format_rate(status.upload_rate)}")
    parts.append("1 source" if status.peers == 1 else f"{status.peers} sources")
    parts += [
        f"{printable(kind)} {format_size(amount)}"
        for kind, amount in sorted(status.received.items())
        if amount
    ]
    if status.blocked_reads:
        waiting = "1 read waits" if status.blocked_reads == 1 else f"{status.blocked_reads} wait"
        parts.append(f"{waiting} ({status.note})" if status.note else waiting)
    return " · ".join(parts)
