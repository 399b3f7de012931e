"""What tests quote of docs/semantics.md stands there, and every tenet is quoted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUOTE = re.compile(r'docs/semantics\.md: "([^"]+)"')


def quotes() -> list[str]:
    places = (ROOT / "tests/fuse", ROOT / "tests/vfs")
    texts = [path.read_text() for place in places for path in place.glob("test_*.py")]
    return [" ".join(quote.split()) for text in texts for quote in QUOTE.findall(text)]


def test_quoted_promises_are_made() -> None:
    page = " ".join((ROOT / "docs/semantics.md").read_text().replace("**", "").split())
    assert [quote for quote in quotes() if quote not in page] == []


def test_every_tenet_is_held_by_a_test() -> None:
    page = (ROOT / "docs/semantics.md").read_text()
    tenets = re.findall(r"^\d\. \*\*(.+?)\.?\*\*", page, re.MULTILINE)
    assert len(tenets) == 6
    assert [tenet for tenet in tenets if not any(tenet in quote for quote in quotes())] == []


@pytest.mark.parametrize("title", ["Names", "inotify"])
def test_every_item_of_these_sections_is_held_by_a_test(title: str) -> None:
    page = (ROOT / "docs/semantics.md").read_text()
    section = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    items = [" ".join(item.split()) for item in re.split(r"\n- |\n\n", section) if item.strip()]
    assert len(items) > 5
    assert [item for item in items if not any(quote in item for quote in quotes())] == []


@pytest.mark.parametrize("row", ["st_ino", "st_size", "st_mode", "st_nlink", "st_mtime", "statfs"])
def test_these_attributes_are_held_by_a_test(row: str) -> None:
    page = (ROOT / "docs/semantics.md").read_text()
    [line] = [line for line in page.splitlines() if line.startswith(f"| `{row}`")]
    assert any(quote in line for quote in quotes())
