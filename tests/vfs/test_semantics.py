"""What tests quote of docs/semantics.md stands there, and every tenet is quoted."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUOTE = re.compile(r'docs/semantics\.md: "([^"]+)"')


def quotes() -> list[str]:
    texts = [path.read_text() for path in (ROOT / "tests/fuse").glob("test_*.py")]
    return [" ".join(quote.split()) for text in texts for quote in QUOTE.findall(text)]


def test_quoted_promises_are_made() -> None:
    page = " ".join((ROOT / "docs/semantics.md").read_text().replace("**", "").split())
    assert [quote for quote in quotes() if quote not in page] == []


def test_every_tenet_is_held_by_a_test() -> None:
    page = (ROOT / "docs/semantics.md").read_text()
    tenets = re.findall(r"^\d\. \*\*(.+?)\.?\*\*", page, re.MULTILINE)
    assert len(tenets) == 6
    assert [tenet for tenet in tenets if not any(tenet in quote for quote in quotes())] == []
