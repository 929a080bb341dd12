"""What goes to the machine of a composed job: what is run there, with which overrides, files and folders of this machine.

Must not know how it gets there, nor what it costs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from launchers.app_functions import ask_app
from launchers.capture import current
from launchers.dispatch import ComposedJob
from launchers.errors import MendInput
from launchers.settings import RentalSettings

_LOCAL_OVERRIDES = (
    "hydra/launcher",
    "hydra.launcher",
    "hydra/sweeper",
    "hydra.sweeper",
    "hydra.sweep",
    "hydra.run",
    "hydra.mode",
    "provider",
)
"""Overrides that are about this side: the machine gets its own in their place."""


def entry_point_of(settings: RentalSettings) -> str:
    """The module or script to run: the app of a call from Python, or else what this process was started with, unless the config
    names another."""
    if settings.entry_point:
        return settings.entry_point
    if (capture := current()) is not None:
        return capture.entry_point
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    path = Path(getattr(main, "__file__", None) or "").absolute()
    if path.is_relative_to(Path.cwd()) and path.suffix == ".py":
        return path.relative_to(Path.cwd()).as_posix()
    raise MendInput("It is not clear what the machine should run: set provider.entry_point to your package's name.")


def local_paths_of(job: ComposedJob, settings: RentalSettings) -> dict[str, Path]:
    """Config key -> the file or folder of this machine that it names.

    Raises:
        MendInput: what a key names is not here, and the key is not marked with a question mark.
    """
    found = {}
    for name in settings.local_paths:
        key = name.removesuffix("?")
        value = OmegaConf.select(job.config, key)
        if value is None or not isinstance(value, (str, Path)) or "://" in str(value) or str(value) == "-":
            continue
        path = Path(str(value)).expanduser()
        if not path.exists():
            if key != name:
                continue
            raise MendInput(f"{key} names {path}, which is not here, so that it can't be sent to a machine.")
        found[key] = path.absolute()
    return found


def result_folders(jobs: Sequence[ComposedJob]) -> tuple[Path, ...]:
    """The folders of this launch's results, which do not ship."""
    sweep = Path(str(jobs[0].config.hydra.sweep.dir)).absolute()
    # A sweep folder around the working tree (hydra.sweep.dir=.) would leave nothing to ship.
    return tuple(job.folder for job in jobs) if Path.cwd().is_relative_to(sweep) else (sweep,)


def own_configs_of(job: ComposedJob) -> list[Path]:
    """The folder that the command named with `--config-dir`, if it did."""
    sources = job.config.hydra.runtime.config_sources
    return [Path(str(source.path).removeprefix("file://")) for source in sources if source.provider == "command-line"]


def remote_overrides_of(
    job: ComposedJob, settings: RentalSettings, places: dict[str, str], configs: Sequence[str]
) -> tuple[str, ...]:
    """The job's own overrides without those of this side, then what makes it run in place there."""
    both = [*job.config.hydra.overrides.hydra, *job.config.hydra.overrides.task]
    kept = [o for o in both if not _is_local(o)]
    # The app's own default unless this command named another; argparse wants options before overrides.
    name = job.config.hydra.job.config_name
    primary = [f"--config-name={name}"] if name else []
    primary += [f"--config-dir={place}" for place in configs]
    return (*primary, *kept, *settings.remote_overrides, *(f"{key}={quoted(place)}" for key, place in places.items()))


def quoted(text: str) -> str:
    """A text as a value of Hydra's override grammar, in which quotes, backslashes before them and `${` mean something."""
    inside = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text.replace("${", r"\${"))
    return f"'{inside}'"


def _is_local(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return any(key == name or key.startswith(f"{name}.") for name in _LOCAL_OVERRIDES)


def portable_cache_of(jobs: Sequence[ComposedJob], settings: RentalSettings) -> dict[str, Path]:
    """What the app asks to carry for any of the jobs, as far as it stays under the limit."""
    from launchers.snapshot import size_below

    chosen: dict[str, Path] = {}
    if not settings.carry:
        return chosen
    left = settings.max_carry_mb * 1e6
    for job in jobs:
        for name, path in ask_app("provider.carry", settings.carry, job).items():
            size = 0 if name in chosen else size_below(path)
            if size <= left:
                chosen[name], left = path, left - size
    return chosen


def expected_hours(job: ComposedJob, settings: RentalSettings) -> float:
    """What the app's own forecast says, at most max_hours."""
    hours = ask_app("provider.forecast", settings.forecast, job) if settings.forecast else None
    return min(float(hours), settings.max_hours) if hours is not None else settings.max_hours
