"""Apps, Functions, calls and inputs: what the control plane knows; and its word for no. Everything lives on one event loop."""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grpclib import GRPCError, Status
from modal_proto import api_pb2

if TYPE_CHECKING:
    from tests.emulators.modal.containers import Task

ALPHABET = string.ascii_letters + string.digits
Result = api_pb2.GenericResult


def new_id(prefix: str) -> str:
    """An id of the form the client expects: a prefix and 22 characters."""
    return f"{prefix}-{''.join(secrets.choice(ALPHABET) for _ in range(22))}"


@dataclass
class App:
    id: str
    description: str
    state: int
    tags: dict[str, str]
    created: float = field(default_factory=time.time)
    stopped: float | None = None
    heartbeat: float = field(default_factory=time.time)
    functions: dict[str, str] = field(default_factory=dict)
    log: list[api_pb2.TaskLogsBatch] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return self.stopped is None

    def say(self, task_id: str, text: str, descriptor: int, call: str) -> None:
        """A piece of a task's output, whatever its ends cut through."""
        item = api_pb2.TaskLogs(data=text, file_descriptor=descriptor, timestamp=time.time(), function_call_id=call)
        entry = f"{len(self.log) + 1:012d}"
        self.log.append(api_pb2.TaskLogsBatch(task_id=task_id, items=[item], entry_id=entry))


@dataclass
class Function:
    id: str
    app: App
    name: str
    definition: api_pb2.Function = field(default_factory=api_pb2.Function)
    cards: list[str] = field(default_factory=list)
    """As "A100:2", in the order they may be taken."""
    queue: list[Input] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    @property
    def limit(self) -> int | None:
        wanted = self.definition.autoscaler_settings.max_containers or self.definition.concurrency_limit
        return wanted or None


@dataclass
class Input:
    """One input of a call; the same one may run in several containers, one after another."""

    id: str
    call: Call
    message: api_pb2.FunctionInput
    number: int = 0
    """Its place among the inputs of a map."""
    not_before: float = 0.0
    retries: int = 0
    preemptions: int = 0
    attempts: list[dict[str, Any]] = field(default_factory=list)
    task: Task | None = None
    output: api_pb2.FunctionGetOutputsItem | None = None


@dataclass
class Call:
    id: str
    function: Function
    inputs: list[Input] = field(default_factory=list)
    expired: bool = False
    """Its results are forgotten, as Modal does after some days."""
    waited_for: bool = False
    """By `remote` or a map: the client itself asks for retries then."""
    created: float = field(default_factory=time.time)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Every input has its output."""
    outputs: list[api_pb2.FunctionGetOutputsItem] = field(default_factory=list)
    """In the order in which they came."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """The next output has come; each one has an event of its own."""

    def total(self, *statuses: int) -> int:
        return sum(i.output is not None and i.output.result.status in statuses for i in self.inputs)


def refuse(text: str, status: Status = Status.INVALID_ARGUMENT) -> GRPCError:
    return GRPCError(status, text)
