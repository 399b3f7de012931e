"""The house, held by a test: which package may import which, and who alone may touch what.

The layout is that of ``docs/architecture.md``.  Imports are read from the syntax trees,
those inside functions and under ``TYPE_CHECKING`` too: an arrow is an arrow.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "torrentfs"

# What each package may import, besides itself. errors is a module, the root of all.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "metainfo": {"errors"},
    "wire": {"metainfo", "errors"},
    "scheduling": {"metainfo", "errors"},
    "storage": {"metainfo", "errors"},
    "transports": {"wire", "metainfo", "errors"},
    "discovery": {"transports", "wire", "metainfo", "errors"},
    "engine": {
        "discovery",
        "transports",
        "wire",
        "scheduling",
        "storage",
        "metainfo",
        "errors",
    },
}
ARROWS["vfs"] = {"engine", *ARROWS["engine"]}
ARROWS["daemon"] = {"vfs", *ARROWS["vfs"]}
ARROWS["cli"] = {"daemon", *ARROWS["daemon"]}
ARROWS["__main__"] = {"cli"}
# The Python door stands on top of everything: its settings are those of the command line.
ARROWS["portal"] = ARROWS["cli"]
ARROWS["api"] = {"cli", "portal", "sync", *ARROWS["cli"]}
ARROWS["sync"] = {"api", "cli", "portal", *ARROWS["cli"]}
ARROWS["fsspec"] = {"api", "sync", *ARROWS["sync"]}
ARROWS["__init__"] = {"api", "sync"}

PURE = {"metainfo", "wire", "scheduling"}
DHT_WITH_TASKS = {"discovery/dht/node.py", "discovery/dht/source.py"}
"""The rest of the DHT is pure as well; its random source is an argument, of this type."""
IMPURE = {
    "asyncio",
    "anyio",
    "concurrent",
    "ctypes",
    "glob",
    "httpx",
    "multiprocessing",
    "os",
    "pathlib",
    "pyfuse3",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "trio",
    "urllib.request",
}

# The modules of the WebRTC worker, a process of its own; no other may even import one of them.
WORKER = tuple(
    f"transports/webrtc/{name}.py"
    for name in (
        "aiortc_backend",
        "association",
        "bound_loop",
        "datagrams",
        "gathering",
        "ice",
        "pump",
        "tuning",
        "worker",
    )
)

# A library of weight, and the only places (a file, or a directory with a slash) that know it.
SOLE_IMPORTERS: dict[str, tuple[str, ...]] = {
    "aioice": ("transports/webrtc/",),
    "aiortc": ("transports/webrtc/",),
    "asyncio": (*WORKER, "api.py"),
    "bencodepy": ("metainfo/bencoding.py",),
    "cachetools": ("storage/",),
    "cryptography": ("wire/mse.py", "discovery/dht/items.py"),
    "fastapi": ("daemon/control/",),
    "fsspec": ("fsspec.py",),
    "httpcore": ("transports/http.py", "transports/http_network.py"),
    "httpx": ("transports/http.py", "cli/client.py"),
    "hypercorn": ("daemon/control/server.py",),
    "inotify_simple": ("daemon/watch_events.py",),
    "miniupnpc": ("discovery/upnp.py",),
    "prometheus_client": ("daemon/control/metrics.py",),
    "pydantic": ("daemon/control/",),
    "pyfuse3": ("vfs/mount.py", "vfs/operations.py", "vfs/errnos.py"),
    "python_socks": ("transports/outgoing.py",),
    "sqlite3": ("storage/catalog.py", "storage/record_file.py", "storage/records.py"),
    "starlette": ("daemon/control/",),
    "wsproto": ("discovery/websocket_connection.py",),
    "click": ("cli/",),
    "rich": ("cli/",),
}
NOWHERE = {"anyio", "pickle"}

MAX_CODE_LINES = 400


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def package_of(path: Path) -> str:
    """metainfo for ``torrentfs/metainfo/bitfield.py``, errors for ``torrentfs/errors.py``."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The dotted name of each thing imported, in full: relative imports are resolved."""
    package = ["torrentfs", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def matches(imported: str, name: str) -> bool:
    return imported == name or imported.startswith(name + ".")


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_arrows_run_down_only(path: Path) -> None:
    own = package_of(path)
    wrong = []
    for imported in imports(path):
        if not matches(imported, "torrentfs"):
            continue
        target = imported.removeprefix("torrentfs").removeprefix(".").split(".")[0]
        allowed = ARROWS.get(own)
        # The package's own __init__ has the version only, and anyone may ask for that.
        if target in ARROWS and target != own and (allowed is None or target not in allowed):
            wrong.append(imported)
    assert not wrong, f"{name_of(path)} imports upwards: {wrong}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if package_of(path) in PURE], ids=name_of
)
def test_formats_and_decisions_do_no_io(path: Path) -> None:
    wrong = [
        imported for imported in imports(path) if any(matches(imported, name) for name in IMPURE)
    ]
    assert not wrong, f"{name_of(path)} is of a pure package but imports {wrong}"


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if name_of(path).startswith("discovery/dht/")],
    ids=name_of,
)
def test_the_dht_does_no_io_but_in_its_node(path: Path) -> None:
    if name_of(path) in DHT_WITH_TASKS:
        return
    impure = IMPURE - {"random"}
    wrong = [name for name in imports(path) if any(matches(name, known) for known in impure)]
    wrong += [name for name in imports(path) if matches(name, "random") and name != "random.Random"]
    assert not wrong, f"{name_of(path)} is pure but imports {wrong}"


@pytest.mark.parametrize("library", SOLE_IMPORTERS)
def test_each_library_of_weight_has_one_home(library: str) -> None:
    homes = SOLE_IMPORTERS[library]
    importers = {
        name_of(path)
        for path in modules()
        if any(matches(imported, library) for imported in imports(path))
    }
    strangers = {name for name in importers if not name.startswith(homes)}
    assert not strangers, f"{library} is for {homes} alone, but {strangers} import it"


def test_only_the_worker_imports_the_worker() -> None:
    banned = {f"torrentfs.{name.removesuffix('.py').replace('/', '.')}" for name in WORKER}
    found = {
        (name_of(path), imported)
        for path in modules()
        if name_of(path) not in WORKER
        for imported in imports(path)
        if any(matches(imported, name) for name in banned)
    }
    assert not found


def test_no_module_imports_what_is_banned() -> None:
    found = {
        (name_of(path), imported)
        for path in modules()
        for imported in imports(path)
        if any(matches(imported, name) for name in NOWHERE)
    }
    assert not found


def test_every_package_is_in_the_map() -> None:
    packages = {package_of(path) for path in modules()} - {"__init__", "__main__"}
    assert packages <= set(ARROWS), f"not in the map: {packages - set(ARROWS)}"


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank line, no comment, no docstring."""
    documentation: set[int] = set()
    for node in ast.walk(tree(path)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            documentation.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
        tokenize.ENCODING,
    }
    lines: set[int] = set()
    source = io.BytesIO(path.read_bytes())
    for token in tokenize.tokenize(source.readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documentation)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_files_stay_readable_in_one_sitting(path: Path) -> None:
    count = code_lines(path)
    assert count <= MAX_CODE_LINES, f"{name_of(path)} has {count} lines of code: split it"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_each_module_tells_its_theory(path: Path) -> None:
    assert ast.get_docstring(tree(path)), f"{name_of(path)} has no docstring"


def does_something(path: Path) -> bool:
    """Whether a module has code to test: constants, exceptions and protocols have none."""
    functions = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    return any(
        not all(isinstance(line, (ast.Expr, ast.Pass)) for line in function.body)
        for function in functions
    )


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if path.name != "__init__.py" and does_something(path)],
    ids=name_of,
)
def test_each_module_has_its_test(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    folder = ROOT / "tests" / relative.parent
    pattern = f"test_{path.stem.lstrip('_')}*.py"
    assert any(folder.glob(pattern)), f"tests/{relative.parent / pattern} is missing"
