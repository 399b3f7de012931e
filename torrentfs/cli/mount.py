"""`torrentfs mount`: options to a `MountConfig`, then the service in the background or here."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

import click

from torrentfs.cli.fetching import fetch_options, session_config
from torrentfs.cli.http import control_config, http_options
from torrentfs.cli.options import (
    DURATION,
    ENVVAR_PREFIX,
    PATH,
    UMASK,
    MountCommand,
    Parsed,
    WholeNumber,
)
from torrentfs.cli.output import ProgressLine, complain
from torrentfs.cli.views import view_of, view_options
from torrentfs.daemon.config import MountConfig, absolute, default_log_file, default_state_dir
from torrentfs.daemon.outcome import DONE
from torrentfs.daemon.quantities import format_duration
from torrentfs.engine.config import SessionConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from torrentfs.daemon.report import Report

_SESSION = SessionConfig()


def _parse_refresh(text: str) -> object:
    from torrentfs.daemon.refreshing import parse_refresh  # start-up time counts

    return parse_refresh(text)


def _parse_token_file(text: str) -> object:
    from torrentfs.daemon.refreshing import parse_token_file

    return parse_token_file(text)


REFRESH = Parsed("kind=url", _parse_refresh)
TOKEN_FILE = Parsed("kind=file", _parse_token_file)


def _flag(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, is_flag=True, default=False, **settings)


@click.command(
    cls=MountCommand,
    context_settings={"auto_envvar_prefix": ENVVAR_PREFIX, "show_default": False},
    short_help="Mount torrents on a directory.",
)
@click.argument("sources", metavar="SOURCE...", nargs=-1)
@click.argument("mountpoint", metavar="MOUNTPOINT", type=PATH, required=False)
@_flag("-f", "--foreground", help="Stay in the foreground, with a live status on a terminal.")
@click.option(
    "-o",
    "mount_options",
    metavar="OPT[,OPT...]",
    multiple=True,
    expose_value=False,
    help="Options as of mount(8): every long option works as -o name=value.",
)
@_flag("--allow-other", help="Let all users read (needs user_allow_other in /etc/fuse.conf).")
@_flag("--allow-root", help="Let root read.")
@click.option("--uid", type=WholeNumber(0), help="Owner of the files.  [default: you]")
@click.option("--gid", type=WholeNumber(0), help="Group of the files.  [default: yours]")
@click.option(
    "--umask",
    type=UMASK,
    default="022",
    show_default=True,
    help="Mode bits to take away from 0444 (files) and 0555 (directories).",
)
@_flag("--xattrs", help="Offer user.torrentfs.* attributes (every ls -l will ask for them).")
@click.option(
    "--mtime",
    type=click.Choice(["added", "created"]),
    default="added",
    show_default=True,
    help="Date of the files: when first mounted, or the torrent's own.",
)
@click.option(
    "--max-active",
    metavar="N",
    type=WholeNumber(1),
    default=_SESSION.max_active,
    show_default=True,
    help="Most torrents that have peers at a time; the others sleep until they are read.",
)
@click.option(
    "--idle-timeout",
    type=DURATION,
    default=format_duration(_SESSION.idle_timeout),
    show_default=True,
    help="A torrent that nobody reads or downloads goes to sleep after this (0: never).",
)
@_flag("--inotify", help="Let inotify report torrents that come and go.")
@view_options
@click.option(
    "--watch",
    metavar="DIR",
    type=PATH,
    multiple=True,
    help="Mount the .torrent and .magnet files in DIR, and follow what changes there. "
    "Folders of DIR are folders of the mount. May be repeated.",
)
@click.option(
    "--follow-interval",
    type=DURATION,
    default="1h",
    show_default=True,
    help="Ask the DHT so often what publishers (magnet:?xs=urn:btpk:...) named last.",
)
@click.option(
    "--on-change",
    metavar="CMD",
    default="",
    help="Run this shell command when torrents come to the mount or go (TORRENTFS_EVENT, "
    "TORRENTFS_PATH, ...).",
)
@click.option(
    "--refresh",
    metavar="KIND=URL",
    type=REFRESH,
    multiple=True,
    help="Tell this media server of it: jellyfin=URL, plex=URL or kodi=URL; #/PATH behind the "
    "URL is where it sees the mount. May be repeated.",
)
@click.option(
    "--refresh-token",
    metavar="KIND=FILE",
    type=TOKEN_FILE,
    multiple=True,
    help="Its token, from a file; or the variable TORRENTFS_JELLYFIN_TOKEN, ..._PLEX_..., "
    "..._KODI_... (user:password).",
)
@click.option(
    "--state-dir",
    type=PATH,
    default=default_state_dir,
    help="Where the library is remembered.  [default: ~/.local/state/torrentfs]",
)
@fetch_options
@_flag("--no-port-mapping", help="Do not ask the gateway (PCP, NAT-PMP, UPnP) to let peers in.")
@http_options
@click.option(
    "--log-file",
    type=PATH,
    help="Write the log here.  [default: ~/.local/state/torrentfs/log/MOUNTPOINT.log]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Log lines for people, or one JSON object a line.",
)
@click.option(
    "--config",
    type=PATH,
    expose_value=False,
    help="Read options from this file.  [default: ~/.config/torrentfs/config.toml]",
)
@click.option("-v", "--verbose", count=True, help="Log more; -vv logs everything.")
def mount(**options: Any) -> int:
    """Mount each SOURCE on the directory MOUNTPOINT, and return when it is there.

    A SOURCE is a magnet link, a .torrent file, an http(s) URL of one, or an info-hash. Each
    torrent is one entry of the mount. Unmount with torrentfs umount or fusermount3 -u.

    Sizes take K, M, G (powers of 1024), durations s, m, h. Each option may also be given as
    -o name=value, as a variable (TORRENTFS_CACHE_SIZE) or as a key of the config file
    (cache-size = "10G"); the first of these wins.

    Exit codes: 0 mounted, 1 usage or bad input, 2 cannot mount, 3 metadata not found in time.
    """
    mountpoint = options["mountpoint"]
    if mountpoint is None or (not options["sources"] and is_source(str(mountpoint))):
        words = "say what to mount and then where: torrentfs mount SOURCE MOUNTPOINT"
        raise click.UsageError(words, click.get_current_context())
    config = make_config(options)
    if config.foreground:
        from torrentfs.cli.foreground import run_in_foreground

        return run_in_foreground(config)
    return _run_in_background(config)


def is_source(text: str) -> bool:
    """Whether this can only be meant as a SOURCE: then the mount point was forgotten."""
    from torrentfs.daemon.sources import parse_info_hash

    return bool(
        re.match(r"(magnet:|https?:)", text, re.IGNORECASE)
        or text.lower().endswith((".torrent", ".magnet"))
        or parse_info_hash(text)
    )


def make_config(options: dict[str, Any]) -> MountConfig:
    """The options as click gives them, as one frozen and absolute value; ConfigError."""
    from torrentfs.daemon.refreshing import media_servers
    from torrentfs.daemon.sources import parse_source

    log_file = options["log_file"]
    same = "foreground metadata_timeout allow_other allow_root uid gid umask xattrs mtime"
    return MountConfig(
        sources=tuple(parse_source(text) for text in options["sources"]),
        mountpoint=absolute(options["mountpoint"]),
        session=replace(
            session_config(options),
            max_active=options["max_active"],
            idle_timeout=options["idle_timeout"],
        ),
        inotify=options["inotify"],
        layout=options["layout"],
        view=view_of(options),
        peers=options["peer"],
        trackers=options["tracker"],
        web_seeds=options["web_seed"],
        control=control_config(options),
        watch=tuple(map(absolute, options["watch"])),
        follow_interval=options["follow_interval"],
        on_change=options["on_change"],
        refresh=media_servers(
            options["refresh"],
            {kind: absolute(path) for kind, path in options["refresh_token"]},
            os.environ,
            absolute(options["mountpoint"]),
        ),
        state_dir=absolute(options["state_dir"]),
        log_file=absolute(log_file) if log_file else None,
        log_format=options["log_format"],
        verbosity=options["verbose"],
        **{name: options[name] for name in same.split()},
    )


def _run_in_background(config: MountConfig) -> int:
    """Start the service in a child process; tell on stderr only what went wrong."""
    from torrentfs.daemon.background import run_in_background

    log_file = config.log_file or default_log_file(config.mountpoint)

    def open_log() -> TextIO:
        from torrentfs.daemon.logs import file_handler, start_logging

        handler = file_handler(log_file, rotate=config.log_file is None)
        start_logging(handler, config.verbosity, config.log_format)
        assert handler.stream is not None  # opened by now, not at the first line
        return handler.stream

    def serve(report: Report) -> None:
        serve_forever(config, report)

    progress = ProgressLine()
    try:
        ended = run_in_background(serve, open_log=open_log, on_progress=progress.show)
    finally:
        progress.clear()
    if ended.code != DONE:
        complain(ended.text)
    elif ended.warning:
        complain(f"mounted, but {ended.warning}")
    elif config.verbosity:
        click.echo(f"{ended.text} (log: {log_file})", err=True)
    return ended.code


def serve_forever(config: MountConfig, report: Report) -> None:
    """Run the service until it is unmounted; raises one declared error when it cannot."""
    import trio

    from torrentfs.daemon.parts import real_parts
    from torrentfs.daemon.service import run_mount

    trio.run(run_mount, config, report, real_parts())
