"""The exception tree: each catcher finds what it acts on, and nothing else."""

from __future__ import annotations

import errno
import inspect

import pytest

from torrentfs import errors
from torrentfs.errors import DataUnavailable, TorrentFSError

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, TorrentFSError)
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_one_line_for_a_person(kind: type[TorrentFSError]) -> None:
    assert str(kind("why it failed")) == "why it failed"


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not TorrentFSError])
def test_who_is_to_blame_is_never_two(kind: type[TorrentFSError]) -> None:
    others = [other for other in ALL if other not in (TorrentFSError, kind)]
    assert not any(issubclass(kind, other) for other in others)


@pytest.mark.parametrize("kind", ALL)
def test_none_can_be_taken_for_an_error_of_the_system(kind: type[TorrentFSError]) -> None:
    assert not issubclass(kind, OSError)
    assert not issubclass(kind, RuntimeError)


def test_a_read_that_cannot_be_answered_brings_its_errno() -> None:
    assert DataUnavailable("gone").errno == errno.EIO
    assert DataUnavailable("gone", errno.ESTALE).errno == errno.ESTALE
