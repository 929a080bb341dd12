"""Content-addressed files on the machine, and what is made of them: working trees, and the state that a job continues from."""

import base64
import hashlib
import json
import os
import shutil

from checked import decode, is_digest
from files import CHUNK, job_folder, safe_join
from messages import BlobHeader, Made, Missing


def blob_path(root, digest):
    """Where the bytes with a digest lie; nothing else is ever a name there."""
    if not is_digest(digest):
        raise ValueError(f"no SHA-256: {digest!r}")
    return os.path.join(root, "blobs", digest)


def digest_and_size(path):
    """SHA-256 of a file, in hexadecimal, and the number of bytes it was taken of."""
    hashed, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            hashed.update(chunk)
            size += len(chunk)
    return hashed.hexdigest(), size


def missing(root, request):
    """Which of these blobs are not here."""
    return Missing([d for d in request.digests if not os.path.exists(blob_path(root, d))])


def receive(root, source):
    """Blobs from a stream: a line with a `BlobHeader`, then the bytes; each verified before it counts."""
    for line in iter(source.readline, b""):
        header = decode(BlobHeader, json.loads(line))
        _store(root, header.digest, _take(source, header.size))


def keep(root, request):
    """Small blobs that came with the question."""
    for blob in request.blobs:
        _store(root, blob.digest, [base64.b64decode(blob.content)])
    return Made(bool(request.blobs))


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
    hashed = hashlib.sha256()
    try:
        with open(partial, "wb") as file:
            for chunk in chunks:
                hashed.update(chunk)
                file.write(chunk)
        if hashed.hexdigest() != digest:
            raise ValueError(f"damaged on the way: {digest}")
        os.replace(partial, blob)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def checkout(root, request):
    """Make a working tree of blobs; one that is complete is left as it is."""
    target = os.path.join(root, "trees", request.digest)
    keep(root, request)
    if os.path.isdir(target):
        return Made(False)
    building = "%s.%d.building" % (target, os.getpid())
    shutil.rmtree(building, ignore_errors=True)
    os.makedirs(building)
    for entry in request.entries:
        path = safe_join(building, entry.path)
        if entry.folder:
            os.makedirs(path, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if entry.link is not None:
            os.symlink(entry.link, path)
        else:
            # A copy, never a hard link: a job that changes a file must not change the blob.
            shutil.copyfile(blob_path(root, entry.digest), path)
            os.chmod(path, 0o755 if entry.executable else 0o644)
    try:
        os.rename(building, target)
    except OSError:
        shutil.rmtree(building, ignore_errors=True)  # another job of the sweep was faster
    return Made(True)


def place(root, request):
    """Put files and links into a job's output folder, the newest state of a job that continues here."""
    output = os.path.join(job_folder(root, request.job), "output")
    for entry in request.entries:
        path = safe_join(output, entry.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        partial = path + ".placing"
        if entry.link is not None:
            os.symlink(entry.link, partial)
        else:
            shutil.copyfile(blob_path(root, entry.digest), partial)
        os.replace(partial, path)
    for entry in request.entries:
        if entry.link is None and os.path.exists(blob_path(root, entry.digest)):
            os.remove(blob_path(root, entry.digest))
    return Made(bool(request.entries))
