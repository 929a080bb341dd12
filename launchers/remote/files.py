"""Small parts that the programs on the machine share: atomic writes, folders, and who is alive. Light: a log is followed with it alone."""

import json
import os
import time

CHUNK = 1 << 20


def write_json(path, value):
    """Atomic and on disk: a reader sees the old or the new text, whatever is killed. A message is written as its fields."""
    partial = "%s.%d.partial" % (path, os.getpid())
    with open(partial, "w") as file:
        json.dump(value, file, default=vars)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_json(path, default=None):
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return default


def birth_of(pid):
    """Start time of a process in clock ticks, which tells it from a later one with the same id; None when it is gone."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return None


def job_folder(root, job):
    return os.path.join(root, "jobs", job)


def status_of(root, job):
    """What became of a job: absent, running, ended (with exit_code), or lost (its supervisor died without a word)."""
    status = read_json(os.path.join(job_folder(root, job), "status.json"))
    if status is None:
        return {"state": "absent"}
    if status["state"] == "running" and not status.get("elsewhere") and birth_of(status["pid"]) != status["birth"]:
        # Read again: it may have ended between the two looks.
        status = read_json(os.path.join(job_folder(root, job), "status.json"), status)
        if status["state"] == "running":
            status["state"] = "lost"
    return status


def all_jobs(root):
    try:
        return sorted(os.listdir(os.path.join(root, "jobs")))
    except OSError:
        return []


def touch_contact(root):
    try:
        with open(os.path.join(root, "contact"), "w") as file:
            file.write(str(time.time()))
    except OSError:
        pass  # a full disk must not stop the client from talking to us


def safe_join(base, relative):
    """`base/relative`, refused when it would leave `base`."""
    clean = os.path.normpath(relative)
    if os.path.isabs(clean) or clean.split(os.sep)[0] == ".." or clean == "." or "\0" in clean:
        raise ValueError(f"unsafe path: {relative!r}")
    return os.path.join(base, clean)
