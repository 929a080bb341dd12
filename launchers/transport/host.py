"""`Host` over ssh: each method is a question to the agent on the machine, and each is safe to repeat."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from launchers.command import arguments_of, environment_of
from launchers.errors import BadMachine, RemoteError, SetupFailed
from launchers.host import JobStatus, Manifest, Probe, RemoteFile, RemoteLink
from launchers.job import JobPaths, JobSpec
from launchers.remote.messages import (
    Blob,
    BlobHeader,
    Destruct,
    Entry,
    FindMissing,
    JobQuestion,
    KeepBlobs,
    Lease,
    MakeTree,
    PlaceFiles,
    Prepare,
    ProbeMachine,
    ReadFiles,
    ReadReports,
    StartJob,
    StopJob,
    Wanted,
)
from launchers.snapshot import Snapshot
from launchers.transport import messages
from launchers.transport.agent import Agent
from launchers.transport.commands import Commands

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
CHUNK = 1 << 18
SMALL = 1 << 20
"""Bytes up to which files travel with a question or its answer instead of through a process of their own."""
BATCH = 1000
"""Files in one answer: while it is written here, the machine reads those of the next one."""
STALLED_S = 600.0
"""After which an upload of which the machine takes nothing, or a small file that does not arrive, is given up."""


class SshHost:
    """A machine with ssh and any Python 3."""

    def __init__(self, connection: Commands, root: str, setup_timeout: float) -> None:
        self._connection = connection
        self._root = PurePosixPath(root)
        self._setup_timeout = setup_timeout
        self._agent = Agent(connection, root)
        self._ask = self._agent.ask

    # --- the machine

    def probe(self) -> Probe:
        return messages.probe(self._ask("probe", ProbeMachine()))

    def lease(self, terms: dict[str, Any]) -> None:
        destruct = terms["destruct"] and Destruct(**terms["destruct"])
        self._ask("lease", Lease(terms["seconds"], terms["idle"], destruct))

    def upload(self, snapshot: Snapshot) -> int:
        sizes = {entry.digest: entry.size for entry in snapshot.entries if entry.digest}
        wanted = messages.missing(self._ask("missing", FindMissing(sorted(sizes))), sizes)
        blobs = [(digest, snapshot.blob(digest)) for digest in wanted]
        along = self._sent(blobs)
        self._ask("checkout", MakeTree(snapshot.digest, [Entry(**vars(entry)) for entry in snapshot.entries], along))
        return sum(sizes[digest] for digest in wanted)

    def prepare(
        self, snapshot: Snapshot, python: str | None, apt: Sequence[str] = (), provided: Mapping[str, Sequence[str]] | None = None
    ) -> str:  # fmt: skip
        brought = {name: list(beginnings) for name, beginnings in (provided or {}).items()}
        request = Prepare(str(self._directory(snapshot)), python, list(apt), brought)
        try:
            return messages.prepared(self._ask("prepare", request, timeout=self._setup_timeout))
        except RemoteError as error:
            raise SetupFailed(f"the set-up failed on the machine: {str(error).rstrip('.')}") from None

    # --- a job

    def restore(self, job: JobSpec, folder: Path, entries: Sequence[RemoteFile | RemoteLink]) -> None:
        paths = {entry.digest: folder / entry.path for entry in entries if isinstance(entry, RemoteFile)}
        wanted = messages.missing(self._ask("missing", FindMissing(sorted(paths))), paths)
        along = self._sent([(digest, paths[digest]) for digest in wanted])
        if along:
            self._ask("keep", KeepBlobs(along))
        self._ask("place", PlaceFiles(job.id, [_placed(entry) for entry in entries]))

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
        self._ask("start", StartJob(job.id, command, str(directory), environment, grace))

    def job_status(self, job: JobSpec) -> JobStatus:
        return messages.job_status(self._ask("status", JobQuestion(job.id)))

    def stop(self, job: JobSpec, reason: str) -> None:
        self._ask("stop", StopJob(job.id, reason))

    def reports(self, job: JobSpec, offset: int) -> list[str]:
        return messages.reports(self._ask("reports", ReadReports(job.id, offset)))

    def manifest(self, job: JobSpec) -> Manifest:
        return messages.manifest(
            self._ask("manifest", JobQuestion(job.id), timeout=None, longest=messages.MANIFEST_BYTES)
        )

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        sent = ("send", job.id, file.path, str(offset), str(file.size), file.digest)
        return self._agent.stream(*sent, timeout=120)

    def read_many(
        self, job: JobSpec, files: Sequence[tuple[RemoteFile, int]]
    ) -> Iterator[tuple[RemoteFile, bytes | None]]:
        def ask(batch: list[tuple[RemoteFile, int]]) -> list[tuple[RemoteFile, bytes | None]]:
            wanted = [Wanted(file.path, offset, file.size, file.digest) for file, offset in batch]
            answer = self._ask("contents", ReadFiles(job.id, wanted), timeout=STALLED_S)
            return list(zip((file for file, _ in batch), messages.contents(answer, wanted), strict=True))

        for rows in _one_ahead(ask, _batches(files)):
            yield from rows

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

    def _sent(self, blobs: list[tuple[str, Path]]) -> list[Blob]:
        """Sends files; small ones are returned instead, to come along with the question that needs them."""
        if sum(path.stat().st_size for _, path in blobs) <= SMALL:
            return [Blob(digest, base64.b64encode(path.read_bytes()).decode()) for digest, path in blobs]
        try:
            self._agent.send("receive", source=_frames(blobs), timeout=STALLED_S)
        except RemoteError as error:
            raise BadMachine(f"The machine could not take our files: {error}.") from None
        return []


def _placed(entry: RemoteFile | RemoteLink) -> Entry:
    if isinstance(entry, RemoteFile):
        return Entry(entry.path, entry.digest, entry.size)
    return Entry(entry.path, link=os.path.relpath(entry.target, os.path.dirname(entry.path) or "."))


def _one_ahead(ask: Callable[[Asked], Answer], batches: Iterable[Asked]) -> Iterator[Answer]:
    """Each answer while the next one is asked for. An answer that nobody takes any more is waited for by nobody."""
    under_way: Future[Answer] | None = None
    for batch in batches:
        before, under_way = under_way, Future()
        threading.Thread(target=_settle, args=(under_way, ask, batch), name="contents", daemon=True).start()
        if before is not None:
            yield before.result()
    if under_way is not None:
        yield under_way.result()


def _settle(future: Future[Answer], ask: Callable[[Asked], Answer], batch: Asked) -> None:
    try:
        future.set_result(ask(batch))
    except BaseException as error:
        future.set_exception(error)


def _batches(files: Sequence[tuple[RemoteFile, int]]) -> Iterator[list[tuple[RemoteFile, int]]]:
    """Files that together fit into one answer."""
    batch: list[tuple[RemoteFile, int]] = []
    left = SMALL
    for file, offset in files:
        if batch and (file.size - offset > left or len(batch) >= BATCH):
            yield batch
            batch, left = [], SMALL
        batch.append((file, offset))
        left -= file.size - offset
    if batch:
        yield batch


def _frames(blobs: list[tuple[str, Path]]) -> Iterator[bytes]:
    for digest, path in blobs:
        yield json.dumps(BlobHeader(digest, path.stat().st_size), default=vars).encode() + b"\n"
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
