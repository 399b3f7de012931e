"""Container files and units, looked at by the programs that know what is right in them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.swarm.mounted import TORRENTFS

pytestmark = pytest.mark.real

CONTRIB = Path(__file__).parents[2] / "contrib"
BIN = Path(sys.executable).parent


def check(*command: str | Path) -> None:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


def test_the_dockerfile() -> None:
    check(BIN / "hadolint", CONTRIB / "docker" / "Dockerfile")


def test_the_compose_file() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    check(BIN / "check-jsonschema", *schema, CONTRIB / "docker" / "compose.yaml")


@pytest.mark.parametrize("name", ["torrentfs@.service", "torrentfs-user@.service"])
def test_units(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    unit = tmp_path / name.replace("@", "@srv-torrents")
    text = (CONTRIB / "systemd" / name).read_text()
    unit.write_text(text.replace("ExecStart=torrentfs", f"ExecStart={TORRENTFS}"))
    check("systemd-analyze", "verify", "--man=no", unit)
