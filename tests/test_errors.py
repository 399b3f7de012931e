"""The exception tree: each boundary catches one class, so no class may be another."""

from __future__ import annotations

import errno

import pytest

from torrentfs import errors
from torrentfs.errors import DataUnavailable, TorrentFSError

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, TorrentFSError) and value is not TorrentFSError
]


@pytest.mark.parametrize("kind", CLASSES)
def test_all_have_one_root_and_one_line(kind: type[TorrentFSError]) -> None:
    assert kind.__mro__[1] is TorrentFSError
    assert str(kind("why, and what to do")) == "why, and what to do"


def test_what_is_not_ours_is_not_caught_with_it() -> None:
    # EIO, a bug, and a cancelled task each have a catcher of their own.
    assert not issubclass(TorrentFSError, (OSError, RuntimeError))
    assert not issubclass(OSError, TorrentFSError)


def test_a_read_that_fails_has_an_errno_for_the_kernel_and_words_for_the_log() -> None:
    assert DataUnavailable("no peer has it").errno == errno.EIO
    refused = DataUnavailable("read-only", errno.EROFS)
    assert (refused.errno, str(refused)) == (errno.EROFS, "read-only")
