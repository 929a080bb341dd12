"""From argv to a running job: what is shaped before Hydra sees it, and how errors end.

Hydra 1.3 cannot take a group option that looks like a number (`hardware=4090` raises "Config group override must be a
string"), so such options are quoted here; and `resume=<dir>` and `hydra.run.dir=<dir>` become the output folder of the job.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from summarizer import sweeps
from summarizer.errors import EXIT_INTERRUPTED, CheckpointError, ConfigError, SummarizerError, fail
from summarizer.paths import config_dir
from summarizer.quoting import quote_text, quote_value, unquoted
from summarizer.standard_output import outlive_reader

NUMBER = re.compile(r"\d+")


def quote_numeric_options(argument: str, groups: set[str]) -> str:
    """`hardware=4090,a100` -> `hardware='4090',a100`, also within `choice(...)`; anything else is returned as it is."""
    key, separator, value = argument.partition("=")
    if not separator or key.lstrip("+~").split("@")[0] not in groups:
        return argument
    wrapped = re.fullmatch(r"choice\((.*)\)", value)
    parts = (wrapped.group(1) if wrapped else value).split(",")
    quoted = ",".join(f"'{part.strip()}'" if NUMBER.fullmatch(part.strip()) else part for part in parts)
    return f"{key}={f'choice({quoted})' if wrapped else quoted}"


def shape(arguments: list[str]) -> list[str]:
    """The arguments as Hydra shall see them.

    Raises:
        CheckpointError: `resume` names no job's folder.
        ConfigError: several values without --multirun, an output folder that cannot be meant, or an argument that is not UTF-8.
    """
    arguments = ["report.open=true" if argument == "--open" else quote_text(argument) for argument in arguments]
    arguments = with_recorded(arguments)
    given = {key: value for key, separator, value in (a.partition("=") for a in arguments) if separator}
    multirun = bool({"-m", "--multirun", sweeps.MULTIRUN} & set(arguments))
    if not multirun:
        refuse_lists(arguments)
    elif shows := next((a for a in arguments if re.fullmatch("-[ci]|--cfg|--info|--cfg=.*|--info=.*", a)), None):
        raise ConfigError(f"{shows} shows the config of one job: leave -m out, and give each key one value.")
    if "hydra.run.dir" in given and given.get("hydra.mode") != "RUN":
        if multirun:
            raise ConfigError(
                "hydra.run.dir is the folder of a single job: name a sweep's folder with hydra.sweep.dir=."
            )
        if given.get("resume"):
            raise ConfigError("resume= continues a job in its own folder: leave hydra.run.dir out.")
    if multirun and given.get("resume"):
        raise ConfigError(
            "resume=<folder of a job> continues one job: leave -m out, or name the folder of the whole sweep."
        )
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    shaped = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        shaped.append(quote_numeric_options(argument, groups))
        if key == "resume" and value not in ("", "null"):
            job = Path(value := unquoted(value)).expanduser().resolve()
            if not (job / "config.yaml").is_file():
                raise CheckpointError(
                    f"resume={value}: no job's folder is there (a job's folder holds a config.yaml); "
                    "name one such as outputs/<name>/<time>/<job>."
                )
            shaped += [f"hydra.sweep.dir={quote_value(str(job.parent))}", f"hydra.sweep.subdir={quote_value(job.name)}"]
        if key == "hydra.run.dir" and given.get("hydra.mode") != "RUN":
            # A single run goes through its provider's launcher, for which its folder is that of a sweep of one job.
            shaped += [f"hydra.sweep.dir={value}", "hydra.sweep.subdir='.'"]
    if multirun and sweeps.MULTIRUN not in shaped and "hydra.mode" not in given:
        shaped.append(sweeps.MULTIRUN)  # config.yaml says the same of every run: here it says that -m was given
    # Hydra's parser takes no flag between two overrides.
    return sorted(shaped, key=lambda argument: argument not in ("-m", "--multirun"))


def with_recorded(arguments: list[str]) -> list[str]:
    """`resume=<sweep folder>` becomes the command that began the sweep; what else this one says replaces its settings."""
    named = next((unquoted(a.partition("=")[2]) for a in arguments if a.startswith("resume=")), "")
    folder = Path(named).expanduser().resolve()
    record = folder / sweeps.RECORD
    if named in ("", "null") or not record.is_file() or (folder / "config.yaml").is_file():
        return arguments
    import yaml

    try:
        overrides = yaml.safe_load(record.read_text())["hydra"]["overrides"]
        before = [*map(str, overrides["hydra"]), *map(str, overrides["task"])]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{record} is damaged ({type(error).__name__}): repeat the sweep's command with hydra.sweep.dir={quote_value(str(folder))}."
        ) from None
    rest = [argument for argument in arguments if not argument.startswith("resume=")]
    new = {argument.partition("=")[0].lstrip("+~") for argument in rest} | {"hydra.sweep.dir", "hydra.mode"}
    kept = [override for override in before if override.partition("=")[0].lstrip("+~") not in new]
    options = [argument for argument in rest if argument.startswith("-")]
    rest = [argument for argument in rest if not argument.startswith("-")]
    return [*options, *kept, *rest, f"hydra.sweep.dir={quote_value(str(folder))}", sweeps.MULTIRUN]


def refuse_lists(arguments: list[str]) -> None:
    """Refuse what would start several jobs without being asked to: hydra.mode is MULTIRUN for single jobs, too.

    Raises:
        ConfigError: an override has several values.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for argument in arguments:
        if argument.startswith("-") or "=" not in argument:
            continue
        key, _, value = argument.partition("=")
        try:
            override = parser.parse_override(argument)
        except HydraException:
            continue  # Hydra says what is wrong with it
        if override.is_sweep_override():
            one = "" if "(" in value else f", or write {key}=[{value}] for one value that is a list"
            raise ConfigError(f"{argument} names several values, one job each: add -m to run them all{one}.")


def run(arguments: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code: 0, 2 after one sentence on standard error, `EXIT_INTERRUPTED` after Ctrl-C or SIGTERM.
    """
    outlive_reader()
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra prints its own pages of error text and exits unless told to raise: the sentence is ours to write.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sweeps.STARTED.clear()
    if "--version" in arguments:
        from summarizer.version import version_text

        print(version_text())
        return 0
    try:
        if again := next((argument for argument in arguments if argument.startswith("rerun=")), None):
            from summarizer.rerun.task import rerun

            return rerun(unquoted(again.partition("=")[2]), [argument for argument in arguments if argument != again])
        from summarizer.application import run_hydra

        run_hydra(shape(arguments))
        for following in sweeps.after():
            run_hydra(shape(following))
    except SummarizerError as error:
        if debug:
            raise
        return fail(str(error))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        from summarizer.composition_errors import sentence

        text = None if debug else sentence(error, arguments) or unwritable(error)
        if text is None:
            raise
        return fail(text)
    finally:
        sweeps.remove_unused_folders()
        if not debug:
            os.environ.pop("HYDRA_FULL_ERROR", None)
    return 0


def unwritable(error: Exception) -> str | None:
    """The sentence for an error of the file system. What a task reads and writes has its own; what is left is Hydra making
    the output folder."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    return f"{error.filename}: {error.strerror}; the output folder must be writable, hydra.sweep.dir names another."
