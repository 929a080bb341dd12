"""Containers: the client's own entrypoint in a process cage, with a private copy of each Volume below `/mnt`.

A cage is a PID and mount namespace: killing it kills everything the container started, and nothing else. Needs root and
`unshare`.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from tests.emulators.modal.state import Function, Input
from tests.emulators.modal.storage import WorkingCopy

if TYPE_CHECKING:
    from tests.emulators.modal.control import Control

MOUNTS_BELOW = "/mnt"


def why_not() -> str | None:
    """Why containers can't run here, or None."""
    if os.geteuid() != 0:
        return "a container needs root"
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    return None


@dataclass
class Task:
    """One container, for one input unless its Function lets containers be used again."""

    id: str
    function: Function
    reserved: Input | None
    folder: Path
    copies: dict[str, WorkingCopy] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started: float = field(default_factory=time.time)
    fetched: float | None = None
    """When it took its input: from here on the timeout counts."""
    given_up: bool = False
    """Preempted, timed out or stopped: what it still says is ignored."""
    cancels: list[str] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def call_id(self) -> str:
        return self.reserved.call.id if self.reserved is not None else ""

    def inner_pid(self) -> int | None:
        """Host pid of the container's first process."""
        if self.process is None or self.process.poll() is not None:
            return None
        with contextlib.suppress(OSError, ValueError):
            pid = self.process.pid
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return None

    def interrupt(self) -> None:
        pid = self.inner_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()

    def python_processes(self) -> list[int]:
        """Every process of the container, the first one last: killing the first of these is a crash of the job alone."""
        found, wanted = [], [self.inner_pid()]
        while wanted:
            pid = wanted.pop()
            if pid is None:
                continue
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    wanted += [int(child) for child in children.read_text().split()]
        return found[::-1]


async def run_task(control: Control, task: Task) -> None:
    """From start to exit; what becomes of its input is the control plane's business."""
    command, environment = _prepare(control, task)
    task.process = subprocess.Popen(
        command, env=environment, cwd=task.folder / "root", stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        # A parent started in the background ignores SIGINT, and would pass that on: preemptions would go unnoticed.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    readers = [_forward(task, task.process.stdout, 1), _forward(task, task.process.stderr, 2)]
    await asyncio.gather(*readers)
    await loop.run_in_executor(None, task.process.wait)
    shutil.rmtree(task.folder, ignore_errors=True)


def _prepare(control: Control, task: Task) -> tuple[list[str], dict[str, str]]:
    definition, function = task.function.definition, task.function
    root = task.folder / "root"
    root.mkdir(parents=True)
    for mount_id in definition.mount_ids:
        control.materialise(mount_id, task.folder)
    arguments = api_pb2.ContainerArguments(
        task_id=task.id, function_id=function.id, app_id=function.app.id, function_def=definition,
        environment_name="main",
        app_layout=api_pb2.AppLayout(
            function_ids=dict(function.app.functions),
            objects=[*_functions(control, function), *_objects(control, definition)],
        ),
    )  # fmt: skip
    arguments_file = task.folder / "arguments"
    arguments_file.write_bytes(arguments.SerializeToString())
    steps = [f"mount -t tmpfs tmpfs {MOUNTS_BELOW}"]
    for mounted in definition.volume_mounts:
        copy = WorkingCopy(control.storage.volumes[mounted.volume_id], task.folder / "volumes" / mounted.volume_id)
        copy.take()
        task.copies[mounted.volume_id] = copy
        place = shlex.quote(mounted.mount_path)
        steps.append(f"mkdir -p {place} && mount --bind {shlex.quote(str(copy.folder))} {place}")
    steps.append(f"exec {shlex.quote(sys.executable)} -u -m modal._container_entrypoint")
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(task.folder), "PYTHONPATH": str(root), "LANG": "C.UTF-8",
        "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments_file), "MODAL_IS_REMOTE": "1", "MODAL_SERVER_URL": control.url,
        "MODAL_TASK_ID": task.id, "MODAL_OVERRIDE_HEADERS": f"x-fake-task:{task.id}", "MODAL_DISABLE_API_PROXY": "1",
        "MODAL_CONFIG_PATH": str(task.folder / "absent.toml"), "MODAL_ENVIRONMENT": "main", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    for secret in definition.secret_ids:
        environment |= control.secrets[secret].values
    inside = " && ".join(steps)
    return ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside], environment


def _functions(control: Control, function: Function) -> list[api_pb2.Object]:
    found = [control.functions[i] for i in function.app.functions.values()]
    return [api_pb2.Object(object_id=one.id, function_handle_metadata=control.handle(one)) for one in found]


def _objects(control: Control, definition: api_pb2.Function) -> list[api_pb2.Object]:
    """What the module of the Function may hold as globals."""
    found = []
    for dependency in definition.object_dependencies:
        if dependency.object_id not in control.functions:
            item = api_pb2.Object(object_id=dependency.object_id)
            volume = control.storage.volumes.get(dependency.object_id)
            if volume is not None:
                item.volume_metadata.name, item.volume_metadata.version = volume.name, volume.version  # type: ignore[assignment]
            found.append(item)
    return found


async def _forward(task: Task, pipe: object, descriptor: int) -> None:
    """A container's output, in pieces as they come; a character may be cut in two on the way, a text never is."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    loop = asyncio.get_running_loop()
    while True:
        chunk = await loop.run_in_executor(None, lambda: pipe.read1(4096))  # type: ignore[attr-defined]
        text = decoder.decode(chunk, final=not chunk)
        if text:
            task.function.app.say(task.id, text, descriptor, task.call_id if task.fetched else "")
        if not chunk:
            return
