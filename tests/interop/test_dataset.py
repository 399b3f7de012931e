"""Tables in a torrent, read with the programs that people read tables with: right answers, and
little more than the share of the column. Counted where the bytes leave, at libtorrent.

What a query must fetch is computed from the files: the pieces under the chunks of its columns, and
those under the footers, of which pyarrow takes 64 KiB. Each query runs in a process of its own, as
a user's does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import xarray

from tests.swarm.payload import files_below
from tests.swarm.quiet import quiet_environment
from tests.swarm.seeder import LibtorrentPeer, seed
from tests.swarm.torrents import MadeTorrent, make_torrent

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
PARTS, ROWS, GROUP = 3, 200_000, 50_000
FOOTER = 64 * 1024
"""Bytes at the end of a file that pyarrow reads first."""


class Taxis(NamedTuple):
    """The payload, and its torrents by name."""

    path: Path
    tables: list[pyarrow.Table]
    made: dict[str, MadeTorrent]
    climate: Any

    def sum_of(self, column: str) -> float:
        return sum(float(numpy.sum(table[column].to_numpy())) for table in self.tables)

    def least(self, column: str, unit: int, parts: int = PARTS) -> int:
        """Bytes of all units under a column and under the footers, of the first `parts` files."""
        wanted: set[int] = set()
        start = 0
        for name, file in files_below(self.path).items():
            size = file.stat().st_size
            if name.startswith("2024/") and int(name[-9]) < parts:
                runs = [(size - FOOTER, FOOTER), *chunks(file, column)]
                for offset, length in runs:
                    first, last = start + offset, start + offset + length - 1
                    wanted |= set(range(first // unit, last // unit + 1))
            start += size
        return len(wanted) * unit


def chunks(file: Path, column: str) -> Iterator[tuple[int, int]]:
    """Offset and size of each chunk of a column."""
    about = pyarrow.parquet.read_metadata(file)
    for group in range(about.num_row_groups):
        for number in range(about.num_columns):
            chunk = about.row_group(group).column(number)
            if chunk.path_in_schema == column:
                yield chunk.data_page_offset, chunk.total_compressed_size


@pytest.fixture(scope="module")
def taxis(tmp_path_factory: pytest.TempPathFactory) -> Taxis:
    """600,000 rows of nine columns in three files, 43 MB; a small table of text; a zarr store."""
    work = tmp_path_factory.mktemp("taxis")
    path = work / "payload" / "taxis"
    (path / "2024").mkdir(parents=True)
    random = numpy.random.default_rng(1)
    tables = []
    for part in range(PARTS):
        columns: dict[str, Any] = {"id": numpy.arange(ROWS) + part * ROWS}
        for name in ("distance", "fare", "tip", "tolls", "seconds", "start", "end", "speed"):
            columns[name] = random.random(ROWS)
        columns["zone"] = random.integers(0, 100, ROWS).astype("int32")
        table = pyarrow.table(columns)
        pyarrow.parquet.write_table(
            table,
            path / "2024" / f"part-{part}.parquet",
            row_group_size=GROUP,
            compression="none",
            use_dictionary=False,
        )
        tables.append(table)
    (path / "zones.csv").write_text("zone,name\n" + "".join(f"{n},Z{n}\n" for n in range(5000)))
    climate = xarray.Dataset(
        {name: (("time", "x"), random.random((100, 4000))) for name in ("temperature", "wind")}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some releases say that consolidated metadata is new
        climate.to_zarr(
            path / "climate.zarr",
            encoding={name: {"chunks": (10, 4000)} for name in ("temperature", "wind")},
        )
    made = {
        "small pieces": make_torrent(path, work / "taxis.torrent", piece_length=16 * 1024),
        "large pieces": make_torrent(path, work / "large.torrent", piece_length=256 * 1024),
        "v2": make_torrent(path, work / "v2.torrent", version="v2", piece_length=1 << 20),
    }
    return Taxis(path, tables, made, climate)


HEAD = """
import json, sys
import fsspec
options = json.loads(sys.argv[1])
fs = fsspec.filesystem("torrent", **options)
def say(answer):
    print(json.dumps([answer, fs.statistics().downloaded, fs.statistics().wasted]))
if __name__ == "__main__":
"""

QUERIES = {
    "pandas": """
        import pandas
        table = pandas.read_parquet("torrent://2024", columns=["fare"], storage_options=options)
        say(float(table.fare.sum()))
    """,
    "pyarrow": """
        import pyarrow.compute, pyarrow.dataset
        table = pyarrow.dataset.dataset("2024", filesystem=fs).to_table(columns=["fare"])
        say(pyarrow.compute.sum(table["fare"]).as_py())
    """,
    "duckdb": """
        import duckdb
        database = duckdb.connect()
        database.register_filesystem(fs)
        say(database.sql("select sum(fare) from 'torrent://2024/*.parquet'").fetchall()[0][0])
    """,
    "dask": """
        import dask.dataframe
        table = dask.dataframe.read_parquet(
            "torrent://2024/*.parquet", columns=["fare"], storage_options=options
        )
        say(float(table.fare.sum().compute(scheduler="threads")))
    """,
}

PROCESSES = """
    import dask.dataframe
    table = dask.dataframe.read_parquet(
        "torrent://2024/*.parquet", columns=["fare"], storage_options=options
    )
    say(float(table.fare.sum().compute(scheduler="processes", num_workers=2)))
"""


def ask(script: str, made: MadeTorrent, peer: LibtorrentPeer, work: Path) -> tuple[Any, int, int]:
    """What a program says: its answer, and the bytes that it fetched and fetched in vain."""
    file = work / "query.py"
    lines = (f"    {line.strip()}" for line in _dedented(script))
    file.write_text(HEAD + "\n".join(lines) + "\n")
    options = {"source": str(made.torrent), "peer": peer.address, "cache_dir": str(work / "cache")}
    done = run(file, work, json.dumps(options))
    answer, downloaded, wasted = json.loads(done)
    return answer, downloaded, wasted


def _dedented(script: str) -> list[str]:
    joined = re.sub(r"\(\n\s*(.*)\n\s*\)", r"(\1)", script)
    return [line for line in joined.splitlines() if line.strip()]


def run(file: Path, work: Path, *args: str, **variables: str) -> str:
    """Its output; an error or a warning is none."""
    done = subprocess.run(
        [sys.executable, str(file), *args],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=work,
        env={**quiet_environment(), "PYTHONPATH": str(ROOT), **variables},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(
    ("torrent", "unit"), [("small pieces", 16 * 1024), ("large pieces", 256 * 1024)]
)
def test_a_column_costs_its_pieces(
    taxis: Taxis, tmp_path: Path, torrent: str, unit: int, query: str
) -> None:
    made = taxis.made[torrent]
    with seed(made.torrent, made.path, tmp_path) as peer:
        answer, downloaded, wasted = ask(QUERIES[query], made, peer, tmp_path)
        left = peer.status()["uploaded"]
    assert answer == pytest.approx(taxis.sum_of("fare"), rel=1e-12)
    column = PARTS * ROWS * 8
    print(f"\n{query}, {torrent}: {left / column:.2f} times the column, {wasted} bytes in vain")
    assert column <= downloaded <= left
    assert left <= taxis.least("fare", unit) * 1.02
    if torrent == "small pieces":
        assert left <= 1.15 * column


def test_of_a_v2_torrent_blocks_are_enough(taxis: Taxis, tmp_path: Path) -> None:
    """Pieces of 1 MiB, of which each column has a part; libtorrent has hashes of what it hashed."""
    made = taxis.made["v2"]
    with seed(made.torrent, made.path, tmp_path, check=True) as peer:
        answer, _, _ = ask(QUERIES["pandas"], made, peer, tmp_path)
        left = peer.status()["uploaded"]
    assert answer == pytest.approx(taxis.sum_of("fare"), rel=1e-12)
    print(f"\nv2, pieces of 1 MiB: {left / (PARTS * ROWS * 8):.2f} times the column")
    assert left <= 1.25 * PARTS * ROWS * 8


def test_dask_with_processes(taxis: Taxis, tmp_path: Path) -> None:
    """Each process opens the torrent for itself; all together fetch the column."""
    made = taxis.made["small pieces"]
    with seed(made.torrent, made.path, tmp_path) as peer:
        answer, _, _ = ask(PROCESSES, made, peer, tmp_path)
        left = peer.status()["uploaded"]
    assert answer == pytest.approx(taxis.sum_of("fare"), rel=1e-12)
    column = PARTS * ROWS * 8
    print(f"\ndask with processes: {left / column:.2f} times the column")
    # the footers are read by the planner and by the workers, who do not see each other's cache
    assert left <= taxis.least("fare", 16 * 1024) + 3 * PARTS * (FOOTER + 16 * 1024)


def test_the_second_time_costs_nothing(taxis: Taxis, tmp_path: Path) -> None:
    made = taxis.made["small pieces"]
    with seed(made.torrent, made.path, tmp_path) as peer:
        first, _, _ = ask(QUERIES["pandas"], made, peer, tmp_path)
        left = peer.status()["uploaded"]
        again, downloaded, _ = ask(QUERIES["duckdb"], made, peer, tmp_path)
        assert again == pytest.approx(first, rel=1e-12)
        assert downloaded == 0
        assert peer.status()["uploaded"] == left


DOCUMENT = (ROOT / "docs" / "python.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_of_the_documentation(taxis: Taxis, tmp_path: Path, number: int) -> None:
    made = taxis.made["small pieces"]
    file = tmp_path / "example.py"
    file.write_text(EXAMPLES[number])
    os.symlink(made.torrent, tmp_path / "taxis.torrent")
    with seed(made.torrent, made.path, tmp_path) as peer:
        said = run(
            file,
            tmp_path,
            TORRENTFS_PEER=peer.address,
            TORRENTFS_CACHE_DIR=str(tmp_path / "cache"),
        )
    expected = {
        "fares.fare": f"{numpy.mean(taxis.tables[0]['fare'].to_numpy())}",
        "late.num_rows": "49999",
        "duckdb": "100",
        "taxis.fare": f"{taxis.sum_of('fare') / PARTS / ROWS}"[:12],
        "xarray": f"{float(taxis.climate.temperature[:10].mean())}"[:12],
        "csv.reader": "['zone', 'name']",
        "read_many": "[b'zone', ",
        "torrent.close()": "b'zone,name",
        "asyncio": "b'zone,name",
    }
    found = [words for part, words in expected.items() if part in EXAMPLES[number]]
    assert found
    for words in found:
        assert words in said
