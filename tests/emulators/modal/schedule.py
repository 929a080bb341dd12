"""Which input runs where: queue and container limit, retries, timeouts, preemption, crashes, and what containers ask."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from tests.emulators.modal.containers import Task, run_task
from tests.emulators.modal.state import App, Call, Function, Input, Result, new_id
from tests.emulators.modal.storage import Storage

HEARTBEAT_HELD_S = 5.0
GRACE_S = 30.0
PATIENCE_S = 60.0
"""Without a heartbeat, after which a client counts as gone; it sends one every 15 s."""
CRASH_LIMIT = 3
"""Crashes of one input after which it fails, whatever its retries."""


class Schedule:
    """The container half of the control plane."""

    storage: Storage
    functions: dict[str, Function]
    apps: dict[str, App]

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.calls: dict[str, Call] = {}
        self.tasks: dict[str, Task] = {}
        self.tamper: Callable[[Any], None] = lambda item: None
        """What a container's owner does to its result on the way."""
        self.grace = GRACE_S
        self.patience = PATIENCE_S
        self._wake = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """The scheduler, until cancelled."""
        while True:
            for function in list(self.functions.values()):
                self._start_ready(function)
            self._end_overdue()
            self._miss_clients()
            # Not wait_for: Python 3.11's loses a cancellation that comes together with what it waits for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._wake.wait()
            self._wake.clear()

    async def end(self) -> None:
        """Kill every container and wait until all that was begun here is over."""
        for task in self.tasks.values():
            task.kill()
        for _ in range(200):
            for task in self.tasks.values():
                task.kill()  # again: one may just have been started
            if all(task.function.tasks == [] for task in self.tasks.values()):
                break
            await asyncio.sleep(0.05)
        for work in self._background:
            work.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def _start_ready(self, function: Function) -> None:
        now = time.time()
        for put in list(function.queue):
            if put.not_before > now or (function.limit is not None and len(function.tasks) >= function.limit):
                continue
            function.queue.remove(put)
            name = new_id("ta")
            task = Task(name, function, put, self._folder / "tasks" / name)
            task.folder.mkdir(parents=True)
            put.task = task
            put.attempts.append({"task": task.id, "started": now})
            self.tasks[task.id] = task
            function.tasks.append(task)
            self._spawn(self._live(task))

    def _spawn(self, work: Any) -> None:
        running = asyncio.get_running_loop().create_task(work)
        self._background.add(running)
        running.add_done_callback(self._background.discard)

    async def _live(self, task: Task) -> None:
        try:
            await run_task(self, task)  # type: ignore[arg-type]
        finally:
            task.function.tasks.remove(task)
            put = task.reserved
            if put is not None and put.task is task and put.output is None:
                self._lost(put, task)
            self.wake()

    def _lost(self, put: Input, task: Task) -> None:
        """A container went away with its input unfinished."""
        put.task = None
        if task.given_up:
            put.preemptions += 1
            put.call.function.queue.append(put)
        else:
            put.attempts[-1]["crashed"] = True
            crashes = sum(bool(attempt.get("crashed")) for attempt in put.attempts)
            text = "Container terminated due to an unexpected exit"
            self._attempt_failed(put, Result(status=Result.GENERIC_STATUS_FAILURE, exception=text), 0, crashes)

    def _end_overdue(self) -> None:
        for task in list(self.tasks.values()):
            put, limit = task.reserved, task.function.definition.timeout_secs
            if put is None or put.task is not task or put.output is not None or task.given_up or not task.fetched:
                continue
            if time.time() - task.fetched > limit:
                task.given_up = True
                task.kill()
                put.task = None
                text = f"Task's current input hit its timeout of {limit}s"
                self._attempt_failed(put, Result(status=Result.GENERIC_STATUS_TIMEOUT, exception=text), 0)

    def _miss_clients(self) -> None:
        """A client that was killed says no goodbye; its heartbeat stops."""
        for app in self.apps.values():
            if app.live and time.time() - app.heartbeat > self.patience:
                if app.state == api_pb2.APP_STATE_DETACHED:
                    app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED
                    self.settle_app(app)
                elif app.state == api_pb2.APP_STATE_EPHEMERAL:
                    self._spawn(self.stop_app(app))

    def _attempt_failed(self, put: Input, result: Any, data_format: int, crashes: int = 0) -> None:
        """Apply the retry policy."""
        policy = put.call.function.definition.retry_policy
        if not put.call.waited_for and put.retries < policy.retries and crashes < CRASH_LIMIT:
            put.retries += 1
            put.not_before = time.time() + policy.initial_delay_ms / 1000
            put.call.function.queue.append(put)
            self.wake()
        else:
            self._settle(put, result, data_format)

    def _settle(self, put: Input, result: Any, data_format: int = 0) -> None:
        put.output = api_pb2.FunctionGetOutputsItem(
            result=result, idx=put.number, input_id=put.id, data_format=data_format, retry_count=put.retries,  # type: ignore[arg-type]
            task_id=put.attempts[-1]["task"] if put.attempts else "",
        )  # fmt: skip
        if put in put.call.function.queue:
            put.call.function.queue.remove(put)
        put.call.outputs.append(put.output)
        put.call.news.set()
        put.call.news = asyncio.Event()
        if all(i.output is not None for i in put.call.inputs):
            put.call.settled.set()
        self.settle_app(put.call.function.app)

    def settle_app(self, app: App) -> None:
        """A detached App whose client left ends with its last call."""
        open_calls = [c for c in self.calls.values() if c.function.app is app and not c.settled.is_set()]
        if app.state == api_pb2.APP_STATE_DETACHED_DISCONNECTED and app.live and not open_calls:
            self._spawn(self.stop_app(app))

    # --- what happens to containers

    def running(self) -> list[Task]:
        """Containers that hold an input, oldest first."""
        return [t for t in self.tasks.values() if t.process is not None and t.process.poll() is None and not t.given_up]

    def preempt(self, task: Task) -> None:
        """SIGINT, the grace period, SIGKILL; then the same input in another container."""
        task.given_up = True
        task.interrupt()
        self._spawn(self._kill_later(task, self.grace))

    async def _kill_later(self, task: Task, seconds: float) -> None:
        assert task.process is not None
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and task.process.poll() is None:
            await asyncio.sleep(0.05)
        task.kill()

    def cancel(self, call: Call, terminate: bool) -> None:
        """The caller learns of it at once; a running container is told, and given the grace period to clean up."""
        for put in call.inputs:
            if put.output is not None:
                continue
            task = put.task
            self._settle(put, Result(status=Result.GENERIC_STATUS_TERMINATED, exception=""))
            if task is not None and task.process is not None:
                task.cancels.append(put.id)
                task.cancelled.set()
                self._spawn(self._kill_later(task, 0 if terminate else self.grace))

    async def stop_app(self, app: App) -> None:
        if not app.live:
            return
        app.stopped = time.time()
        app.state = api_pb2.APP_STATE_STOPPED
        for call in self.calls.values():
            if call.function.app is app:
                for put in call.inputs:
                    if put.output is None:
                        self._settle(put, Result(status=Result.GENERIC_STATUS_TERMINATED, exception="App stopped"))
        for task in self.tasks.values():
            if task.function.app is app and task.process is not None and task.process.poll() is None:
                task.given_up = True
                task.interrupt()
                self._spawn(self._kill_later(task, self.grace))

    # --- what containers ask

    async def ContainerHello(self, request: Any, task: str) -> Any:
        return Empty()

    async def ContainerHeartbeat(self, request: Any, task: str) -> Any:
        found = self.tasks[task]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_HELD_S):
                await found.cancelled.wait()
        response = api_pb2.ContainerHeartbeatResponse()
        if found.cancels:
            response.cancel_input_event.input_ids.extend(found.cancels)
            found.cancels.clear()
            found.cancelled.clear()
        return response

    async def FunctionGetInputs(self, request: Any, task: str) -> Any:
        found = self.tasks[task]
        put = found.reserved
        if put is not None and found.fetched is not None:
            put = None
            function = found.function
            if not function.definition.single_use_containers and not found.given_up and function.queue:
                put = function.queue.pop(0)
                found.reserved, put.task = put, found
                put.attempts.append({"task": found.id, "started": time.time()})
        response = api_pb2.FunctionGetInputsResponse()
        if put is None or found.given_up:
            response.inputs.add(kill_switch=True)
            return response
        found.fetched = time.time()
        response.inputs.add(
            input_id=put.id, input=put.message, function_call_id=put.call.id, retry_count=put.retries,
            function_call_invocation_type=api_pb2.FUNCTION_CALL_INVOCATION_TYPE_ASYNC,
        )  # fmt: skip
        return response

    async def FunctionPutOutputs(self, request: Any, task: str) -> Any:
        found = self.tasks[task]
        for item in request.outputs:
            self.tamper(item)
            put = found.reserved
            if put is None or put.id != item.input_id or put.task is not found or put.output is not None:
                continue
            if found.given_up:
                continue
            put.task = None
            if item.result.status == Result.GENERIC_STATUS_SUCCESS:
                self._settle(put, item.result, item.data_format)
            else:
                self._attempt_failed(put, item.result, item.data_format)
        return Empty()

    async def TaskResult(self, request: Any, task: str) -> Any:
        found = self.tasks[task]
        put = found.reserved
        failed = request.result.status not in (Result.GENERIC_STATUS_SUCCESS, Result.GENERIC_STATUS_UNSPECIFIED)
        if failed and put is not None and put.task is found and put.output is None and not found.given_up:
            # The import failed: every attempt would.
            put.task = None
            self._settle(put, request.result)
        return Empty()

    async def VolumeCommit(self, request: Any, task: str) -> Any:
        copy = self.tasks[task].copies[request.volume_id]
        await asyncio.get_running_loop().run_in_executor(None, copy.publish)
        return api_pb2.VolumeCommitResponse(skip_reload=True)

    async def VolumeReload(self, request: Any, task: str) -> Any:
        return Empty()
