"""A job's output folder, as the client downloads it: what is in it, and its bytes."""

import base64
import contextlib
import os
import stat
from typing import List, Optional  # noqa: F401 - in comments

from blobs import digest_and_size
from checked import MAX_ROWS
from files import CHUNK, job_folder, read_json, safe_join, write_json
from messages import Contents, Listing, Reports, Row


def manifest(root, job, kept=()):
    """Every entry of a job's output folder, files with size and digest; digests of unchanged files are remembered.

    Each file is held by a second name until the next manifest: a checkpoint that is replaced while it is fetched, as most
    are, would otherwise never arrive whole. `kept`: digests that must stay longer. One row more than `MAX_ROWS` says that
    there are more.
    """
    folder = job_folder(root, job)
    output, held = os.path.join(folder, "output"), os.path.join(folder, "held")
    cache_file = os.path.join(folder, "digests.json")
    known, fresh = read_json(cache_file, {}), {}
    rows = []  # type: List[Row]
    os.makedirs(held, exist_ok=True)
    there = set(os.listdir(held))
    for path, relative in _below(output):
        if len(rows) > MAX_ROWS:
            break
        try:
            info = os.lstat(path)
            if not stat.S_ISREG(info.st_mode):
                rows.append(_no_file(path, relative, info.st_mode, output))
                continue
            mark = "%d:%d:%d" % (info.st_size, info.st_mtime_ns, info.st_ino)
            if known.get(relative, [None])[0] == mark:
                _, digest, size = known[relative]
                if digest in there:
                    _hold_again(path, held, digest)
            else:
                digest, size = _hold(path, held)
                there.add(digest)
        except OSError:
            continue  # replaced or removed while we looked: the next manifest has it
        fresh[relative] = [mark, digest, size]
        rows.append(Row(relative, "file", size, digest))
    wanted = {row.digest for row in rows if row.kind == "file"} | set(kept)
    for name in os.listdir(held):
        if name not in wanted:
            os.remove(os.path.join(held, name))
    if fresh != known:
        with contextlib.suppress(OSError):
            write_json(cache_file, fresh)
    return rows


def _below(top):
    """Path and relative path of everything below a folder that is no folder, and of empty folders; links are not followed."""
    for directory, names, files in os.walk(top):
        names.sort()
        inside = os.path.relpath(directory, top)
        start = "" if inside == "." else inside + "/"
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        for name in sorted(files + links):
            yield os.path.join(directory, name), start + name
        if start and not names and not files:
            yield directory, inside


_KINDS = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))


def _no_file(path, relative, mode, output):
    if not stat.S_ISLNK(mode):
        return Row(relative, next((kind for is_one, kind in _KINDS if is_one(mode)), "device"))
    top, target = os.path.realpath(output), os.path.realpath(path)
    if not os.path.exists(target):
        return Row(relative, "broken")
    inside = os.path.relpath(target, top)
    if inside == os.pardir or inside.startswith(os.pardir + os.sep):
        return Row(relative, "outside")
    here = os.path.realpath(os.path.dirname(path))
    if os.path.isdir(target) and os.path.commonpath([here, target]) == target:
        return Row(relative, "loop")
    return Row(relative, "link", target=inside)


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
    if os.path.samefile(path, name):
        return
    link = os.path.join(held, ".%d" % os.getpid())
    os.link(path, link)
    _rename(link, name)


def _rename(link, name):
    os.replace(link, name)
    with contextlib.suppress(FileNotFoundError):  # both names were the same file: then replacing does nothing
        os.remove(link)


def listing(root, request):
    return Listing(manifest(root, request.job))


def contents(root, request):
    """Small files as the manifest described them, many in one answer."""
    found = []  # type: List[Optional[str]]
    for wanted in request.files:
        try:
            content = b"".join(read(root, request.job, wanted.path, wanted.offset, wanted.size, wanted.digest))
            found.append(base64.b64encode(content).decode())
        except OSError:
            found.append(None)  # gone since: the next manifest knows
    return Contents(found)


def read(root, job, path, offset, size, digest):
    """`size` bytes, less the first `offset`, of an output file."""
    folder = job_folder(root, job)
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


def reports(root, request):
    """Whole lines of what a job has reported so far, from a byte offset on."""
    try:
        with open(os.path.join(job_folder(root, request.job), "output", "reports.jsonl"), "rb") as file:
            file.seek(request.offset)
            found = file.read(CHUNK)
    except OSError:
        return Reports("")
    return Reports(found[: found.rfind(b"\n") + 1].decode("latin-1"))
