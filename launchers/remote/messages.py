"""What client and machine say to each other: one class for each question and each answer, checked by whoever receives it.

Standard library only, and nothing of this folder: the client imports it as part of a package, the agent as a plain module.
A message is one JSON object. A field that is unknown, missing or of the wrong form is refused (`Nonsense`), on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional

if TYPE_CHECKING or __package__:
    from launchers.remote.checked import (
        LONG_TEXT,
        a_digest,
        a_flag,
        a_list_of,
        a_mapping_of,
        a_message,
        a_number,
        a_size,
        a_text,
        a_time,
        an_exit_code,
        any_json,
        held_to,
        one_of,
        or_none,
    )  # fmt: skip
else:  # on the machine this is a plain module beside the others
    from checked import (
        LONG_TEXT,
        a_digest,
        a_flag,
        a_list_of,
        a_mapping_of,
        a_message,
        a_number,
        a_size,
        a_text,
        a_time,
        an_exit_code,
        any_json,
        held_to,
        one_of,
        or_none,
    )  # fmt: skip

# --- parts of messages


@dataclass(frozen=True)
class Blob:
    """A small file that comes with the question; `content` in base64."""

    digest: str = held_to(a_digest)
    content: str = held_to(a_text(1 << 22))


@dataclass(frozen=True)
class BlobHeader:
    """Stands before the bytes of a blob in a bulk transfer."""

    digest: str = held_to(a_digest)
    size: int = held_to(a_size)


@dataclass(frozen=True)
class Entry:
    """One entry of a working tree, or of the state that a job continues from: a file with `digest`, a link with `link`, or a folder."""

    path: str = held_to(a_text(LONG_TEXT))
    digest: str = held_to(a_text(64), default="")
    size: int = held_to(a_size, default=0)
    executable: bool = held_to(a_flag, default=False)
    link: Optional[str] = held_to(or_none(a_text(LONG_TEXT)), default=None)
    folder: bool = held_to(a_flag, default=False)
    """An empty one; others come with what is in them."""


ROW_KINDS = ("file", "link", "folder", "outside", "broken", "loop", "pipe", "socket", "device")


@dataclass(frozen=True)
class Row:
    """One entry of a job's output folder.

    `kind`: `file` has size and digest; `link` has its `target` inside the folder, relative to the folder's top; `folder` is an
    empty one; the others name what is not downloaded: a link that leads `outside`, to nothing (`broken`) or to a folder that
    it lies in (`loop`), or no file at all.
    """

    path: str = held_to(a_text(LONG_TEXT))
    kind: str = held_to(one_of(*ROW_KINDS))
    size: int = held_to(a_size, default=0)
    digest: str = held_to(a_text(64), default="")
    target: str = held_to(a_text(LONG_TEXT), default="")


@dataclass(frozen=True)
class Wanted:
    """A file of an output folder as the manifest described it, from an offset on."""

    path: str = held_to(a_text(LONG_TEXT))
    offset: int = held_to(a_size)
    size: int = held_to(a_size)
    digest: str = held_to(a_digest)


@dataclass(frozen=True)
class Destruct:
    """The request by which a machine ends itself; variables of its first process stand in braces."""

    method: str = held_to(a_text(20))
    url: str = held_to(a_text(4096))
    headers: Dict[str, str] = held_to(a_mapping_of(a_text(4096)))


# --- questions


@dataclass(frozen=True)
class ProbeMachine:
    """What is this machine?"""


@dataclass(frozen=True)
class FindMissing:
    """Which of these blobs are not there?"""

    digests: List[str] = held_to(a_list_of(a_digest))


@dataclass(frozen=True)
class KeepBlobs:
    """Small blobs, to be kept."""

    blobs: List[Blob] = held_to(a_list_of(a_message(Blob)))


@dataclass(frozen=True)
class MakeTree:
    """Make a working tree of blobs, some of which may come along."""

    digest: str = held_to(a_digest)
    entries: List[Entry] = held_to(a_list_of(a_message(Entry)))
    blobs: List[Blob] = held_to(a_list_of(a_message(Blob)), default_factory=list)


@dataclass(frozen=True)
class PlaceFiles:
    """Put blobs into a job's output folder: the newest state of a job that continues there."""

    job: str = held_to(a_text(200))
    entries: List[Entry] = held_to(a_list_of(a_message(Entry)))


@dataclass(frozen=True)
class Prepare:
    """Make the environment of a working tree. `python`: null for the image's; `apt`: Debian packages."""

    tree: str = held_to(a_text(4096))
    python: Optional[str] = held_to(or_none(a_text(4096)))
    apt: List[str] = held_to(a_list_of(a_text(200)), default_factory=list)
    provided: Dict[str, List[str]] = held_to(a_mapping_of(a_list_of(a_text(200))), default_factory=dict)
    """Packages that stay the image's own where they can be imported -> beginnings of the requirements that each brings along."""


@dataclass(frozen=True)
class StartJob:
    """Start a job, unless it runs already. `environment` holds the secrets, only ever in memory; `grace` is in seconds."""

    job: str = held_to(a_text(200))
    command: List[str] = held_to(a_list_of(a_text(LONG_TEXT)))
    directory: str = held_to(a_text(4096))
    environment: Dict[str, str] = held_to(a_mapping_of(a_text(LONG_TEXT)))
    grace: float = held_to(a_time)


@dataclass(frozen=True)
class JobQuestion:
    """How is the job; what has it written?"""

    job: str = held_to(a_text(200))


@dataclass(frozen=True)
class StopJob:
    """Ask a job to save its state and end."""

    job: str = held_to(a_text(200))
    reason: str = held_to(a_text(1000))


@dataclass(frozen=True)
class ReadFiles:
    """The bytes of small files."""

    job: str = held_to(a_text(200))
    files: List[Wanted] = held_to(a_list_of(a_message(Wanted)))


@dataclass(frozen=True)
class ReadReports:
    """Whole lines of what a job has reported, from a byte offset on."""

    job: str = held_to(a_text(200))
    offset: int = held_to(a_size)


@dataclass(frozen=True)
class Lease:
    """The terms of the machine's life: seconds until its end, `idle` seconds to wait for a download, and how it ends itself."""

    seconds: float = held_to(a_time)
    idle: float = held_to(a_time)
    destruct: Optional[Destruct] = held_to(or_none(a_message(Destruct)), default=None)


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

    python: str = held_to(a_text(4096))


@dataclass(frozen=True)
class Question:
    act: str = held_to(a_text(100))
    request: Dict[str, Any] = held_to(a_mapping_of(any_json))


@dataclass(frozen=True)
class Done:
    """What an act returned."""

    answer: Any = held_to(any_json)


@dataclass(frozen=True)
class Failed:
    """The error that an act ended with."""

    error: str = held_to(a_text(LONG_TEXT))


@dataclass(frozen=True)
class Machine:
    """What a machine is. `cards`: name, memory and driver of each, as nvidia-smi writes them; null without nvidia-smi."""

    cards: Optional[List[List[str]]] = held_to(or_none(a_list_of(a_list_of(a_text(LONG_TEXT)))))
    disk_free_gb: float = held_to(a_number)
    shm_free_mb: float = held_to(a_number)
    python: str = held_to(a_text(100))


@dataclass(frozen=True)
class Missing:
    """The blobs that are not there."""

    digests: List[str] = held_to(a_list_of(a_digest))


@dataclass(frozen=True)
class Made:
    """Whether there was something to do."""

    made: bool = held_to(a_flag)


@dataclass(frozen=True)
class Prepared:
    """The Python that the job runs with."""

    python: str = held_to(a_text(4096))
    made: bool = held_to(a_flag)


@dataclass(frozen=True)
class Status:
    """What became of a job: absent, running, ended (with its exit code), or lost (its supervisor died without a word)."""

    state: str = held_to(one_of("absent", "running", "ended", "lost"))
    exit_code: Optional[int] = held_to(or_none(an_exit_code), default=None)
    stopped: Optional[str] = held_to(or_none(a_text(1000)), default=None)
    """Why it was asked to stop."""
    value: Any = held_to(any_json, default=None)
    """What it returned."""
    disk_free_gb: Optional[float] = held_to(or_none(a_number), default=None)
    log_size: Optional[int] = held_to(or_none(a_size), default=None)
    pid: Optional[int] = held_to(or_none(a_size), default=None)
    child: Optional[int] = held_to(or_none(a_size), default=None)
    birth: Optional[str] = held_to(or_none(a_text(1000)), default=None)
    started: Optional[float] = held_to(or_none(a_number), default=None)
    ended: Optional[float] = held_to(or_none(a_number), default=None)
    elsewhere: Optional[bool] = held_to(or_none(a_flag), default=None)
    """Whether it runs on another computer than the one that answers."""
    spent: Optional[float] = held_to(or_none(a_number), default=None)
    """Seconds that it ran before it was started the last time."""


@dataclass(frozen=True)
class Listing:
    """What a job's output folder holds. Each row is checked by itself: a bad one does not cost the others."""

    rows: List[Any] = held_to(a_list_of(any_json))


@dataclass(frozen=True)
class Contents:
    """For each file that was asked for its bytes in base64, or null where there is no such file any more."""

    contents: List[Optional[str]] = held_to(a_list_of(or_none(a_text(1 << 26))))


@dataclass(frozen=True)
class Reports:
    """A character for each byte."""

    text: str = held_to(a_text(1 << 21))


@dataclass(frozen=True)
class Attempt:
    """One container that had a job, and for how long."""

    application: str = held_to(a_text(200))
    call: str = held_to(a_text(200))
    seconds: float = held_to(a_number)
    task: str = held_to(a_text(200), default="")
    started: float = held_to(a_number, default=0.0)


@dataclass(frozen=True)
class Returned:
    """What a job returned, as it was written down."""

    value: Any = held_to(any_json)
