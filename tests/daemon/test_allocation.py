"""The allocator's thresholds: taken by glibc, and their effect, in a process of its own."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from torrentfs.daemon.allocation import keep_freed_memory

FAULTS = """
import resource
from torrentfs.daemon.allocation import keep_freed_memory
{call}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def window():
    buffers = [bytearray(1 << 20) for _ in range(8)]
window()
before = faults()
for _ in range(10):
    window()
print(faults() - before)
"""


def faults_of_a_stream(call: str) -> int:
    words = [sys.executable, "-c", FAULTS.format(call=call)]
    return int(subprocess.run(words, capture_output=True, check=True, timeout=30).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_buffers_are_used_again_without_page_faults() -> None:
    assert faults_of_a_stream("") > 10_000  # 8 MiB ten times, page by page
    assert faults_of_a_stream("assert keep_freed_memory()") < 1_000


def test_a_c_library_without_the_setting_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
