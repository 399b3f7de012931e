"""The first words on a connection, by what we have and what the peer speaks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from trio.testing import MockClock

from tests.engine.kit import rig
from torrentfs.engine.uploads import MAX_REQUESTS
from torrentfs.wire import messages as m


@pytest.mark.parametrize(
    ("have", "fast", "first"),
    [
        (None, True, m.HaveAll()),
        ([], True, m.HaveNone()),
        ([0, 9], True, m.BitfieldMessage(b"\x80\x40")),
        (None, False, m.BitfieldMessage(b"\xff\xc0")),
        ([0], False, m.BitfieldMessage(b"\x80\x00")),
    ],
)
async def test_what_we_have_comes_first(
    have: Sequence[int] | None, fast: bool, first: m.Message, autojump_clock: MockClock
) -> None:
    async with rig(have=have) as r:
        peer = await r.connect(fast=fast, have=[], extensions=True)
        said = await peer.settle()
        assert said[0] == first
        assert isinstance(said[1], m.ExtensionHandshake)


async def test_nothing_is_said_of_having_nothing_without_bep_6(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(fast=False, have=[])
        assert await peer.settle() == []


async def test_the_extension_handshake(autojump_clock: MockClock) -> None:
    async with rig(have=None) as r:
        peer = await r.connect(have=[], extensions=True, host="192.0.2.7")
        hello = await peer.expect(m.ExtensionHandshake)
        assert hello.upload_only  # BEP 21: complete
        assert hello.metadata_size == len(r.sample.metainfo.info)
        assert hello.request_queue == MAX_REQUESTS
        assert hello.port == 6881
        assert hello.your_ip == "192.0.2.7"


async def test_allowed_fast_pieces_are_some_that_we_have(autojump_clock: MockClock) -> None:
    async with rig(have=[2, 3, 5]) as r:
        peer = await r.connect(have=[])
        allowed = {e.piece for e in await peer.settle() if isinstance(e, m.AllowedFast)}
        assert allowed <= {2, 3, 5}
    async with rig(have=None, upload=False) as r:
        peer = await r.connect(have=[])
        assert not any(isinstance(e, m.AllowedFast) for e in await peer.settle())
