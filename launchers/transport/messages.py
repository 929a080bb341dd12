"""Answers of a machine, as the client takes them: what `launchers.remote.messages` refuses is the machine's fault, never ours.

A machine belongs to a stranger, who may have put his own agent in place of ours. What it says never chooses what is sent or
where something is written. Its texts lose secrets that this process knows, and control characters become visible escapes.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TypeVar, cast

from launchers.errors import BadMachine
from launchers.host import Card, JobStatus, Manifest, Probe, Refused, RemoteFile, RemoteLink
from launchers.remote.checked import MAX_ROWS, Nonsense, decode, is_digest
from launchers.remote.messages import (
    Attempt,
    Contents,
    Done,
    Failed,
    Hello,
    Listing,
    Machine,
    Missing,
    Prepared,
    Reports,
    Returned,
    Row,
    Status,
    Wanted,
)
from launchers.secrecy import scrub
from launchers.text import shown

LINE_BYTES = 16 << 20
"""The longest answer that is read."""
MANIFEST_BYTES = 64 << 20
"""`MAX_ROWS` rows with long names still fit."""
MAX_CARDS = 64
NOT_DOWNLOADED = {
    "outside": "it is a link that leaves the job's folder",
    "broken": "it is a link to nothing",
    "loop": "it is a link to a folder that it lies in",
    "pipe": "it is a named pipe",
    "socket": "it is a socket",
    "device": "it is a device",
}
"""Kind of an entry of a job's folder -> why it stays on the machine; the other kinds are downloaded."""

Kind = TypeVar("Kind")


def parsed(line: bytes) -> dict[str, Any]:
    """One line of the protocol."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        _refuse("it is not JSON", error)
    if not isinstance(value, dict):
        _refuse("it is not a JSON object")
    return value


def hello(answer: dict[str, Any]) -> str:
    """Path of the Python that runs the agent."""
    return _taken(Hello, answer, "the agent's start").python


def reply(answer: dict[str, Any]) -> tuple[Any, str | None]:
    """What an act returned, or the error that it ended with."""
    if "error" in answer:
        return None, _plain(_taken(Failed, answer, "an error").error[-2000:])
    return _taken(Done, answer, "an answer").answer, None


def probe(answer: Any) -> Probe:
    machine = _taken(Machine, answer, "probe")
    return Probe(_cards(machine.cards or []), machine.disk_free_gb, machine.shm_free_mb, machine.python)


def job_status(answer: Any) -> JobStatus:
    status = _taken(Status, answer, "status")
    found = {name: value for name, value in vars(status).items() if value is not None}
    if status.stopped is not None:
        found["stopped"] = _plain(status.stopped)
    return cast(JobStatus, found)


def missing(answer: Any, offered: Iterable[str]) -> list[str]:
    """What the machine lacks of what was offered to it, in that order: what it names beyond that is never looked at."""
    asked = set(_taken(Missing, answer, "missing").digests)
    return [digest for digest in dict.fromkeys(offered) if digest in asked]


def prepared(answer: Any) -> str:
    """Path of the Python that the job runs with."""
    return _taken(Prepared, answer, "prepare").python


def manifest(answer: Any) -> Manifest:
    """The rows that make sense; the others are refused one by one, so that one bad row does not lose the results.

    Of a link, the target must be a file or folder of this very list: it can lead nowhere else here.
    """
    listed = _taken(Listing, answer, "manifest").rows
    found = Manifest()
    seen: set[str] = set()
    links: list[RemoteLink] = []
    for number, value in enumerate(listed[:MAX_ROWS]):
        try:
            row = decode(Row, value)
        except Nonsense as error:
            path = value.get("path") if isinstance(value, dict) else None
            name = path[:300] if isinstance(path, str) else f"row {number} of the manifest"
            found.refused.append(Refused(name, f"the machine describes it wrongly ({error})"))
            continue
        if row.kind in NOT_DOWNLOADED:
            found.refused.append(Refused(row.path, NOT_DOWNLOADED[row.kind]))
        elif row.path in seen:
            found.refused.append(Refused(row.path, "the machine lists it twice"))
        elif row.kind == "file" and not is_digest(row.digest):
            found.refused.append(Refused(row.path, "the machine describes it wrongly (digest: no SHA-256)"))
        else:
            seen.add(row.path)
            if row.kind == "file":
                found.files.append(RemoteFile(row.path, row.size, row.digest))
            elif row.kind == "folder":
                found.folders.append(row.path)
            else:
                links.append(RemoteLink(row.path, row.target))
    found.links.extend(links)
    if len(listed) > MAX_ROWS:
        found.refused.append(Refused("all further files", f"only the first {MAX_ROWS:,} files are downloaded"))
    return found


def contents(answer: Any, asked: Sequence[Wanted]) -> list[bytes | None]:
    """The bytes of small files, in the order in which they were asked for; None for one that is gone."""
    found = _taken(Contents, answer, "contents").contents
    if len(found) != len(asked):
        _refuse(f"contents: {len(found)} files instead of {len(asked)}")
    return [
        None if text is None else _content(text, one.size - one.offset) for text, one in zip(found, asked, strict=True)
    ]


def _content(text: str, most: int) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        _refuse("contents: not base64")
    if len(content) > most:
        _refuse(f"contents: more than the {most} bytes that were asked for")
    return content


def attempts(answer: Any) -> list[Attempt]:
    """What the containers of a job wrote down about themselves, oldest first."""
    if not isinstance(answer, list):
        _refuse("attempts: it is not a list")
    return [_taken(Attempt, row, "attempts") for row in answer]


def returned(answer: Any) -> Any:
    """What a job returned, as its container wrote it down."""
    return _taken(Returned, answer, "return").value


def reports(answer: Any) -> list[str]:
    """Whole lines that a job has written about itself; each is checked where it is used."""
    return _taken(Reports, answer, "reports").text.split("\n")[:-1]


def _taken(kind: type[Kind], answer: Any, what: str) -> Kind:
    try:
        return decode(kind, answer)
    except Nonsense as error:
        _refuse(f"{what}: {error}")


def _refuse(why: str, error: Exception | None = None) -> NoReturn:
    raise BadMachine(f"the machine gave an answer that makes no sense ({why})") from error


def _plain(text: str) -> str:
    """A text of others as one line."""
    return shown(scrub(text), lines=False)


def _cards(rows: list[list[str]]) -> tuple[Card, ...]:
    cards = []
    for row in rows[:MAX_CARDS]:
        name, memory, driver = (_plain(part[:100]) for part in [*row, "", "", ""][:3])
        cards.append(Card(name, _memory(memory), driver))
    return tuple(cards)


def _memory(text: str) -> float:
    """nvidia-smi writes "[N/A]" where a card shares the memory of the machine."""
    try:
        memory = float(text)
    except ValueError:
        return 0.0
    return memory if math.isfinite(memory) and memory >= 0 else 0.0
