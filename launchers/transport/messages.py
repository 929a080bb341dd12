"""Every answer of a machine, checked before anybody uses it: a wrong one is the machine's fault, never a mistake of ours.

A machine belongs to a stranger, who may have put his own agent in place of ours. What it says never chooses what is sent or
where something is written; here it gets types and bounds. By hand and not by a validation library: Hydra imports this
package at each start of an app, and there are six messages.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, cast

from launchers.errors import BadMachine
from launchers.host import Card, JobStatus, Manifest, Probe, Refused, RemoteFile
from launchers.remote.files import MAX_ROWS, is_digest
from launchers.text import shown

LINE_BYTES = 16 << 20
"""The longest answer that is read."""
MANIFEST_BYTES = 64 << 20
"""`MAX_ROWS` rows with long names still fit."""
MAX_SIZE = 1 << 50
MAX_DEPTH = 50
"""Lists and dictionaries in one another."""
MAX_CARDS = 64

Checked = TypeVar("Checked")
Check = Callable[[Any], Any]


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
    return str(_fields(answer, "the agent's start", {"python": _text(4096)})["python"])


def reply(answer: dict[str, Any]) -> tuple[Any, str | None]:
    """What an act returned, or the error that it ended with."""
    if "error" in answer:
        fields = _fields(answer, "an error", {"error": _text(100_000)})
        return None, shown(str(fields["error"])[-2000:], lines=False)
    return _fields(answer, "an answer", {"answer": _anything})["answer"], None


def probe(answer: Any) -> Probe:
    fields = _fields(
        answer, "probe", {"cards": _cards, "disk_free_gb": _number, "shm_free_mb": _number, "python": _text(100)}
    )
    return Probe(**fields)


def job_status(answer: Any) -> JobStatus:
    return cast(JobStatus, _fields(answer, "status", {"state": _state}, _STATUS))


def missing(answer: Any, offered: Iterable[str]) -> list[str]:
    """What the machine lacks of what was offered to it, in that order: what it names beyond that is never looked at."""
    if not isinstance(answer, list) or not all(isinstance(digest, str) and is_digest(digest) for digest in answer):
        _refuse("missing: it is not a list of SHA-256 digests")
    asked = set(answer)
    return [digest for digest in dict.fromkeys(offered) if digest in asked]


def prepared(answer: Any) -> str:
    """Path of the Python that the job runs with."""
    fields = _fields(answer, "prepare", {"python": _text(4096)}, {"made": _yes_or_no, "version": _text(200)})
    return str(fields["python"])


def manifest(answer: Any) -> Manifest:
    """The rows that make sense; the others are refused one by one, so that one bad row does not lose the results."""
    if not isinstance(answer, list):
        _refuse("manifest: it is not a list")
    rows = Manifest()
    seen: set[str] = set()
    for number, row in enumerate(answer[:MAX_ROWS]):
        try:
            fields = _checked(row, {"path": _text(100_000), "kind": _kind, "size": _size, "digest": _text(64)})
        except ValueError as error:
            path = row.get("path") if isinstance(row, dict) else None
            name = path[:300] if isinstance(path, str) else f"row {number} of the manifest"
            rows.refused.append(Refused(name, f"the machine describes it wrongly ({error})"))
            continue
        path = fields["path"]
        if fields["kind"] != "file":
            rows.refused.append(Refused(path, "it is no regular file"))
        elif not is_digest(fields["digest"]):
            rows.refused.append(Refused(path, "the machine describes it wrongly (digest: no SHA-256)"))
        elif path in seen:
            rows.refused.append(Refused(path, "the machine lists it twice"))
        else:
            seen.add(path)
            rows.files.append(RemoteFile(path, fields["size"], fields["digest"]))
    if len(answer) > MAX_ROWS:
        rows.refused.append(Refused("all further files", f"only the first {MAX_ROWS:,} files are downloaded"))
    return rows


@dataclass(frozen=True)
class Attempt:
    """One container that had a job, and for how long."""

    application: str
    call: str
    seconds: float


def attempts(answer: Any) -> list[Attempt]:
    """What the containers of a job wrote down about themselves, oldest first."""
    if not isinstance(answer, list):
        _refuse("attempts: it is not a list")
    needed = {"application": _text(200), "call": _text(200), "seconds": _number}
    rows = [_fields(row, "attempts", needed, {"task": _text(200), "started": _number}) for row in answer]
    return [Attempt(row["application"], row["call"], row["seconds"]) for row in rows]


def returned(answer: Any) -> Any:
    """What a job returned, as its container wrote it down."""
    return _fields(answer, "return", {"value": _anything})["value"]


def reports(answer: Any) -> list[str]:
    """Whole lines that a job has written about itself; each is checked where it is used."""
    if not isinstance(answer, str):
        _refuse("reports: it is not a text")
    return answer.split("\n")[:-1]


def content(answer: Any, most: int) -> bytes:
    """Bytes of a small file."""
    try:
        if not isinstance(answer, str):
            raise ValueError
        content = base64.b64decode(answer, validate=True)
    except (ValueError, binascii.Error):
        _refuse("content: it is not base64")
    if len(content) > most:
        _refuse(f"content: more than the {most} bytes that were asked for")
    return content


# --- the checks: each returns the value, or raises ValueError with what it should be


def _fields(
    answer: Any, what: str, needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None
) -> dict[str, Any]:
    try:
        return _checked(answer, needed, optional)
    except ValueError as error:
        _refuse(f"{what}: {error}")


def _checked(answer: Any, needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ValueError("it is not an object")
    checks = {**needed, **(optional or {})}
    unknown = next((name for name in answer if name not in checks), None)
    if unknown is not None:
        raise ValueError(f"unknown field {shown(unknown[:50], lines=False)!r}")
    lacking = next((name for name in needed if name not in answer), None)
    if lacking is not None:
        raise ValueError(f"{lacking} is missing")
    found = {}
    for name, value in answer.items():
        try:
            found[name] = checks[name](value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def _refuse(why: str, error: Exception | None = None) -> NoReturn:
    raise BadMachine(f"the machine gave an answer that makes no sense ({why})") from error


def _text(longest: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"not a text of at most {longest} characters")
        return value

    return check


def _number(value: Any) -> float:
    """Finite and not negative. Compared as it came: a whole number may be too large for a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_SIZE:
        raise ValueError("not a number from 0 on")
    return float(value)


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
        raise ValueError("not a size in bytes")
    return value


def _code(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 31):
        raise ValueError("not an exit code")
    return value


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def _reason(value: Any) -> str | None:
    return None if value is None else shown(_text(1000)(value), lines=False)


def _one_of(*words: str) -> Check:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError(f"none of {', '.join(words)}")
        return str(value)

    return check


def _anything(value: Any) -> Any:
    """JSON that can be written down again."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level if isinstance(outer, (list, dict)) for inner in _inside(outer)]
        if not level:
            return value
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _inside(value: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _cards(value: Any) -> tuple[Card, ...]:
    if value is None:
        return ()
    rows = value if isinstance(value, list) else [None]
    cards = []
    for row in rows[:MAX_CARDS]:
        if not isinstance(row, list) or not row or not all(isinstance(part, str) for part in row):
            raise ValueError("not a list of cards")
        name, memory, driver = (shown(part[:100], lines=False) for part in [*row, "", ""][:3])
        cards.append(Card(name, _memory(memory), driver))
    return tuple(cards)


def _memory(text: str) -> float:
    """nvidia-smi writes "[N/A]" where a card shares the memory of the machine."""
    try:
        memory = float(text)
    except ValueError:
        return 0.0
    return memory if math.isfinite(memory) and memory >= 0 else 0.0


_kind = _one_of("file", "other")
_state = _one_of("absent", "running", "ended", "lost")
_STATUS = {
    "exit_code": _code, "stopped": _reason, "value": _anything, "disk_free_gb": _number, "log_size": _size, "pid": _size,
    "child": _size, "birth": _reason, "started": _number, "ended": _number,
}  # fmt: skip
