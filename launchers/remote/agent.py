"""What the client asks of the machine. `python3 agent.py ROOT MARK serve` answers questions, one JSON line each, until the client
hangs up; bytes in bulk go through a process of their own: `receive`, `send JOB PATH ...`, `follow JOB OFFSET`.

Each begins its output with a line that holds MARK alone: what the machine's shell printed before that is not ours.
"""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import contextlib

import supervisor
import watchdog
from files import (
    CHUNK,
    MAX_ROWS,
    blob_path,
    digest_and_size,
    digest_of,
    is_digest,
    job_folder,
    read_json,
    safe_join,
    status_of,
    touch_contact,
    write_json,
)
from setup import prepare

FOLLOW_S = 0.05


def probe(root):
    """What this machine is: cards, free disk, shared memory, Python."""
    card = None
    try:
        lines = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=True,
        ).stdout.decode().splitlines()  # fmt: skip
        card = [[part.strip() for part in line.split(",")] for line in lines if line.strip()]
    except (OSError, subprocess.SubprocessError):
        pass
    os.makedirs(root, exist_ok=True)
    return {
        "cards": card,
        "disk_free_gb": shutil.disk_usage(root).free / 1e9,
        "shm_free_mb": shutil.disk_usage("/dev/shm").free / 1e6 if os.path.isdir("/dev/shm") else 0,
        "python": "%d.%d" % sys.version_info[:2],
    }


def missing(root, digests):
    """Which of these blobs are not here."""
    return [d for d in digests if not os.path.exists(blob_path(root, d))]


def receive(root):
    """Blobs from standard input: a JSON line with digest and size, then the bytes; each verified before it counts."""
    received = 0
    source = sys.stdin.buffer
    for line in iter(source.readline, b""):
        header = json.loads(line)
        _store(root, header["digest"], _take(source, header["size"]))
        received += 1
    return {"received": received}


def keep(root, blobs):
    """Small blobs that came with the question: `digest` and `content`, in base64."""
    for blob in blobs:
        _store(root, blob["digest"], [base64.b64decode(blob["content"])])
    return {"received": len(blobs)}


def _take(source, left):
    while left:
        chunk = source.read(min(left, CHUNK))
        if not chunk:
            raise EOFError("the sender stopped")
        yield chunk
        left -= len(chunk)


def _store(root, digest, chunks):
    blob = blob_path(root, digest)
    folder = os.path.dirname(blob)
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, ".%s.%d" % (digest, os.getpid()))
    try:
        with open(partial, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
        if digest_of(partial) != digest:
            raise ValueError(f"damaged on the way: {digest}")
        os.replace(partial, blob)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def checkout(root, digest, entries):
    """Make a working tree of blobs; one that is complete is left as it is."""
    target = os.path.join(root, "trees", digest)
    if os.path.isdir(target):
        return {"made": False}
    building = "%s.%d.building" % (target, os.getpid())
    shutil.rmtree(building, ignore_errors=True)
    for entry in entries:
        path = safe_join(building, entry["path"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if entry.get("link") is not None:
            os.symlink(entry["link"], path)
        else:
            # A copy, never a hard link: a job that changes a file must not change the blob.
            shutil.copyfile(blob_path(root, entry["digest"]), path)
            os.chmod(path, 0o755 if entry.get("executable") else 0o644)
    os.makedirs(building, exist_ok=True)
    try:
        os.rename(building, target)
    except OSError:
        shutil.rmtree(building, ignore_errors=True)  # another job of the sweep was faster
    return {"made": True}


def place(root, job, entries):
    """Put files that came as blobs into a job's output folder, newest state of a job that continues here."""
    output = os.path.join(job_folder(root, job), "output")
    for entry in entries:
        path = safe_join(output, entry["path"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        partial = path + ".placing"
        shutil.copyfile(blob_path(root, entry["digest"]), partial)
        os.replace(partial, path)
    for entry in entries:
        blob = blob_path(root, entry["digest"])
        if os.path.exists(blob):
            os.remove(blob)
    return {"placed": len(entries)}


def manifest(root, job, kept=()):
    """Every file of a job's output folder with size and digest; digests of unchanged files are remembered.

    Each file is held by a second name until the next manifest: a checkpoint that is replaced while it is fetched, as most
    are, would otherwise never arrive whole. `kept`: digests that must stay longer. One row more than `MAX_ROWS` says that
    there are more.
    """
    folder = job_folder(root, job)
    output, held = os.path.join(folder, "output"), os.path.join(folder, "held")
    cache_file = os.path.join(folder, "digests.json")
    known, fresh = read_json(cache_file, {}), {}
    rows = []  # type: list[dict[str, object]]
    os.makedirs(held, exist_ok=True)
    for directory, names, files in os.walk(output):
        names.sort()
        for name in sorted(files):
            if len(rows) > MAX_ROWS:
                break
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, output)
            try:
                info = os.lstat(path)
                if not stat.S_ISREG(info.st_mode):
                    rows.append({"path": relative, "kind": "other", "size": 0, "digest": ""})
                    continue
                mark = "%d:%d:%d" % (info.st_size, info.st_mtime_ns, info.st_ino)
                if known.get(relative, [None])[0] == mark:
                    _, digest, size = known[relative]
                    _hold_again(path, held, digest)
                else:
                    digest, size = _hold(path, held)
            except OSError:
                continue  # replaced or removed while we looked: the next manifest has it
            fresh[relative] = [mark, digest, size]
            rows.append({"path": relative, "kind": "file", "size": size, "digest": digest})
    wanted = {row["digest"] for row in rows} | set(kept)
    for name in os.listdir(held):
        if name not in wanted:
            os.remove(os.path.join(held, name))
    with contextlib.suppress(OSError):
        write_json(cache_file, fresh)
    return rows


def _hold(path, held):
    """Give a file a second name, its digest; returns digest and size of what was read of it, should it be growing."""
    link = os.path.join(held, ".%d" % os.getpid())
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links
        return digest_and_size(path)
    digest, size = digest_and_size(link)
    _rename(link, os.path.join(held, digest))
    return digest, size


def _hold_again(path, held, digest):
    """See that the second name is still of this file: another one that had the same content may have changed since.

    Seen with empty files: one stays so, the other grows, and the digest of nothing then named what had grown.
    """
    name = os.path.join(held, digest)
    if not os.path.exists(name) or os.path.samefile(path, name):
        return
    link = os.path.join(held, ".%d" % os.getpid())
    os.link(path, link)
    _rename(link, name)


def _rename(link, name):
    os.replace(link, name)
    if os.path.exists(link):  # both names were the same file: then replacing does nothing
        os.remove(link)


def send(root, job, path, offset, size, digest):
    """`size` bytes, less the first `offset`, of an output file as the manifest described it."""
    for chunk in _read(root, job, path, int(offset), int(size), digest):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def content(root, job, path, offset, size, digest):
    """The same of a small file, in base64."""
    return base64.b64encode(b"".join(_read(root, job, path, offset, size, digest))).decode()


def _read(root, job, path, offset, size, digest):
    folder = job_folder(root, job)
    if not is_digest(digest):
        raise ValueError(f"no SHA-256: {digest!r}")
    target = os.path.join(folder, "held", digest)
    if not os.path.exists(target):
        target = safe_join(os.path.join(folder, "output"), path)
    left = size - offset
    with open(target, "rb") as file:
        file.seek(offset)
        while left > 0:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                break
            yield chunk
            left -= len(chunk)


def follow(root, job, offset):
    """The job's log from a byte offset on, as it grows, until the job has ended and all of it was sent."""
    log = os.path.join(job_folder(root, job), "log")
    out = sys.stdout.buffer
    while not os.path.exists(log):
        if status_of(root, job)["state"] in ("ended", "lost"):
            return
        time.sleep(FOLLOW_S)
    last_touch = 0.0
    with open(log, "rb") as file:
        file.seek(offset)
        while True:
            ended = status_of(root, job)["state"] != "running"
            chunk = file.read(CHUNK)
            while chunk:
                out.write(chunk)
                chunk = file.read(CHUNK)
            out.flush()
            if ended:
                return
            if time.time() - last_touch > 5:
                last_touch = time.time()
                touch_contact(root)
            time.sleep(FOLLOW_S)


def job_status(root, job):
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
    return status


def reports(root, job, offset):
    """Whole lines of what a job has reported so far, from a byte offset on."""
    try:
        with open(os.path.join(job_folder(root, job), "output", "reports.jsonl"), "rb") as file:
            file.seek(offset)
            text = file.read(CHUNK)
    except OSError:
        return ""
    return text[: text.rfind(b"\n") + 1].decode("latin-1")


ACTS = {
    "probe": probe, "missing": missing, "keep": keep, "checkout": checkout, "place": place, "prepare": prepare,
    "start": supervisor.start, "status": job_status, "stop": supervisor.stop, "manifest": manifest, "content": content,
    "lease": watchdog.lease, "reports": reports,
}  # fmt: skip


def serve(root):
    """Answer questions until standard input ends. A failed act is an answer too."""
    _say({"python": sys.executable})
    for line in iter(sys.stdin.buffer.readline, b""):
        question = json.loads(line)
        touch_contact(root)
        try:
            answer = {"answer": ACTS[question["act"]](root, *question["arguments"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        _say(answer)


def _say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main(arguments):
    root, mark, command, rest = arguments[0], arguments[1], arguments[2], arguments[3:]
    sys.stdout.write("\n" + mark + "\n")
    sys.stdout.flush()
    os.makedirs(root, mode=0o700, exist_ok=True)
    touch_contact(root)
    if command == "receive":
        _say(receive(root))
    elif command == "follow":
        follow(root, rest[0], int(rest[1]))
    elif command == "send":
        send(root, *rest)
    else:
        serve(root)


if __name__ == "__main__":
    main(sys.argv[1:])
