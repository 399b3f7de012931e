"""`--layout`, `--select`, `--exclude`, `--min-size`: from the command line to the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.vfs.views import View

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from torrentfs.daemon.config import MountConfig

SOURCE = "magnet:?xt=urn:btih:" + "a" * 40


def test_by_default_all_is_shown_by_name(run: Run, home: Path, configs: list[MountConfig]) -> None:
    assert run("mount", SOURCE, str(home)).exit_code == 0
    assert (configs[0].layout, configs[0].view) == ("name", View())


def test_options_may_be_repeated(run: Run, home: Path, configs: list[MountConfig]) -> None:
    words = "--layout flat --select *.mkv --select *.srt --exclude sample* --min-size 1K"
    result = run("mount", SOURCE, str(home), *words.split())
    assert result.exit_code == 0, result.stderr
    assert configs[0].layout == "flat"
    assert configs[0].view == View(("*.mkv", "*.srt"), ("sample*",), 1024)


def test_in_fstab_and_in_the_config_file(run: Run, home: Path, configs: list[MountConfig]) -> None:
    path = home / ".config/torrentfs/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text('exclude = ["Extras/", "*.nfo"]\nmin-size = "10M"\n')
    result = run("mount", SOURCE, str(home), "-o", "layout=infohash,select=*.mkv")
    assert result.exit_code == 0, result.stderr
    assert configs[0].layout == "infohash"
    assert configs[0].view == View(("*.mkv",), ("Extras/", "*.nfo"), 10 << 20)


def test_an_unknown_layout(run: Run, home: Path) -> None:
    result = run("mount", SOURCE, str(home), "--layout", "tree")
    assert result.exit_code == 1
    assert "'name', 'infohash', 'flat'" in result.stderr
