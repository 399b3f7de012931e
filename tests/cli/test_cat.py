"""`torrentfs cat`: what is refused, and how; what it writes is in test_cat_real.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torrentfs.cli.mount import mount
from torrentfs.cli.settings import ReadingCommand

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

QUIET = ("--no-tcp", "--no-utp", "--no-dht", "--no-lsd", "--no-webrtc", "--no-web-seeds")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), 1, "Missing argument 'SOURCE'"),
        (("/nowhere.torrent",), 1, "no such file"),
        (("magnet:?xt=x",), 1, "magnet"),
        (("{torrent}", "run", "--offset", "-5"), 1, "'-5' is not a size"),
        (("{torrent}", "run", "--read-timeout", "0"), 1, "longer than 0s"),
        (("{torrent}", "run", "--allow-other"), 1, "No such option"),
        (("{torrent}", "rum"), 1, "no 'rum' in sample: did you mean 'run'?"),
        (("{torrent}", "sub"), 1, "'sub' is a directory: there is 'sub/"),
        (("{torrent}",), 1, "sample has 2 files: there is "),
        (("{torrent}", "run"), 1, "cannot read run at 0: no peer, tracker or web seed is left"),
        (("a" * 40, "--metadata-timeout", "50ms"), 3, "no peer gave the metadata"),
    ],
)
def test_what_goes_wrong_is_one_line(
    run: Run, home: Path, torrent: Path, args: tuple[str, ...], code: int, words: str
) -> None:
    given = [arg.format(torrent=torrent) for arg in args]
    result = run("cat", *given, *QUIET, "--private")
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr  # a name of the torrent has one
    assert result.stdout == ""


def test_the_config_file_is_that_of_mount(run: Run, home: Path, torrent: Path) -> None:
    file = home / ".config" / "torrentfs" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("allow-other = true\nread-timeout = '0s'\n")
    assert "longer than 0s" in run("cat", str(torrent), "run", *QUIET).stderr
    file.write_text("alow-other = true\n")
    assert "there is no option 'alow-other'" in run("cat", str(torrent), "run", *QUIET).stderr


def test_other_programs_variables_do_not_reach_it(run: Run, home: Path, torrent: Path) -> None:
    result = run("cat", str(torrent), "rum", *QUIET, TORRENTFS_OFFSET="x", TORRENTFS_LENGTH="y")
    assert "did you mean" in result.stderr


def test_it_has_no_option_that_means_nothing_here(run: Run) -> None:
    text = run("cat", "--help").output
    assert "--no-port-mapping" not in text
    assert "--cache-dir" in text
    assert isinstance(mount, ReadingCommand.__mro__[1])
