"""`Host` over ssh: each method is a question to the agent on the machine, and each is safe to repeat."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from launchers.capsule import Capsule
from launchers.command import arguments_of, environment_of
from launchers.errors import BadMachine, RemoteError, SetupFailed
from launchers.host import RemoteFile
from launchers.job import JobPaths, JobSpec
from launchers.transport.agent import Agent
from launchers.transport.ssh import Connection

CHUNK = 1 << 18
SMALL = 1 << 20
"""Bytes up to which files travel with a question instead of through a process of their own."""


class SshHost:
    """A machine with ssh and any Python 3."""

    def __init__(self, connection: Connection, root: str, setup_timeout: float) -> None:
        self._connection = connection
        self._root = PurePosixPath(root)
        self._setup_timeout = setup_timeout
        self._agent = Agent(connection, root)
        self._ask = self._agent.ask

    # --- the machine

    def probe(self) -> dict[str, Any]:
        return dict(self._ask("probe"))

    def lease(self, terms: dict[str, Any]) -> None:
        self._ask("lease", terms)

    def ship(self, capsule: Capsule) -> int:
        sizes = {entry.digest: entry.size for entry in capsule.entries if entry.link is None}
        wanted = self._ask("missing", sorted(sizes))
        blobs = [(digest, capsule.blob(digest)) for digest in wanted]
        if blobs:
            self._send_blobs(blobs)
        self._ask("checkout", capsule.digest, [asdict(entry) for entry in capsule.entries])
        return sum(sizes[digest] for digest in wanted)

    def prepare(self, capsule: Capsule, python: str | None, apt: Sequence[str] = ()) -> str:
        request = {"tree": str(self._directory(capsule)), "python": python, "apt": list(apt)}
        try:
            return str(self._ask("prepare", request, timeout=self._setup_timeout)["python"])
        except RemoteError as error:
            raise SetupFailed(f"the set-up failed on the machine: {str(error).rstrip('.')}") from None

    # --- a job

    def restore(self, job: JobSpec, folder: Path, files: list[RemoteFile]) -> None:
        wanted = set(self._ask("missing", sorted({file.digest for file in files})))
        self._send_blobs(
            [(f.digest, folder / f.path) for f in {f.digest: f for f in files}.values() if f.digest in wanted]
        )
        self._ask("place", job.id, [{"path": f.path, "digest": f.digest} for f in files])

    def start(self, job: JobSpec, python: str, capsule: Capsule, secrets: dict[str, str], grace: float) -> None:
        directory = self._directory(capsule)
        output = self._paths(job).output
        command = [python, *arguments_of(job, output)]
        environment = environment_of(self._tree(capsule)) | secrets
        request = {
            "job": job.id, "command": command, "directory": str(directory), "environment": environment, "grace": grace,
        }  # fmt: skip
        self._ask("start", request)

    def job_status(self, job: JobSpec) -> dict[str, Any]:
        return dict(self._ask("status", job.id))

    def stop(self, job: JobSpec, reason: str) -> None:
        self._ask("stop", job.id, reason)

    def manifest(self, job: JobSpec) -> list[RemoteFile]:
        rows = self._ask("manifest", job.id, timeout=None)
        return [RemoteFile(row["path"], row["size"], row["digest"], row["kind"] == "file") for row in rows]

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        if file.size - offset <= SMALL:
            yield base64.b64decode(self._ask("content", job.id, file.path, offset, file.size, file.digest))
            return
        command = self._agent.command("send", job.id, file.path, str(offset), str(file.size), file.digest)
        yield from self._connection.stream(command, timeout=120)

    def follow(self, job: JobSpec, offset: int) -> Iterator[bytes]:
        return self._connection.stream(self._agent.command("follow", job.id, str(offset)))

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

    def _tree(self, capsule: Capsule) -> PurePosixPath:
        return self._root / "trees" / capsule.digest

    def _directory(self, capsule: Capsule) -> PurePosixPath:
        return self._tree(capsule) / capsule.directory

    def _send_blobs(self, blobs: list[tuple[str, Path]]) -> None:
        try:
            if sum(path.stat().st_size for _, path in blobs) <= SMALL:
                self._ask("keep", [{"digest": digest, "content": _text(path)} for digest, path in blobs])
            else:
                self._connection.run(self._agent.command("receive"), _frames(blobs), timeout=None)
        except RemoteError as error:
            raise BadMachine(f"The machine could not take our files: {error}.") from None


def _text(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _frames(blobs: list[tuple[str, Path]]) -> Iterable[bytes]:
    for digest, path in blobs:
        yield json.dumps({"digest": digest, "size": path.stat().st_size}).encode() + b"\n"
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
