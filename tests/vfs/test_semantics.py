"""What tests quote of docs/semantics.md stands there, and every tenet is quoted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUOTE = re.compile(r'docs/semantics\.md: "([^"]+)"')


def quotes() -> list[str]:
    texts = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    return [" ".join(quote.split()) for text in texts for quote in QUOTE.findall(text)]


def the_page() -> str:
    return (ROOT / "docs/semantics.md").read_text().replace("**", "")


TITLES = re.findall("^## (.+)$", the_page(), re.MULTILINE)


def items(title: str) -> list[str]:
    """The paragraphs, points of lists and rows of tables of one section."""
    section = the_page().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    parts = re.split(r"\n- |\n\n|\n(?=\|)|\n(?=\d\. )", section)
    found = [" ".join(part.split()) for part in parts if part.strip()]
    return [item for item in found if not item.startswith(("| attribute |", "|---"))]


def test_quoted_promises_are_made() -> None:
    page = " ".join(the_page().split())
    assert [quote for quote in quotes() if quote not in page] == []


def test_every_section_is_looked_at() -> None:
    assert len(TITLES) > 7
    assert sum(len(items(title)) for title in TITLES) > 40


@pytest.mark.parametrize("title", TITLES)
def test_every_item_is_held_by_a_test(title: str) -> None:
    said = quotes()
    assert [item for item in items(title) if not any(quote in item for quote in said)] == []
