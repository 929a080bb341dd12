"""What runs jobs, as the lifecycle sees it: machine, job runner and result store; how one speaks to them is the transport's business.

Every method may raise `Unreachable`, and `BadMachine` for an answer that makes no sense; each is safe to call again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Required, TypedDict, runtime_checkable

from launchers.job import JobSpec
from launchers.remote.checked import is_digest
from launchers.snapshot import Snapshot


@dataclass(frozen=True)
class RemoteFile:
    """One regular file of a job's output folder on the machine; `digest` is SHA-256 in hexadecimal."""

    path: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        assert is_digest(self.digest), f"{self.digest!r} is no SHA-256"
        assert self.size >= 0


@dataclass(frozen=True)
class RemoteLink:
    """A link of a job's output folder to a file or folder in it; `target` is relative to the top of that folder."""

    path: str
    target: str


@dataclass(frozen=True)
class Refused:
    """Something in a job's output folder that is not downloaded."""

    path: str
    why: str


@dataclass(frozen=True)
class Manifest:
    """What a job's output folder holds."""

    files: list[RemoteFile] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    """Rows of what is not downloaded, or that make no sense."""
    links: list[RemoteLink] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Empty ones."""


@dataclass(frozen=True)
class Card:
    """One GPU as the machine's driver names it; `memory_mib` is 0 and `driver` is empty where it does not say."""

    name: str
    memory_mib: float
    driver: str

    @property
    def driver_branch(self) -> int:
        """570 of "570.86.15"; 0 when it can't be read."""
        first = self.driver.partition(".")[0]
        return int(first) if first.isascii() and first.isdigit() else 0


@dataclass(frozen=True)
class Probe:
    """What a machine says that it is."""

    cards: tuple[Card, ...]
    disk_free_gb: float
    shm_free_mb: float
    python: str


class JobStatus(TypedDict, total=False):
    """What became of a job. Every field was checked where the answer came in."""

    state: Required[str]
    """absent, running, ended, or lost."""
    exit_code: int | None
    stopped: str | None
    """Why it was asked to stop."""
    value: Any
    """What the job returned."""
    disk_free_gb: float
    log_size: int
    billed_s: float
    """Where only running jobs are billed."""
    started: float
    ended: float
    spent: float
    """Seconds that it ran before it was started the last time."""
    queued: bool
    why: str
    """The provider's own words."""


class Link(Protocol):
    """A connection, or several."""

    def cut(self) -> None:
        """Break what waits for the other side, from another thread, and let nothing be asked of it any more."""

    def close(self) -> None: ...


class Machine(Protocol):
    """A host of a lease, apart from the jobs on it."""

    def probe(self) -> Probe: ...

    def lease(self, terms: dict[str, Any]) -> None:
        """Set the terms under which the machine ends itself; see `launchers/remote/watchdog.py`."""


class JobRunner(Protocol):
    """Starts jobs and follows them."""

    def upload(self, snapshot: Snapshot) -> int:
        """Upload a working tree; returns how many bytes had to travel."""

    def prepare(
        self, snapshot: Snapshot, python: str | None, apt: Sequence[str] = (), provided: Mapping[str, Sequence[str]] | None = None
    ) -> str:  # fmt: skip
        """Make the environment and return the path of its Python.

        Args:
            apt: Debian packages that the job needs.
            provided: see `RentalSettings.provided`.
        """

    def start(
        self,
        job: JobSpec,
        python: str,
        snapshot: Snapshot,
        secrets: dict[str, str],
        facts: dict[str, str],
        grace: float,
    ) -> None:
        """Start the job, unless it runs already.

        Args:
            secrets, facts: environment variables; anyone may read those of `facts`.
        """

    def job_status(self, job: JobSpec) -> JobStatus: ...

    def stop(self, job: JobSpec, reason: str) -> None:
        """Ask the job to save its state and end."""

    def reports(self, job: JobSpec, offset: int) -> list[str]:
        """Whole new lines of `reports.jsonl` in the job's output folder from a byte offset on; unchecked, a character for each byte."""

    def follow(self, job: JobSpec, offset: int) -> Iterator[bytes]:
        """The job's log from a byte offset on, as it grows; ends when the job has ended and all was sent."""


class ResultStore(Protocol):
    """Holds the output folders of jobs."""

    def restore(self, job: JobSpec, folder: Path, entries: Sequence[RemoteFile | RemoteLink]) -> None:
        """Put files and links of `folder` into the job's output folder there."""

    def manifest(self, job: JobSpec) -> Manifest: ...

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The bytes of an output file from an offset on; nobody has checked how many come."""

    def discard(self, job: JobSpec) -> None:
        """The results are downloaded: remove what would outlive the machine, where the settings say so."""


class Host(Machine, JobRunner, ResultStore, Link, Protocol):
    """All of it in one object, such as a machine with ssh."""


@runtime_checkable
class ReadsMany(Protocol):
    """A host that answers for many small files at once: with one question for each, their number would be what they cost."""

    def read_many(
        self, job: JobSpec, files: Sequence[tuple[RemoteFile, int]]
    ) -> Iterator[tuple[RemoteFile, bytes | None]]:
        """Each file with its bytes from an offset on, at most its size less that; None for one that is gone."""
