"""`torrentfs shares`: what this user shares at the moment, to whom, and an end to it.

Each running `torrentfs share` has a socket (`daemon.share_status`) that tells its state. What it
says is checked for its form, because another version may have said it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from torrentfs.cli.client import json_option
from torrentfs.cli.tables import percent, print_json, print_table
from torrentfs.daemon.control.place import address_of, runtime_directory, state_directory
from torrentfs.daemon.quantities import format_rate, format_size
from torrentfs.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATTERN = "share-*.sock"
MAX_SHARES = 1000
MAX_ANSWER = 64 << 20
PATIENCE = 5.0
"""Seconds for an answer."""
END_PATIENCE = 15.0
"""Seconds that a share may take to end: 4 by itself, and what a loaded machine adds."""

COLUMNS = ("Name", ">Has", ">Peers", ">Up", ">Sent", ">Process")
PEER_COLUMNS = ("Address", "Client", "Kind", ">Has", ">Up", ">Sent")


class Share(NamedTuple):
    """One process that shares, and what it says."""

    pid: int
    """As the kernel has it; 0 for one in another container."""
    port: int
    torrents: list[dict[str, Any]]

    def means(self, text: str) -> bool:
        """Whether `text` is its process, or the name or info-hash of a torrent of it."""
        return text == str(self.pid) or any(_means(torrent, text) for torrent in self.torrents)


def _means(torrent: dict[str, Any], text: str) -> bool:
    key = text.lower()
    return torrent["name"] == text or (len(key) >= 6 and torrent["key"].startswith(key))


@click.command(short_help="What is shared at the moment, and to whom.")
@click.argument("what", metavar="[NAME|INFO-HASH|PROCESS]", required=False)
@click.option("--stop", is_flag=True, help="End the share of it.")
@json_option
def shares(what: str | None, stop: bool, as_json: bool) -> None:
    """List what you share by torrentfs share, or the peers of one of these, or end one.

    One process may share several torrents: it is ended as a whole, by its number.
    """
    found = running_shares()
    if stop:
        if what is None:
            raise click.UsageError("--stop needs to know which: a name, info-hash or process")
        end(the_share(found, what), what)
        return
    if what is not None:
        found = [share for share in found if share.means(what)]
        if not found:
            raise ConfigError(f"nothing of that name is shared: {what} (see torrentfs shares)")
    if as_json:
        print_json([share._asdict() for share in found])
    elif what is None:
        print_table(COLUMNS, _rows(found), "nothing is shared")
    else:
        torrents = [t for s in found for t in s.torrents if what == str(s.pid) or _means(t, what)]
        print_table(PEER_COLUMNS, _peer_rows(torrents), "no peers")


def _rows(found: Sequence[Share]) -> Iterator[Sequence[str]]:
    for share in found:
        for torrent in share.torrents:
            total = torrent["pieces_total"]
            yield (
                torrent["name"],
                percent(torrent["pieces_have"] / total if total else 1),
                str(torrent["peer_count"]),
                format_rate(torrent["upload_rate"]),
                format_size(torrent["uploaded"]),
                str(share.pid or "elsewhere"),
            )


def _peer_rows(torrents: Sequence[dict[str, Any]]) -> Iterator[Sequence[str]]:
    for torrent in torrents:
        for peer in torrent["peers"]:
            yield (
                peer["address"],
                peer["client"],
                peer["kind"],
                percent(peer["progress"]),
                format_rate(peer["upload_rate"]),
                format_size(peer["uploaded"]),
            )


def running_shares() -> list[Share]:
    """Those of this user, by process; one that just ends, or makes no sense, is left out."""
    directories = {runtime_directory(), state_directory() / "run"}
    directories.add(Path(f"/run/user/{os.geteuid()}/torrentfs"))  # not every shell has the variable
    found = []
    for directory in directories:
        for path in islice(directory.glob(PATTERN), MAX_SHARES):
            with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
                found.append(ask(path))
    return sorted(found, key=lambda share: (share.pid, share.port))


def ask(path: Path) -> Share:
    """What the share behind a socket says; `OSError`, or what wrong words raise."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(PATIENCE)
        with address_of(path) as address:
            line.connect(address)
        credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        said = bytearray()
        while data := line.recv(1 << 20):
            said += data
            if len(said) > MAX_ANSWER:
                raise ValueError("too long an answer")
    value = json.loads(said)
    share = Share(struct.unpack("3i", credentials)[0], int(value["port"]), list(value["torrents"]))
    for _ in (*_rows([share]), *_peer_rows(share.torrents)):
        pass  # so that nothing raises later
    return share


def the_share(found: Sequence[Share], what: str) -> Share:
    """The one that is meant; `ConfigError` when it is none, several, or more than was named."""
    meant = [share for share in found if share.means(what)]
    if not meant:
        raise ConfigError(f"nothing of that name is shared: {what} (see torrentfs shares)")
    if len(meant) > 1:
        numbers = ", ".join(str(share.pid) for share in meant)
        raise ConfigError(f"several processes share {what}: say which ({numbers})")
    (share,) = meant
    others = [torrent["name"] for torrent in share.torrents if not _means(torrent, what)]
    if others and what != str(share.pid):
        raise ConfigError(
            f"process {share.pid} shares {others[0]!r} too: end all of it by --stop {share.pid}"
        )
    return share


def end(share: Share, what: str) -> None:
    """End a process that shares, and wait for it; `TransportError` when it does not end."""
    if not share.pid:
        raise ConfigError(f"{what} is shared in another container: end it there")
    try:
        process = os.pidfd_open(share.pid)
    except ProcessLookupError:
        return  # it ended by itself
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], END_PATIENCE)[0]:
            raise TransportError(f"process {share.pid} does not end: kill -9 {share.pid} ends it")
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise ConfigError(f"process {share.pid} is of another user: end it as that one") from error
    finally:
        os.close(process)
