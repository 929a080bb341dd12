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


def text(longest: int) -> Check:
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


def optional(inner: Check) -> Check:
    def check(value: Any) -> Any:
        return None if value is None else inner(value)

    return check


def many(inner: Check, most: int = MAX_ROWS + 1) -> Check:
    def check(value: Any) -> List[Any]:
        if not isinstance(value, list):
            raise Nonsense("not a list")
        if len(value) > most:
            raise Nonsense("a list of more than %d" % most)
        return [inner(part) for part in value]

    return check


def mapping(inner: Check) -> Check:
    def check(value: Any) -> Dict[str, Any]:
        if not isinstance(value, dict):
            raise Nonsense("not an object")
        return {name: inner(part) for name, part in value.items()}

    return check


def message(kind: Type[Message]) -> Check:
    return lambda value: decode(kind, value)


def number(value: Any) -> float:
    """Finite and not negative. Compared as it came: a whole number may be too large for a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_SIZE:
        raise Nonsense("not a number from 0 on")
    return float(value)


def seconds(value: Any) -> float:
    if number(value) > MAX_SECONDS:  # nor is NaN a time to end at
        raise Nonsense("not a time of at most %d s" % MAX_SECONDS)
    return float(value)


def size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
        raise Nonsense("not a size in bytes")
    return value


def exit_code(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 31:
        raise Nonsense("not an exit code")
    return value


def yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Nonsense("neither true nor false")
    return value


def digest(value: Any) -> str:
    if not is_digest(value):
        raise Nonsense("no SHA-256")
    return str(value)


def anything(value: Any) -> Any:
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

    digest: str = _is(digest)
    content: str = _is(text(1 << 22))


@dataclass(frozen=True)
class BlobHeader:
    """Stands before the bytes of a blob in a bulk transfer."""

    digest: str = _is(digest)
    size: int = _is(size)


@dataclass(frozen=True)
class Entry:
    """One entry of a working tree, or of the state that a job continues from: a file with `digest`, a link with `link`, or a folder."""

    path: str = _is(text(LONG_TEXT))
    digest: str = _is(text(64), default="")
    size: int = _is(size, default=0)
    executable: bool = _is(yes_or_no, default=False)
    link: Optional[str] = _is(optional(text(LONG_TEXT)), default=None)
    folder: bool = _is(yes_or_no, default=False)
    """An empty one; others come with what is in them."""


ROW_KINDS = ("file", "link", "folder", "outside", "broken", "loop", "pipe", "socket", "device")


@dataclass(frozen=True)
class Row:
    """One entry of a job's output folder.

    `kind`: `file` has size and digest; `link` has its `target` inside the folder, relative to the folder's top; `folder` is an
    empty one; the others name what is not downloaded: a link that leads `outside`, to nothing (`broken`) or to a folder that
    it lies in (`loop`), or no file at all.
    """

    path: str = _is(text(LONG_TEXT))
    kind: str = _is(one_of(*ROW_KINDS))
    size: int = _is(size, default=0)
    digest: str = _is(text(64), default="")
    target: str = _is(text(LONG_TEXT), default="")


@dataclass(frozen=True)
class Wanted:
    """A file of an output folder as the manifest described it, from an offset on."""

    path: str = _is(text(LONG_TEXT))
    offset: int = _is(size)
    size: int = _is(size)
    digest: str = _is(digest)


@dataclass(frozen=True)
class Destruct:
    """The request by which a machine ends itself; variables of its first process stand in braces."""

    method: str = _is(text(20))
    url: str = _is(text(4096))
    headers: Dict[str, str] = _is(mapping(text(4096)))


# --- questions


@dataclass(frozen=True)
class ProbeMachine:
    """What is this machine?"""


@dataclass(frozen=True)
class FindMissing:
    """Which of these blobs are not there?"""

    digests: List[str] = _is(many(digest))


@dataclass(frozen=True)
class KeepBlobs:
    """Small blobs, to be kept."""

    blobs: List[Blob] = _is(many(message(Blob)))


@dataclass(frozen=True)
class MakeTree:
    """Make a working tree of blobs, some of which may come along."""

    digest: str = _is(digest)
    entries: List[Entry] = _is(many(message(Entry)))
    blobs: List[Blob] = _is(many(message(Blob)), default_factory=list)


@dataclass(frozen=True)
class PlaceFiles:
    """Put blobs into a job's output folder: the newest state of a job that continues there."""

    job: str = _is(text(200))
    entries: List[Entry] = _is(many(message(Entry)))


@dataclass(frozen=True)
class Prepare:
    """Make the environment of a working tree. `python`: null for the image's; `apt`: Debian packages."""

    tree: str = _is(text(4096))
    python: Optional[str] = _is(optional(text(4096)))
    apt: List[str] = _is(many(text(200)), default_factory=list)


@dataclass(frozen=True)
class StartJob:
    """Start a job, unless it runs already. `environment` holds the secrets, only ever in memory; `grace` is in seconds."""

    job: str = _is(text(200))
    command: List[str] = _is(many(text(LONG_TEXT)))
    directory: str = _is(text(4096))
    environment: Dict[str, str] = _is(mapping(text(LONG_TEXT)))
    grace: float = _is(seconds)


@dataclass(frozen=True)
class JobQuestion:
    """How is the job; what has it written?"""

    job: str = _is(text(200))


@dataclass(frozen=True)
class StopJob:
    """Ask a job to save its state and end."""

    job: str = _is(text(200))
    reason: str = _is(text(1000))


@dataclass(frozen=True)
class ReadFiles:
    """The bytes of small files."""

    job: str = _is(text(200))
    files: List[Wanted] = _is(many(message(Wanted)))


@dataclass(frozen=True)
class ReadReports:
    """Whole lines of what a job has reported, from a byte offset on."""

    job: str = _is(text(200))
    offset: int = _is(size)


@dataclass(frozen=True)
class Lease:
    """The terms of the machine's life: seconds until its end, `idle` seconds to wait for a download, and how it ends itself."""

    seconds: float = _is(seconds)
    idle: float = _is(seconds)
    destruct: Optional[Destruct] = _is(optional(message(Destruct)), default=None)


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

    python: str = _is(text(4096))


@dataclass(frozen=True)
class Question:
    act: str = _is(text(100))
    request: Dict[str, Any] = _is(mapping(anything))


@dataclass(frozen=True)
class Done:
    """What an act returned."""

    answer: Any = _is(anything)


@dataclass(frozen=True)
class Failed:
    """The error that an act ended with."""

    error: str = _is(text(LONG_TEXT))


@dataclass(frozen=True)
class Machine:
    """What a machine is. `cards`: name, memory and driver of each, as nvidia-smi writes them; null without nvidia-smi."""

    cards: Optional[List[List[str]]] = _is(optional(many(many(text(LONG_TEXT)))))
    disk_free_gb: float = _is(number)
    shm_free_mb: float = _is(number)
    python: str = _is(text(100))


@dataclass(frozen=True)
class Missing:
    """The blobs that are not there."""

    digests: List[str] = _is(many(digest))


@dataclass(frozen=True)
class Made:
    """Whether there was something to do."""

    made: bool = _is(yes_or_no)


@dataclass(frozen=True)
class Prepared:
    """The Python that the job runs with."""

    python: str = _is(text(4096))
    made: bool = _is(yes_or_no)


@dataclass(frozen=True)
class Status:
    """What became of a job: absent, running, ended (with its exit code), or lost (its supervisor died without a word)."""

    state: str = _is(one_of("absent", "running", "ended", "lost"))
    exit_code: Optional[int] = _is(optional(exit_code), default=None)
    stopped: Optional[str] = _is(optional(text(1000)), default=None)
    """Why it was asked to stop."""
    value: Any = _is(anything, default=None)
    """What it returned."""
    disk_free_gb: Optional[float] = _is(optional(number), default=None)
    log_size: Optional[int] = _is(optional(size), default=None)
    pid: Optional[int] = _is(optional(size), default=None)
    child: Optional[int] = _is(optional(size), default=None)
    birth: Optional[str] = _is(optional(text(1000)), default=None)
    started: Optional[float] = _is(optional(number), default=None)
    ended: Optional[float] = _is(optional(number), default=None)


@dataclass(frozen=True)
class Listing:
    """What a job's output folder holds. Each row is checked by itself: a bad one does not cost the others."""

    rows: List[Any] = _is(many(anything))


@dataclass(frozen=True)
class Contents:
    """For each file that was asked for its bytes in base64, or null where there is no such file any more."""

    contents: List[Optional[str]] = _is(many(optional(text(1 << 26))))


@dataclass(frozen=True)
class Reports:
    """A character for each byte."""

    text: str = _is(text(1 << 21))


@dataclass(frozen=True)
class Attempt:
    """One container that had a job, and for how long."""

    application: str = _is(text(200))
    call: str = _is(text(200))
    seconds: float = _is(number)
    task: str = _is(text(200), default="")
    started: float = _is(number, default=0.0)


@dataclass(frozen=True)
class Returned:
    """What a job returned, as it was written down."""

    value: Any = _is(anything)
