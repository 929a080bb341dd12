"""A real Slurm on loopback: munge, slurmctld and two slurmd, without accounting, as on many small clusters."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun")
CONFIG = """\
ClusterName=summarizer-test
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmctldPort={controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=5
MinJobAge=60
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=200000
NodeName=n[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first}-{second}] CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=short Nodes=ALL MaxTime=1 State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=2
"""


def why_not() -> str | None:
    """Why no cluster can be started here; None where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None and not Path(f"/usr/sbin/{name}").exists()]
    if missing:
        return f"no {missing[0]} here: install slurmctld, slurmd, slurm-client and munge"
    return None if os.geteuid() == 0 else "slurmd runs jobs as root here"


@dataclass
class Slurm:
    """A cluster of two nodes with the partitions `debug`, `short` (one minute) and `urgent` (takes nodes away). A context manager."""

    folder: Path
    """Short: the path of a socket may have 107 characters."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> Slurm:
        folder = self.folder
        for name in ("state", "spool/n1", "spool/n2", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        controller, first = _free_ports()
        text = CONFIG.format(folder=folder, controller=controller, first=first, second=first + 1)
        (folder / "slurm.conf").write_text(text)
        try:
            files = (
                "key-file=munge.key",
                "socket=munge.sock",
                "pid-file=munged.pid",
                "seed-file=munged.seed",
                "log-file=log/munged.log",
            )
            options = [f"--{name}={folder}/{file}" for name, _, file in (option.partition("=") for option in files)]
            self._start("munged", "--foreground", "--force", *options)
            self._wait("munge", "-S", f"{folder}/munge.sock", "-n")
            self._start("slurmctld", "-D")
            self._start("slurmd", "-D", "-N", "n1")
            self._start("slurmd", "-D", "-N", "n2")
            self._wait("sinfo", "-h", "-p", "debug", "-o", "%D %T", wanted="2 idle")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if len(self.processes) > 1:
            self.ask("scancel", "-u", "root")
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def ask(self, *words: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(words, env=os.environ | self.variables, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def queue(self) -> dict[str, str]:
        """Job's number -> its state, of all that the controller remembers."""
        rows = self.ask("squeue", "--noheader", "--states=all", "--format=%i %T").splitlines()
        return dict(row.split(maxsplit=1) for row in rows)

    def restarts(self, number: str) -> int:
        found = re.search(r"Restarts=(\d+)", self.ask("scontrol", "show", "job", number))
        return int(found[1]) if found else 0

    def start_now(self, number: str) -> None:
        """A requeued job waits for two minutes; not here."""
        deadline = time.monotonic() + 60
        while self.queue().get(number) in ("PENDING", "COMPLETING", "REQUEUED", "PREEMPTED"):
            self.ask("scontrol", "update", f"JobId={number}", "StartTime=now")
            assert time.monotonic() < deadline, self.ask("scontrol", "show", "job", number)
            time.sleep(0.2)

    def _start(self, program: str, *arguments: str) -> None:
        found = shutil.which(program) or f"/usr/sbin/{program}"
        with (self.folder / "log" / f"{program}.out").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [found, *arguments], env=os.environ | self.variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )
            )  # fmt: skip

    def _wait(self, *words: str, wanted: str = "") -> None:
        deadline = time.monotonic() + 60
        while True:
            done = subprocess.run(words, env=os.environ | self.variables, capture_output=True, text=True, timeout=60)
            if done.returncode == 0 and wanted in done.stdout:
                return
            assert time.monotonic() < deadline, f"{words}: {done.stdout}{done.stderr}"
            time.sleep(0.05)


def _free_ports() -> tuple[int, int]:
    """One for the controller, and the first of two neighbors for the nodes."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        controller = int(one.getsockname()[1])
        for first in range(controller + 11, controller + 2000, 7):
            with socket.socket() as two, socket.socket() as three:
                try:
                    two.bind(("", first))
                    three.bind(("", first + 1))
                except OSError:
                    continue
                return controller, first
    raise OSError("no free ports")
