"""The interface of capacity: what the scheduler asks of whatever jobs run on, and the lease that a job holds.

Three parts of a lease are apart, since not every kind has all of them in one place: machines (none where the provider looks after
them, several where one job runs on N hosts), the runner that starts and follows jobs, and the store that holds their results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from launchers.host import Host, JobRunner, JobStatus, Link, Machine, ResultStore
    from launchers.job import JobSpec, Offer
    from launchers.ledger import JobRecord, MachineRecord
    from launchers.lifecycle.context import LaunchContext
    from launchers.lifecycle.deadlines import MachineDeadline, Phase
    from launchers.lifecycle.task import Task
    from launchers.settings import RentalSettings, Timing


SAME_MACHINE = (
    "name", "gpu", "num_gpus", "spot", "disk_gb", "min_gpu_memory_gib", "image", "region", "api_url", "remote_root",
)  # fmt: skip
"""Settings that two jobs must share to run on one machine."""


@dataclass
class Lease:
    """Something that takes jobs now."""

    record: MachineRecord
    """As the ledger knew it when the lease began."""
    runner: JobRunner
    store: ResultStore
    link: Link
    guard: MachineDeadline
    machines: tuple[Machine, ...] = ()
    """The hosts, the first one being where jobs are started; none where the provider looks after them."""

    @staticmethod
    def of_host(record: MachineRecord, host: Host, guard: MachineDeadline, is_machine: bool = True) -> Lease:
        """A lease whose parts are all one object, such as a machine with ssh."""
        return Lease(record, host, host, host, guard, (host,) if is_machine else ())


def machine_kind(settings: RentalSettings) -> tuple[object, ...]:
    """What two jobs must share to run on one machine."""
    return tuple(getattr(settings, name) for name in SAME_MACHINE)


@dataclass
class Excluded:
    """Hosts and offers that failed in this launch, and providers that are left out for now."""

    hosts: set[tuple[str, str]] = field(default_factory=set)
    """Each with its provider."""
    offers: set[tuple[str, str]] = field(default_factory=set)
    """Each with its provider."""
    providers: Mapping[str, str] = field(default_factory=dict)
    """Each with the reason."""

    def add_host(self, offer: Offer) -> None:
        self.hosts.add((offer.provider, offer.host))

    def add_offer(self, offer: Offer) -> None:
        self.offers.add((offer.provider, offer.id))

    def hosts_of(self, provider: str) -> frozenset[str]:
        return frozenset(host for its_provider, host in self.hosts if its_provider == provider)


class Capacity(Protocol):
    """What the jobs of one launch run on. One object serves all threads of the launch, each with its own job's context.

    Every method but `acquire`, `recover` and `release` returns within seconds. Errors are those of `launchers.errors`; what the launch
    does about each is decided by `launchers.lifecycle.after_error` alone.
    """

    keeps_jobs: bool
    """Whether the provider itself queues, moves and restarts jobs. Then silence is no verdict about a job, a client may leave at any
    time, and no deadline of ours ends what others share."""

    def workers(self, jobs: int, machines: int) -> int:
        """How many of `jobs` jobs this launch runs or queues at once, where the user allows `machines` machines."""

    def kind_of(self, settings: RentalSettings) -> tuple[object, ...]:
        """What two jobs must share to run in one lease."""

    def acquire(self, task: Task, excluded: Excluded) -> Lease:
        """A lease that takes this job: a new one, or one that other jobs of the launch use as well. Adds to `excluded` what was no good.

        What it creates is in the ledger before it is asked for. A queue returns at once; its job waits as `JobStatus.queued`.

        Raises:
            NoOffer: nothing fits, or too many tries in a row were no good.
            Capped: the job or the launch has spent what it may.
            StillBilled: something that was no good could not be confirmed gone.
        """

    def extend(self, context: LaunchContext, lease: Lease, job: str) -> None:
        """Give a lease that exists to a job: its deadline follows from what is left to the job."""

    def recover(
        self, context: LaunchContext, record: MachineRecord, jobs: Sequence[JobRecord], excluded: Excluded
    ) -> Lease | None:
        """The lease that a client before this one left, with the unfinished jobs on it; each of them is a user of the lease.

        None when it is of no use any more: the caller then releases what is still billed, and the jobs start over.
        """

    def reach(self, context: LaunchContext, record: MachineRecord | None, job: JobRecord) -> Lease:
        """What a job runs on, to read its log or its files; changes nothing.

        Raises:
            MendInput: the job runs on nothing.
        """

    def doubt(self, context: LaunchContext, lease: Lease) -> str | None:
        """Why a lease is silent: None where the provider says that it runs, otherwise why nobody can tell.

        Raises:
            Preempted: the provider says that it runs no more.
        """

    def after_loss(
        self, context: LaunchContext, lease: Lease, job: str, excluded: Excluded, resumes: bool, blames: bool
    ) -> Lease | None:
        """A lease went away under a job: the same one resumed, where that is wanted and possible; otherwise it is released.

        Args:
            resumes: whether to ask for it again, with its disk.
            blames: whether to exclude its host where it is not resumed.

        Raises:
            StillBilled: it could not be confirmed gone.
        """

    def charge(
        self, context: LaunchContext, lease: Lease, job: JobSpec, status: JobStatus | None = None, is_alive: bool = True
    ) -> None:
        """Put what the lease cost since the last time on the job that pays for it.

        Args:
            status: the job's newest status, which holds what it ran where only that is billed.
            is_alive: whether the lease is billed now; one that was found lost is charged to its end at most.
        """

    def stop_wait(self, phase: Phase, timing: Timing) -> float:
        """Seconds from a stop until the lease ends whatever it says, by what the stop interrupts."""

    def detach(self, context: LaunchContext, lease: Lease) -> None:
        """Leave the lease to a job that runs on, or to results that a later `attach` downloads."""

    def release(self, context: LaunchContext, lease: Lease) -> None:
        """A job is done with the lease. The last user of it ends it, and sees it confirmed gone.

        Raises:
            StillBilled: it could not be confirmed gone.
        """

    def close(self) -> None:
        """At the end of the launch: close connections to what detached jobs still use."""
