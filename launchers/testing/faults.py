"""What goes wrong, and when: at the n-th call of a verb, or for a span of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CallFault:
    """`kind` strikes the calls of `verb` from number `first` on (the first is 0), `times` of them."""

    verb: str
    kind: str
    first: int = 0
    times: int = 1


@dataclass(frozen=True)
class TimedFault:
    """`kind` happens `after` seconds from the start, and lasts `seconds` where it lasts."""

    kind: str
    after: float
    seconds: float = 0.0


@dataclass
class Faults:
    """The schedule of one launch; says of each call what strikes it."""

    now: Callable[[], float]
    calls: Sequence[CallFault] = ()
    timed: Sequence[TimedFault] = ()
    began: float = 0.0
    hit: list[str] = field(default_factory=list)
    """What struck, in order."""
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.began = self.began or self.now()

    def strike(self, verb: str) -> str | None:
        """Count a call; the kind of fault that strikes it, if one does."""
        number = self.counts[verb]
        self.counts[verb] += 1
        for fault in self.calls:
            if fault.verb == verb and fault.first <= number < fault.first + fault.times:
                self.hit.append(f"{verb} {number}: {fault.kind}")
                return fault.kind
        return None

    def lasts(self, kind: str) -> bool:
        """Whether a fault of that kind lasts now."""
        since = self.now() - self.began
        return any(f.kind == kind and f.after <= since < f.after + f.seconds for f in self.timed)
