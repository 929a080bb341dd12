"""The parent of one job: starts it, keeps its log, and writes what became of it where anyone can read it later."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

from files import birth_of, job_folder, read_json, status_of, write_json
from messages import Made, Status

POLL_S = 0.1
RESERVE = 1 << 18
"""Bytes kept back on the disk, so that how a job ended can be written when the job has filled it."""
HEARTBEAT_S = 2.0
ANSWER_S = 0.5


def start(root, request):
    """Start a job in a process that outlives this connection; a job that runs already is left alone."""
    job = request.job
    if status_of(root, job)["state"] == "running":
        return Made(False)
    folder = job_folder(root, job)
    make_ready(folder)
    child = os.fork()
    if child == 0:
        _become_independent()
        try:
            supervise(folder, request)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    deadline = time.time() + 30
    while status_of(root, job)["state"] == "absent" and time.time() < deadline:
        time.sleep(0.005)
    return Made(True)


def make_ready(folder):
    """The job's folder, without what an earlier run of the job said about itself."""
    os.makedirs(os.path.join(folder, "output"), exist_ok=True)
    for name in ("stop.json", "status.json", "return.json"):
        if os.path.exists(os.path.join(folder, name)):
            os.remove(os.path.join(folder, name))
    with open(os.path.join(folder, "reserve"), "wb") as file:
        file.write(b"\0" * RESERVE)
    os.makedirs(os.path.join(folder, "held"), exist_ok=True)


def _become_independent():
    os.setsid()
    if os.fork() > 0:
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def supervise(folder, request, pausing=(), facts=None):
    """Run a job to its end; `request` is a `StartJob`.

    `pausing`: reasons of stops after which the job will run again, so that it has not ended; `facts`: more of its status.
    """
    status_file = os.path.join(folder, "status.json")
    status = {"state": "running", "pid": os.getpid(), "birth": birth_of(os.getpid()), "started": time.time()}
    status.update(facts or {})
    environment = dict(os.environ)
    environment.update(request.environment)
    environment["LAUNCHERS_RETURN_VALUE"] = os.path.join(folder, "return.json")
    with open(os.path.join(folder, "log"), "ab") as log:
        try:
            child = subprocess.Popen(
                request.command, cwd=request.directory, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.write(("cannot start {}: {}\n".format(request.command[0], error)).encode())
            status.update(state="ended", exit_code=127, ended=time.time())
            write_json(status_file, status)
            return
    status["child"] = child.pid
    write_json(status_file, status)
    stopped = _wait(child, folder, request.grace)
    if stopped is None and child.returncode and pausing:
        # A queue's signal reaches the job and this program at once, and the job may be faster.
        time.sleep(ANSWER_S)
        stopped = (read_json(os.path.join(folder, "stop.json")) or {}).get("reason")
    os.remove(os.path.join(folder, "reserve"))
    status.update(ended=time.time())
    if stopped not in pausing:
        status.update(state="ended", exit_code=child.returncode, stopped=stopped)
    while True:
        try:
            return write_json(status_file, status)
        except OSError:  # someone was faster: the watchdog ends the machine when its lease is over
            time.sleep(1)


def _wait(child, folder, grace):
    """Until the job ends; returns why it was stopped, None when it ended by itself."""
    reason, kill_at, beat_at = None, None, 0.0
    stop_file = os.path.join(folder, "stop.json")
    while child.poll() is None:
        now = time.time()
        if now >= beat_at:
            beat_at = now + HEARTBEAT_S
            _beat(os.path.join(folder, "heartbeat"), now)
        if reason is None and os.path.exists(stop_file):
            with open(stop_file) as file:
                reason = json.load(file)["reason"]
            kill_at = now + grace
            _signal(child, signal.SIGTERM)
        if kill_at is not None and now >= kill_at:
            _signal(child, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL_S)
    # What the job started and left behind must not hold the card, nor write into results that are being fetched.
    _signal(child, signal.SIGKILL)
    return reason


def _beat(path, now):
    try:
        with open(path, "w") as file:
            file.write(str(now))
    except OSError:
        pass


def _signal(child, number):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def stop(root, request):
    """Ask a job to end so that it can save its state; its supervisor kills it when the grace is over."""
    stop_job(root, request.job, request.reason)
    return Status(status_of(root, request.job)["state"])


def stop_job(root, job, reason):
    """Write down that a job must end, and why; nothing when it does not run."""
    if status_of(root, job)["state"] == "running":
        write_json(os.path.join(job_folder(root, job), "stop.json"), {"reason": reason})


if __name__ == "__main__":
    sys.exit("run by agent.py")
