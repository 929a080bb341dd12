"""The settings that only Slurm has; names and meanings are those of hydra-submitit-launcher's `submitit_slurm`."""

from __future__ import annotations

from dataclasses import dataclass, field

from launchers.settings import RentalSettings, bounded


@dataclass
class SlurmSettings(RentalSettings):
    """All settings of `provider=slurm`."""

    max_price: float = bounded(0.0, 0.0, 1000.0)
    """A cluster sends no bill."""
    login: str | None = None
    """`user@host` or a name of `~/.ssh/config`: the login node; null: this computer is one."""
    partition: str | None = None
    """null: the cluster's default."""
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Features that a node must have."""
    exclude: str | None = None
    """Nodes to leave out."""
    gres: str | None = None
    """Generic resources of each node, such as "gpu:a100:2"; null: as many GPUs as provider.num_gpus, whatever their kind."""
    cpus_per_task: int | None = bounded(None, 1, 10_000)
    """Cores of each node."""
    mem_gb: int | None = bounded(None, 1, 1_000_000)
    """Memory of each node; null: the partition's default."""
    timeout_min: int | None = bounded(None, 1, 1_000_000)
    """Minutes of one stay in the queue's hands; null: provider.max_hours, or the partition's limit where that is less. A job that
    has more hours is requeued and resumes from its checkpoint."""
    signal_delay_s: int = bounded(120, 5, 86_400)
    """Seconds before the time limit at which the job is asked to save and is requeued."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before the job, such as "module load cuda"."""
    container: str | None = None
    """Apptainer image that the job runs in, such as /shared/train.sif; null: none."""
    additional_parameters: dict[str, str] = field(default_factory=dict)
    """Further options of sbatch, such as {reservation: tuesday}."""
    keep_remote: bool = False
    """true: a job's folder on the cluster stays once its results are here and verified."""
