"""Functions of the app that its config names: what may be called, and how.

A config from elsewhere looks like data. So a name in it leads to the app's own package and to nothing that it imports.
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from launchers.errors import MendInput

if TYPE_CHECKING:
    from hydra.types import TaskFunction

    from launchers.dispatch import ComposedJob


def own_packages(task_function: TaskFunction) -> frozenset[str]:
    """Top-level names of the app: of the module that this process was started with, and of its task function's."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    started = spec.name if spec is not None else Path(getattr(main, "__file__", None) or "").stem
    names = {name.partition(".")[0] for name in (started, getattr(task_function, "__module__", ""))}
    return frozenset(names - {"__main__", ""})


def ask_app(key: str, name: str, job: ComposedJob) -> Any:
    """Call a function of the app, named `module:function` or `module.function`, with the job's config.

    Raises:
        MendInput: there is no such function, or it is not the app's.
    """
    asked = _found(key, name, job.app)
    config = copy.deepcopy(job.config)
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    return asked(config)


def _found(key: str, name: str, app: frozenset[str]) -> Callable[[Any], Any]:
    module, _, function = name.partition(":") if ":" in name else name.rpartition(".")
    foreign = MendInput(
        f"{key} names {name!r}, which is no function of {' or '.join(sorted(app)) or 'the app'}: only those are called."
    )
    if module.partition(".")[0] not in app:
        raise foreign
    try:
        asked = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise MendInput(f"{key} {name!r} can't be used: {error}.") from None
    # The app's modules also hold what they import from others.
    origin = str(getattr(asked, "__module__", "")).partition(".")[0]
    if not callable(asked) or isinstance(asked, type) or origin not in {*app, "__main__"}:
        raise foreign
    found: Callable[[Any], Any] = asked
    return found
