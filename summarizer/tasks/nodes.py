"""A job on several nodes: the first one runs the command, the others join its processes.

Whoever starts the nodes (Slurm, `torchrun`) says in NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT which is which; what the
others must know of the job, the first node writes into the job's folder, which all of them share.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CALL = "nodes.json"
POLL_SECONDS = 0.2
FOLDER = "hydra.run.dir="


@dataclass(frozen=True)
class Node:
    """Which of a job's nodes this is."""

    count: int
    rank: int
    address: str
    """Of the first node."""
    port: int
    """On which its processes meet the others; 0: a free one."""


def this_node() -> Node:
    """By the environment; a job without such variables has one node."""
    count = int(os.environ.get("NNODES", "1"))
    if count < 2:
        return Node(1, 0, "127.0.0.1", 0)
    return Node(count, int(os.environ["NODE_RANK"]), os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))


def call_helpers(folder: Path, devices: int) -> None:
    """Tell the other nodes, if there are any, that the data is there and training begins, with so many processes on each."""
    if this_node().count > 1:
        from summarizer.run import write_atomically

        write_atomically(folder / CALL, json.dumps({"start": _start(), "devices": devices}) + "\n")


def help_first_node(arguments: list[str]) -> int:
    """Wait until the first node calls, then run this node's share of its processes.

    Returns:
        The exit code.
    """
    from summarizer.errors import SummarizerError
    from summarizer.tasks.processes import on_every_device
    from summarizer.tasks.train import worker

    named = [argument.removeprefix(FOLDER) for argument in arguments if argument.startswith(FOLDER)]
    if not named:
        print(f"A node of a job needs its folder: {FOLDER}FOLDER.", file=sys.stderr)
        return 1
    folder = Path(named[-1])
    while (call := _call(folder)) is None:
        time.sleep(POLL_SECONDS)
    try:
        on_every_device(worker, folder, call)
    except SummarizerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _start() -> str:
    """What tells this start of the job from earlier ones, whose call still lies in the folder."""
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} {os.environ.get('JOB_START', '')}"


def _call(folder: Path) -> int | None:
    """Processes on each node; None while the first node has not called."""
    try:
        call = json.loads((folder / CALL).read_text())
        return int(call["devices"]) if call["start"] == _start() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
