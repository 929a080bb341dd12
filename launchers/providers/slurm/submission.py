"""What Slurm is asked for a job. Pure.

The keys of `executor_of` are parameters of submitit, to which hydra-submitit-launcher passes its settings by the same names.
Its launcher itself is not used: it waits in the client's process for all results, so that a closed laptop loses them.
"""

from __future__ import annotations

from typing import Any

from launchers.providers.slurm.settings import SlurmSettings

RESERVE_MIN = 10
"""Minutes beyond provider.max_hours, in which a job that has reached them saves and ends."""
ENDLESS = 1_000_000


def minutes_of(settings: SlurmSettings, limit: int | None) -> int:
    """Minutes to ask for: of one stay, at most the partition's limit."""
    wanted = settings.timeout_min or int(settings.max_hours * 60) + RESERVE_MIN
    return min(wanted, limit) if limit else wanted


def _gpus(settings: SlurmSettings) -> int | None:
    return settings.num_gpus if settings.gpu is not None and settings.gres is None else None


def options_of(settings: SlurmSettings, minutes: int) -> list[str]:
    """The options of `sbatch` that decide whether a cluster takes a job."""
    named = {
        "partition": settings.partition, "account": settings.account, "qos": settings.qos, "constraint": settings.constraint,
        "exclude": settings.exclude, "gres": settings.gres, "gpus-per-node": _gpus(settings), "nodes": settings.nodes,
        "cpus-per-task": settings.cpus_per_task, "mem": None if settings.mem_gb is None else f"{settings.mem_gb}GB", "time": minutes,
        **settings.additional_parameters,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in named.items() if value is not None]


def executor_of(settings: SlurmSettings, minutes: int, name: str, comment: str) -> dict[str, Any]:
    """Parameters of submitit's executor; one task a node, which starts its own processes."""
    wanted = {
        "timeout_min": minutes, "nodes": settings.nodes, "tasks_per_node": 1, "cpus_per_task": settings.cpus_per_task,
        "mem_gb": settings.mem_gb, "gpus_per_node": _gpus(settings), "slurm_partition": settings.partition,
        "slurm_account": settings.account, "slurm_qos": settings.qos, "slurm_constraint": settings.constraint,
        "slurm_exclude": settings.exclude, "slurm_gres": settings.gres, "slurm_signal_delay_s": settings.signal_delay_s,
        "slurm_setup": settings.setup or None, "slurm_comment": comment, "slurm_job_name": name,
        "slurm_additional_parameters": settings.additional_parameters or None, "stderr_to_stdout": True,
    }  # fmt: skip
    return {key: value for key, value in wanted.items() if value is not None}
