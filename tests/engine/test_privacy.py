"""A private torrent uses its trackers alone."""

from __future__ import annotations

import pytest

from torrentfs.engine.config import SessionConfig
from torrentfs.engine.privacy import Ways, is_private, ways


@pytest.mark.parametrize("user", [False, True])
def test_what_the_metadata_says_counts(user: bool) -> None:
    config = SessionConfig(private=user, lsd=True)
    assert ways(config, True) == Ways(dht=False, peer_exchange=False, local_discovery=False)
    assert ways(config, False) == Ways(dht=True, peer_exchange=True, local_discovery=True)


def test_before_it_is_known_the_user_decides() -> None:
    assert is_private(SessionConfig(private=True), None)
    assert not is_private(SessionConfig(), None)
    assert not ways(SessionConfig(private=True), None).dht


def test_what_is_off_is_off() -> None:
    config = SessionConfig(dht=None, pex=False, lsd=False)
    assert ways(config, False) == Ways(dht=False, peer_exchange=False, local_discovery=False)
