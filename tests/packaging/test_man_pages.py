"""The manual pages are those of the commands as they are."""

from __future__ import annotations

import pytest

from scripts.man import MADE_BY_HAND, PAGES, pages


@pytest.mark.filterwarnings("ignore::DeprecationWarning:click")
def test_pages_say_what_help_says() -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in PAGES.iterdir()}
    for name in MADE_BY_HAND:
        kept.pop(name)
    assert kept == pages(), "run scripts/fix"
