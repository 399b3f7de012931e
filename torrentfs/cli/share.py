"""`torrentfs share`: hash, write the .torrent, tell the magnet, seed in place until Ctrl-C.

Hashing happens here, at the terminal, with its bar; only then, with `--background`, the process
forks (by now no thread is alive). What is printed on stdout is printed when peers may come, so a
script that reads the magnet link can use it at once. The .torrent goes to a directory of our own by
default, under a name with its info-hash, so sharing the same files again overwrites nothing else.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from torrentfs.cli.dht import PUBLIC, read_only_option
from torrentfs.cli.interrupting import interruptible
from torrentfs.cli.making import (
    Making,
    check_writable,
    describe,
    place_of,
    places_of,
    tell,
    torrent_options,
    write_torrent,
)
from torrentfs.cli.options import HOST_PORT, PATH, RATE, WholeNumber
from torrentfs.cli.output import complain
from torrentfs.cli.peers import bind_option, peer_options, peer_settings
from torrentfs.cli.resuming import Resuming
from torrentfs.cli.settings import ReadingCommand, config_option
from torrentfs.cli.webrtc import rtc_config, rtc_options
from torrentfs.daemon.config import absolute
from torrentfs.daemon.outcome import DONE
from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.cli.making import Made
    from torrentfs.daemon.sharing import ShareConfig, ShareReport, Sharing
    from torrentfs.engine.config import DhtConfig, SessionConfig
    from torrentfs.metainfo.torrent_file import Metainfo


FROM_CONFIG = (
    *("bind_interface", "proxy", "ip_filter", "encryption", "upload_limit"),
    *("dht_bootstrap", "dht_read_only"),
    *("no_tcp", "no_utp", "no_pex", "no_lsd", "no_port_mapping"),
    *("no_webrtc", "stun", "turn", "turn_credentials", "relay_only"),
)
"""What is held in the config file of `mount`: how peers are met. Not whom a share is told to
(`tracker`), nor what would disturb the mounts of the same user (`port`, `log-file`); and `private`
and `web-seed` would change the torrent that is made."""


@click.command(
    cls=ReadingCommand,
    reads=FROM_CONFIG,
    context_settings={"auto_envvar_prefix": "TORRENTFS", "show_default": False},
    short_help="Share files or directories as torrents.",
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH)
@click.option("-d", "--background", is_flag=True, help="Return once it is shared, and go on.")
@click.option(
    "-o",
    "--output",
    metavar="FILE|DIR",
    type=PATH,
    help="Where to write the .torrent.  [default: ~/.local/share/torrentfs/shared]",
)
@click.option("--force", is_flag=True, help="Overwrite it if it exists and is another.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each torrent.")
@click.option(
    "--torrent",
    metavar="FILE",
    type=PATH,
    help="Share PATH as this torrent, which was made of it, after checking that it is the same.",
)
@click.option(
    "--check", is_flag=True, help="Read every byte, also of what was hashed for an earlier share."
)
@torrent_options
@click.option(
    "--peer", "peers", metavar="HOST:PORT", type=HOST_PORT, multiple=True, help="Connect to it."
)
@click.option(
    "--port", type=WholeNumber(0, 65535), default=0, help="TCP port.  [default: any free one]"
)
@bind_option
@click.option(
    "--dht",
    is_flag=True,
    help="Let whoever has the link find it through the DHT, which makes it known to the world.",
)
@click.option(
    "--dht-bootstrap",
    metavar="HOST:PORT",
    type=HOST_PORT,
    multiple=True,
    help=f"Begin --dht with this node. May be repeated.  [default: {PUBLIC[0][0]} and others]",
)
@read_only_option
@peer_options
@rtc_options
@click.option(
    "--no-port-mapping",
    is_flag=True,
    help="Do not ask the gateway (PCP, NAT-PMP, UPnP) to let peers in.",
)
@click.option("--no-tcp", is_flag=True, help="Use no TCP peers.")
@click.option(
    "--ip-filter",
    metavar="FILE",
    type=PATH,
    multiple=True,
    help="Never talk to peers in these address ranges. May be repeated.",
)
@click.option(
    "--upload-limit", metavar="RATE", type=RATE, help="Bytes a second, like 1M.  [default: none]"
)
@click.option(
    "--log-file",
    type=PATH,
    help="Write the log here.  [default: the terminal; with -d, ~/.local/state/torrentfs/log]",
)
@config_option
@click.option("-v", "--verbose", count=True, help="Log more; -vv logs everything.")
def share(
    paths: tuple[Path, ...],
    background: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
    torrent: Path | None,
    check: bool,
    **options: Any,
) -> int:
    """Make a torrent of each PATH and share it, from where it is, until Ctrl-C.

    Nothing is copied, and nothing is written but the .torrent file. The magnet link is printed
    when others can use it. Nobody is told of it unless you say so (--tracker, --dht): without
    these, others must know this machine's address, which is then in the link.

    What was hashed for an earlier share, and looks as it did then, is not read again.

    Changing or deleting a file while it is shared is safe: what does not match is no longer sent.
    """
    making = Making.of(options, paths)
    session = make_session(options)
    if torrent is not None:
        check_alone(torrent, paths, output)
    resuming = Resuming(check=check)
    with interruptible("nothing is shared"):
        if torrent is not None:
            made, places = [resuming.check(paths[0], torrent)], [absolute(torrent)]
        else:
            made = make_all(making, paths, output, resuming)
            places = [write(one, output, len(paths) > 1, force=force) for one in made]
        for one, place in zip(made, places, strict=True):
            resuming.keep(one, place, making if torrent is None else None)
    config = make_config(made, session, options, background=background)
    announcer = Announcer(made, places, config, as_json=as_json)
    if background:
        return run_in_background(config, announcer, options)
    return run_in_foreground(config, announcer, options)


def check_alone(torrent: Path, paths: Sequence[Path], output: Path | None) -> None:
    """Refuse beside `--torrent` what the torrent itself decides."""
    given = Making.given(click.get_current_context())
    if output is not None:
        given.append("--output")
    if given:
        raise click.UsageError(f"{given[0]} changes a torrent, and --torrent {torrent} is made")
    if len(paths) > 1:
        raise click.UsageError("--torrent is for one PATH")


def make_all(
    making: Making, paths: Sequence[Path], output: Path | None, resuming: Resuming
) -> list[Made]:
    """The torrents of all paths, each once; everything is looked at before any is hashed."""
    payloads = [making.list_payload(path) for path in paths]
    if output is not None:
        for place in places_of(payloads, output, output):
            check_writable(place, force=True)  # what is there may be the same
    made: dict[str, Made] = {}
    for payload in payloads:
        one = resuming.make(making, payload)
        first = made.setdefault(one.metainfo.hashes.key, one)
        if first is not one:
            complain(f"{payload.root} is the same as {first.payload.root}: shared once")
    return list(made.values())


def _dht(options: dict[str, Any]) -> DhtConfig | None:
    from torrentfs.engine.config import DhtConfig

    if not options["dht"]:
        return None
    return DhtConfig(options["dht_bootstrap"] or PUBLIC, read_only=options["dht_read_only"])


def default_directory() -> Path:
    """`~/.local/share/torrentfs/shared` (XDG_DATA_HOME is honoured)."""
    import platformdirs

    return platformdirs.user_data_path("torrentfs") / "shared"


def make_session(options: dict[str, Any]) -> SessionConfig:
    """The session's settings; ConfigError."""
    from torrentfs.daemon.filters import read_ip_filters
    from torrentfs.daemon.interfaces import binding_of
    from torrentfs.engine.config import SessionConfig

    bind = binding_of(options["bind_interface"]) if options["bind_interface"] else None
    if not options["no_tcp"] and options["proxy"] is None:
        check_port(bind, options["port"])
    return SessionConfig(
        port=options["port"],
        bind=bind,
        port_mapping=not options["no_port_mapping"],
        tcp=not options["no_tcp"],
        **peer_settings(options),
        rtc=rtc_config(options),
        dht=_dht(options),
        ip_filter=read_ip_filters(tuple(map(absolute, options["ip_filter"]))),
        upload_limit=options["upload_limit"],
    )


def check_port(bind: str | None, port: int) -> None:
    """Fail now, and not after hours of hashing, when somebody else has the port; ConfigError."""
    import os
    import socket

    from torrentfs.transports.binding import look

    for host in look(bind).addresses if bind else ("",):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.create_server((host, port), family=family):
                pass
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()  # that of socket has the address in it
            where = f"{host}:{port}" if host else f"port {port}"
            raise ConfigError(f"cannot listen on {where}: {reason}") from error


def make_config(
    made: Sequence[Made], session: SessionConfig, options: dict[str, Any], *, background: bool
) -> ShareConfig:
    """What the service is told."""
    from torrentfs.daemon.sharing import ShareConfig, Shared
    from torrentfs.storage.originals import originals_of

    return ShareConfig(
        shared=tuple(Shared(m.metainfo, originals_of(m.payload, m.metainfo)) for m in made),
        session=session,
        peers=options["peers"],
        foreground=not background,
    )


def write(made: Made, output: Path | None, many: bool, *, force: bool) -> Path:
    """Write the .torrent, unless it is there already."""
    if output is None:
        directory = default_directory()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {directory} ({error.strerror}): use -o") from error
        key = made.metainfo.hashes.key[:8]
        name = made.metainfo.name.encode()[:200].decode(errors="ignore")  # 255 bytes in all
        place = directory / f"{name} [{key}].torrent"
        write_torrent(place, made.torrent, force=True)
        return place
    place = place_of(output, made.payload, many, output)
    if not force and place.is_file() and place.read_bytes() == made.torrent:
        return place
    write_torrent(place, made.torrent, force=force)
    return place


class Announcer:
    """Tells on stdout what is shared, once it is."""

    def __init__(
        self, made: Sequence[Made], places: Sequence[Path], config: ShareConfig, *, as_json: bool
    ) -> None:
        self._made = made
        self._places = places
        self._config = config
        self._as_json = as_json

    def tell(self, sharing: Sharing) -> None:
        """Print everything."""
        for made, place in zip(self._made, self._places, strict=True):
            said = self._describe(made, place, sharing)
            if self._as_json:
                click.echo(json.dumps(said))
                continue
            for line in tell(said):
                click.echo(line)
            if said["peers"]:
                click.echo(f"{'Address:':<16}{', '.join(said['peers'])}")
            note = self._note(made.metainfo)
            if note:
                click.echo(f"{'Note:':<16}{note}")
        sys.stdout.flush()

    def _is_direct(self, metainfo: Metainfo) -> bool:
        """Whether nothing but its address leads to it."""
        found_in_dht = self._config.session.dht is not None and not metainfo.private
        return not metainfo.trackers and not found_in_dht

    def _note(self, metainfo: Metainfo) -> str:
        """Who cannot find it, and what would help."""
        urls = [url for tier in metainfo.trackers for url in tier]
        if self._is_direct(metainfo):
            return "neither --tracker nor --dht: only those who are told this address find it"
        if self._config.session.rtc is not None and not any(
            url.startswith(("ws:", "wss:")) for url in urls
        ):
            return "no tracker is a WebSocket one (ws://, wss://): web pages do not find it"
        return ""

    def _describe(self, made: Made, place: Path, sharing: Sharing) -> dict[str, Any]:
        from dataclasses import replace

        from torrentfs.daemon.quantities import format_host_port
        from torrentfs.daemon.sharing import own_addresses
        from torrentfs.metainfo.magnet import magnet_of

        session = self._config.session
        reachable = session.tcp and session.proxy is None
        hosts = own_addresses(session.bind) if reachable else []
        peers = [(host, sharing.port) for host in hosts]
        magnet = magnet_of(made.metainfo)
        if self._is_direct(made.metainfo):  # a public link need not name the machine
            magnet = replace(magnet, peers=tuple(peers))
        return {
            **describe(made, place, magnet.to_uri()),
            "peers": [format_host_port(*peer) for peer in peers],
            "pid": sharing.pid,
        }


def run_in_foreground(config: ShareConfig, announcer: Announcer, options: dict[str, Any]) -> int:
    """Share here until Ctrl-C; the exit code."""
    from torrentfs.cli.foreground import TerminalHandler
    from torrentfs.cli.sharing import TerminalReport
    from torrentfs.daemon.logs import file_handler, start_logging

    console = None
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
    handler: logging.Handler
    if options["log_file"] is not None:
        handler = file_handler(absolute(options["log_file"]), rotate=False)
    elif console is not None:
        handler = TerminalHandler(console)
    else:
        handler = logging.StreamHandler(sys.stderr)
    start_logging(handler, options["verbose"])
    _serve(config, TerminalReport(announcer.tell, console))
    return DONE


def run_in_background(config: ShareConfig, announcer: Announcer, options: dict[str, Any]) -> int:
    """Share in a child process; the exit code once it is ready or has failed."""
    from torrentfs.daemon import background
    from torrentfs.daemon.config import default_log_file
    from torrentfs.daemon.sharing import Sharing

    log_file = options["log_file"]
    path = (
        absolute(log_file) if log_file else default_log_file(Path(config.shared[0].metainfo.name))
    )

    def open_log() -> TextIO:
        from torrentfs.daemon.logs import file_handler, start_logging

        handler = file_handler(path, rotate=log_file is None)
        start_logging(handler, options["verbose"])
        assert handler.stream is not None  # opened by now, not at the first line
        return handler.stream

    ended = background.run_in_background(
        lambda report: _serve(config, report),
        open_log=open_log,
        on_progress=lambda text: None,
        left="nothing is shared",
    )
    if ended.code != DONE:
        complain(ended.text)
        return ended.code
    sharing = Sharing.parse(ended.text, ended.warning)
    announcer.tell(sharing)
    click.echo(
        f"shared by process {sharing.pid} (torrentfs shares shows it, torrentfs shares --stop "
        f"{sharing.pid} ends it; log: {path})",
        err=True,
    )
    return DONE


def _serve(config: ShareConfig, report: ShareReport) -> None:
    import trio

    from torrentfs.daemon.sharing import run_share

    trio.run(run_share, config, report)
