"""What indexers are told of: a choice that stays, so that asking often brings nothing."""

from __future__ import annotations

from random import Random

from torrentfs.discovery.dht.sampling import INTERVAL, Sampling
from torrentfs.discovery.dht.storage import LIFETIME, Storage
from torrentfs.wire.krpc import MAX_SAMPLES

OWN = bytes(20)


def filled(count: int) -> Storage:
    """So many torrents, each announced by another host."""
    storage = Storage(Random(1))
    for n in range(count):
        storage.add(n.to_bytes(20), (f"8.8.{n >> 8}.{n & 255}", 5), OWN, 0.0)
    return storage


def test_all_of_a_few() -> None:
    storage = filled(3)
    sample = Sampling(storage, Random(1), 0.0).sample(0.0)
    assert set(sample.info_hashes) == {n.to_bytes(20) for n in range(3)}
    assert (sample.total, sample.interval) == (3, INTERVAL)


def test_the_choice_stays_until_the_interval_is_over() -> None:
    sampling = Sampling(filled(200), Random(1), 0.0)
    first = sampling.sample(10.0)
    assert (len(set(first.info_hashes)), first.total) == (MAX_SAMPLES, 200)
    again = sampling.sample(INTERVAL - 1.0)
    assert again.info_hashes == first.info_hashes
    assert again.interval == 1
    later = sampling.sample(float(INTERVAL))
    assert set(later.info_hashes) != set(first.info_hashes)
    assert later.interval == INTERVAL


def test_what_is_forgotten_makes_room_for_others() -> None:
    storage = filled(30)
    sampling = Sampling(storage, Random(1), 0.0)
    first = sampling.sample(0.0).info_hashes
    for info_hash in first[:5]:
        storage.add(info_hash, ("9.9.9.9", 5), OWN, LIFETIME)
    storage.expire(LIFETIME + 1)
    assert set(sampling.sample(LIFETIME + 1).info_hashes) == set(first[:5])
    storage.add(b"n" * 20, ("9.9.9.9", 5), OWN, LIFETIME + 2)
    sample = sampling.sample(LIFETIME + 3)
    assert set(sample.info_hashes) == {*first[:5], b"n" * 20}
    assert sample.total == 6
