"""What `create` and `share` have in common: options, hashing with a bar, and the .torrent file.

A .torrent is complete or not there: it is written beside its place, synced, and moved. Made of the
same files with the same options by the same version it is the same to the byte, since it has no
date.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from torrentfs import __version__
from torrentfs.cli.interrupting import held
from torrentfs.cli.options import SIZE, WEB_SEED, Parsed
from torrentfs.cli.output import complain, printable
from torrentfs.daemon.quantities import format_rate, format_size, parse_url
from torrentfs.errors import ConfigError
from torrentfs.metainfo.limits import MAX_NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.payload import Payload

TRACKER_SCHEMES = ("http", "https", "udp", "ws", "wss")


def parse_tier(text: str) -> tuple[str, ...]:
    """The trackers of one tier: URLs with commas between."""
    return tuple(
        parse_url(url, TRACKER_SCHEMES) for url in re.split(r",(?=[a-zA-Z]+://)", text.strip())
    )


TIER = Parsed("url[,url...]", parse_tier)


def torrent_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what is in the torrent, as a decorator."""
    options = [
        click.option(
            "--format",
            "version",
            type=click.Choice(["hybrid", "v1", "v2"]),
            default="hybrid",
            show_default=True,
            help="BitTorrent v1, v2, or both at once. WebTorrent takes v1 and hybrid.",
        ),
        click.option(
            "--piece-size",
            type=SIZE,
            help="A power of two like 256K or 4M.  [default: by size, 16K to 16M]",
        ),
        click.option(
            "--tracker",
            "trackers",
            metavar="URL[,URL...]",
            type=TIER,
            multiple=True,
            help="Announce here. May be repeated: each one is a tier, commas make more of one.",
        ),
        click.option(
            "--web-seed",
            "web_seeds",
            metavar="URL",
            type=WEB_SEED,
            multiple=True,
            help="A web server that has the files too. May be repeated.",
        ),
        click.option(
            "--private",
            is_flag=True,
            help="Peers come from the trackers only: no DHT, no exchange.",
        ),
        click.option("--comment", help="Free text."),
        click.option("--source", help="A word that private trackers ask for."),
        click.option("--name", help="The torrent's name.  [default: that of PATH]"),
        click.option("--hidden", is_flag=True, help="Take files whose name begins with a dot too."),
        click.option(
            "--exclude",
            metavar="PATTERN",
            multiple=True,
            help="Leave out names or paths that match, like '*.tmp'. May be repeated.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


class Made(NamedTuple):
    """A torrent made of files: the .torrent, what it says, and where its files are."""

    torrent: bytes
    metainfo: Metainfo
    payload: Payload


@dataclass(frozen=True, slots=True)
class Making:
    """The chosen options of `torrent_options`."""

    version: Any
    piece_size: int | None
    trackers: tuple[tuple[str, ...], ...]
    web_seeds: tuple[str, ...]
    private: bool
    comment: str | None
    source: str | None
    name: str | None
    hidden: bool
    exclude: tuple[str, ...]

    @classmethod
    def of(cls, options: dict[str, Any], paths: Sequence[Path]) -> Making:
        """Take our options out of all that a command was given."""
        making = cls(**{name: options.pop(name) for name in cls.__slots__})
        if making.name is not None and len(paths) > 1:
            raise ConfigError("--name is for one PATH: several would have the same name")
        return making

    @staticmethod
    def given(ctx: click.Context) -> list[str]:
        """The options of `torrent_options` that the user gave, by their names."""
        mine = [param for param in ctx.command.params if param.name in Making.__slots__]
        default = click.core.ParameterSource.DEFAULT
        return [p.opts[0] for p in mine if ctx.get_parameter_source(p.name or "") is not default]

    def list_payload(self, path: Path) -> Payload:
        """The files at `path`; what is left out is told. `ConfigError`."""
        from torrentfs.storage.payload import list_payload, shown

        payload = list_payload(path, name=self.name, hidden=self.hidden, exclude=self.exclude)
        if str(payload.left_out):
            more = " (--hidden takes what is hidden)" if payload.left_out.hidden else ""
            complain(f"{shown(path)}: left out {payload.left_out}{more}")
        odd = sum(_is_odd(name) for file in payload.files for name in file.path[-1:])
        if odd or _is_odd(payload.name):
            complain(f"{shown(path)}: some names are not UTF-8, other programs show them otherwise")
        return payload

    def make(self, payload: Payload) -> Made:
        """Hash the files, with a bar on a terminal. `ConfigError`, `PayloadChanged`."""
        from torrentfs.metainfo.torrent_file import build_torrent, parse_torrent
        from torrentfs.storage.hashing import Recipe, builder_for, hash_payload

        recipe = Recipe(self.version, self.piece_size, self.private, self.source)
        builder = builder_for(payload, recipe)
        with hashing_bar(payload.name, payload.size) as on_progress:
            info, layers = hash_payload(payload, builder, on_progress=on_progress)
        torrent = build_torrent(
            info,
            layers,
            trackers=self.trackers,
            web_seeds=self.web_seeds,
            comment=self.comment,
            created_by=f"torrentfs/{__version__}",
        )
        return Made(torrent, parse_torrent(torrent), payload)


def check_against(
    path: Path, torrent: Path, sure: Callable[[Payload, bytes], Collection[int]]
) -> Made:
    """What `torrent` was made of lies at `path`, every byte of it; `ConfigError` if not.

    `sure(payload, .torrent)` are files, by their place in the payload, that need not be read.
    """
    from torrentfs.daemon.sources import FileSource, parse_torrent_of, read_torrent_file
    from torrentfs.storage.hashing import check_payload
    from torrentfs.storage.payload import payload_of

    source = FileSource(str(torrent), Path(os.path.abspath(torrent)))
    data = read_torrent_file(source)
    metainfo = parse_torrent_of(source, data)
    if not metainfo.has_v1 and metainfo.missing_layers():
        raise ConfigError(f"{torrent} lacks its piece layers: it cannot be checked")
    payload = payload_of(metainfo, path)
    with hashing_bar(payload.name, payload.size) as on_progress:
        check_payload(payload, metainfo, sure=sure(payload, data), on_progress=on_progress)
    return Made(data, metainfo, payload)


def _is_odd(name: str) -> bool:
    return not name.isascii() and any("\udc80" <= c <= "\udcff" for c in name)


@contextlib.contextmanager
def hashing_bar(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar of `size` bytes on a terminal, nothing elsewhere; yields what takes the bytes done.

    A signal that ends the program is held meanwhile (`held`), and raised by what is yielded.
    """
    with held() as look, _bar(name, size) as show:

        def on_progress(done: int) -> None:
            look()
            show(done)

        yield on_progress


@contextlib.contextmanager
def _bar(name: str, size: int) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        """In the units of all else here."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(format_rate(speed) if speed else "")

    columns = (
        TextColumn("hashing {task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(name)[:40], total=size)
        yield lambda done: progress.update(task, completed=done)


def place_of(output: Path | None, payload: Payload, many: bool, directory: Path) -> Path:
    """Where the .torrent of `payload` goes: `output`, or in it, or in `directory`."""
    file = f"{payload.name}.torrent"
    if output is None:
        place = directory / file
    elif os.path.isdir(output):
        place = Path(os.path.abspath(output)) / file
    elif many:
        raise ConfigError(f"{output} must be a directory: each PATH makes a torrent of its own")
    else:
        place = Path(os.path.abspath(output))
    if Path(os.path.realpath(place)).is_relative_to(os.path.realpath(payload.root)):
        raise ConfigError(f"{place} is inside what the torrent is made of: choose another with -o")
    return place


def places_of(payloads: Sequence[Payload], output: Path | None, directory: Path) -> list[Path]:
    """The `place_of` each; `UsageError` when two torrents would go to one place."""
    places = [place_of(output, payload, len(payloads) > 1, directory) for payload in payloads]
    taken: dict[Path, Payload] = {}
    for place, payload in zip(places, payloads, strict=True):
        first = taken.setdefault(place, payload)
        if first is not payload:
            raise click.UsageError(
                f"{first.root} and {payload.root} have the same name, and {place} is for one: "
                "make their torrents one by one"
            )
    return places


def check_writable(place: Path, *, force: bool) -> None:
    """Fail now rather than after hours of hashing; ConfigError."""
    if os.path.isdir(place):
        raise ConfigError(f"cannot write {place}: it is a directory")
    if os.path.lexists(place) and not force:
        raise ConfigError(f"{place} exists: --force overwrites it")
    if len(os.fsencode(place.name)) > MAX_NAME_BYTES:
        raise ConfigError(f"cannot write {place}: the name is too long, choose another with -o")
    folder = place.parent
    if not os.path.isdir(folder):
        raise ConfigError(f"cannot write {place}: there is no directory {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write {place}: permission denied")


def write_torrent(place: Path, torrent: bytes, *, force: bool) -> None:
    """Write a .torrent whole or not at all; ConfigError, also when it exists (unless `force`)."""
    beside = place.parent / f".torrentfs-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with open(beside, "xb") as file:
            file.write(torrent)
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(beside, place)
            return
        try:
            os.link(beside, place)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(place):
                raise FileExistsError(place) from None
            os.rename(beside, place)
    except FileExistsError:
        raise ConfigError(f"{place} exists: --force overwrites it") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot write {place}: {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(beside)


def describe(made: Made, place: Path, magnet: str) -> dict[str, Any]:
    """What `--json` prints of one torrent; keys are only added."""
    metainfo = made.metainfo
    hashes = metainfo.hashes
    return {
        "name": made.payload.name,
        "path": made.payload.root,
        "info_hash_v1": hashes.v1.hex() if hashes.v1 else None,
        "info_hash_v2": hashes.v2.hex() if hashes.v2 else None,
        "size": made.payload.size,
        "file_count": len(made.payload.files),
        "piece_length": metainfo.geometry.piece_length,
        "pieces": metainfo.geometry.num_pieces,
        "trackers": [list(tier) for tier in metainfo.trackers],
        "torrent": str(place),
        "magnet": magnet,
    }


def tell(said: dict[str, Any]) -> Iterator[str]:
    """The same for people, a line each."""
    files = "1 file" if said["file_count"] == 1 else f"{said['file_count']} files"
    pieces = f"{said['pieces']} pieces of {format_size(said['piece_length'])}"
    size = f"{files}, {format_size(said['size'])}, {pieces}"
    lines = {
        "Name": f"{said['name']} ({size})",
        "Info-hash v1": said["info_hash_v1"],
        "Info-hash v2": said["info_hash_v2"],
        "Torrent": said["torrent"],
        "Magnet": said["magnet"],
    }
    for label, value in lines.items():
        if value is not None:
            yield f"{label + ':':<16}{printable(value)}"
