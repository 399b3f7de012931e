"""A process that mounts torrents made of arithmetic: `python -m tests.fuse.daemon SPEC MOUNTPOINT`.

It is told what to do on stdin, one word list per line, and answers each with one line on stdout:
`hold NAME`, `free NAME`, `fail NAME` (its reads), `blocked` (how many reads wait), `reads NAME`,
`open NAME` (handles), `add NAME SIZE [FOLDER]` (a size of `dir:N` makes N files of 5 bytes),
`remove NAME`, `replace NAME SIZE [FOLDER]` (by another of that name; the old one is `NAME.old`),
`expel NAME`, `swarm add|remove COUNT` (that many in one go), `waiting` (reads that stand in line).
`mounted` is its first line.
SIGTERM ends it the way the real daemon ends: torrents fail blocked reads, then the mount goes.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any

import trio

from tests.scale.torrents import library
from tests.vfs.fakes import FakeVolume, volume
from torrentfs.errors import MountError
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.vfs.admission import Admission
from torrentfs.vfs.mount import Mount, MountOptions, serve_mount
from torrentfs.vfs.operations import OperationsOptions
from torrentfs.vfs.tree import Placement, Tree, TreeOptions


def volumes_of(spec: dict[str, Any]) -> dict[str, FakeVolume]:
    found = {}
    for name, files in spec["torrents"].items():
        if isinstance(files, dict):  # so many files, in one directory or in 400
            if "flat" in files:
                files = [(f"{n:06}", n) for n in range(files["flat"])]
            else:
                files = [(f"{n % 400:03}/{n:06}.bin", n) for n in range(files["many"])]
        found[name] = volume(name, files if isinstance(files, int) else [tuple(f) for f in files])
    if "library" in spec:  # so many torrents of so many files each, as a .torrent says it
        for number, data in enumerate(library(*spec["library"])):
            metainfo = parse_torrent(data)
            found[metainfo.name] = FakeVolume(metainfo, 1_700_000_000.0 + number)  # type: ignore[arg-type]
    return found


def files_of(words: str) -> int | list[tuple[str, int]]:
    kind, _, count = words.rpartition(":")
    return [(f"sub/{n}", 5) for n in range(int(count))] if kind else int(count)


class Daemon:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.volumes = volumes_of(spec)
        options = TreeOptions(uid=os.getuid(), gid=os.getgid(), **spec.get("tree", {}))
        self.tree = Tree(options, self.volumes.values())
        self.mount: Mount | None = None

    async def obey(self, words: list[str]) -> object:
        assert self.mount is not None
        verb, name = words[0], words[1] if len(words) > 1 else ""
        one = self.volumes.get(name)
        if verb == "add":
            made = self.volumes[name] = volume(name, files_of(words[2]))
            folder = tuple(words[3].split("/")) if len(words) > 3 else ()
            return "/".join(await self.mount.add(made, (), folder, now=1_800_000_000.0))
        if verb == "swarm":
            names = [f"many{number}" for number in range(int(words[2]))]
            if name == "add":
                made_many = {name: volume(name, files_of("dir:20")) for name in names}
                self.volumes |= made_many
                wanted = [Placement(one, (), ("swarm",)) for one in made_many.values()]
                return len(await self.mount.add_many(wanted))
            keys = [self.volumes.pop(name).metainfo.hashes.key for name in names]
            return len(await self.mount.remove_many(keys))
        if verb == "blocked":
            return sum(v.blocked for v in self.volumes.values())
        if verb == "waiting":
            return self.mount.operations.admission.waiting
        assert one is not None
        if verb == "hold":
            one.held = True
        elif verb == "free":
            one.let_go()
        elif verb == "fail":
            one.fail_reads("told to fail")
        elif verb == "reads":
            return len(one.reads)
        elif verb == "open":
            return len(one.opened) - len(one.released)
        elif verb == "expel":
            await self.mount.wait_closed(one)
            self.mount.expel(one)
        elif verb == "replace":
            self.volumes[f"{name}.old"] = one
            made = self.volumes[name] = volume(name, files_of(words[2]), key="ab" * 20)
            folder = tuple(words[3].split("/")) if len(words) > 3 else ()
            paths = await self.mount.replace(
                one.metainfo.hashes.key, Placement(made, (), folder), now=1_900_000_000.0
            )
            return ["/".join(path) for path in paths]
        elif verb == "remove":
            del self.volumes[name]
            return "/".join(await self.mount.remove(one.metainfo.hashes.key, now=1_900_000_000.0))
        return "ok"

    async def listen(self) -> None:
        source = trio.lowlevel.FdStream(os.dup(0))
        waiting = b""
        async for chunk in source:
            waiting += chunk
            *lines, waiting = waiting.split(b"\n")
            for line in lines:
                print(json.dumps(await self.obey(line.decode().split())), flush=True)

    async def run(self, mountpoint: str, options: MountOptions, admission: Admission) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_on_signal, nursery.cancel_scope)

            async def serve(task_status: trio.TaskStatus[Mount]) -> None:
                await serve_mount(
                    self.tree,
                    mountpoint,
                    options,
                    admission=admission,
                    task_status=task_status,
                )
                nursery.cancel_scope.cancel()

            self.mount = await nursery.start(serve)
            print("mounted", flush=True)
            nursery.start_soon(self.listen)
        print("ended", self.mount.operations.handles, flush=True)

    async def _end_on_signal(self, life: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                for one in self.volumes.values():
                    one.fail_reads("the mount is being taken down")
                await trio.lowlevel.checkpoint()
                life.cancel()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    spec = json.loads(sys.argv[1])
    fuse = dict(spec.get("mount", {}))
    options = MountOptions(operations=OperationsOptions(**spec.get("operations", {})), **fuse)
    refused = []
    try:
        daemon = Daemon(spec)
        trio.run(daemon.run, sys.argv[2], options, Admission(**spec.get("admission", {})))
    except* MountError as group:
        refused = [error for error in group.exceptions if isinstance(error, MountError)]
    for error in refused:
        print(f"refused: {error}", flush=True)
    return 2 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
