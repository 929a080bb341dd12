"""GPU utilization of a job, sampled beside it by nvidia-smi: the share of time in which a kernel ran, stage by stage."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

from summarizer.metric_names import UTILIZATION, utilization_in
from summarizer.stages import Stage

PROGRAM = "nvidia-smi"
EVERY_MS = 500
WORKING = (Stage.training, Stage.validation, Stage.test)
"""What a card is there for; before it come compilation, the corpus and imports."""

Samples = list[tuple[float, float]]
"""(seconds since the epoch, percent)."""


@contextlib.contextmanager
def sampling(cards: Sequence[str] = ()) -> Iterator[Samples]:
    """Sample while inside; the list stays empty where there is no card or no nvidia-smi.

    Args:
        cards: UUIDs or numbers as nvidia-smi knows them; none: all.
    """
    samples: Samples = []
    program = shutil.which(PROGRAM)
    if program is None:
        yield samples
        return
    query = [program, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", str(EVERY_MS)]
    if cards:
        query += ["-i", ",".join(cards)]
    try:
        sampler = subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        yield samples
        return
    assert sampler.stdout is not None
    lines = sampler.stdout

    def read() -> None:
        for line in lines:
            with contextlib.suppress(ValueError):  # a card that does not say
                samples.append((time.time(), float(line)))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        sampler.terminate()
        sampler.wait()
        thread.join(1)


def utilization(samples: Samples, entered: Sequence[tuple[float, Stage]]) -> dict[str, float]:
    """`utilization/<stage>`: percent, the mean over all visits of a stage; `utilization` is that over `WORKING`.

    Args:
        entered: when stages were entered, as `read_stages` gives it; the last one goes on.
    """
    inside: dict[Stage, list[float]] = {}
    until = [at for at, _ in entered[1:]] + [float("inf")]
    for (begin, stage), end in zip(entered, until, strict=True):
        inside.setdefault(stage, []).extend(percent for at, percent in samples if begin <= at < end)
    found = {utilization_in(stage): mean(percents) for stage, percents in inside.items() if percents}
    working = [percent for stage in WORKING for percent in inside.get(stage, ())]
    return found | ({UTILIZATION: mean(working)} if working else {})


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def cards_of(devices: int) -> list[str]:
    """The UUIDs of the first cards that this process sees, which are not the machine's first where it sees some only."""
    import torch

    if not torch.cuda.is_available():
        return []
    uuids = [getattr(torch.cuda.get_device_properties(i), "uuid", None) for i in range(devices)]
    return [f"GPU-{uuid}" for uuid in uuids if uuid is not None]
