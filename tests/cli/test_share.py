"""`torrentfs share` without a network: what is hashed, written, printed and told to the service."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.swarm.payload import ODD_TREE, write_tree
from torrentfs.cli import share as module
from torrentfs.cli.dht import PUBLIC
from torrentfs.daemon.background import Ended
from torrentfs.daemon.sharing import ShareConfig, ShareReport, Sharing
from torrentfs.engine.config import DhtConfig
from torrentfs.metainfo.magnet import parse_magnet
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.transports.webrtc.config import RtcConfig

if TYPE_CHECKING:
    from tests.cli.conftest import Run

TRACKER = "http://127.0.0.1:1/announce"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return write_tree(tmp_path / "what", ODD_TREE)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ShareConfig]:
    """What would have been shared; it is ready at once, and over."""
    configs: list[ShareConfig] = []

    def serve(config: ShareConfig, report: ShareReport) -> None:
        configs.append(config)
        report.on_ready(Sharing(port=4711, pid=1234))

    monkeypatch.setattr(module, "_serve", serve)
    monkeypatch.setattr(module, "check_port", lambda bind, port: None)
    monkeypatch.setattr("torrentfs.daemon.logs.start_logging", lambda handler, verbosity: None)
    return configs


def test_what_is_printed(run: Run, tree: Path, served: list[ShareConfig], home: Path) -> None:
    result = run("share", "--bind-interface", "127.0.0.1", str(tree))
    assert (result.exit_code, result.stderr) == (0, "")
    lines = dict(line.split(":", 1) for line in result.stdout.splitlines())
    magnet = parse_magnet(lines["Magnet"].strip())
    assert magnet.peers == (("127.0.0.1", 4711),)
    assert lines["Address"].strip() == "127.0.0.1:4711"
    assert "neither --tracker nor --dht: only those who are told this address" in lines["Note"]
    place = Path(lines["Torrent"].strip())
    key = magnet.hashes.key[:8]
    assert place == home / f".local/share/torrentfs/shared/what [{key}].torrent"
    assert parse_torrent(place.read_bytes()).hashes == magnet.hashes
    assert os.listdir(".") == []
    (config,) = served
    assert config.foreground
    (shared,) = config.shared
    assert shared.metainfo.hashes == magnet.hashes
    assert sum(original.stamp.size for original in shared.originals.values()) == sum(
        ODD_TREE.values()
    )


def test_with_a_tracker_the_link_does_not_name_this_machine(
    run: Run, tree: Path, served: list[ShareConfig]
) -> None:
    result = run("share", "--tracker", TRACKER, str(tree))
    lines = dict(line.split(":", 1) for line in result.stdout.splitlines())
    magnet = parse_magnet(lines["Magnet"].strip())
    assert (magnet.peers, magnet.trackers) == ((), (TRACKER,))
    assert lines["Note"].strip().startswith("no tracker is a WebSocket one")
    assert served[0].shared[0].metainfo.trackers == ((TRACKER,),)


def test_json(run: Run, tree: Path, served: list[ShareConfig]) -> None:
    result = run("share", "--json", "--bind-interface", "::1", str(tree))
    told = json.loads(result.stdout)
    assert (told["peers"], told["pid"], told["name"]) == (["[::1]:4711"], 1234, "what")
    assert told["magnet"].endswith("&x.pe=[::1]:4711")


def test_options_reach_the_session(run: Run, tree: Path, served: list[ShareConfig]) -> None:
    options = ["--port", "5000", "--upload-limit", "1M", "--peer", "10.0.0.1:7"]
    assert run("share", *options, "--bind-interface", "127.0.0.1", str(tree)).exit_code == 0
    (config,) = served
    session = config.session
    assert (session.port, session.upload_limit, session.bind) == (5000, 1 << 20, "127.0.0.1%lo")
    assert config.peers == (("10.0.0.1", 7),)
    assert (session.tcp, session.rtc, session.ip_filter) == (True, RtcConfig(), None)
    assert (session.utp, session.encryption) == (True, "prefer")


def test_how_peers_are_met_comes_from_the_config_file_too(
    run: Run, tree: Path, served: list[ShareConfig], home: Path, tmp_path: Path
) -> None:
    """But not what would tell of the share, or change the torrent, or belongs to a mount."""
    (tmp_path / "filter").write_text("192.0.2.0/24\n")
    file = home / ".config/torrentfs/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(
        'proxy = "socks5://127.0.0.1:9"\nbind-interface = "127.0.0.1"\nencryption = "require"\n'
        f'ip-filter = "{tmp_path}/filter"\nupload-limit = "1M"\nstun = ["stun:127.0.0.1"]\n'
        "no-utp = true\nno-pex = true\nno-lsd = true\nno-port-mapping = true\n"
        'tracker = "http://127.0.0.1:1/announce"\nweb-seed = "http://127.0.0.1:1/"\n'
        f'private = true\nport = 5000\nlog-file = "{tmp_path}/log"\npeer = "127.0.0.1:5"\n'
    )
    assert run("share", str(tree)).exit_code == 0
    assert run("share", "--encryption", "off", str(tree)).exit_code == 0
    first, second = served
    session = first.session
    assert session.proxy is not None
    assert session.proxy.port == 9
    assert (session.bind, session.encryption, session.upload_limit) == (
        "127.0.0.1%lo",
        "require",
        1 << 20,
    )
    assert session.ip_filter is not None
    assert session.rtc == RtcConfig(stun=("stun:127.0.0.1",))
    assert (session.utp, session.pex, session.lsd, session.port_mapping) == (False,) * 4
    assert (session.port, first.peers) == (0, ())
    metainfo = first.shared[0].metainfo
    assert (metainfo.private, metainfo.trackers, metainfo.web_seeds) == (False, (), ())
    assert not (tmp_path / "log").exists()
    assert second.session.encryption == "off"
    other = tmp_path / "other.toml"
    other.write_text("no-webrtc = true\n")
    assert run("share", "--config", str(other), str(tree)).exit_code == 0
    assert (served[2].session.rtc, served[2].session.proxy) == (None, None)


def test_the_dht_only_when_asked(run: Run, tree: Path, served: list[ShareConfig]) -> None:
    options = ["--dht", "--dht-bootstrap", "127.0.0.1:9"]
    said = [
        run("share", *chosen, "--no-webrtc", str(tree)).stdout
        for chosen in ([], ["--dht"], [*options, "--dht-read-only"], [*options, "--private"])
    ]
    assert ["x.pe" in text and "Note" in text for text in said] == [True, False, False, True]
    assert [config.session.dht for config in served] == [
        None,
        DhtConfig(PUBLIC),
        DhtConfig((("127.0.0.1", 9),), read_only=True),
        DhtConfig((("127.0.0.1", 9),)),
    ]


def test_browsers_alone_and_none_at_all(
    run: Run, tree: Path, served: list[ShareConfig], tmp_path: Path
) -> None:
    result = run("share", "--no-tcp", "--tracker", "ws://127.0.0.1:1", "--json", str(tree))
    assert json.loads(result.stdout)["peers"] == []
    result = run("share", "--no-webrtc", "--tracker", TRACKER, str(tree))
    assert "Note" not in result.stdout
    (tmp_path / "filter").write_text("192.0.2.0/24\n")
    assert run("share", "--ip-filter", str(tmp_path / "filter"), str(tree)).exit_code == 0
    assert [c.session.tcp for c in served] == [False, True, True]
    assert [c.session.rtc for c in served] == [RtcConfig(), None, RtcConfig()]
    assert served[2].session.ip_filter is not None


def test_sharing_again_is_no_trouble(run: Run, tree: Path, served: list[ShareConfig]) -> None:
    for _ in range(2):
        assert run("share", str(tree)).exit_code == 0
        assert run("share", str(tree), "-o", "mine.torrent").exit_code == 0
    before = Path("mine.torrent").read_bytes()
    (tree / "new").write_bytes(b"x")
    result = run("share", str(tree), "-o", "mine.torrent")
    assert result.exit_code == 1
    assert "mine.torrent exists: --force overwrites it" in result.stderr
    assert Path("mine.torrent").read_bytes() == before
    assert run("share", str(tree), "-o", "mine.torrent", "--force").exit_code == 0
    assert Path("mine.torrent").read_bytes() != before


def test_what_was_hashed_is_not_hashed_again_but_with_check(
    run: Run, tree: Path, served: list[ShareConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torrentfs.storage.remembered.SETTLED_NS", -(10**12))

    def share(*options: str) -> str:
        result = run("share", "--json", *options, str(tree))
        assert (result.exit_code, result.stderr) == (0, "")
        return str(json.loads(result.stdout)["magnet"])

    def never(*_: object, **__: object) -> None:
        raise AssertionError("hashed")

    magnet = share()
    share("-o", "mine.torrent")
    assert share("--torrent", "mine.torrent") == magnet
    with monkeypatch.context() as patched:
        for name in ("hashing.hash_payload", "originals.Originals.examine"):
            patched.setattr(f"torrentfs.storage.{name}", never)
        assert share() == magnet
        assert share("-o", "mine.torrent") == magnet
        assert share("--torrent", "mine.torrent") == magnet
        for options in ((), ("--torrent", "mine.torrent"), ("--comment", "x")):
            result = run("share", *options, "--check", str(tree))
            assert isinstance(result.exception, AssertionError) or result.exit_code
    assert share("--check") == magnet
    assert share("--torrent", "mine.torrent", "--check") == magnet


def test_in_its_own_directory(
    run: Run, tree: Path, served: list[ShareConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current directory is what is shared: nothing is written there."""
    monkeypatch.chdir(tree)
    before = sorted(tree.rglob("*"))
    assert run("share", ".").exit_code == 0
    assert sorted(tree.rglob("*")) == before
    assert served[0].shared[0].metainfo.name == "what"


def test_a_long_name_is_cut(run: Run, tree: Path, served: list[ShareConfig], home: Path) -> None:
    long = tree.rename(tree.with_name("日" * 84))
    assert run("share", str(long)).exit_code == 0
    (place,) = (home / ".local/share/torrentfs/shared").iterdir()
    assert place.name.startswith("日" * 66 + " [")


def test_the_same_twice_is_shared_once(run: Run, tree: Path, served: list[ShareConfig]) -> None:
    result = run("share", "--json", str(tree / "a"), str(tree / "b"), str(tree / "a"))
    assert result.exit_code == 0, result.stderr
    assert "is the same as" in result.stderr
    assert len(result.stdout.splitlines()) == len(served[0].shared) == 2


def test_the_background_tells_the_same(
    run: Run, tree: Path, served: list[ShareConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "torrentfs.daemon.background.run_in_background",
        lambda serve, **_: Ended(str(Sharing(4711, 99)), 0),
    )
    result = run("share", "-d", "--json", "--log-file", "log", str(tree))
    assert json.loads(result.stdout)["pid"] == 99
    assert f"torrentfs shares --stop 99 ends it; log: {Path('log').absolute()}" in result.stderr
    monkeypatch.setattr(
        "torrentfs.daemon.background.run_in_background", lambda serve, **_: Ended("why", 2)
    )
    result = run("share", "-d", str(tree))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "torrentfs: why\n")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["missing"], "cannot read missing"),
        (["{tree}", "-o", "no/x"], "no directory"),
        (["{tree}", "-o", "{tree}/x"], "inside what"),
        (["{tree}/a", "{tree}/b", "-o", "x"], "must be a directory"),
        (["{tree}/a", "{tree}/a", "-o", ".", "--force"], "have the same name, and"),
        (["{tree}", "--bind-interface", "nope0"], "no network interface"),
        (["{tree}", "--peer", "x"], "not an address"),
        (["{tree}", "--torrent", "t", "--format", "v1"], "--format changes a torrent"),
        (["{tree}", "--torrent", "t", "-o", "x"], "--output changes a torrent"),
        (["{tree}", "{tree}", "--torrent", "t"], "--torrent is for one PATH"),
        (["{tree}", "--torrent", "t"], "cannot read t: no such file"),
        ([], "Missing argument"),
    ],
)
def test_refusals_come_before_hashing(
    run: Run,
    tree: Path,
    served: list[ShareConfig],
    args: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("hashed")

    monkeypatch.setattr("torrentfs.storage.hashing.hash_payload", never)
    result = run("share", *(arg.replace("{tree}", str(tree)) for arg in args))
    assert (result.exit_code, served, result.stdout) == (1, [], "")
    (line,) = result.stderr.splitlines()
    assert words in line


def test_an_existing_torrent(run: Run, tree: Path, served: list[ShareConfig], home: Path) -> None:
    options = ["--format", "v2", "--tracker", TRACKER, "--private"]
    assert run("create", str(tree), "-o", "made.torrent", *options).exit_code == 0
    moved = tree.rename(tree.with_name("moved"))
    result = run("share", "--json", "--torrent", "made.torrent", str(moved))
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["torrent"] == str(Path("made.torrent").absolute())
    assert (told["name"], told["trackers"]) == ("what", [[TRACKER]])
    metainfo = served[0].shared[0].metainfo
    assert metainfo.hashes == parse_torrent(Path("made.torrent").read_bytes()).hashes
    assert not (home / ".local/share/torrentfs").exists()
    (moved / "z/last").write_bytes(b"other 7")
    result = run("share", "--torrent", "made.torrent", str(moved))
    assert result.exit_code == 1
    assert "z/last is not what the torrent says" in result.stderr
