"""A machine that runs jobs, as the lifecycle sees it; how one speaks to it is the transport's business.

Every method may raise `Unreachable`; each is safe to call again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from launchers.capsule import Capsule
from launchers.job import JobSpec


@dataclass(frozen=True)
class RemoteFile:
    """One file of a job's output folder on the machine; `digest` is SHA-256 in hexadecimal."""

    path: str
    size: int
    digest: str
    regular: bool = True


class Host(Protocol):
    def probe(self) -> dict[str, Any]:
        """cards, disk_free_gb, shm_free_mb, python."""

    def lease(self, terms: dict[str, Any]) -> None:
        """Set the terms under which the machine ends itself; see `launchers/remote/watchdog.py`."""

    def ship(self, capsule: Capsule) -> int:
        """Bring a working tree there; returns how many bytes had to travel."""

    def prepare(self, capsule: Capsule, python: str | None, apt: Sequence[str] = ()) -> str:
        """Make the environment and return the path of its Python."""

    def restore(self, job: JobSpec, folder: Path, files: list[RemoteFile]) -> None:
        """Put the files of `folder` into the job's output folder there."""

    def start(self, job: JobSpec, python: str, capsule: Capsule, secrets: dict[str, str], grace: float) -> None:
        """Start the job, unless it runs already."""

    def job_status(self, job: JobSpec) -> dict[str, Any]:
        """state (absent, running, ended, lost), exit_code, stopped, value; billed_s and queued where only running jobs
        are billed, why where the provider gave words."""

    def stop(self, job: JobSpec, reason: str) -> None:
        """Ask the job to save its state and end."""

    def manifest(self, job: JobSpec) -> list[RemoteFile]: ...

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The bytes of an output file from an offset on."""

    def follow(self, job: JobSpec, offset: int) -> Iterator[bytes]:
        """The job's log from a byte offset on, as it grows; ends when the job has ended and all was sent."""

    def discard(self, job: JobSpec) -> None:
        """The results are home: remove what would outlive the machine, where the settings say so."""

    def cut(self) -> None:
        """Break what waits for the machine, from another thread, and let nothing be asked of it any more."""

    def close(self) -> None: ...
