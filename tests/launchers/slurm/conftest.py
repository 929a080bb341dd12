"""A user's place of work on a cluster: Slurm runs here, for real."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.emulators import slurm
from tests.emulators.slurm import Slurm
from tests.launchers.conftest import CANARIES, UserEnv, environment


@dataclass
class SlurmUserEnv(UserEnv):
    cluster: Slurm = field(kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        own = {"LAUNCHERS_HOME": str(self.home), "COLUMNS": "200"}
        return environment(**(own | self.cluster.variables | CANARIES | self.variables))

    def arguments(self, *arguments: str) -> list[str]:
        own = ["provider=slurm", f"provider.python={sys.executable}", f"provider.remote_root={self.folder}/shared"]
        return [*(a for a in arguments if a[0] == "-"), *own, *(a for a in arguments if a[0] != "-")]

    def numbers(self) -> list[str]:
        """Of the jobs in the queue, oldest first."""
        return sorted(self.cluster.queue(), key=int)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    reason = slurm.why_not()
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    try:
        with Slurm(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def user_env(project: Path, tmp_path: Path, cluster: Slurm) -> Iterator[SlurmUserEnv]:
    user_env = SlurmUserEnv(tmp_path, project, None, "slurm", cluster=cluster)
    yield user_env
    for process in user_env.processes:
        process.kill()
        process.wait()
    cluster.ask("scancel", "-u", "root")
    user_env.wait_for(
        lambda: not set(cluster.queue().values()) & {"PENDING", "RUNNING", "COMPLETING"}, what="an empty queue"
    )
