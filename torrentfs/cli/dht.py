"""The options about the DHT, shared by the commands that meet peers.

A DHT node needs another one to begin with. Those of the last time are kept, but a first start has
none: then the nodes of `PUBLIC` are asked, who run for that purpose and are named by every client.
They learn that somebody at our address takes part, and the first step of a search. Who wants to ask
nobody that he did not name says `--dht-bootstrap` (which replaces them) or `--no-dht`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.options import HOST_PORT
from torrentfs.engine.config import DhtConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PUBLIC = (
    ("dht.libtorrent.org", 25401),
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
)
"""Nodes that the makers of libtorrent, BitTorrent and Transmission run for beginners."""


read_only_option = click.option(
    "--dht-read-only",
    is_flag=True,
    default=False,
    help="Ask the DHT and answer nobody there, as for a node that others cannot reach (BEP 43).",
)


def dht_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--no-dht`, `--dht-bootstrap`, `--dht-read-only`."""
    options = (
        click.option("--no-dht", is_flag=True, default=False, help="Take no part in the DHT."),
        click.option(
            "--dht-bootstrap",
            metavar="HOST:PORT",
            type=HOST_PORT,
            multiple=True,
            help="Begin the DHT with this node. May be repeated.  "
            f"[default: {PUBLIC[0][0]} and others]",
        ),
        read_only_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def dht_config(options: Mapping[str, Any]) -> DhtConfig | None:
    """What these options say, None for no DHT at all."""
    if options["no_dht"]:
        return None
    bootstrap = tuple(options["dht_bootstrap"]) or PUBLIC
    return DhtConfig(bootstrap, read_only=options["dht_read_only"])
