"""What the client may ask of the machine: each act takes the question of its kind and returns an answer of `messages.py`."""

import os
import shutil
import subprocess
import sys

import results
import supervisor
import watchdog
from blobs import checkout, keep, missing, place
from files import job_folder, read_json, status_of
from messages import Machine, Prepared, Status
from setup import prepare


def probe(root, request):
    """What this machine is: cards, free disk, shared memory, Python."""
    cards = None
    try:
        lines = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=True,
        ).stdout.decode().splitlines()  # fmt: skip
        cards = [[part.strip() for part in line.split(",")] for line in lines if line.strip()]
    except (OSError, subprocess.SubprocessError):
        pass
    os.makedirs(root, exist_ok=True)
    shared = shutil.disk_usage("/dev/shm").free / 1e6 if os.path.isdir("/dev/shm") else 0
    return Machine(cards, shutil.disk_usage(root).free / 1e9, shared, "%d.%d" % sys.version_info[:2])


def job_status(root, job):
    """What became of a job, what it returned, and how much there is of its log."""
    status = status_of(root, job)
    folder = job_folder(root, job)
    value = read_json(os.path.join(folder, "return.json"))
    if value is not None:
        status["value"] = value["value"]
    status["disk_free_gb"] = shutil.disk_usage(root).free / 1e9
    try:
        status["log_size"] = os.stat(os.path.join(folder, "log")).st_size
    except OSError:
        status["log_size"] = 0
    return Status(**status)


def status(root, request):
    return job_status(root, request.job)


def prepare_tree(root, request):
    return Prepared(*prepare(root, request.tree, request.python, request.apt, request.provided))


ACTS = {
    "probe": probe, "missing": missing, "keep": keep, "checkout": checkout, "place": place, "prepare": prepare_tree,
    "start": supervisor.start, "status": status, "stop": supervisor.stop, "manifest": results.listing,
    "contents": results.contents, "lease": watchdog.lease, "reports": results.reports,
}  # fmt: skip
