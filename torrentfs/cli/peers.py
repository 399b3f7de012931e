"""The options about how peers are found and reached, shared by the commands that meet them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from torrentfs.cli.blotting import blot_out
from torrentfs.cli.options import Parsed
from torrentfs.transports.proxy import parse_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torrentfs.transports.proxy import Proxy


def _without_secrets(
    ctx: click.Context, param: click.Parameter, proxy: Proxy | None
) -> Proxy | None:
    if proxy is not None:
        blot_out(proxy.secrets)
    return proxy


proxy_option = click.option(
    "--proxy",
    metavar="URL",
    type=Parsed("url", parse_proxy),
    callback=_without_secrets,
    help="Connect through this proxy only (socks5://[USER:PASSWORD@]HOST:PORT, or http:// for "
    "CONNECT); what cannot go through it is off: uTP, DHT, WebRTC, UDP trackers.",
)


bind_option = click.option(
    "--bind-interface", metavar="IF", help="Use this network interface (or local address) only."
)


def peer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--proxy`, `--encryption`, `--no-utp`, `--no-pex`, `--no-lsd`."""
    options = (
        proxy_option,
        click.option("--no-utp", is_flag=True, default=False, help="Reach no peer over uTP."),
        click.option("--no-pex", is_flag=True, default=False, help="Do not exchange peers."),
        click.option(
            "--no-lsd", is_flag=True, default=False, help="Do not greet the local network."
        ),
        click.option(
            "--encryption",
            type=click.Choice(["prefer", "require", "off"]),
            default="prefer",
            show_default=True,
            help="Encrypt connections to peers (a disguise on the line, no secrecy).",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def peer_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """What these options say, as fields of a `SessionConfig`."""
    return {
        "proxy": options["proxy"],
        "utp": not options["no_utp"],
        "pex": not options["no_pex"],
        "lsd": not options["no_lsd"],
        "encryption": options["encryption"],
    }
