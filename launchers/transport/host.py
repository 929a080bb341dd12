"""`Host` over ssh: each method is a question to the agent on the machine, and each is safe to repeat."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from launchers.command import arguments_of, environment_of
from launchers.errors import BadMachine, RemoteError, SetupFailed
from launchers.host import JobStatus, Manifest, Probe, RemoteFile
from launchers.job import JobPaths, JobSpec
from launchers.snapshot import Snapshot
from launchers.transport import messages
from launchers.transport.agent import Agent
from launchers.transport.ssh import Connection

CHUNK = 1 << 18
SMALL = 1 << 20
"""Bytes up to which files travel with a question instead of through a process of their own."""
STALLED_S = 600.0
"""After which an upload of which the machine takes nothing, or a small file that does not arrive, is given up."""


class SshHost:
    """A machine with ssh and any Python 3."""

    def __init__(self, connection: Connection, root: str, setup_timeout: float) -> None:
        self._connection = connection
        self._root = PurePosixPath(root)
        self._setup_timeout = setup_timeout
        self._agent = Agent(connection, root)
        self._ask = self._agent.ask

    # --- the machine

    def probe(self) -> Probe:
        return messages.probe(self._ask("probe"))

    def lease(self, terms: dict[str, Any]) -> None:
        self._ask("lease", terms)

    def upload(self, snapshot: Snapshot) -> int:
        sizes = {entry.digest: entry.size for entry in snapshot.entries if entry.link is None}
        wanted = messages.missing(self._ask("missing", sorted(sizes)), sizes)
        blobs = [(digest, snapshot.blob(digest)) for digest in wanted]
        if blobs:
            self._send_blobs(blobs)
        self._ask("checkout", snapshot.digest, [asdict(entry) for entry in snapshot.entries])
        return sum(sizes[digest] for digest in wanted)

    def prepare(
        self, snapshot: Snapshot, python: str | None, apt: Sequence[str] = (), provided: Mapping[str, Sequence[str]] | None = None
    ) -> str:  # fmt: skip
        request = {
            "tree": str(self._directory(snapshot)),
            "python": python,
            "apt": list(apt),
            "provided": {name: list(rows) for name, rows in (provided or {}).items()},
        }
        try:
            return messages.prepared(self._ask("prepare", request, timeout=self._setup_timeout))
        except RemoteError as error:
            raise SetupFailed(f"the set-up failed on the machine: {str(error).rstrip('.')}") from None

    # --- a job

    def restore(self, job: JobSpec, folder: Path, files: list[RemoteFile]) -> None:
        paths = {file.digest: folder / file.path for file in files}
        wanted = messages.missing(self._ask("missing", sorted(paths)), paths)
        self._send_blobs([(digest, paths[digest]) for digest in wanted])
        self._ask("place", job.id, [{"path": f.path, "digest": f.digest} for f in files])

    def start(
        self,
        job: JobSpec,
        python: str,
        snapshot: Snapshot,
        secrets: dict[str, str],
        facts: dict[str, str],
        grace: float,
    ) -> None:
        directory = self._directory(snapshot)
        output = self._paths(job).output
        command = [python, *arguments_of(job, output)]
        environment = environment_of(self._tree(snapshot)) | facts | secrets
        request = {
            "job": job.id, "command": command, "directory": str(directory), "environment": environment, "grace": grace,
        }  # fmt: skip
        self._ask("start", request)

    def job_status(self, job: JobSpec) -> JobStatus:
        return messages.job_status(self._ask("status", job.id))

    def stop(self, job: JobSpec, reason: str) -> None:
        self._ask("stop", job.id, reason)

    def reports(self, job: JobSpec, offset: int) -> list[str]:
        return messages.reports(self._ask("reports", job.id, offset))

    def manifest(self, job: JobSpec) -> Manifest:
        return messages.manifest(self._ask("manifest", job.id, timeout=None, longest=messages.MANIFEST_BYTES))

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        left = file.size - offset
        if left <= SMALL:
            words = (job.id, file.path, offset, file.size, file.digest)
            yield messages.content(self._ask("content", *words, timeout=STALLED_S), left)
            return
        sent = ("send", job.id, file.path, str(offset), str(file.size), file.digest)
        yield from self._agent.stream(*sent, timeout=120)

    def follow(self, job: JobSpec, offset: int) -> Iterator[bytes]:
        return self._agent.stream("follow", job.id, str(offset))

    def discard(self, job: JobSpec) -> None:
        """Nothing to do: it all goes with the machine."""

    def cut(self) -> None:
        self._connection.cut()

    def close(self) -> None:
        self._agent.close()
        self._connection.close()

    # --- how it speaks

    def _paths(self, job: JobSpec) -> JobPaths:
        return JobPaths(self._root, job.id)

    def _tree(self, snapshot: Snapshot) -> PurePosixPath:
        return self._root / "trees" / snapshot.digest

    def _directory(self, snapshot: Snapshot) -> PurePosixPath:
        return self._tree(snapshot) / snapshot.directory

    def _send_blobs(self, blobs: list[tuple[str, Path]]) -> None:
        try:
            if sum(path.stat().st_size for _, path in blobs) <= SMALL:
                self._ask("keep", [{"digest": digest, "content": _text(path)} for digest, path in blobs])
            else:
                self._agent.send("receive", source=_frames(blobs), timeout=STALLED_S)
        except RemoteError as error:
            raise BadMachine(f"The machine could not take our files: {error}.") from None


def _text(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _frames(blobs: list[tuple[str, Path]]) -> Iterator[bytes]:
    for digest, path in blobs:
        yield json.dumps({"digest": digest, "size": path.stat().st_size}).encode() + b"\n"
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
