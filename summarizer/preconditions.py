"""What the last stage of a job needs, asked in its first second: hours of training come before it.

`RULES` are of the config alone, so that the client asks them before anything is rented. `check_machine` asks for what must be
on the machine that the job runs on.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Callable

from omegaconf import DictConfig

from summarizer.config import Task
from summarizer.errors import ConfigError
from summarizer.metric_names import VALIDATION
from summarizer.objective import direction_of

SPLITS = ("train", "validation", "test")
PACKAGES = {  # setting -> (module, distribution and extra of the same name in summarizer[...])
    "evaluation.bertscore": ("bert_score", "bert-score", "bertscore"),
    "logger.tensorboard": ("tensorboard", "tensorboard", "tensorboard"),
}


def needed_splits(config: DictConfig) -> tuple[str, ...]:
    """The splits that a training reads, or those that an evaluation scores."""
    scored = tuple(config.evaluation.splits)
    return scored if config.task == Task.evaluate else tuple(dict.fromkeys(("train", "validation", *scored)))


def splits_exist(config: DictConfig) -> None:
    if config.task == Task.predict:
        return
    splits = list(config.evaluation.splits)
    named = f"evaluation.splits=[{','.join(map(str, splits))}]"
    if len(set(splits)) < len(splits):
        raise ConfigError(f"{named} names a split twice: of {', '.join(SPLITS)}, each once.")
    for split in splits:
        if split not in SPLITS:
            close = difflib.get_close_matches(split, SPLITS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(SPLITS)}."
            raise ConfigError(f"{named}: there is no split {split}; {hint}")
    data = config.data
    for split in needed_splits(config):
        key = {"files": f"{split}_file", "hub": f"{split}_split"}.get(data.kind)
        if key is not None and not data[key]:
            other = f", or leave {split} out of {named}" if split in splits else ""
            raise ConfigError(f"data={data.name} has no {split} split: set data.{key}{other}.")
    if data.streaming and "train" in splits:
        raise ConfigError(f"{named} with data.streaming=true: a stream cannot be scored; leave train out.")


def monitor_is_measured(config: DictConfig) -> None:
    monitor, mode = config.callbacks.monitor, config.callbacks.mode
    if monitor not in VALIDATION:
        close = difflib.get_close_matches(monitor, VALIDATION, n=1, cutoff=0.8)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ConfigError(
            f"callbacks.monitor={monitor} is not measured at a validation; {hint}There are {', '.join(VALIDATION)}."
        )
    best = direction_of(monitor)[:3]
    if mode != best:
        raise ConfigError(
            f"callbacks.monitor={monitor} with callbacks.mode={mode} would keep the worst checkpoint: set "
            f"callbacks.mode={best}."
        )


def repository_is_possible(config: DictConfig) -> None:
    repository = config.export.push_to_hub
    if repository is None or config.task != Task.train:
        return
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(
            f"export.push_to_hub={repository} is no repository id: write user/name, of letters, digits, '-', '_' and '.'."
        ) from error
    provider = config.provider
    # a machine gets the token from this environment, or, at Modal, from a Secret that is stored there
    if provider.name != "local" and not os.environ.get("HF_TOKEN") and not provider.get("secrets"):
        raise ConfigError(f"export.push_to_hub={repository} needs HF_TOKEN in the environment: {TOKEN}")


def rented_machine_has_packages(config: DictConfig) -> None:
    """A rented machine installs the project's own dependencies and none of its extras."""
    if config.provider.name == "local":
        return
    for setting, (_, distribution, _) in PACKAGES.items():
        if wanted(config, setting) and not is_dependency(distribution):
            raise ConfigError(
                f"{setting}=true needs {distribution}, which is not installed on rented machines: set {setting}=false"
                + (
                    "; `task=evaluate run=<job> evaluation.bertscore=true` scores the job here."
                    if "bert" in setting
                    else "."
                )
            )


TOKEN = "export one with the right to write (https://huggingface.co/settings/tokens), or leave export.push_to_hub out."


def wanted(config: DictConfig, setting: str) -> bool:
    """Whether a package's setting is on, for a task that would use it."""
    tasks = (Task.train, Task.evaluate) if setting.startswith("evaluation.") else (Task.train,)
    group, _, key = setting.partition(".")
    return config.task in tasks and bool(config[group][key])


def is_dependency(distribution: str) -> bool:
    try:
        required = importlib.metadata.requires("summarizer") or []
    except importlib.metadata.PackageNotFoundError:
        return False
    return any(re.match(rf"{distribution}\b", line) and "extra ==" not in line for line in required)


def check_machine(config: DictConfig) -> None:
    """Ask this machine for what the end of the job needs of it.

    Raises:
        ConfigError: a package or a token is missing.
    """
    for setting, (module, distribution, extra) in PACKAGES.items():
        if wanted(config, setting) and importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"{setting}=true needs the {distribution} package: pip install 'summarizer[{extra}]', or set {setting}=false."
            )
    if config.export.push_to_hub and config.task == Task.train:
        from huggingface_hub import get_token

        if not get_token():
            raise ConfigError(f"export.push_to_hub={config.export.push_to_hub} needs HF_TOKEN: {TOKEN}")


RULES: tuple[Callable[[DictConfig], None], ...] = (
    splits_exist,
    monitor_is_measured,
    repository_is_possible,
    rented_machine_has_packages,
)
