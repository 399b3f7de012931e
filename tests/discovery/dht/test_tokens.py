"""Tokens hold for five to ten minutes, for one host and one torrent."""

from __future__ import annotations

from random import Random

from torrentfs.discovery.dht.tokens import LIFETIME, Tokens

HASH = b"h" * 20


def test_a_token_is_good_for_its_host_and_torrent() -> None:
    tokens = Tokens(Random(1), 0.0)
    token = tokens.make("1.2.3.4", HASH, 0.0)
    assert tokens.is_good(token, "1.2.3.4", HASH, 1.0)
    assert not tokens.is_good(token, "1.2.3.5", HASH, 1.0)
    assert not tokens.is_good(token, "1.2.3.4", b"x" * 20, 1.0)
    assert not tokens.is_good(b"", "1.2.3.4", HASH, 1.0)


def test_a_token_lasts_through_one_change_of_the_key() -> None:
    tokens = Tokens(Random(1), 0.0)
    token = tokens.make("1.2.3.4", HASH, LIFETIME - 1)
    assert tokens.is_good(token, "1.2.3.4", HASH, 2 * LIFETIME - 1)
    assert not tokens.is_good(token, "1.2.3.4", HASH, 2 * LIFETIME + 1)


def test_no_token_survives_a_long_silence() -> None:
    tokens = Tokens(Random(1), 0.0)
    token = tokens.make("1.2.3.4", HASH, 0.0)
    assert not tokens.is_good(token, "1.2.3.4", HASH, 1e9)
    assert tokens.is_good(tokens.make("1.2.3.4", HASH, 1e9), "1.2.3.4", HASH, 1e9)


def test_others_have_other_tokens() -> None:
    one, other = Tokens(Random(1), 0.0), Tokens(Random(2), 0.0)
    assert not other.is_good(one.make("1.2.3.4", HASH, 0.0), "1.2.3.4", HASH, 0.0)
