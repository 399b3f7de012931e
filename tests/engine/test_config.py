"""Defaults of a session."""

from __future__ import annotations

import pytest

from torrentfs.engine.config import GIB, MIB, SessionConfig, default_cache_dir


def test_defaults_are_those_that_the_help_states(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SessionConfig()
    assert config.cache_size == 10 * GIB
    assert config.memory_limit == 256 * MIB
    assert config.readahead == 32 * MIB
    assert config.read_timeout == 120.0
    assert config.max_peers < config.max_connections
    assert config.cache_dir == default_cache_dir()


def test_the_cache_goes_where_the_platform_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/else")
    assert str(default_cache_dir()) == "/somewhere/else/torrentfs"
