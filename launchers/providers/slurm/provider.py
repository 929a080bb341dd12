"""`Provider` for a Slurm cluster: an "instance" is the name that all jobs of one launch carry in the queue."""

from __future__ import annotations

import shlex

from launchers.credentials import fingerprint
from launchers.errors import MendInput, RemoteError
from launchers.job import Charging, MachineState, MachineStatus, Offer
from launchers.providers.base import CreateRequest, JobHandles, Need
from launchers.providers.slurm.cluster import Cluster, Queued
from launchers.providers.slurm.host import SlurmHost
from launchers.providers.slurm.settings import SlurmSettings
from launchers.providers.slurm.shell import Shell
from launchers.providers.slurm.submission import minutes_of, options_of
from launchers.settings import RentalSettings

ENOUGH = 1e6
"""Of what Slurm does not tell before a job has its nodes."""


class Slurm:
    """One cluster, here or behind a login node."""

    name = "slurm"

    def __init__(self, login: str | None) -> None:
        self.api_url = login
        self.account = fingerprint(login or "this computer")
        self._shell = Shell(login)

    def offers(self, need: Need) -> list[Offer]:
        """The partition, as one offer without a price: what it can't serve is asked of Slurm itself before anything is submitted."""
        settings = need.settings
        partition = settings.partition if isinstance(settings, SlurmSettings) else None
        if isinstance(settings, SlurmSettings):
            self._check(settings)
        return [
            Offer(
                provider=self.name, id=partition or "default", host="cluster", gpu=need.gpu, num_gpus=need.num_gpus,
                gpu_memory_gib=ENOUGH, price=0.0, spot=False, disk_gb=ENOUGH, download_mbps=ENOUGH, upload_mbps=ENOUGH,
                reliability=1.0, region=need.region or "", charging=Charging.nothing, many=True,
            )
        ]  # fmt: skip

    def create(self, request: CreateRequest) -> str:
        """Make the shared folder; nothing is in the queue before a job is."""
        settings = request.settings
        assert isinstance(settings, SlurmSettings)
        root = settings.remote_root
        try:
            self._shell.run(f"mkdir -p -m 700 {shlex.quote(root)}")
        except RemoteError as error:
            raise MendInput(
                f"provider.remote_root {root} can't be made on {self._shell.place} ({error}): name a folder of yours that all nodes share."
            ) from None
        return request.label

    def host(self, instance: str, settings: RentalSettings, handles: JobHandles) -> SlurmHost:
        assert isinstance(settings, SlurmSettings)
        return SlurmHost(Shell(self.api_url), instance, settings, handles)

    def status(self, instance: str) -> MachineStatus:
        is_there = any(job.state in (Queued.waiting, Queued.running) for job in Cluster(self._shell).jobs(instance))
        return _machine(instance, MachineState.running if is_there else MachineState.gone)

    def destroy(self, instance: str) -> None:
        Cluster(self._shell).cancel_all(instance)

    def list_mine(self) -> list[MachineStatus]:
        """The names in the queue that still have a job there."""
        names = {job.name for job in Cluster(self._shell).jobs() if job.state in (Queued.waiting, Queued.running)}
        return [_machine(name, MachineState.running) for name in sorted(names)]

    def _check(self, settings: SlurmSettings) -> None:
        cluster = Cluster(self._shell)
        cluster.test(options_of(settings, minutes_of(settings, cluster.limit_minutes(settings.partition))))


def _machine(name: str, state: MachineState) -> MachineStatus:
    return MachineStatus(name, name, state, "", 0.0, False, None, "")
