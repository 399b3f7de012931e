"""Bencoding (BEP 3) on top of bencode.py, whose only importer this file is.

bencode.py's decoder is right about well-formed input, but slow, and lax with what strangers send.
`_Decoder` is that decoder with its four methods made strict and fast:

* a string must be there in full: bencode.py silently returns a shorter one;
* an integer is `-?` and digits, no leading zero, no `-0`, no blank or underscore (`i 1e`, `i1_0e`),
  of at most `limits.MAX_INTEGER_DIGITS` digits;
* nesting is counted, so nothing raises `RecursionError`; so are lists and dictionaries, since two
  bytes (`le`) would become 64 each;
* a key that comes twice is refused: two readers could disagree about which one counts. Keys out of
  order are accepted on reading, as everybody does: the info-hash is over the received bytes.

`Cursor` pulls values out of a buffer one at a time, so that the files of a large torrent are never
all in memory as dictionaries, the bytes of `info` can be kept as they were received, and trailing
bytes (which BEP 9 `data` messages have) are no error by themselves.

Every function raises `BencodingError` on malformed input and nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from bencodepy import Bencached, BencodeDecodeError, BencodeDecoder, BencodeEncoder

from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import limits

if TYPE_CHECKING:
    from collections.abc import Iterator

Value = Any
"""`bytes`, `int`, `list` of values, or `dict` from `bytes` to values."""

_DICT, _LIST, _INT, _END, _COLON, _ZERO, _NINE, _MINUS = b"dlie:09-"
_MAX_LENGTH_DIGITS = 10
_TOO_MUCH = "exceeded maximum depth or number of lists and dictionaries"


_LENGTH = rb"6:lengthi(0|[1-9][0-9]{0,17})e"
_PLAIN_FILE = re.compile(rb"d" + _LENGTH + rb"4:pathl(?=[1-9])")
_PLAIN_LEAF = re.compile(rb"d0:d" + _LENGTH + rb"(?:11:pieces root32:(.{32}))?ee", re.DOTALL)


class PlainFile(NamedTuple):
    """An entry of a v1 file list with no more than a length and a path, not checked otherwise."""

    length: int
    directory: tuple[Value, ...]
    name: bytes


class BencodingError(InvalidTorrent):
    """The bytes are not bencoded, or nested deeper or larger than allowed."""


class _Decoder(BencodeDecoder):  # type: ignore[misc]  # bencode.py has no types
    """bencode.py's decoder, strict and fast. Methods take (data, offset) and give (value, end).

    `room` is how many more lists and dictionaries it makes.
    """

    def __init__(self, max_depth: int) -> None:
        super().__init__(max_depth=max_depth)
        self.room = limits.MAX_CONTAINERS

    def decode_int(self, x: bytes, f: int, **_: int) -> tuple[int, int]:
        end = x.index(b"e", f + 1, f + limits.MAX_INTEGER_DIGITS + 3)
        digits = x[f + 1 : end]
        first = digits[0]
        if first == _MINUS:
            if not digits[1:].isdigit() or digits[1] == _ZERO:
                raise ValueError
        elif not digits.isdigit() or (first == _ZERO and len(digits) > 1):
            raise ValueError
        return int(digits), end + 1

    def decode_string(self, x: bytes, f: int, **_: object) -> tuple[bytes, int]:
        begin, end = self.string_span(x, f)
        return x[begin:end], end

    def string_span(self, x: bytes, f: int) -> tuple[int, int]:
        """Where the content of the string at `f` lies."""
        if x[f + 1] == _COLON and _ZERO <= (first := x[f]) <= _NINE:
            end = f + 2 + first - _ZERO
            if end > len(x):
                raise ValueError
            return f + 2, end
        colon = x.index(b":", f, f + _MAX_LENGTH_DIGITS + 1)
        digits = x[f:colon]
        if not digits.isdigit() or (digits[0] == _ZERO and len(digits) > 1):
            raise ValueError
        end = colon + 1 + int(digits)
        if end > len(x):
            raise ValueError
        return colon + 1, end

    def decode_list(self, x: bytes, f: int, depth: int = 0, **_: object) -> tuple[list[Value], int]:
        self.room -= 1
        if depth >= self.max_depth or self.room < 0:
            raise BencodeDecodeError(_TOO_MUCH)
        decode_func = self.decode_func
        size = len(x)
        result: list[Value] = []
        append = result.append
        f += 1
        while (first := x[f]) != _END:
            # short strings are nearly all there is in a torrent: their length is one or two digits
            if x[f + 1] == _COLON and _ZERO <= first <= _NINE:
                begin = f + 2
                f = begin + first - _ZERO
                append(x[begin:f])
            elif x[f + 2] == _COLON and _ZERO < first <= _NINE and _ZERO <= x[f + 1] <= _NINE:
                begin = f + 3
                f = begin + first * 10 + x[f + 1] - 11 * _ZERO
                append(x[begin:f])
            else:
                value, f = decode_func[x[f : f + 1]](x, f, depth=depth + 1)
                append(value)
        if f >= size:
            raise ValueError
        return result, f + 1

    def decode_dict(
        self, x: bytes, f: int, depth: int = 0, **_: object
    ) -> tuple[dict[bytes, Value], int]:
        self.room -= 1
        if depth >= self.max_depth or self.room < 0:
            raise BencodeDecodeError(_TOO_MUCH)
        decode_func = self.decode_func
        result: dict[bytes, Value] = {}
        f += 1
        while (first := x[f]) != _END:
            if x[f + 1] == _COLON and _ZERO <= first <= _NINE:
                begin = f + 2
                f = begin + first - _ZERO
                key = x[begin:f]
            else:
                key, f = self.decode_string(x, f)
            if key in result:
                raise BencodeDecodeError(f"the key {key[:40]!r} comes twice")
            result[key], f = decode_func[x[f : f + 1]](x, f, depth=depth + 1)
        return result, f + 1

    def value(self, x: bytes, f: int, depth: int = 0) -> tuple[Value, int]:
        """The value that starts at `f` and where it ends."""
        try:
            value: tuple[Value, int] = self.decode_func[x[f : f + 1]](x, f, depth=depth)
        except BencodeDecodeError as error:
            raise BencodingError(f"malformed bencoding: {error}") from None
        except (IndexError, KeyError, ValueError):
            raise BencodingError("malformed bencoding") from None
        return value


class Cursor:
    """Reads bencoded `data` from front to back, as the caller asks for it.

    `position` is the offset of the next value. After `dictionary()` gave a key, the caller must
    take its value (`value()`, or another `dictionary()` or `items()` run to its end) before the
    next key.
    """

    __slots__ = ("_data", "_decoder", "_depth", "position")

    def __init__(
        self, data: bytes, position: int = 0, *, max_depth: int = limits.MAX_NESTING
    ) -> None:
        self._data = data
        self._decoder = _Decoder(max_depth=max_depth)
        self._depth = 0
        self.position = position

    def value(self) -> Value:
        """Take the next value whole."""
        value, self.position = self._decoder.value(self._data, self.position, self._depth)
        return value

    def string_span(self) -> tuple[int, int]:
        """Pass over the next value, a string, and say where its content lies."""
        try:
            span = self._decoder.string_span(self._data, self.position)
        except (IndexError, ValueError):
            raise BencodingError("malformed bencoding: a string was expected") from None
        self.position = span[1]
        return span

    def at_dictionary(self) -> bool:
        """True when the next value is a dictionary."""
        return self._data[self.position : self.position + 1] == b"d"

    def at_list(self) -> bool:
        """True when the next value is a list."""
        return self._data[self.position : self.position + 1] == b"l"

    def at_string(self) -> bool:
        """True when the next value is a string."""
        return self._data[self.position : self.position + 1].isdigit()

    def dictionary(self) -> Iterator[bytes]:
        """Enter the dictionary that comes next; yields each key, the cursor on its value."""
        seen: set[bytes] = set()
        for _ in self._enter(b"d"):
            begin, end = self.string_span()
            key = self._data[begin:end]
            if key in seen:
                raise BencodingError(f"malformed bencoding: the key {key[:40]!r} comes twice")
            seen.add(key)
            yield key

    def items(self) -> Iterator[Value]:
        """Enter the list that comes next; yields its values, one decoded at a time."""
        for _ in self._enter(b"l"):
            yield self.value()

    def plain_files(self) -> Iterator[PlainFile | Value]:
        """`items()` of a v1 file list (BEP 3), with a short cut for the commonest entry.

        An entry of just a length and a path comes as a `PlainFile`, whose `directory` is the very
        object of the entry before where it is the same; any other comes as `items()` gives it.
        """
        data = self._data
        match = _PLAIN_FILE.match
        directory: tuple[Value, ...] = ()
        written = b""
        for _ in self._enter(b"l"):
            found = match(data, self.position)
            if found is None:
                yield self.value()
                continue
            place = found.end()
            name = self._last_name(place, written)
            if name is not None:
                self.position = name[1] + 2
                yield PlainFile(int(found[1]), directory, data[name[0] : name[1]])
                continue
            path, end = self._decoder.value(data, place - 1, self._depth + 1)
            if data[end : end + 1] != b"e" or type(path[-1]) is not bytes:
                yield self.value()
                continue
            self.position = end + 1
            last = path.pop()
            directory = tuple(path)
            written = data[place : end - len(b"%d:%se" % (len(last), last))]
            yield PlainFile(int(found[1]), directory, last)

    def _last_name(self, place: int, directory: bytes) -> tuple[int, int] | None:
        """Where the last name of a path lies, if path and entry end with it in `directory`."""
        if not self._data.startswith(directory, place):
            return None
        try:
            begin, end = self._decoder.string_span(self._data, place + len(directory))
        except (IndexError, ValueError):
            return None
        return (begin, end) if self._data[end : end + 2] == b"ee" else None

    def plain_leaf(self) -> tuple[int, bytes] | None:
        """(length, pieces root) if the next value is a file of a v2 tree with no more to it.

        It is then taken; else None, and nothing is taken. The root of an empty file is empty.
        """
        found = _PLAIN_LEAF.match(self._data, self.position)
        if found is None:
            return None
        self.position = found.end()
        return int(found[1]), found[2] or b""

    def _enter(self, kind: bytes) -> Iterator[None]:
        if self._data[self.position : self.position + 1] != kind:
            raise BencodingError("malformed bencoding: a dictionary or list was expected")
        if self._depth >= self._decoder.max_depth:
            raise BencodingError("malformed bencoding: exceeded maximum depth")
        self._depth += 1
        self.position += 1
        while (first := self._data[self.position : self.position + 1]) != b"e":
            if not first:
                raise BencodingError("malformed bencoding: it ends too early")
            yield
        self.position += 1
        self._depth -= 1


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = limits.MAX_MESSAGE_NESTING,
    max_size: int = limits.MAX_METADATA_BYTES,
) -> Value:
    """The one value that `data` holds; trailing bytes are an error."""
    value, end = decode_prefix(data, max_depth=max_depth, max_size=max_size)
    if end != len(data):
        raise BencodingError("malformed bencoding: there are bytes behind its end")
    return value


def decode_prefix(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = limits.MAX_MESSAGE_NESTING,
    max_size: int = limits.MAX_METADATA_BYTES,
) -> tuple[Value, int]:
    """The value at the start of `data` and how many bytes it took (BEP 9 has payload behind it)."""
    if len(data) > max_size:
        raise BencodingError(f"bencoded data of {len(data)} bytes is over the limit of {max_size}")
    return _Decoder(max_depth=max_depth).value(bytes(data), 0)


def encode(value: object) -> bytes:
    """Bencode ints, bytes, str (as UTF-8), lists, tuples and dicts; keys are sorted (BEP 3)."""
    data: bytes = BencodeEncoder().encode(value)
    return data


def encoded(data: bytes) -> object:
    """Bytes that are bencoded already, to stand as a value in what `encode` gets."""
    return Bencached(data)
