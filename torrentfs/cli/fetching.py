"""The options about fetching, shared by the commands that read torrents: one table, one meaning.

Each is a long option of `mount` and `cat`, a key of the config file, and a setting of
`torrentfs.open`. The defaults shown are the engine's own (`SessionConfig`), except for what greets
strangers by itself, which the command line switches on (`cli.peers`, `cli.dht`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.dht import dht_config, dht_options
from torrentfs.cli.options import (
    DURATION,
    HOST_PORT,
    PATH,
    RATE,
    SIZE,
    TRACKER,
    WEB_SEED,
    WholeNumber,
)
from torrentfs.cli.output import complain
from torrentfs.cli.peers import bind_option, peer_options, peer_settings
from torrentfs.cli.webrtc import rtc_config, rtc_options
from torrentfs.daemon.config import absolute
from torrentfs.daemon.quantities import format_duration, format_size
from torrentfs.engine.config import SessionConfig, default_cache_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torrentfs.scheduling.ip_filter import IpFilter

_SESSION = SessionConfig()


def _short(size: int) -> str:
    """`10G`: a size as it is written on the command line."""
    return format_size(size).replace(" ", "").replace("iB", "")


def _flag(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(*names, is_flag=True, default=False, **settings)


def _size(name: str, default: int, text: str) -> Callable[[Any], Any]:
    return click.option(name, type=SIZE, default=_short(default), show_default=True, help=text)


def fetch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where bytes come from and are kept, from `--metadata-timeout` to `--upload-limit`."""
    options = (
        click.option(
            "--metadata-timeout",
            type=DURATION,
            default="60s",
            show_default=True,
            help="Longest wait for a magnet's file list (exit code 3).",
        ),
        click.option(
            "--read-timeout",
            type=DURATION,
            default=format_duration(_SESSION.read_timeout),
            show_default=True,
            help="Longest that a read waits without progress before it fails.",
        ),
        click.option(
            "--cache-dir",
            type=PATH,
            default=default_cache_dir,
            help="Where verified data is kept.  [default: ~/.cache/torrentfs]",
        ),
        _size("--cache-size", _SESSION.cache_size, "Most that the cache takes on disk."),
        _size("--min-free-space", _SESSION.min_free, "What the cache leaves free on its disk."),
        _size("--memory-limit", _SESSION.memory_limit, "Most memory for data."),
        _size("--readahead", _SESSION.readahead, "Most that is fetched ahead of a reader."),
        click.option(
            "--peer",
            metavar="HOST:PORT",
            type=HOST_PORT,
            multiple=True,
            help="Ask this peer. May be repeated.",
        ),
        click.option(
            "--tracker",
            metavar="URL",
            type=TRACKER,
            multiple=True,
            help="Ask this tracker too. May be repeated.",
        ),
        click.option(
            "--web-seed",
            metavar="URL",
            type=WEB_SEED,
            multiple=True,
            help="Read from this web server too. May be repeated.",
        ),
        click.option(
            "--port",
            type=WholeNumber(0, 65535),
            default=_SESSION.port,
            help="TCP port for peers.  [default: any free one]",
        ),
        bind_option,
        click.option(
            "--ip-filter",
            metavar="FILE",
            type=PATH,
            multiple=True,
            help="Never talk to peers in these address ranges (eMule .dat, PeerGuardian .p2p, "
            "CIDR; also gzip). May be repeated.",
        ),
        _flag("--no-tcp", help="Use no TCP peers."),
        peer_options,
        rtc_options,
        dht_options,
        _flag("--private", help="Take magnets for private until their file list is known: no DHT."),
        _flag("--no-web-seeds", help="Use no web seeds."),
        _flag("--no-upload", help="Send nothing to other peers."),
        _flag("--allow-local", help="Let URLs of torrents lead to any address of this network."),
        click.option(
            "--download-limit",
            metavar="RATE",
            type=RATE,
            help="Bytes a second, like 5M.  [default: none]",
        ),
        click.option(
            "--upload-limit",
            metavar="RATE",
            type=RATE,
            help="Bytes a second, like 1M.  [default: none]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def session_config(options: dict[str, Any]) -> SessionConfig:
    """The options as click gives them, as one frozen and absolute value; ConfigError.

    A command without `--no-port-mapping` leaves the gateway alone.
    """
    from torrentfs.daemon.interfaces import binding_of

    bind = options["bind_interface"]
    return SessionConfig(
        cache_dir=absolute(options["cache_dir"]),
        cache_size=options["cache_size"],
        memory_limit=options["memory_limit"],
        min_free=options["min_free_space"],
        readahead=options["readahead"],
        read_timeout=options["read_timeout"],
        port=options["port"],
        bind=binding_of(bind) if bind else None,
        port_mapping=not options.get("no_port_mapping", True),
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


def _read_filter(paths: tuple[Path, ...]) -> IpFilter | None:
    """The address ranges of these files; what of them was not understood is told."""
    from torrentfs.daemon.filters import read_ip_filters

    made = read_ip_filters(tuple(map(absolute, paths)))
    if made is not None and made.unread:
        complain(f"--ip-filter: {made.unread} lines not understood, first {made.first_bad}")
    return made
