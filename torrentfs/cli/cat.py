"""`torrentfs cat`: bytes of one file to standard output, with no mount.

The session lives as long as the command. What is read is read ahead as for a player, and who reads
our output slowly slows us down: nothing is fetched but what is soon to be written. Writing happens
in a thread that a signal leaves behind, so Ctrl-C works although nobody takes what we write.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.fetching import fetch_options
from torrentfs.cli.options import ENVVAR_PREFIX, SIZE
from torrentfs.cli.output import ProgressLine
from torrentfs.cli.settings import ReadingCommand, config_option, open_config
from torrentfs.daemon.outcome import Interrupted, cause_of
from torrentfs.errors import ConfigError, DataUnavailable, TorrentFSError

if TYPE_CHECKING:
    import trio

    from torrentfs.daemon.config import OpenConfig
    from torrentfs.daemon.sources import Source


class CannotRead(TorrentFSError):
    """The bytes did not come; how far it got is in the text."""


@click.command(
    cls=ReadingCommand,
    context_settings={"auto_envvar_prefix": ENVVAR_PREFIX, "show_default": False},
    short_help="Write a file of a torrent to standard output.",
)
@click.argument("source", metavar="SOURCE")
@click.argument("path", metavar="[PATH]", required=False)
@click.option(
    "--offset", type=SIZE, default="0", allow_from_autoenv=False, help="Begin there.  [default: 0]"
)
@click.option(
    "--length",
    type=SIZE,
    allow_from_autoenv=False,
    help="Write so many bytes at most.  [default: all]",
)
@fetch_options
@config_option
@click.option("-v", "--verbose", count=True, help="Log to stderr; -vv logs everything.")
def cat(
    source: str,
    path: str | None,
    offset: int,
    length: int | None,
    verbose: int,
    **options: Any,
) -> None:
    """Write the file PATH of SOURCE to standard output, without a mount.

    A SOURCE is what torrentfs mount takes. PATH is that of a file in the torrent, without the
    torrent's own name; it may be left out where there is only one file. Sizes take K, M, G. What
    was fetched is kept in the cache, which mounts use too.

    Exit codes: 0 written, 1 bad input or bytes that did not come, 3 metadata not found in time.
    """
    import trio

    from torrentfs.daemon.logs import start_logging
    from torrentfs.daemon.sources import parse_source

    found, config = parse_source(source), open_config(options)
    if verbose:
        start_logging(logging.StreamHandler(sys.stderr), verbose)
    try:
        trio.run(_until_signal, found, config, path, offset, length)
    except BaseExceptionGroup as group:
        raise cause_of(group) from group


async def _until_signal(
    source: Source, config: OpenConfig, path: str | None, offset: int, length: int | None
) -> None:
    import trio

    received: list[int] = []

    async def watch(*, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for signum in signals:
                received.append(signum)
                nursery.cancel_scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        await _write(source, config, path, offset, length)
        nursery.cancel_scope.cancel()
    if received:
        raise Interrupted(received[0], "what came is in the cache")


async def _write(
    source: Source, config: OpenConfig, path: str | None, offset: int, length: int | None
) -> None:
    import trio

    from torrentfs.daemon.opening import open_source
    from torrentfs.engine.session import open_session

    progress = ProgressLine()
    place = offset
    async with open_session(config.session) as session:
        try:
            opened = await open_source(session, source, config, progress.show)
        finally:
            progress.clear()
        contents = opened.contents
        try:
            path = contents.only() if path is None else path
            number = contents.number(path)
        except OSError as error:
            raise ConfigError(str(error)) from None
        try:
            async with aclosing(opened.stream(number, offset, length)) as stream:
                async for data in stream:
                    await trio.to_thread.run_sync(_put, data, abandon_on_cancel=True)
                    place += len(data)
        except DataUnavailable as error:
            raise CannotRead(f"cannot read {path} at {place}: {error}") from error


def _put(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]
