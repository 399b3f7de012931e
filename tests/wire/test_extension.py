"""BEP 10: what a handshake of strangers becomes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire import limits
from torrentfs.wire import messages as m
from torrentfs.wire.extension import OUR_EXTENSIONS, read_extended, write_extended


def hello(table: object) -> m.ExtensionHandshake:
    message = read_extended(memoryview(b"\0" + encode(table)))
    assert isinstance(message, m.ExtensionHandshake)
    return message


def test_what_libtorrent_says() -> None:
    message = hello(
        {
            "m": {"lt_donthave": 7, "share_mode": 8, "upload_only": 3, "ut_metadata": 2},
            "metadata_size": 2048,
            "complete_ago": -1,
            "reqq": 2000,
            "upload_only": 1,
            "v": "libtorrent/2.1.1",
            "yourip": b"\x7f\0\0\1",
        }
    )
    assert message.extensions["ut_metadata"] == 2
    assert message.version == "libtorrent/2.1.1"
    assert (message.request_queue, message.metadata_size) == (2000, 2048)
    assert message.upload_only
    assert message.your_ip == "127.0.0.1"


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"m": 5},
        {"m": []},
        {"m": {"x": -1, "y": 256, "z": b"1", b"\xff": 1, "n" * 65: 1}},
        {"v": 1, "p": 0, "reqq": -1, "yourip": b"abc", "upload_only": 0},
        {"p": 65536, "reqq": b"5", "metadata_size": -1, "yourip": []},
        {"metadata_size": 1 << 40},
        {"metadata_size": 0},
    ],
)
def test_odd_values_count_as_absent(table: dict) -> None:
    assert hello(table) == m.ExtensionHandshake()


def test_names_are_bounded() -> None:
    message = hello({"m": {f"x{number}": 1 for number in range(1000)}})
    assert len(message.extensions) == limits.MAX_EXTENSIONS


def test_versions_are_printable_and_short() -> None:
    version = hello({"v": b"\x1b[31m\xff" + b"x" * 1000}).version
    assert version is not None
    assert version.isprintable()
    assert len(version) <= limits.MAX_TEXT_BYTES


def test_id_zero_withdraws() -> None:
    message = hello({"m": {"ut_metadata": 0, "ut_pex": 1}})
    assert message.extensions == {"ut_pex": 1}
    assert message.withdrawn == {"ut_metadata"}


def test_padding_behind_a_handshake_is_tolerated() -> None:
    assert read_extended(memoryview(b"\0deXX")) == m.ExtensionHandshake()


def test_messages_go_out_under_their_ids() -> None:
    assert write_extended(m.DontHave(5), {"lt_donthave": 33}) == b"\x21\0\0\0\x05"
    with pytest.raises(LocalProtocolError):
        write_extended(m.DontHave(5), {"ut_metadata": 3})


@given(st.sampled_from([0, *OUR_EXTENSIONS.values(), 50]), st.binary(max_size=200))
def test_any_payload(number: int, payload: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        read_extended(memoryview(bytes([number]) + payload))
