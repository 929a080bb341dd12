"""The bytes: Volumes with a published state, mounted files by digest, blobs, and the HTTP server that moves them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aiohttp import web

BLOCK = 8 << 20
FOLDER = (-1, 0)
"""The mark of a folder: it is there or it is not."""


@dataclass
class Volume:
    """`published` is what everyone outside sees; each task works on a copy of its own until it commits."""

    id: str
    name: str
    published: Path
    version: int
    commits: int = 0
    publishing: threading.Lock = field(default_factory=threading.Lock)

    def path(self, relative: str) -> Path:
        clean = PurePosixPath(relative.lstrip("/"))
        assert ".." not in clean.parts, relative
        return self.published / clean


@dataclass
class WorkingCopy:
    """What one task sees of a Volume. Publishing moves what changed here since it was taken, and nothing else."""

    volume: Volume
    folder: Path
    base: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.volume.published, self.folder, symlinks=True)
        self.base = self._marks()

    def publish(self) -> None:
        with self.volume.publishing:
            self._publish()

    def _publish(self) -> None:
        now = self._marks()
        for relative, mark in now.items():
            target = self.volume.published / relative
            if self.base.get(relative) == mark:
                continue
            if mark == FOLDER:
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f".{target.name}.publishing")
                try:
                    shutil.copy2(self.folder / relative, partial, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                partial.replace(target)
        for relative in sorted(self.base.keys() - now.keys(), reverse=True):  # what is in a folder before the folder
            target = self.volume.published / relative
            if self.base[relative] != FOLDER:
                target.unlink(missing_ok=True)
            else:
                with contextlib.suppress(OSError):  # another task put something into it
                    target.rmdir()
        self.base = now
        self.volume.commits += 1

    def _marks(self) -> dict[str, tuple[int, int]]:
        marks = {}
        for folder, _, names in os.walk(self.folder):
            if Path(folder) != self.folder:
                marks[Path(folder).relative_to(self.folder).as_posix()] = FOLDER
            for name in names:
                path = Path(folder, name)
                try:
                    info = path.lstat()
                except FileNotFoundError:
                    continue
                marks[path.relative_to(self.folder).as_posix()] = (info.st_size, info.st_mtime_ns)
        return marks


class Storage:
    """Everything by digest or id, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.volumes: dict[str, Volume] = {}
        self.url = ""
        self.broken_reads = 0
        """Blocks that break off halfway when they are read next."""
        self.uploads = 0
        """Files and blocks that had to travel."""
        for name in ("blobs", "mounts", "volumes"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def blob(self, name: str) -> Path:
        assert name.replace("-", "").isalnum(), name
        return self.folder / "blobs" / name

    def keep(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        if not self.blob(digest).exists():
            self.blob(digest).write_bytes(content)
        return digest

    def blob_url(self, name: str) -> str:
        return f"{self.url}/blob/{name}"

    def volume_named(self, name: str) -> Volume | None:
        return next((v for v in self.volumes.values() if v.name == name), None)

    def block_urls(self, path: Path) -> list[str]:
        """The file as it is now, in blocks that stay as they are."""
        content = path.read_bytes()
        starts = range(0, len(content), BLOCK)
        return [self.blob_url(self.keep(content[start : start + BLOCK])) for start in starts]

    async def put(self, request: web.Request) -> web.Response:
        content = await request.read()
        self.blob(request.match_info["name"]).write_bytes(content)
        self.uploads += 1
        tag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return web.Response(body=b"stored", headers={"ETag": f'"{tag}"'})

    async def get(self, request: web.Request) -> web.StreamResponse:
        path = self.blob(request.match_info["name"])
        if self.broken_reads and path.exists():
            self.broken_reads -= 1
            content = path.read_bytes()
            response = web.StreamResponse(headers={"Content-Length": str(len(content))})
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        return web.FileResponse(path) if path.exists() else web.Response(status=404)

    def routes(self) -> list[web.RouteDef]:
        return [web.put("/blob/{name}", self.put), web.get("/blob/{name}", self.get)]
