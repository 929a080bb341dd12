"""The science: a composed config in, a trained and measured summarizer out.

Holds data, models, training, evaluation, prediction and the report of a run. It must not know clouds, rented
machines or the package `launchers`: a job that was shipped runs here exactly as one that was not.
Importing this package is cheap: nothing under it imports torch before a task needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from summarizer.api import Result, Summarizer, evaluate, load, train

__all__ = ["Result", "Summarizer", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    """The Python API, imported at its first use."""
    if name in __all__:
        from summarizer import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
