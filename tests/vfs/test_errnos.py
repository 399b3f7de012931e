"""The table of errnos, and that nothing else gets out of a handler."""

from __future__ import annotations

import errno

import pytest
import trio
from pyfuse3 import FUSEError

from torrentfs.errors import DataUnavailable, RemoteProtocolError, StorageError, TransportError
from torrentfs.vfs.errnos import answered, errno_of


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (FUSEError(errno.EROFS), errno.EROFS),
        (FileNotFoundError("x"), errno.ENOENT),
        (NotADirectoryError("x"), errno.ENOTDIR),
        (IsADirectoryError("x"), errno.EISDIR),
        (DataUnavailable("no peers"), errno.EIO),
        (DataUnavailable("shut", errno.ESHUTDOWN), errno.ESHUTDOWN),
        (DataUnavailable("nonsense", 0), errno.EIO),
        (DataUnavailable("nonsense", -5), errno.EIO),
        (StorageError("disk"), errno.EIO),
        (TransportError("net"), errno.EIO),
        (MemoryError(), errno.ENOMEM),
        (ConnectionRefusedError(), None),
        (RemoteProtocolError("x"), None),
        (ZeroDivisionError(), None),
        (ExceptionGroup("x", [ValueError()]), None),
    ],
)
def test_the_table(error: Exception, number: int | None) -> None:
    assert errno_of(error) == number


class Handler:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    @answered
    async def read(self, size: int) -> int:
        """The answer."""
        if self.error is not None:
            raise self.error
        return size


async def test_an_answer_passes() -> None:
    assert await Handler().read(5) == 5
    assert Handler.read.__name__ == "read"


@pytest.mark.expect_log("read failed for a reason nobody foresaw")
@pytest.mark.parametrize("error", [ZeroDivisionError(), ExceptionGroup("x", [OSError()])])
async def test_what_nobody_foresaw_is_eio_and_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FUSEError) as caught:
        await Handler(error).read(5)
    assert caught.value.errno == errno.EIO
    assert "nobody foresaw" in caplog.text


async def test_a_foreseen_error_is_not_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FUSEError) as caught:
        await Handler(DataUnavailable("x", errno.ETIMEDOUT)).read(5)
    assert caught.value.errno == errno.ETIMEDOUT
    assert not caplog.records


async def test_cancellation_passes() -> None:
    class Sleeper:
        @answered
        async def read(self) -> None:
            await trio.sleep_forever()

    with trio.move_on_after(0) as scope:
        await Sleeper().read()
    assert scope.cancelled_caught


async def test_keyboard_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        await Handler(KeyboardInterrupt()).read(1)
