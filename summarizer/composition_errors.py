"""Hydra's and OmegaConf's composition errors as one sentence with the nearest valid name."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from summarizer import config as schema
from summarizer.fields import fields_of
from summarizer.paths import config_dir

HELP = "`python -m summarizer --help` lists the groups, `--cfg job` every key"


def nearest(name: str, valid: list[str]) -> str:
    """ "; did you mean X?" or an empty string."""
    match = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else ""


def sentence(error: BaseException, arguments: Sequence[str] = ()) -> str | None:
    """One sentence for an error of composition; None for any other error.

    Args:
        arguments: the command line, for errors that do not say which part of it they are about.
    """
    chain = causes(error)
    signs = ("Unexpected type for root", "object_type=NoneType")
    if any(isinstance(e, AssertionError | AttributeError) and any(s in str(e) for s in signs) for e in chain):
        return key_below_null(arguments)
    if not any(isinstance(e, HydraException | OmegaConfBaseException) for e in chain):
        return None
    for e in chain:
        if isinstance(e, MissingConfigException):
            return missing_option(str(e))
        if isinstance(e, OverrideParseException) and "=" in str(e.override):
            key, _, value = str(e.override).partition("=")
            return (
                f"{key}={value} cannot be read ({first_line(e)}): quote such a value twice, {key}=\"'...'\" ({HELP})."
            )
        if isinstance(e, OverrideParseException):
            return f"{e.override!r} is not an override of the form key=value ({first_line(e)}); {HELP}."
    text = "\n".join(str(e) for e in chain)
    key_error = re.search(r"Key '([^']+)' (?:is )?not in (?:struct|'(\w+)')", text)
    if key_error:
        full_key = re.search(r"full_key: (\S+)", text)
        return unknown_key(full_key.group(1) if full_key else key_error.group(1), key_error.group(2))
    no_match = re.search(r"Could not override '([^']+)'", text)
    wrong_type = re.search(
        r"(Value .*? (?:of type '\w+' )?(?:could not be converted|is not) .*|Invalid value .*)", text
    )
    if wrong_type:
        full_key = re.search(r"full_key: (\S+)", text)
        where = f" for {full_key.group(1)}" if full_key else ""
        return f"{shortened(wrong_type.group(1).strip())}{where}: give a value of that type ({HELP})."
    if no_match:
        return unknown_key(no_match.group(1), None)
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing.group(1)} has no value: set it on the command line ({HELP})."
    said = shortened(" ".join(first_line(chain[-1]).split()))
    if (full_key := re.search(r"full_key: (\S+)", text)) and full_key.group(1) not in said:
        said = f"{full_key.group(1)}: {said}"
    return said if said.endswith(".") else f"{said} ({HELP})."  # a whole sentence needs no help


def key_below_null(arguments: Sequence[str]) -> str | None:
    """OmegaConf stumbles where something is merged into a null group, such as model.shape of a model that has none."""
    for argument in arguments:
        key = argument.lstrip("+").partition("=")[0]
        for parent in ("model.shape", "model.lora"):
            if key == parent or key.startswith(f"{parent}."):
                return f"{key} is unused with this model, which has no {parent}: leave it out, or choose another model ({HELP})."
    return None


def causes(error: BaseException) -> list[BaseException]:
    """The error and what it came from, outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        # `from None` says that what came before is no part of it.
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return chain


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def groups() -> dict[str, list[str]]:
    folders = sorted(path for path in config_dir().iterdir() if path.is_dir())
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}


def missing_option(text: str) -> str:
    """ "Could not find 'model/t5'" -> the group's nearest option."""
    found = re.search(r"[Cc]ould not (?:find|load) '([^']+)'", text) or re.search(r"'([\w/.-]+)'", text)
    name = found.group(1).removesuffix(".yaml") if found else ""
    group, _, option = name.rpartition("/")
    if name == "hydra/sweeper/optuna":
        return "hydra/sweeper=optuna is not installed, and not needed: search with sweep=tpe (or random, cmaes, asha)."
    options = groups().get(group)
    if options is None:
        return f"there is no config {name!r}{nearest(name, list(groups()))} ({HELP})."
    return f"{group}={option}: the group {group} has no such option{nearest(option, options)} (options: {', '.join(options)})."


def unknown_key(full_key: str, class_name: str | None) -> str:
    """The key, the place it is wrong in, and the nearest valid one of that place."""
    if full_key.startswith("hydra.launcher."):  # also what hydra/launcher=basic ends in: it lacks our preflight
        where = ", ".join(groups()["provider"])
        return f"{full_key}: this launcher has no such key; provider= chooses where a job runs ({where}), not hydra/launcher=."
    parts = full_key.split(".")
    node: Any = schema.Config
    for depth, part in enumerate(parts):
        if not dataclasses.is_dataclass(node):
            break
        fields = {f.name: f for f in dataclasses.fields(node)}
        if part not in fields:
            valid = sorted(fields) + (sorted(groups()) if depth == 0 else [])
            where = ".".join(parts[:depth])
            holder = f"{where} has no key {part}" if where else f"there is no group or key {part}"
            prefix = f"{where}." if where else ""
            close = difflib.get_close_matches(part, valid, n=1, cutoff=0.5)
            hint = f"; did you mean {prefix}{close[0]}?" if close else f" (valid: {', '.join(valid)})."
            return f"{full_key}: {holder}{hint}"
        node = next((f.group for f in fields_of(schema.Config) if f.key == ".".join(parts[: depth + 1])), None)
    return f"{full_key}: there is no such key{f' in {class_name}' if class_name else ''} ({HELP})."


def shortened(text: str) -> str:
    """A library's words without the middle of a value that fills pages."""
    return text if len(text) <= 300 else f"{text[:120]} ... {text[-120:]}"
