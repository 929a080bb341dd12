"""What a person sees while data is fetched and built: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 10.0

Report = Callable[[int, int], None]


@contextmanager
def progress(description: str, unit: str = "rows") -> Iterator[Report]:
    """A step that takes seconds; inside, call the given function with how much is done of how much."""
    started = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(description, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        log.info("%s ...", description)
        last = started

        def line(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_EVERY_SECONDS:
                last = time.monotonic()
                log.info("%s: %s of %s %s", description, f"{done:,}", f"{total:,}", unit)

        yield line
    log.info("%s: done in %.0f s", description, time.monotonic() - started)


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """While inside, the `datasets` library draws its bars on terminals only: in a log they are noise."""
    import datasets

    hidden_before = datasets.are_progress_bars_disabled()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden_before:
            datasets.enable_progress_bars()
