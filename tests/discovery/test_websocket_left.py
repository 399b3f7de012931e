"""Offers of a search that is over are still answered, and end."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.discovery.websockets import FakeSignaller
from torrentfs.discovery.websocket_left import LeftOffers
from torrentfs.discovery.websocket_offers import OFFER_TIME, OurOffers
from torrentfs.wire.ws_tracker import PeerAnswer

URL = "wss://t.example/"


def answer(offer_id: bytes) -> PeerAnswer:
    return PeerAnswer(b"1" * 20, b"p" * 20, offer_id, "v=0")


async def test_each_ends_once(autojump_clock: MockClock) -> None:
    signaller = FakeSignaller("a")
    made = [offer.offer_id for offer in await signaller.make_offers(3)]
    offers = OurOffers()
    offers.add(made, trio.current_time())
    left = LeftOffers(offers, URL, signaller)
    assert left.offers_end() == trio.current_time() + OFFER_TIME
    assert repr(left) == f"<LeftOffers 3 at {URL}>"
    assert left.on_late_answer(answer(made[1]))
    assert not left.on_late_answer(answer(made[1]))
    assert not left.on_late_answer(answer(b"somebody else's"))
    await trio.sleep(OFFER_TIME)
    assert not left.on_late_answer(answer(made[0]))
    left.end_offers()
    left.end_offers()
    assert signaller.forgotten == [made[0], made[2]]
    signaller.check()
