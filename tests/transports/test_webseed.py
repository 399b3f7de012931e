"""Web seeds against a scripted HTTP client: which requests go out, what each answer does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transports.torrents import Sample, sample
from torrentfs.transports import webseed
from torrentfs.transports.http import HttpError
from torrentfs.transports.reach import Rule, of_web_seed
from torrentfs.transports.webseed import WebSeed, WebSeedError


@dataclass
class Answer:
    """What the fake server says; `breaks` ends the body with that error."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    url: str | None = None
    breaks: HttpError | None = None
    chunk: int = 5000
    ended: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for at in range(0, len(self.body), self.chunk):
            await trio.lowlevel.checkpoint()
            yield self.body[at : at + self.chunk]
        self.ended = True
        if self.breaks is not None:
            raise self.breaks


Script = Callable[[str, str | None], "Answer | HttpError"]


class FakeClient:
    """Gives the answers of a script and notes (url, Range)."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, str | None]] = []

    @asynccontextmanager
    async def stream(
        self, url: str, *, headers: Mapping[str, str] | None = None, rule: Rule
    ) -> AsyncIterator[Answer]:
        assert rule is of_web_seed
        wanted = (headers or {}).get("Range")
        self.asked.append((url, wanted))
        answer = self.script(url, wanted)
        if isinstance(answer, HttpError):
            raise answer
        answer.url = answer.url or url
        yield answer


def partial(data: bytes, wanted: str | None, **more: object) -> Answer:
    """The right 206 for a Range."""
    assert wanted is not None
    first, last = map(int, wanted.removeprefix("bytes=").split("-"))
    headers = {"content-range": f"bytes {first}-{last}/{len(data)}"}
    return Answer(206, data[first : last + 1], headers, **more)  # type: ignore[arg-type]


def right_server(torrent: Sample) -> Script:
    """Serves every file of the torrent below http://seed/ as it should."""
    by_url = {
        "http://seed/" + "/".join((torrent.metainfo.name, *path)): data
        for path, data in torrent.files.items()
    }
    return lambda url, wanted: partial(by_url[url], wanted)


def seed_of(
    torrent: Sample, script: Script, url: str = "http://seed/", flavour: str = "getright"
) -> tuple[WebSeed, FakeClient]:
    client = FakeClient(script)
    return WebSeed(url, torrent.metainfo, client, flavour), client  # type: ignore[arg-type]


async def read(seed: WebSeed, start: int, length: int, into: bytearray | None = None) -> bytearray:
    """All bytes of a range; `into` keeps those that came before a failure."""
    got = bytearray() if into is None else into
    async with aclosing(seed.fetch(start, length)) as chunks:
        async for chunk in chunks:
            got += chunk
    return got


ODD = sample(
    [
        (("a", "one.bin"), 10_000),
        ((".pad", "22768"), 22_768),
        (("empty",), 0),
        (("b.bin",), 70_001),
        (("c",), 1),
    ],
    name="odd",
)


@pytest.mark.parametrize("ranges", [True, False])
async def test_an_answer_that_ends_with_the_range_is_read_to_its_end(ranges: bool) -> None:
    # its connection can be used again then; of a longer answer no more is read than wanted
    data = ODD.files["b.bin",]
    answers: list[Answer] = []

    def script(url: str, wanted: str | None) -> Answer:
        answers.append(partial(data, wanted) if ranges else Answer(200, data))
        answers[-1].headers["content-length"] = str(len(answers[-1].body))
        return answers[-1]

    seed, _ = seed_of(ODD, script)
    assert await read(seed, 32_768 + 1000, 20_000) == data[1000:21_000]
    assert answers[0].ended is ranges


async def test_one_request_per_run_of_a_file() -> None:
    seed, client = seed_of(ODD, right_server(ODD))
    assert await read(seed, 0, len(ODD.space)) == ODD.space
    assert client.asked == [
        ("http://seed/odd/a/one.bin", "bytes=0-9999"),
        ("http://seed/odd/b.bin", "bytes=0-70000"),
        ("http://seed/odd/c", "bytes=0-0"),
    ]
    assert seed.statistics().received == len(ODD.space)
    assert seed.statistics().requests == 3


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_range_is_given_exactly(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(ODD.space) - 1))
    length = data.draw(st.integers(1, len(ODD.space) - start))
    seed, _ = seed_of(ODD, right_server(ODD))
    assert trio.run(read, seed, start, length) == ODD.space[start : start + length]


async def test_padding_is_not_asked_for() -> None:
    seed, client = seed_of(ODD, right_server(ODD))
    assert await read(seed, 10_000, 22_768) == bytes(22_768)
    assert client.asked == []


@pytest.mark.parametrize(
    ("url", "single", "name", "expected"),
    [
        ("http://h/d/", True, "a b#?%ü.bin", "http://h/d/a%20b%23%3F%25%C3%BC.bin"),
        ("http://h/d/file.bin", True, "other", "http://h/d/file.bin"),
        ("http://h/d", False, "n m", "http://h/d/n%20m/x%20y/%C3%A9%23"),
        ("http://h/d/", False, "n m", "http://h/d/n%20m/x%20y/%C3%A9%23"),
    ],
)
def test_urls_of_files(url: str, single: bool, name: str, expected: str) -> None:
    torrent = sample(10 if single else [(("x y", "é#"), 10)], name=name)
    seed, _ = seed_of(torrent, lambda url, wanted: Answer(), url)
    assert seed.file_url(0) == expected


def test_dots_are_escaped() -> None:
    torrent = sample([(("..", "x"), 10), ((".", "...", "y"), 10)])
    seed, _ = seed_of(torrent, lambda url, wanted: Answer())
    assert seed.file_url(0) == "http://seed/sample/%2E%2E/x"
    assert seed.file_url(1) == "http://seed/sample/%2E/%2E%2E%2E/y"


BIG = sample(6 * 1024 * 1024, name="big")


async def test_ignored_range_near_the_start_is_read_forward() -> None:
    headers = {"content-length": str(len(BIG.space))}
    seed, _ = seed_of(BIG, lambda url, wanted: Answer(200, BIG.space, headers))
    assert await read(seed, 1_000_001, 70_000) == BIG.space[1_000_001:1_070_001]
    assert await read(seed, 0, 5) == BIG.space[:5]


async def test_ignored_range_far_away_loses_the_rest_of_the_file() -> None:
    seed, client = seed_of(BIG, lambda url, wanted: Answer(200, BIG.space))
    pieces = BIG.metainfo.geometry.num_pieces
    with pytest.raises(WebSeedError, match="ignores Range") as caught:
        await read(seed, 5 << 20, 1000)
    assert not caught.value.permanent
    assert caught.value.missing == range((4 << 20) // 32768 + 1, pieces)
    assert seed.has(0)
    assert not seed.has(pieces - 1)
    assert await read(seed, 0, 32768) == BIG.space[:32768]
    asked = len(client.asked)
    with pytest.raises(WebSeedError, match="ignores Range"):
        await read(seed, 5 << 20, 1000)
    assert len(client.asked) == asked


@pytest.mark.parametrize("status", [404, 410])
async def test_a_missing_file_is_lost_and_the_others_go_on(status: int) -> None:
    good = right_server(ODD)
    seed, client = seed_of(
        ODD, lambda url, wanted: Answer(status) if "b.bin" in url else good(url, wanted)
    )
    got = bytearray()
    with pytest.raises(WebSeedError, match=f"odd/b.bin: HTTP {status}") as caught:
        await read(seed, 0, len(ODD.space), got)
    assert got == ODD.space[:32768]
    assert not caught.value.permanent
    assert caught.value.retry_after is None
    assert caught.value.missing == range(1, 4)
    assert [seed.has(piece) for piece in range(4)] == [True, False, False, False]
    asked = len(client.asked)
    with pytest.raises(WebSeedError, match=f"HTTP {status}"):
        await read(seed, 40_000, 10)
    assert len(client.asked) == asked
    assert await read(seed, 0, 10_000) == ODD.space[:10_000]
    assert seed.statistics().missing_files == 1


async def test_all_files_missing_is_permanent() -> None:
    seed, client = seed_of(BIG, lambda url, wanted: Answer(404))
    for _ in range(2):
        with pytest.raises(WebSeedError) as caught:
            await read(seed, 0, 10)
        assert caught.value.permanent
    assert len(client.asked) == 1
    assert not seed.has(0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, bytes(77), {"content-length": "77"}),
        Answer(206, bytes(77), {"content-range": "bytes 0-9/77"}),
        Answer(416, b"", {"content-range": "bytes */77"}),
    ],
)
async def test_another_length_loses_the_file(answer: Answer) -> None:
    seed, _ = seed_of(BIG, lambda url, wanted: answer)
    with pytest.raises(WebSeedError, match="77 bytes there"):
        await read(seed, 0, 10)
    assert not seed.has(0)


async def test_wrong_content_range() -> None:
    headers = {"content-range": f"bytes 0-9/{len(BIG.space)}"}
    seed, _ = seed_of(BIG, lambda url, wanted: Answer(206, BIG.space[:10], headers))
    with pytest.raises(WebSeedError, match="asked for byte 100 and got 0") as caught:
        await read(seed, 100, 10)
    assert not caught.value.permanent
    assert not caught.value.missing


async def test_compressed_answers_are_refused() -> None:
    headers = {"content-encoding": "gzip"}
    seed, _ = seed_of(BIG, lambda url, wanted: Answer(206, b"x", headers))
    with pytest.raises(WebSeedError, match="compresses"):
        await read(seed, 0, 10)


@pytest.mark.parametrize(
    ("status", "header", "pause"),
    [
        (503, "7", 7.0),
        (429, "999999", webseed.MAX_RETRY_AFTER),
        (503, None, None),
        (429, None, None),
        (500, None, None),
        (403, None, webseed.REFUSED_RETRY),
        (302, None, webseed.REFUSED_RETRY),
        (999, "3", 3.0),
    ],
)
async def test_pauses(
    status: int,
    header: str | None,
    pause: float | None,
    autojump_clock: trio.testing.MockClock,
) -> None:
    headers = {} if header is None else {"retry-after": header}
    seed, client = seed_of(BIG, lambda url, wanted: Answer(status, b"busy", headers))
    with pytest.raises(WebSeedError, match=f"HTTP {status}") as caught:
        await read(seed, 0, 10)
    assert caught.value.retry_after == pause
    assert not caught.value.permanent
    if pause is None:
        return
    await trio.sleep(pause / 2)  # nobody asks before the pause is over
    with pytest.raises(WebSeedError, match="pause") as caught:
        await read(seed, 0, 10)
    assert caught.value.retry_after == pytest.approx(pause / 2)
    assert len(client.asked) == 1
    await trio.sleep(pause / 2)
    client.script = right_server(BIG)
    assert await read(seed, 0, 10) == BIG.space[:10]


async def test_goes_on_where_an_answer_ended_early() -> None:
    endings = iter(
        [
            HttpError("peer closed early", broken=True),
            None,  # a shorter range than asked
            HttpError("peer closed early", broken=True),
        ]
    )

    def script(url: str, wanted: str | None) -> Answer:
        whole = partial(BIG.space, wanted)
        ending = next(endings, "done")
        if ending != "done":
            whole.body = whole.body[:3000]
            whole.breaks = ending  # type: ignore[assignment]
        return whole

    seed, client = seed_of(BIG, script)
    assert await read(seed, 1000, 20_000) == BIG.space[1000:21_000]
    assert [wanted for _, wanted in client.asked] == [
        "bytes=1000-20999",
        "bytes=4000-20999",
        "bytes=7000-20999",
        "bytes=10000-20999",
    ]


async def test_a_server_that_always_ends_early_is_given_up() -> None:
    def script(url: str, wanted: str | None) -> Answer:
        whole = partial(BIG.space, wanted)
        whole.body = whole.body[:10]
        return whole

    seed, client = seed_of(BIG, script)
    with pytest.raises(WebSeedError, match="shorter than asked after 50 of 20000"):
        await read(seed, 0, 20_000)
    assert len(client.asked) == webseed.MAX_RESUMES + 1


async def test_an_old_connection_that_was_closed_is_asked_once_more() -> None:
    seed, client = seed_of(BIG, lambda url, wanted: HttpError("disconnected", broken=True))
    with pytest.raises(WebSeedError, match="disconnected after 0 of 10 bytes"):
        await read(seed, 0, 10)
    assert len(client.asked) == 2
    client.script = lambda url, wanted: HttpError("cannot connect: connection refused")
    with pytest.raises(WebSeedError, match="connection refused") as caught:
        await read(seed, 0, 10)
    assert len(client.asked) == 3
    assert not caught.value.permanent


async def test_a_stall_gives_what_came_before_it() -> None:
    def script(url: str, wanted: str | None) -> Answer:
        return Answer(206, BIG.space[:10], breaks=HttpError("stalled"))

    seed, _ = seed_of(BIG, script)
    got = bytearray()
    with pytest.raises(WebSeedError, match="stalled"):
        await read(seed, 0, 1000, got)
    assert got == BIG.space[:10]
    assert seed.statistics().last_error == "stalled"


async def test_longer_answers_are_cut() -> None:
    seed, _ = seed_of(BIG, lambda url, wanted: Answer(206, BIG.space))
    assert await read(seed, 0, 7001) == BIG.space[:7001]


async def test_redirects_are_remembered_until_they_fail() -> None:
    expired = False

    def script(url: str, wanted: str | None) -> Answer:
        if url.startswith("http://mirror/"):
            return Answer(403) if expired else partial(BIG.space, wanted)
        return partial(BIG.space, wanted, url="http://mirror/signed")

    seed, client = seed_of(BIG, script)
    for _ in range(3):
        assert await read(seed, 0, 10) == BIG.space[:10]
    assert [url for url, _ in client.asked] == [
        "http://seed/big",
        "http://mirror/signed",
        "http://mirror/signed",
    ]
    expired = True
    assert await read(seed, 0, 10) == BIG.space[:10]
    assert [url for url, _ in client.asked[3:]] == ["http://mirror/signed", "http://seed/big"]


async def test_unusable_url_is_permanent() -> None:
    seed, _ = seed_of(BIG, lambda url, wanted: HttpError("only http", permanent=True))
    with pytest.raises(WebSeedError, match="only http") as caught:
        await read(seed, 0, 10)
    assert caught.value.permanent
    assert "only http" in repr(seed)


# -- BEP 17 ---------------------------------------------------------------------------------------


async def test_hoffman_asks_by_piece() -> None:
    def script(url: str, wanted: str | None) -> Answer:
        assert wanted is None
        fields = dict(part.split("=") for part in url.partition("?")[2].split("&"))
        first, last = map(int, fields["ranges"].split("-"))
        start = int(fields["piece"]) * 32768
        return Answer(200, ODD.space[start + first : start + last + 1])

    seed, client = seed_of(ODD, script, "http://seed/script?key=1", "hoffman")
    assert await read(seed, 5, len(ODD.space) - 5) == ODD.space[5:]
    escaped = client.asked[0][0]
    assert escaped.startswith("http://seed/script?key=1&info_hash=%")
    assert [url.partition("&piece=")[2] for url, _ in client.asked] == [
        "0&ranges=5-9999",  # the padding behind it is not asked for
        "1&ranges=0-32767",
        "2&ranges=0-32767",
        "3&ranges=0-4464",
        "3&ranges=4465-4465",
    ]


async def test_hoffman_pause_is_in_the_body() -> None:
    seed, _ = seed_of(ODD, lambda url, wanted: Answer(503, b" 33\n"), flavour="hoffman")
    with pytest.raises(WebSeedError) as caught:
        await read(seed, 0, 10)
    assert caught.value.retry_after == 33.0
    headers = {"retry-after": "8"}
    seed, _ = seed_of(
        ODD, lambda url, wanted: Answer(503, b"<html>" * 1000, headers), flavour="hoffman"
    )
    with pytest.raises(WebSeedError) as caught:
        await read(seed, 0, 10)
    assert caught.value.retry_after == 8.0


@pytest.mark.parametrize(
    ("answer", "words", "permanent"),
    [
        (Answer(404), "HTTP 404", True),
        (Answer(500), "HTTP 500", False),
        (Answer(200, b"12345"), "shorter than asked: 5 of 10", False),
        (
            Answer(200, b"", {"content-length": "5"}),
            "asked for 10 bytes of piece 0 and got 5",
            False,
        ),
    ],
)
async def test_hoffman_failures(answer: Answer, words: str, permanent: bool) -> None:
    seed, _ = seed_of(ODD, lambda url, wanted: answer, flavour="hoffman")
    with pytest.raises(WebSeedError, match=words) as caught:
        await read(seed, 0, 10)
    assert caught.value.permanent == permanent
