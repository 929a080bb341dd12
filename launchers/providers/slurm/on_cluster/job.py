"""One job on its node: runs under the supervisor that rented machines have, saves and is requeued when Slurm wants the node back."""

import os
import signal
import subprocess
import sys
import threading
import time

REQUEUED = "requeued by Slurm"
PREEMPTED = "Slurm takes the node back"
UNTOUCHED = ["sh", "-c", "trap '' USR2; exec \"$@\"", "sh"]
"""Before a command: Slurm's signal before the time limit reaches every process of the job, and would end this one unsaved."""


class QueuedJob:
    """What submitit pickles. It calls `checkpoint` at the signal before the time limit, then requeues."""

    def __init__(self, agent, root, job, command, directory, environment, grace, seconds, over):
        """`agent`: folder of the programs that rented machines run; `environment` holds no secret; `grace`: seconds to save in;
        `seconds`: that the job may run in all, and `over`: what it is told then."""
        self.given = (agent, root, job, command, directory, environment, grace, seconds, over)
        self.root, self.job, self.grace, self.seconds, self.over = root, job, grace, seconds, over
        self.agent, self.command, self.directory, self.environment = agent, command, directory, environment

    def __call__(self):
        sys.path.insert(0, self.agent)
        import supervisor
        from files import job_folder
        from messages import StartJob

        folder, rank = job_folder(self.root, self.job), int(os.environ.get("SLURM_NODEID", "0"))
        environment = dict(self.environment, **_place())
        request = StartJob(self.job, UNTOUCHED + self.command, self.directory, environment, self.grace)
        if rank:
            return _help(folder, request, rank)
        self.begun, self.spent = time.time(), _spent(folder)
        supervisor.make_ready(folder)
        # Without a client: what Slurm itself ends is asked to save, as submitit does not.
        signal.signal(signal.SIGTERM, lambda number, frame: supervisor.stop_job(self.root, self.job, PREEMPTED))
        facts = {"elsewhere": True, "spent": self.spent}
        self.running = threading.Thread(
            target=supervisor.supervise,
            args=(folder, request),
            kwargs={"pausing": (REQUEUED, PREEMPTED), "facts": facts},
        )
        self.running.start()
        while self.running.is_alive():  # signals are handled between two of these
            self.running.join(0.2)
        return None

    def checkpoint(self):
        """Called within the signal's handler: the job saves, and the same again is submitted unless its time is over."""
        import submitit
        import supervisor

        is_over = self.spent + time.time() - self.begun >= self.seconds
        supervisor.stop_job(self.root, self.job, self.over if is_over else REQUEUED)
        self.running.join(self.grace + 30)
        return None if is_over else submitit.helpers.DelayedSubmission(QueuedJob(*self.given))


def _spent(folder):
    """Seconds that the job ran before this start."""
    from files import read_json

    status = read_json(os.path.join(folder, "status.json")) or {}
    if "started" not in status:
        return 0.0
    try:
        last_seen = os.stat(os.path.join(folder, "heartbeat")).st_mtime
    except OSError:
        last_seen = status["started"]
    return status.get("spent", 0.0) + max(status.get("ended", last_seen) - status["started"], 0.0)


def _place():
    """Which of the job's nodes this is, in the words of torchrun; nothing where there is but one."""
    count = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if count < 2:
        return {}
    return {
        "NNODES": str(count), "NODE_RANK": os.environ["SLURM_NODEID"], "MASTER_ADDR": _first_address(),
        "MASTER_PORT": str(20000 + int(os.environ["SLURM_JOB_ID"]) % 10000),
        "JOB_START": "%s-%s" % (os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")),
    }  # fmt: skip


def _first_address():
    """Where the first node of the job is reached by the others."""
    nodes = os.environ.get("SLURM_JOB_NODELIST", "")
    first = subprocess.check_output(["scontrol", "show", "hostnames", nodes], universal_newlines=True).split()[0]
    shown = subprocess.check_output(["scontrol", "--oneliner", "show", "node", first], universal_newlines=True).split()
    return next((word.partition("=")[2] for word in shown if word.startswith("NodeAddr=")), first)


def _help(folder, request, rank):
    """A further node of the job: the same command, with a log of its own; the first node tells how the job ended."""
    environment = dict(os.environ, **request.environment)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "log.%d" % rank), "ab") as log:
        child = subprocess.Popen(
            request.command,
            cwd=request.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
        is_told = False
        while child.poll() is None:
            if not is_told and (os.path.exists(os.path.join(folder, "stop.json")) or _has_ended(folder)):
                is_told = True
                child.terminate()
            time.sleep(0.5)


def _has_ended(folder):
    from files import read_json

    return (read_json(os.path.join(folder, "status.json")) or {}).get("state") == "ended"
