"""Questions to Slurm, by the text that `squeue`, `scontrol` and `sbatch` print.

`sacct` is not asked: many clusters keep no accounting. A job that the controller has forgotten is known by what its
supervisor wrote into its folder.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import Enum

from launchers.errors import MendInput, RemoteError, RetryLater
from launchers.providers.slurm.shell import Shell

UNANSWERED = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Zero Bytes were transmitted",
)
"""Words of a controller that is away for a moment."""
_ERROR = re.compile(r"^(?:\w+: error: |\w+: fatal: )?(.*)$")


class Queued(Enum):
    """Where Slurm has a job."""

    waiting = "waiting"
    running = "running"
    cancelled = "cancelled"
    over = "over"
    """Ended, failed, lost its node, or forgotten: what the supervisor wrote tells which."""


WORDS = {
    "PENDING": Queued.waiting, "CONFIGURING": Queued.waiting, "REQUEUED": Queued.waiting, "REQUEUE_HOLD": Queued.waiting,
    "REQUEUE_FED": Queued.waiting, "SPECIAL_EXIT": Queued.waiting, "RESV_DEL_HOLD": Queued.waiting, "SUSPENDED": Queued.waiting,
    "STOPPED": Queued.waiting,
    "RUNNING": Queued.running, "COMPLETING": Queued.running, "SIGNALING": Queued.running, "STAGE_OUT": Queued.running,
    "RESIZING": Queued.running,
    "CANCELLED": Queued.cancelled, "REVOKED": Queued.cancelled,
}  # fmt: skip
"""Slurm's job states; the others are ends."""


@dataclass(frozen=True)
class QueuedJob:
    """A row of the queue."""

    id: str
    name: str
    state: Queued
    word: str
    """Slurm's own."""
    reason: str
    """Why it waits."""
    comment: str


def parse_queue(text: str) -> list[QueuedJob]:
    """The rows of `squeue --format=%i|%T|%r|%k|%j`; others are no rows."""
    found = []
    for line in text.splitlines():
        fields = line.split("|", 4)
        if len(fields) == 5 and fields[0].strip().isdigit():
            number, word, reason, comment, name = (field.strip() for field in fields)
            found.append(QueuedJob(number, name, WORDS.get(word, Queued.over), word, reason, comment))
    return found


def parse_minutes(text: str) -> int | None:
    """Minutes of a Slurm time such as `1-12:00:00`, `90:00` or `UNLIMITED`; None: no limit, or none that can be read."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if found is None:
        return None
    days, first, second, _ = (int(part or 0) for part in found.groups())
    if found[1] is not None or found[4] is not None:
        hours, minutes = first, second
    else:
        hours, minutes = 0, first
    return (days * 24 + hours) * 60 + minutes


class Cluster:
    """One Slurm, asked through a shell."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def jobs(self, name: str | None = None) -> list[QueuedJob]:
        """Jobs of this user that the controller remembers; of one name only, where one is given."""
        chosen = f" --name={shlex.quote(name)}" if name else ""
        return parse_queue(
            self._ask(f'squeue --noheader --user="$(id -un)" --states=all --format="%i|%T|%r|%k|%j"{chosen}')
        )

    def cancel(self, job: str) -> None:
        self._ask(f"scancel {shlex.quote(job)}")

    def cancel_all(self, name: str) -> None:
        self._ask(f'scancel --user="$(id -un)" --name={shlex.quote(name)}')

    def limit_minutes(self, partition: str | None) -> int | None:
        """The longest that a job may run in a partition; None: no limit."""
        for line in self._ask("scontrol --oneliner show partition").splitlines():
            fields = dict(word.partition("=")[::2] for word in line.split())
            if fields.get("PartitionName") == partition or (partition is None and fields.get("Default") == "YES"):
                return parse_minutes(fields.get("MaxTime", ""))
        return None

    def test(self, options: list[str]) -> None:
        """Ask whether a job with such options would be taken; nothing is submitted.

        Raises:
            MendInput: Slurm's reason.
        """
        try:
            self._ask(f"sbatch --test-only {shlex.join(options)} --wrap true")
        except RemoteError as error:
            raise MendInput(f"Slurm refuses the job: {reason_of(str(error))}.") from None

    def _ask(self, command: str) -> str:
        """
        Raises:
            MendInput: there is no Slurm.
            RetryLater: its controller is away.
            RemoteError: it refuses.
        """
        program = command.split()[0]
        try:
            return self._shell.run(command).decode(errors="replace")
        except RemoteError as error:
            text = str(error)
            if "not found" in text and program in text:
                raise MendInput(
                    f"provider=slurm needs Slurm's `{program}`, and {self._shell.place} has none: run it on a login node, or name one "
                    "with provider.login=user@host."
                ) from None
            if any(words in text for words in UNANSWERED):
                raise RetryLater(f"Slurm's controller does not answer ({reason_of(text)}).") from None
            raise


def reason_of(text: str) -> str:
    """The first complaint in the output of a Slurm command, without the command's name."""
    for line in text.splitlines():
        found = _ERROR.fullmatch(line.strip())
        if found and found[1]:
            return found[1].rstrip(".")
    return "no reason given"
