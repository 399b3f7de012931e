"""Token, Host and Origin: who may ask over TCP, and who may not."""

from __future__ import annotations

import base64

import pytest

from torrentfs.daemon.control.access import (
    Endpoint,
    Refusal,
    Welcome,
    cookie_name,
    cookie_value,
    decide,
)

TOKEN = "t" * 43
HTTP = Endpoint(TOKEN, 8080, "127.0.0.1", ("nas.local",))
BEARER = {"host": "127.0.0.1:8080", "authorization": f"Bearer {TOKEN}"}


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def status(headers: dict[str, str], method: str = "GET", path: str = "/api/v1/status") -> int:
    verdict = decide(HTTP, method, path, "", headers)
    return verdict.status if isinstance(verdict, Refusal) else 200


def test_the_unix_socket_asks_for_nothing() -> None:
    assert decide(Endpoint(), "DELETE", "/api/v1/torrents/x", "", {}) is None


@pytest.mark.parametrize(
    "authorization",
    [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", basic(f"any:{TOKEN}"), basic(f":{TOKEN}")],
)
def test_the_token_opens(authorization: str) -> None:
    assert status({"host": "localhost:8080", "authorization": authorization}) == 200


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Digest {TOKEN}", TOKEN,
     "Basic !!", basic(TOKEN), basic("a:b"), "Bearer \udcff"],
)  # fmt: skip
def test_no_other_token_does(authorization: str) -> None:
    headers = {"host": "localhost:8080"}
    assert status(headers | ({"authorization": authorization} if authorization else {})) == 401


def test_the_page_is_opened_by_the_token_in_its_address_and_then_by_a_cookie() -> None:
    host = {"host": "localhost:8080"}
    verdict = decide(HTTP, "GET", "/", f"token={TOKEN}", host)
    assert isinstance(verdict, Welcome)
    assert "HttpOnly" in verdict.cookie
    assert "SameSite=Strict" in verdict.cookie
    assert TOKEN not in verdict.cookie
    cookie = f"other=1; {verdict.cookie.partition(';')[0]}"
    assert status(host | {"cookie": cookie}) == 200
    assert status(host | {"cookie": f"{cookie_name(8081)}={cookie_value(TOKEN)}"}) == 401
    assert status(host | {"cookie": f"{cookie_name(8080)}={TOKEN}"}) == 401
    wrong = decide(HTTP, "GET", "/", "token=wrong", host)
    assert isinstance(wrong, Refusal)
    assert wrong.status == 401


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "localhost.:8080", "[::1]:8080",
     "127.0.0.2:8080", "nas.local:8080", "nas.local", "nas.local:443"],
)  # fmt: skip
def test_these_hosts_are_ours(host: str) -> None:
    assert status(BEARER | {"host": host}) == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8080", "127.0.0.1:8081", "localhost:1", "192.0.2.1:8080",
     "localhost.evil.example:8080", "localhost:8080:1", "[::1", "localhost:x", "[::2]:8080",
     "0x7f.1:8080"],
)  # fmt: skip
def test_other_hosts_are_refused_even_with_the_token(host: str) -> None:
    assert status(BEARER | {"host": host}) == 421


def test_of_all_addresses_those_in_digits_are_ours() -> None:
    everywhere = Endpoint(TOKEN, 8080, "::")
    assert everywhere.is_ours("192.0.2.1:8080")
    assert not everywhere.is_ours("rebound.example:8080")


@pytest.mark.parametrize(
    ("headers", "method", "path", "expected"),
    [
        ({"origin": "http://127.0.0.1:8080"}, "POST", "/api/v1/torrents", 200),
        ({"origin": "http://evil.example"}, "POST", "/api/v1/torrents", 403),
        ({"origin": "http://127.0.0.1:8081"}, "POST", "/api/v1/torrents", 403),
        ({"origin": "null"}, "POST", "/api/v1/torrents", 403),
        ({"origin": "http://evil.example"}, "GET", "/files/x", 403),
        ({"sec-fetch-site": "same-origin"}, "POST", "/api/v1/torrents", 200),
        ({"sec-fetch-site": "none"}, "GET", "/files/x", 200),
        ({"sec-fetch-site": "cross-site"}, "GET", "/files/x", 403),
        ({"sec-fetch-site": "same-site"}, "POST", "/api/v1/torrents", 403),
        (
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
             "sec-fetch-dest": "document"},
            "GET", "/", 200,
        ),
        (
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
             "sec-fetch-dest": "iframe"},
            "GET", "/", 403,
        ),
        (
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
             "sec-fetch-dest": "document"},
            "GET", "/files/x", 403,
        ),
    ],
)  # fmt: skip
def test_other_sites_are_refused_even_with_the_token(
    headers: dict[str, str], method: str, path: str, expected: int
) -> None:
    assert status(BEARER | headers, method, path) == expected
