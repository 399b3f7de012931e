"""What is wanted, most wanted first: the words in which readers talk to the picker.

`ReadHeads` writes an agenda, `Picker` follows it. An `Agenda` has two parts because they change at
very different speeds: `urgent` (pieces under a waiting read) changes with every read, `rest`
(read-ahead, then hints) only when a window has moved by an eighth. The picker sees that `rest` is
still the *same object* and then touches only the few urgent pieces, so a 32 MiB window over 16 KiB
pieces is not walked once per read.

A want is a whole piece, because a v1 piece can only be verified whole. Where blocks can be proved
one by one (BEP 52) a want may be some blocks of a piece: bit i of its mask is block i. The mask of
all is `ALL`, so that masks of several wants of a piece are joined with `|`, whatever they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple, overload

ALL = -1
"""The mask of all blocks of a piece."""


class Level(IntEnum):
    """How much a piece is wanted; lower is more."""

    URGENT = 0
    """A read waits for it."""
    WINDOW = 1
    """Read-ahead of a reader that proved to be sequential."""
    HINT = 2
    """Likely to be read (head and tail of a file just opened); only with spare capacity."""
    BACKGROUND = 3
    """Wanted by nobody who reads now: prefetched or pinned (see `background`)."""


class Want(NamedTuple):
    """`blocks` of `piece` are wanted at `level`, best before `deadline` (monotonic seconds)."""

    piece: int
    level: Level
    deadline: float
    blocks: int = ALL


class Agenda(Sequence[Want]):
    """All wants in order: `urgent`, then `rest`. A piece may be in both; the first counts
    for the blocks that it names."""

    __slots__ = ("rest", "urgent")

    def __init__(self, urgent: Sequence[Want], rest: Sequence[Want]) -> None:
        self.urgent = urgent
        self.rest = rest

    @classmethod
    def of(cls, wants: Iterable[Want]) -> Agenda:
        """An agenda of any wants; those not URGENT keep their order behind those that are."""
        listed = list(wants)
        return cls(
            [want for want in listed if want.level == Level.URGENT],
            [want for want in listed if want.level != Level.URGENT],
        )

    def __len__(self) -> int:
        return len(self.urgent) + len(self.rest)

    @overload
    def __getitem__(self, index: int) -> Want: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Want]: ...
    def __getitem__(self, index: int | slice) -> Want | Sequence[Want]:
        return [*self.urgent, *self.rest][index]

    def __repr__(self) -> str:
        return f"<Agenda {len(self.urgent)} urgent, {len(self.rest)} ahead>"
