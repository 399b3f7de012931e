"""What `--proxy` may be, and that its password is told to nobody."""

from __future__ import annotations

import pytest

from torrentfs.errors import ConfigError
from torrentfs.transports.proxy import Proxy, parse_proxy


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("socks5://127.0.0.1:1080", Proxy("socks5", "127.0.0.1", 1080)),
        ("socks5h://Proxy.Example:9050/", Proxy("socks5", "proxy.example", 9050)),
        ("SOCKS5://[2001:db8::1]:1080", Proxy("socks5", "2001:db8::1", 1080)),
        ("http://proxy:3128", Proxy("http", "proxy", 3128)),
        ("socks5://me:p%40s%3As@h:1", Proxy("socks5", "h", 1, "me", "p@s:s")),
        ("socks5://me:a:b@h:1", Proxy("socks5", "h", 1, "me", "a:b")),
        ("http://token:@h:1", Proxy("http", "h", 1, "token", "")),
        ("http://t%C3%B6ken@h:1", Proxy("http", "h", 1, "töken", "")),
    ],
)
def test_good_ones(text: str, proxy: Proxy) -> None:
    assert parse_proxy(text) == proxy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a URL"),
        ("proxy:1080", "not a URL"),
        ("socks5://proxy", "not a URL"),
        ("socks5://proxy:0", "1 to 65535"),
        ("socks5://proxy:70000", "1 to 65535"),
        ("socks5://proxy:1/path", "not a URL"),
        ("socks5://me:hush@hush@proxy:1", "not a URL"),
        ("socks5://me:hush@proxy:1\n", ""),
        ("socks5://me:hush@pro\0xy:1", "not a URL"),
        ("socks4://me:hush@proxy:1", "socks4:// proxies are not supported"),
        ("https://me:hush@proxy:1", "https:// proxies are not supported"),
        ("hush://proxy:1", "of this kind is not supported"),
        ("socks5://hush@proxy:1", "a name and a password"),
        ("socks5://me:@proxy:1", "a name and a password"),
        ("socks5://:hush@proxy:1", "a name and a password"),
        ("http://:hush@proxy:1", "no name"),
        ("http://m%3Ae:hush@proxy:1", "no ':'"),
        ("http://me:hush%0D%0AX-Hush:%201@proxy:1", "printable"),
        ("http://me:%FFhush@proxy:1", "UTF-8"),
        (f"socks5://me:{'hush' * 64}@proxy:1", "at most 255"),
        ("socks5://me:h%C3%BCsh@proxy:1", "ASCII"),
    ],
)
def test_bad_ones(text: str, words: str) -> None:
    if not words:  # space around it is no mistake
        parse_proxy(text)
        return
    with pytest.raises(ConfigError, match=words) as caught:
        parse_proxy(text)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_password_is_shown_to_nobody() -> None:
    proxy = parse_proxy("socks5://myself:secret@[::1]:1080")
    assert str(proxy) == "socks5://[::1]:1080"
    for shown in (str(proxy), repr(proxy), f"{proxy}", f"{[proxy]}"):
        assert "secret" not in shown
        assert "myself" not in shown
