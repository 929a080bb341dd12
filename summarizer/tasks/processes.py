"""One process per device: started together, stopped together, their errors raised here as one device's would be.

By `torch.multiprocessing`. torch's elastic launcher restarts and joins machines, which a job here never does; it answers a
signal with an exception of its own, and ends processes that are still saving after 30 seconds.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from summarizer.errors import HardwareError, Interrupted, SummarizerError
from summarizer.tasks.nodes import this_node
from summarizer.training.interruption import StopRequest, listening, resume_command

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
GRACE_SECONDS = 30.0  # for the other processes, when one has failed; W&B may take most of it to end its run
Report = tuple[int, SummarizerError | str]


def on_every_device(body: Callable[[str], None], folder: Path, devices: int) -> None:
    """Run `body(folder)` in a process per device, which finds its place in RANK, LOCAL_RANK and WORLD_SIZE.

    Raises:
        SummarizerError: what the first process to fail raised.
        SystemExit: after a signal that no process could answer by saving itself.
        RuntimeError: another error, with the traceback of its process.
    """
    from torch.multiprocessing import get_context
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

    context = get_context("spawn")
    reports = context.SimpleQueue()
    node = this_node()
    place = {
        "WORLD_SIZE": str(devices * node.count),
        "MASTER_ADDR": node.address,
        "MASTER_PORT": str(node.port or free_port()),
    }
    with listening() as stop:
        started: Any = start_processes(
            _process, (body, str(folder), place, reports), nprocs=devices, join=False, start_method="spawn"
        )
        try:
            passed_on = False
            while not started.join(POLL_SECONDS, GRACE_SECONDS):
                if stop and not passed_on:
                    passed_on = True
                    for process in started.processes:
                        if process.is_alive():
                            os.kill(process.pid, signal.SIGTERM)
        except (ProcessExitedException, ProcessRaisedException) as failure:
            _raise_first(reports, failure, stop, folder, devices)
        finally:
            for process in started.processes:
                if process.is_alive():  # a second Ctrl-C
                    process.kill()


def _raise_first(reports: Any, failure: Any, stop: StopRequest, folder: Path, devices: int) -> NoReturn:
    """Raise what ended the processes: of several errors the one that was reported first, which the others follow from."""
    found: list[Report] = []
    while not reports.empty():
        found.append(reports.get())
    said = [error for _, error in found if isinstance(error, SummarizerError)]
    if stop:
        interrupted = [error for error in said if isinstance(error, Interrupted)]
        raise interrupted[0] if interrupted else SystemExit(128 + (stop.signal or signal.SIGTERM))
    if said:
        raise said[0]
    code = getattr(failure, "exit_code", 0)
    if code < 0:
        raise HardwareError(
            f"process {failure.error_index + 1} of {devices} was ended by {signal.Signals(-code).name}, as a system does that "
            f"has run out of memory: see the system's log, then continue from the last checkpoint: {resume_command(folder)}"
        )
    rank, text = found[0] if found else (failure.error_index, str(failure))
    raise RuntimeError(f"process {rank + 1} of {devices} failed:\n{text}")


def _process(rank: int, body: Callable[[str], None], folder: str, place: dict[str, str], reports: Any) -> None:
    """The whole of one process. It is asked to stop by SIGTERM alone: Ctrl-C reaches it too, and is its parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    exit_with_parent()
    node = this_node()
    rank, local = node.rank * (int(place["WORLD_SIZE"]) // node.count) + rank, rank
    os.environ |= {**place, "RANK": str(rank), "LOCAL_RANK": str(local)}
    log_like_the_job(Path(folder), rank, node.rank)
    try:
        body(folder)
    except SummarizerError as error:
        reports.put((rank, error))
        raise SystemExit(1) from None
    except Exception:
        reports.put((rank, traceback.format_exc()))
        raise SystemExit(1) from None
    _end()


def _end() -> NoReturn:
    """End a process that has done its work, without the destructors of libraries: threads of gloo that are still there abort it
    now and then ("terminate called without an active exception"), and a whole job would count as failed."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _leave(number: int, frame: Any) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # asked once more while it leaves, it is leaving
    raise SystemExit(128 + number)


def exit_with_parent() -> None:
    """End this process when the one that started it is gone: a killed job leaves no process that writes its folder."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def log_like_the_job(folder: Path, rank: int, node: int) -> None:
    """Log to the terminal and to job.log, as Hydra has set up the job itself: the first process all, the others warnings.

    Each further node has a file of its own: a shared file system mixes what two write into one.
    """
    who = f"process {rank + 1}: " if rank else ""
    console, file = (
        logging.StreamHandler(),
        logging.FileHandler(folder / (f"job.node{node}.log" if node else "job.log")),
    )
    console.setFormatter(logging.Formatter(f"{who}%(message)s"))
    file.setFormatter(logging.Formatter(f"[%(asctime)s] %(levelname)s %(name)s: {who}%(message)s"))
    logging.basicConfig(level=logging.WARNING if rank else logging.INFO, handlers=[console, file])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
