"""Words on the terminal: results to stdout, everything else to stderr.

Text that came from a torrent is never printed raw: a file name may hold escape sequences that
would command the terminal.
"""

from __future__ import annotations

import sys

import click


def complain(text: str) -> None:
    """One line on stderr, with the program's name in front."""
    click.echo(f"torrentfs: {printable(text)}", err=True)


def printable(text: str) -> str:
    """`text` with every control, format or undecodable character shown as `\\x..`, `\\u....`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class ProgressLine:
    """What a waiting parent shows: a spinner on a terminal, nothing into a pipe or file.

    rich is imported at the first message, so a mount that is quick never pays for it.
    """

    def __init__(self) -> None:
        self._status: object | None = None
        self._on_terminal = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace what was shown."""
        if not self._on_terminal:
            return
        from rich.console import Console
        from rich.status import Status
        from rich.text import Text

        words = Text(printable(text), overflow="ellipsis", no_wrap=True)
        if isinstance(self._status, Status):
            self._status.update(words)
        else:
            self._status = Status(words, console=Console(stderr=True))
            self._status.start()

    def clear(self) -> None:
        """Take it away, so that the next line starts on a clean one."""
        from contextlib import suppress

        if self._status is not None:
            with suppress(Exception):
                self._status.stop()  # type: ignore[attr-defined]
            self._status = None
