"""Who sent the bad block: found by fetching again and comparing.

A piece whose hash fails says that some block of it is wrong, not which. If one source gave all of
it, that source is guilty at once. Otherwise the digests of its blocks and their origins are kept,
the piece is fetched again (from one source, see the picker), and when a copy verifies, every source
that gave a block whose digest differs from the verified one is guilty, and nobody else is.

Digests are any equal-length fingerprints the engine computes (SHA-1 of each block). Kept failures
are bounded: a liar can fill them only with failures of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.scheduling.source import SourceId

MAX_PIECES = 64
"""Failed pieces remembered; the oldest is forgotten."""

MAX_COPIES = 8
"""Failed copies remembered per piece; the oldest is forgotten."""


class _Copy(NamedTuple):
    origins: tuple[SourceId | None, ...]
    digests: tuple[bytes | None, ...]


class Blame:
    """Failed copies of pieces, waiting for a verified one."""

    def __init__(self) -> None:
        self._copies: dict[int, list[_Copy]] = {}
        self.failures = 0

    def on_failed(
        self,
        piece: int,
        origins: Sequence[SourceId | None],
        block_digests: Sequence[bytes | None],
    ) -> set[SourceId]:
        """A whole piece failed its hash. Returns the guilty if that is certain already.

        `origins[i]` gave block i (None: unknown, e.g. from disk), `block_digests[i]` is its digest.
        """
        self.failures += 1
        givers = set(origins)
        if len(givers) == 1:
            only = givers.pop()
            return set() if only is None else {only}
        copies = self._copies.pop(piece, [])
        copies.append(_Copy(tuple(origins), tuple(block_digests)))
        del copies[:-MAX_COPIES]
        self._copies[piece] = copies
        if len(self._copies) > MAX_PIECES:
            del self._copies[next(iter(self._copies))]
        return set()

    def on_verified(
        self,
        piece: int,
        origins: Sequence[SourceId | None],
        block_digests: Sequence[bytes | None],
    ) -> set[SourceId]:
        """The piece verified: who gave a different block before? Its failures are forgotten.

        `origins` (of the good copy) is not evidence: a source may lie once and then tell the truth.
        """
        guilty: set[SourceId] = set()
        for copy in self._copies.pop(piece, ()):
            for origin, digest, right in zip(
                copy.origins, copy.digests, block_digests, strict=False
            ):
                if origin is not None and digest is not None and right not in (None, digest):
                    guilty.add(origin)
        return guilty

    def needs_digests(self, piece: int) -> bool:
        """Whether `on_verified` has anything to compare: otherwise digests need not be made."""
        return piece in self._copies

    def __repr__(self) -> str:
        return f"<Blame {self.failures} failures, {len(self._copies)} pieces open>"
