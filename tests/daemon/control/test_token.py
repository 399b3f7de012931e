"""The file of the token."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from torrentfs.daemon.control.token import read_or_make_token
from torrentfs.errors import ConfigError


def test_a_token_is_made_once_and_only_its_user_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "token"
    token = read_or_make_token(path)
    assert len(token) >= 40
    assert read_or_make_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]
    assert read_or_make_token(tmp_path / "other") != token


def test_a_token_of_the_users_own_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("My-own_token-of-20-letters\n")
    path.chmod(0o600)
    assert read_or_make_token(path) == "My-own_token-of-20-letters"


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [("t" * 40, 0o644, "others may read"), ("short", 0o600, "holds no token"),
     ("", 0o600, "holds no token"), ("a b" * 20, 0o600, "holds no token")],
)  # fmt: skip
def test_a_file_that_does_not_do_is_refused(
    tmp_path: Path, content: str, mode: int, words: str
) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=words):
        read_or_make_token(path)


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="token file"):
        read_or_make_token(tmp_path / "token")
