"""What client and machine say to each other: one class for each question and each answer, checked by whoever receives it.

Standard library only, and nothing of this folder: the client imports it as part of a package, the agent as a plain module.
A message is one JSON object. A field that is unknown, missing or of the wrong form is refused (`Nonsense`), on both sides.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Callable, Dict, List, Optional, Type, TypeVar

MAX_ROWS = 100000
"""Entries of a job's folder that are looked at; a job that writes more should pack them."""
MAX_SIZE = 1 << 50
MAX_DEPTH = 50
"""Lists and dictionaries in one another."""
MAX_SECONDS = 100 * 86400.0
LONG_TEXT = 100000
_DIGEST = re.compile("[0-9a-f]{64}")

Check = Callable[[Any], Any]
Message = TypeVar("Message")


class Nonsense(ValueError):
    """A message that is none, and why."""


def is_digest(value: object) -> bool:
    """Whether a value is a SHA-256 in hexadecimal, and so may be the name of a file."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


# --- checks: each returns the value as it is kept, or raises `Nonsense` with what it should be


def a_text(longest: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise Nonsense("not a text of at most %d characters" % longest)
        return value

    return check


def one_of(*words: str) -> Check:
    def check(value: Any) -> str:
        if value not in words:
            raise Nonsense("none of " + ", ".join(words))
        return str(value)

    return check


def or_none(inner: Check) -> Check:
    def check(value: Any) -> Any:
        return None if value is None else inner(value)

    return check


def a_list_of(inner: Check, most: int = MAX_ROWS + 1) -> Check:
    def check(value: Any) -> List[Any]:
        if not isinstance(value, list):
            raise Nonsense("not a list")
        if len(value) > most:
            raise Nonsense("a list of more than %d" % most)
        return [inner(part) for part in value]

    return check


def a_mapping_of(inner: Check) -> Check:
    def check(value: Any) -> Dict[str, Any]:
        if not isinstance(value, dict):
            raise Nonsense("not an object")
        return {name: inner(part) for name, part in value.items()}

    return check


def a_message(kind: Type[Message]) -> Check:
    return lambda value: decode(kind, value)


def a_number(value: Any) -> float:
    """Finite and not negative. Compared as it came: a whole number may be too large for a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_SIZE:
        raise Nonsense("not a number from 0 on")
    return float(value)


def a_time(value: Any) -> float:
    if a_number(value) > MAX_SECONDS:  # nor is NaN a time to end at
        raise Nonsense("not a time of at most %d s" % MAX_SECONDS)
    return float(value)


def a_size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
        raise Nonsense("not a size in bytes")
    return value


def an_exit_code(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 31:
        raise Nonsense("not an exit code")
    return value


def a_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Nonsense("neither true nor false")
    return value


def a_digest(value: Any) -> str:
    if not is_digest(value):
        raise Nonsense("no SHA-256")
    return str(value)


def any_json(value: Any) -> Any:
    """JSON that can be written down again."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level if isinstance(outer, (list, dict)) for inner in _inside(outer)]
        if not level:
            return value
    raise Nonsense("nested deeper than %d levels" % MAX_DEPTH)


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def _is(check: Check, **default: Any) -> Any:
    """A field that is held to a check; required unless it has a default."""
    return field(metadata={"check": check}, **default)


def decode(kind: Type[Message], value: Any) -> Message:
    """A message of a kind, out of what came.

    Raises:
        Nonsense: it is none of that kind.
    """
    if not isinstance(value, dict):
        raise Nonsense("it is not an object")
    known = {part.name: part for part in fields(kind)}  # type: ignore[arg-type]
    unknown = next((name for name in value if name not in known), None)
    if unknown is not None:
        raise Nonsense("unknown field %a" % unknown[:50])
    found = {}
    for name, part in known.items():
        if name in value:
            try:
                found[name] = part.metadata["check"](value[name])
            except Nonsense as error:
                raise Nonsense("%s: %s" % (name, error)) from None
        elif part.default is MISSING and part.default_factory is MISSING:
            raise Nonsense("%s is missing" % name)
    return kind(**found)


# --- parts of messages


@dataclass(frozen=True)
class Blob:
    """A small file that comes with the question; `content` in base64."""

    digest: str = _is(a_digest)
    content: str = _is(a_text(1 << 22))


@dataclass(frozen=True)
class BlobHeader:
    """Stands before the bytes of a blob in a bulk transfer."""

    digest: str = _is(a_digest)
    size: int = _is(a_size)


@dataclass(frozen=True)
class Entry:
    """One entry of a working tree, or of the state that a job continues from: a file with `digest`, a link with `link`, or a folder."""

    path: str = _is(a_text(LONG_TEXT))
    digest: str = _is(a_text(64), default="")
    size: int = _is(a_size, default=0)
    executable: bool = _is(a_flag, default=False)
    link: Optional[str] = _is(or_none(a_text(LONG_TEXT)), default=None)
    folder: bool = _is(a_flag, default=False)
    """An empty one; others come with what is in them."""


ROW_KINDS = ("file", "link", "folder", "outside", "broken", "loop", "pipe", "socket", "device")


@dataclass(frozen=True)
class Row:
    """One entry of a job's output folder.

    `kind`: `file` has size and digest; `link` has its `target` inside the folder, relative to the folder's top; `folder` is an
    empty one; the others name what is not downloaded: a link that leads `outside`, to nothing (`broken`) or to a folder that
    it lies in (`loop`), or no file at all.
    """

    path: str = _is(a_text(LONG_TEXT))
    kind: str = _is(one_of(*ROW_KINDS))
    size: int = _is(a_size, default=0)
    digest: str = _is(a_text(64), default="")
    target: str = _is(a_text(LONG_TEXT), default="")


@dataclass(frozen=True)
class Wanted:
    """A file of an output folder as the manifest described it, from an offset on."""

    path: str = _is(a_text(LONG_TEXT))
    offset: int = _is(a_size)
    size: int = _is(a_size)
    digest: str = _is(a_digest)


@dataclass(frozen=True)
class Destruct:
    """The request by which a machine ends itself; variables of its first process stand in braces."""

    method: str = _is(a_text(20))
    url: str = _is(a_text(4096))
    headers: Dict[str, str] = _is(a_mapping_of(a_text(4096)))


# --- questions


@dataclass(frozen=True)
class ProbeMachine:
    """What is this machine?"""


@dataclass(frozen=True)
class FindMissing:
    """Which of these blobs are not there?"""

    digests: List[str] = _is(a_list_of(a_digest))


@dataclass(frozen=True)
class KeepBlobs:
    """Small blobs, to be kept."""

    blobs: List[Blob] = _is(a_list_of(a_message(Blob)))


@dataclass(frozen=True)
class MakeTree:
    """Make a working tree of blobs, some of which may come along."""

    digest: str = _is(a_digest)
    entries: List[Entry] = _is(a_list_of(a_message(Entry)))
    blobs: List[Blob] = _is(a_list_of(a_message(Blob)), default_factory=list)


@dataclass(frozen=True)
class PlaceFiles:
    """Put blobs into a job's output folder: the newest state of a job that continues there."""

    job: str = _is(a_text(200))
    entries: List[Entry] = _is(a_list_of(a_message(Entry)))


@dataclass(frozen=True)
class Prepare:
    """Make the environment of a working tree. `python`: null for the image's; `apt`: Debian packages."""

    tree: str = _is(a_text(4096))
    python: Optional[str] = _is(or_none(a_text(4096)))
    apt: List[str] = _is(a_list_of(a_text(200)), default_factory=list)


@dataclass(frozen=True)
class StartJob:
    """Start a job, unless it runs already. `environment` holds the secrets, only ever in memory; `grace` is in seconds."""

    job: str = _is(a_text(200))
    command: List[str] = _is(a_list_of(a_text(LONG_TEXT)))
    directory: str = _is(a_text(4096))
    environment: Dict[str, str] = _is(a_mapping_of(a_text(LONG_TEXT)))
    grace: float = _is(a_time)


@dataclass(frozen=True)
class JobQuestion:
    """How is the job; what has it written?"""

    job: str = _is(a_text(200))


@dataclass(frozen=True)
class StopJob:
    """Ask a job to save its state and end."""

    job: str = _is(a_text(200))
    reason: str = _is(a_text(1000))


@dataclass(frozen=True)
class ReadFiles:
    """The bytes of small files."""

    job: str = _is(a_text(200))
    files: List[Wanted] = _is(a_list_of(a_message(Wanted)))


@dataclass(frozen=True)
class ReadReports:
    """Whole lines of what a job has reported, from a byte offset on."""

    job: str = _is(a_text(200))
    offset: int = _is(a_size)


@dataclass(frozen=True)
class Lease:
    """The terms of the machine's life: seconds until its end, `idle` seconds to wait for a download, and how it ends itself."""

    seconds: float = _is(a_time)
    idle: float = _is(a_time)
    destruct: Optional[Destruct] = _is(or_none(a_message(Destruct)), default=None)


QUESTIONS = {
    "probe": ProbeMachine, "missing": FindMissing, "keep": KeepBlobs, "checkout": MakeTree, "place": PlaceFiles,
    "prepare": Prepare, "start": StartJob, "status": JobQuestion, "stop": StopJob, "manifest": JobQuestion,
    "contents": ReadFiles, "lease": Lease, "reports": ReadReports,
}  # type: Dict[str, Any]  # fmt: skip
"""By the word that a question begins with."""


# --- answers


@dataclass(frozen=True)
class Hello:
    """The agent runs, in this Python."""

    python: str = _is(a_text(4096))


@dataclass(frozen=True)
class Question:
    act: str = _is(a_text(100))
    request: Dict[str, Any] = _is(a_mapping_of(any_json))


@dataclass(frozen=True)
class Done:
    """What an act returned."""

    answer: Any = _is(any_json)


@dataclass(frozen=True)
class Failed:
    """The error that an act ended with."""

    error: str = _is(a_text(LONG_TEXT))


@dataclass(frozen=True)
class Machine:
    """What a machine is. `cards`: name, memory and driver of each, as nvidia-smi writes them; null without nvidia-smi."""

    cards: Optional[List[List[str]]] = _is(or_none(a_list_of(a_list_of(a_text(LONG_TEXT)))))
    disk_free_gb: float = _is(a_number)
    shm_free_mb: float = _is(a_number)
    python: str = _is(a_text(100))


@dataclass(frozen=True)
class Missing:
    """The blobs that are not there."""

    digests: List[str] = _is(a_list_of(a_digest))


@dataclass(frozen=True)
class Made:
    """Whether there was something to do."""

    made: bool = _is(a_flag)


@dataclass(frozen=True)
class Prepared:
    """The Python that the job runs with."""

    python: str = _is(a_text(4096))
    made: bool = _is(a_flag)


@dataclass(frozen=True)
class Status:
    """What became of a job: absent, running, ended (with its exit code), or lost (its supervisor died without a word)."""

    state: str = _is(one_of("absent", "running", "ended", "lost"))
    exit_code: Optional[int] = _is(or_none(an_exit_code), default=None)
    stopped: Optional[str] = _is(or_none(a_text(1000)), default=None)
    """Why it was asked to stop."""
    value: Any = _is(any_json, default=None)
    """What it returned."""
    disk_free_gb: Optional[float] = _is(or_none(a_number), default=None)
    log_size: Optional[int] = _is(or_none(a_size), default=None)
    pid: Optional[int] = _is(or_none(a_size), default=None)
    child: Optional[int] = _is(or_none(a_size), default=None)
    birth: Optional[str] = _is(or_none(a_text(1000)), default=None)
    started: Optional[float] = _is(or_none(a_number), default=None)
    ended: Optional[float] = _is(or_none(a_number), default=None)
    elsewhere: Optional[bool] = _is(or_none(a_flag), default=None)
    """Whether it runs on another computer than the one that answers."""
    spent: Optional[float] = _is(or_none(a_number), default=None)
    """Seconds that it ran before it was started the last time."""


@dataclass(frozen=True)
class Listing:
    """What a job's output folder holds. Each row is checked by itself: a bad one does not cost the others."""

    rows: List[Any] = _is(a_list_of(any_json))


@dataclass(frozen=True)
class Contents:
    """For each file that was asked for its bytes in base64, or null where there is no such file any more."""

    contents: List[Optional[str]] = _is(a_list_of(or_none(a_text(1 << 26))))


@dataclass(frozen=True)
class Reports:
    """A character for each byte."""

    text: str = _is(a_text(1 << 21))


@dataclass(frozen=True)
class Attempt:
    """One container that had a job, and for how long."""

    application: str = _is(a_text(200))
    call: str = _is(a_text(200))
    seconds: float = _is(a_number)
    task: str = _is(a_text(200), default="")
    started: float = _is(a_number, default=0.0)


@dataclass(frozen=True)
class Returned:
    """What a job returned, as it was written down."""

    value: Any = _is(any_json)
