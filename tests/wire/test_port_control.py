"""PCP and NAT-PMP: requests as the RFCs have them, answers of every kind."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire.port_control import (
    Denied,
    ExternalAddress,
    Mapped,
    Protocol,
    WrongVersion,
    nat_pmp_address_reply,
    nat_pmp_address_request,
    nat_pmp_reply,
    nat_pmp_request,
    parse_reply,
    pcp_reply,
    pcp_request,
)

NONCE = bytes(range(12))
PROTOCOLS = st.sampled_from(["tcp", "udp"])
PORTS = st.integers(1, 65535)
SECONDS = st.integers(0, 2**32 - 1)


def test_a_pcp_request_word_for_word() -> None:
    made = pcp_request(NONCE, "192.168.1.7", "tcp", 6881, 6882, 7200)
    assert made.hex() == (
        "02010000" "00001c20" "00000000000000000000ffffc0a80107"  # version, MAP, lifetime, client
        "000102030405060708090a0b" "06000000" "1ae1" "1ae2"  # nonce, TCP, ports
        "00000000000000000000ffff00000000"  # any external IPv4 address
    )  # fmt: skip
    assert len(made) == 60


def test_nat_pmp_requests_word_for_word() -> None:
    assert nat_pmp_request("tcp", 6881, 6882, 7200).hex() == "000200001ae11ae200001c20"
    assert nat_pmp_request("udp", 6881, 0, 0).hex() == "000100001ae1000000000000"
    assert nat_pmp_address_request() == b"\0\0"


@given(PROTOCOLS, PORTS, PORTS, SECONDS, SECONDS, st.ip_addresses().map(str))
def test_pcp_there_and_back(
    protocol: Protocol, port: int, external: int, lifetime: int, epoch: int, address: str
) -> None:
    request = pcp_request(NONCE, "2001:db8::1", protocol, port, 0, lifetime)
    reply = parse_reply(pcp_reply(request, epoch=epoch, address=address, external=external), NONCE)
    assert isinstance(reply, Mapped)
    assert (reply.protocol, reply.port, reply.external_port) == (protocol, port, external)
    assert (reply.lifetime, reply.epoch) == (lifetime, epoch)
    assert reply.address == address or address.startswith("::")  # an IPv4 address in disguise


@given(PROTOCOLS, PORTS, PORTS, SECONDS, SECONDS)
def test_nat_pmp_there_and_back(
    protocol: Protocol, port: int, external: int, lifetime: int, epoch: int
) -> None:
    request = nat_pmp_request(protocol, port, 0, lifetime)
    reply = parse_reply(nat_pmp_reply(request, epoch=epoch, external=external), NONCE)
    assert reply == Mapped(protocol, port, external, lifetime, epoch, None)
    told = parse_reply(nat_pmp_address_reply(epoch=epoch, address="192.0.2.1"), NONCE)
    assert told == ExternalAddress("192.0.2.1", epoch)


def test_another_nonce_is_another_request() -> None:
    request = pcp_request(b"x" * 12, "192.168.1.7", "tcp", 1, 1, 1)
    assert parse_reply(pcp_reply(request, epoch=1, address="192.0.2.1", external=1), NONCE) is None


def test_refusals() -> None:
    request = pcp_request(NONCE, "192.168.1.7", "tcp", 1, 1, 1)
    reply = pcp_reply(request, code=2, epoch=1, address="192.0.2.1", external=1)
    assert parse_reply(reply, NONCE) == Denied(2, "the gateway does not permit it")
    assert parse_reply(reply[:24], NONCE) == Denied(2, "the gateway does not permit it")
    reply = nat_pmp_reply(nat_pmp_request("udp", 1, 1, 1), code=99, epoch=1, external=1)
    assert parse_reply(reply, NONCE) == Denied(99, "the gateway answers with error 99")


@pytest.mark.parametrize("reply", ["0081000100000001", "0280000100000001", "0181000000000000"])
def test_a_gateway_of_another_version(reply: str) -> None:
    data = bytes.fromhex(reply)
    if data[0] == 2:
        data = bytes.fromhex("02810001" "00000000" "00000001") + bytes(12)  # fmt: skip
    assert parse_reply(data, NONCE) == WrongVersion()


def test_requests_are_no_answers() -> None:
    assert parse_reply(nat_pmp_request("udp", 1, 1, 1), NONCE) is None
    with pytest.raises(LocalProtocolError):
        pcp_request(b"short", "192.168.1.7", "tcp", 1, 1, 1)


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"\x02\x81" + rest))
def test_any_datagram(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        parse_reply(data, NONCE)
