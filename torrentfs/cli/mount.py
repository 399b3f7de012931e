"""`torrentfs mount`: options to a `MountConfig`, then the service in the background or here.

The defaults shown are the engine's own (`SessionConfig`), except for what greets strangers by
itself, which the command line switches on (`cli.peers`, `cli.dht`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import click

from torrentfs.cli.dht import dht_config, dht_options
from torrentfs.cli.options import (
    DURATION,
    ENVVAR_PREFIX,
    HOST_PORT,
    PATH,
    RATE,
    SIZE,
    TRACKER,
    UMASK,
    WEB_SEED,
    MountCommand,
    WholeNumber,
)
from torrentfs.cli.output import ProgressLine, complain
from torrentfs.cli.peers import peer_options, peer_settings
from torrentfs.cli.webrtc import rtc_config, rtc_options
from torrentfs.daemon.config import MountConfig, absolute, default_log_file
from torrentfs.daemon.outcome import DONE
from torrentfs.daemon.quantities import format_duration, format_size
from torrentfs.engine.config import SessionConfig, default_cache_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torrentfs.daemon.report import Report
    from torrentfs.scheduling.ip_filter import IpFilter

_SESSION = SessionConfig()


def _short(size: int) -> str:
    """`10G`: a size as it is written on the command line."""
    return format_size(size).replace(" ", "").replace("iB", "")


def _flag(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, is_flag=True, default=False, **settings)


def _size(name: str, default: int, text: str) -> Callable[[Any], Any]:
    return click.option(name, type=SIZE, default=_short(default), show_default=True, help=text)


@click.command(
    cls=MountCommand,
    context_settings={"auto_envvar_prefix": ENVVAR_PREFIX, "show_default": False},
    short_help="Mount torrents on a directory.",
)
@click.argument("sources", metavar="SOURCE...", nargs=-1)
@click.argument("mountpoint", metavar="MOUNTPOINT", type=PATH, required=False)
@_flag("-f", "--foreground", help="Stay in the foreground, with a live status on a terminal.")
@click.option(
    "--metadata-timeout",
    type=DURATION,
    default="60s",
    show_default=True,
    help="Longest wait for a magnet's file list (exit code 3).",
)
@click.option(
    "--read-timeout",
    type=DURATION,
    default=format_duration(_SESSION.read_timeout),
    show_default=True,
    help="Longest that a read waits without progress before it fails.",
)
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
    "--cache-dir",
    type=PATH,
    default=default_cache_dir,
    help="Where verified data is kept.  [default: ~/.cache/torrentfs]",
)
@_size("--cache-size", _SESSION.cache_size, "Most that the cache takes on disk.")
@_size("--min-free-space", _SESSION.min_free, "What the cache leaves free on its disk.")
@_size("--memory-limit", _SESSION.memory_limit, "Most memory for data.")
@_size("--readahead", _SESSION.readahead, "Most that is fetched ahead of a reader.")
@click.option(
    "--peer",
    metavar="HOST:PORT",
    type=HOST_PORT,
    multiple=True,
    help="Ask this peer. May be repeated.",
)
@click.option(
    "--tracker",
    metavar="URL",
    type=TRACKER,
    multiple=True,
    help="Ask this tracker too. May be repeated.",
)
@click.option(
    "--web-seed",
    metavar="URL",
    type=WEB_SEED,
    multiple=True,
    help="Read from this web server too. May be repeated.",
)
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    default=_SESSION.port,
    help="TCP port for peers.  [default: any free one]",
)
@click.option(
    "--bind-interface",
    metavar="IF",
    help="Use this network interface (or local address) only.",
)
@click.option(
    "--ip-filter",
    metavar="FILE",
    type=PATH,
    multiple=True,
    help="Never talk to peers in these address ranges (eMule .dat, PeerGuardian .p2p, CIDR; "
    "also gzip). May be repeated.",
)
@_flag("--no-port-mapping", help="Do not ask the gateway (PCP, NAT-PMP, UPnP) to let peers in.")
@_flag("--no-tcp", help="Use no TCP peers.")
@peer_options
@rtc_options
@dht_options
@_flag("--private", help="Take magnets for private until their file list is known: no DHT.")
@_flag("--no-web-seeds", help="Use no web seeds.")
@_flag("--no-upload", help="Send nothing to other peers.")
@_flag("--allow-local", help="Let URLs of torrents lead to any address of this network.")
@click.option(
    "--download-limit", metavar="RATE", type=RATE, help="Bytes a second, like 5M.  [default: none]"
)
@click.option(
    "--upload-limit", metavar="RATE", type=RATE, help="Bytes a second, like 1M.  [default: none]"
)
@click.option(
    "--log-file",
    type=PATH,
    help="Write the log here.  [default: ~/.local/state/torrentfs/log/MOUNTPOINT.log]",
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
    if not options["sources"] or options["mountpoint"] is None:
        words = "say what to mount and then where: torrentfs mount SOURCE MOUNTPOINT"
        raise click.UsageError(words, click.get_current_context())
    config = make_config(options)
    if config.foreground:
        from torrentfs.cli.foreground import run_in_foreground

        return run_in_foreground(config)
    return _run_in_background(config)


def make_config(options: dict[str, Any]) -> MountConfig:
    """The options as click gives them, as one frozen and absolute value; ConfigError."""
    from torrentfs.daemon.interfaces import binding_of
    from torrentfs.daemon.sources import parse_source

    bind = options["bind_interface"]
    session = SessionConfig(
        cache_dir=absolute(options["cache_dir"]),
        cache_size=options["cache_size"],
        memory_limit=options["memory_limit"],
        min_free=options["min_free_space"],
        readahead=options["readahead"],
        read_timeout=options["read_timeout"],
        port=options["port"],
        bind=binding_of(bind) if bind else None,
        port_mapping=not options["no_port_mapping"],
        tcp=not options["no_tcp"],
        **peer_settings(options),
        rtc=rtc_config(options),
        dht=dht_config(options),
        private=options["private"],
        web_seeds=not options["no_web_seeds"],
        upload=not options["no_upload"],
        download_limit=options["download_limit"],
        upload_limit=options["upload_limit"],
        ip_filter=_read_filter(options["ip_filter"]),
        allow_local=options["allow_local"],
    )
    log_file = options["log_file"]
    same = "foreground metadata_timeout allow_other allow_root uid gid umask xattrs mtime"
    return MountConfig(
        sources=tuple(parse_source(text) for text in options["sources"]),
        mountpoint=absolute(options["mountpoint"]),
        session=session,
        peers=options["peer"],
        trackers=options["tracker"],
        web_seeds=options["web_seed"],
        log_file=absolute(log_file) if log_file else None,
        verbosity=options["verbose"],
        **{name: options[name] for name in same.split()},
    )


def _read_filter(paths: tuple[Path, ...]) -> IpFilter | None:
    """The address ranges of these files; what of them was not understood is told."""
    from torrentfs.daemon.filters import read_ip_filters

    made = read_ip_filters(tuple(map(absolute, paths)))
    if made is not None and made.unread:
        complain(f"--ip-filter: {made.unread} lines not understood, first {made.first_bad}")
    return made


def _run_in_background(config: MountConfig) -> int:
    """Start the service in a child process; tell on stderr only what went wrong."""
    from torrentfs.daemon.background import run_in_background

    log_file = config.log_file or default_log_file(config.mountpoint)

    def open_log() -> TextIO:
        from torrentfs.daemon.logs import file_handler, start_logging

        handler = file_handler(log_file, rotate=config.log_file is None)
        start_logging(handler, config.verbosity)
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
