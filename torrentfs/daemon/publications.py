"""A publication: a publisher's link in a library, and the torrent that it stands for now (BEP 46).

It is claimed as torrents are, by a command (`kept`), by the command line (`given`) and by files of
watch directories (`watched`), and claims torrents in turn: the edition that is shown (`item`), and
a newer one whose metadata is still looked for (`coming`). Until its publisher was heard of once,
`item` is a placeholder without a torrent.

What it said last is remembered with the records, beside the torrents: the signed item, so that
nobody can play back an older one (`sequence` only grows) and we can put it into the DHT again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from torrentfs.discovery.dht.items import target_of_publisher
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.magnet import Publisher, parse_publisher
from torrentfs.wire.krpc import Item as Said

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torrentfs.daemon.items import Item

FACT = "publication "
"""What the names of its facts in the records begin with."""


@dataclass(slots=True, eq=False)
class Publication:
    """A publisher's link. Only the library changes it; others look."""

    link: str
    publisher: Publisher
    folder: tuple[str, ...] = ()
    said: Said | None = None
    """The newest item of his that we know, signed."""
    key: str = ""
    """The torrent that was shown the last time; empty before."""
    kept: bool = False
    given: bool = False
    watched: dict[str, tuple[str, ...]] = field(default_factory=dict)
    asked: float = 0.0
    """When the DHT last answered, in Unix seconds; 0 while it has not."""
    trouble: str = ""
    """Why nothing newer can be had, in words; empty when it can."""
    item: Item | None = None
    coming: Item | None = None
    wanted: trio.Event = field(default_factory=trio.Event)
    """Set when he is to be asked now."""

    @property
    def id(self) -> str:
        """What it is told apart by: publisher and salt."""
        return id_of(self.publisher)

    @property
    def sequence(self) -> int | None:
        """The number of the newest item that we know; newer ones have a higher one."""
        return self.said.sequence if self.said is not None else None

    @property
    def is_claimed(self) -> bool:
        """False once nothing backs it any more."""
        return self.kept or self.given or bool(self.watched)

    def rename(self, item: Item, other: Item) -> None:
        """`item` turned out to be `other`."""
        if self.item is item:
            self.item = other
        if self.coming is item:
            self.coming = other

    def to_fact(self) -> dict[str, Any]:
        """What is to outlive the process, as JSON has it."""
        shown = self.item
        fact: dict[str, Any] = {
            "link": self.link,
            "folder": list(self.folder),
            "kept": self.kept,
            "watched": sorted([path, list(folder)] for path, folder in self.watched.items()),
            "key": shown.key if shown is not None and not shown.is_placeholder else self.key,
        }
        if self.said is not None and self.said.signature is not None:
            fact |= {
                "value": self.said.value.hex(),
                "signature": self.said.signature.hex(),
                "sequence": self.said.sequence,
            }
        return fact

    def __repr__(self) -> str:
        return f"<Publication {self.id} {self.sequence}>"


def id_of(publisher: Publisher) -> str:
    """`btpk-` and the first half of where the DHT keeps his items, in hex."""
    return "btpk-" + target_of_publisher(publisher.key, publisher.salt).hex()[:20]


def parse_fact(fact: Any) -> tuple[Publication, bool, dict[str, tuple[str, ...]]]:
    """The inverse of `Publication.to_fact`: not claimed yet, and who claimed it (kept, watched).

    `ValueError` for what that cannot have written.
    """
    try:
        link = fact["link"]
        publisher = parse_publisher(link)
        if publisher is None:
            raise ValueError("names no publisher")
        said = None
        if "value" in fact:
            value, signature = bytes.fromhex(fact["value"]), bytes.fromhex(fact["signature"])
            said = Said(value, publisher.key, signature, int(fact["sequence"]), publisher.salt)
        folder = tuple(map(str, fact["folder"]))
        key = str(fact["key"])
        watched = {str(path): tuple(map(str, place)) for path, place in fact["watched"]}
        return Publication(link, publisher, folder, said, key), bool(fact["kept"]), watched
    except (AttributeError, KeyError, OverflowError, TypeError, InvalidTorrent) as error:
        raise ValueError(f"not a publication: {error}") from None


def recorded(
    facts: Mapping[str, Any],
) -> Iterator[tuple[Publication, bool, dict[str, tuple[str, ...]]]]:
    """The publications of the records; what is damaged is left out."""
    for name, fact in facts.items():
        if name.startswith(FACT):
            try:
                yield parse_fact(fact)
            except ValueError:
                continue


def watched_paths(facts: Mapping[str, Any]) -> set[str]:
    """The files of watch directories that name publishers."""
    return {path for _, _, watched in recorded(facts) for path in watched}
