"""Machines whose owner put programs of his own in place of ours. Each mode is a piece of text that goes into the agent on the machine.

`market.hostile = "reads_files"` makes every machine rented from then on such a one, on whatever market of machines.
"""

from __future__ import annotations

import sys
from pathlib import Path

LOOT = "/mnt/loot"
"""Where a machine puts what it stole; `private/loot` of its cage."""

_COMMON = """
import base64
from acts import ACTS
_acts, _send = dict(ACTS), send
VICTIM = {victim!r}
LOOT = {loot!r}
PLANTED = dict()
def digest_text(text):
    import hashlib
    return hashlib.sha256(text).hexdigest()
def plant(path, text=b"evil", **changes):
    row = dict(path=path, kind="file", size=len(text), digest=digest_text(text))
    row.update(changes)
    PLANTED[path if isinstance(path, str) else str(path)] = (row, text)
def add_rows(root, request, more):
    listing = _acts["manifest"](root, request)
    listing.rows.extend(more)
    return listing
def planted_manifest(root, request):
    return add_rows(root, request, [row for row, _ in PLANTED.values()])
def planted_contents(root, request):
    found = _acts["contents"](root, request)
    for number, wanted in enumerate(request.files):
        if wanted.path in PLANTED:
            found.contents[number] = base64.b64encode(PLANTED[wanted.path][1]).decode()
    return found
ACTS.update(manifest=planted_manifest, contents=planted_contents)
def cut():
    import signal
    os.kill(os.getppid(), signal.SIGKILL)
"""

MODES = {
    # Asks for a file of the client's user, keeps it, cuts the connection, and is honest from then on.
    "reads_files": """
def evil_missing(root, request):
    honest = _acts["missing"](root, request)
    return honest if os.path.exists(LOOT) else dict(digests=[VICTIM] + honest.digests[:1])
def evil_checkout(root, request):
    for blob in request.blobs:
        if "/" in blob.digest:
            with open(LOOT, "wb") as file:
                file.write(base64.b64decode(blob.content))
            cut()
    return _acts["checkout"](root, request)
ACTS.update(missing=evil_missing, checkout=evil_checkout)
""",
    # Asks for what it was not offered, under a name that has the right form.
    "asks_for_more": """
ACTS.update(missing=lambda root, request: dict(digests=_acts["missing"](root, request).digests + ["0" * 64]))
""",
    # A row whose digest is a path of the client; the connection breaks in the middle of the file.
    "writes_outside": """
plant("checkpoints/large", size=5000000, digest=VICTIM)
plant("checkpoints/other", size=5000000, digest="../../" * 9 + VICTIM.lstrip("/"))
def send(root, job, path, *rest):
    if "checkpoints/" in path:
        sys.stdout.write("evil" * 300000)
        sys.stdout.flush()
        cut()
    return _send(root, job, path, *rest)
""",
    # Names by which programs find code in a folder of results.
    "plants_code": """
for path in (".git/HEAD", ".git/config", "sub/.GIT/config", "bare/HEAD", "bare/objects/x", "bare/refs/heads/x", "bare/config",
             ".hg/hgrc", ".envrc", ".vscode/tasks.json", ".idea/workspace.xml", "x.pth", "sub/sitecustomize.py", "usercustomize.py",
             "rich.py", "rich/__init__.py", "types.py", "launchers/__init__.py", "a\\nb", "c\\x1b[2J", "d\\u202etxt"):
    plant(path)
plant("good/notes.txt", b"good")
""",
    # One row that is two megabytes long, and a file that has no end.
    "sends_endlessly": """
plant("checkpoints/large", size=2000000, digest="1" * 64)
def send(root, job, path, *rest):
    while path == "checkpoints/large":
        sys.stdout.write("evil" * 10000)
    return _send(root, job, path, *rest)
""",
    # An answer without an end, in one line.
    "talks_endlessly": """
def evil_status(root, request):
    while os.path.exists(os.path.join(job_folder(root, request.job), "log")):
        sys.stdout.write("evil" * 10000)
    return _acts["status"](root, request)
ACTS.update(status=evil_status)
""",
    # A long log in one line.
    "logs_endlessly": """
def follow(root, job, offset):
    while status_of(root, job)["state"] != "ended":
        time.sleep(0.05)
    for _ in range(max(20000000 - offset, 0) // 40000):
        sys.stdout.write("evil" * 10000)
    sys.stdout.flush()
""",
    # What terminals and tables interpret.
    "paints": """
NASTY = "\\x1b]0;owned\\x07\\x1b]52;c;ZXZpbA==\\x07\\x1b[2J\\u202e[/x]"
def evil_status(root, request):
    return dict(vars(_acts["status"](root, request)), value=NASTY)
def evil_probe(root, request):
    return dict(vars(_acts["probe"](root, request)), cards=[[NASTY + "RTX 4090", "24564", "570.0"]])
def follow(root, job, offset):
    while status_of(root, job)["state"] != "ended":
        time.sleep(0.05)
    if not offset:
        sys.stdout.write("begin " + NASTY + " \\x1b[31mred\\x1b[0m end\\n")
        sys.stdout.flush()
ACTS.update(status=evil_status, probe=evil_probe)
plant("evil " + NASTY)
""",
    # Rows that are no rows.
    "talks_nonsense": """
ROWS = [dict(path=5, kind="file", size=1, digest="1" * 64), 7, None, dict(path="short"), dict(path="n" * 300, kind="file", size=4,
        digest=digest_text(b"evil")), dict(path="nan", kind="file", size=float("nan"), digest="1" * 64), dict(path="minus", kind="file",
        size=-1, digest="1" * 64), dict(path="checkpoints", kind="file", size=4, digest=digest_text(b"evil")), dict(path="more",
        kind="file", size=1, digest="1" * 64, extra=1), dict(path="huge", kind="file", size=10 ** 400, digest="1" * 64)]
plant("n" * 300)
plant("checkpoints")
ACTS.update(manifest=lambda root, request: add_rows(root, request, [row for row, _ in PLANTED.values()] + ROWS))
""",
    # Names of our own files.
    "replaces_ours": """
for path in ("remote.log", "REMOTE.log", ".lock", ".sync/known.json", ".SYNC/known.json"):
    plant(path)
""",
    # The status of a job is not one.
    "lies_about_status": """
ACTS.update(status=lambda root, request: ["running"])
""",
    "lies_about_the_machine": """
ACTS.update(probe=lambda root, request: dict(disk_free_gb="much"))
""",
}

_INTERPRETER = """#!{python}
import os, sys
python, text = {python!r}, {text!r}
arguments = sys.argv[1:]
if arguments[:2] == ["-S", "-c"]:
    change = (
        "path = os.path.join(folder, 'agent.py')\\n"
        "with open(path) as file: agent = file.read()\\n"
        "if 'PLANTED' not in agent:\\n"
        "    with open(path, 'w') as file: file.write(agent.replace('def serve(', " + repr(text) + " + 'def serve('))\\n"
    )
    arguments[2] = arguments[2].replace("path = os.path.join(folder", change + "path = os.path.join(folder")
os.execv(python, [python, *arguments])
"""


def interpreter(mode: str, victim: Path | str) -> str:
    """A `python3` for a machine, which changes the agent before it starts."""
    text = _COMMON.format(victim=str(victim), loot=LOOT) + MODES[mode] + "\n"
    return _INTERPRETER.format(python=sys.executable, text=text)
