"""From argv to a running job: what is shaped before Hydra sees it, and how errors end.

Hydra 1.3 cannot take a group option that looks like a number (`hardware=4090` raises "Config group override must be a
string"), so such options are quoted here; and `resume=<dir>` becomes the output folder of the job.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from summarizer.errors import CheckpointError, Interrupted, SummarizerError
from summarizer.paths import config_dir

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
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


def quote_value(value: str) -> str:
    """`value` as a quoted string of Hydra's override grammar."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def shape(arguments: list[str]) -> list[str]:
    """The arguments as Hydra shall see them.

    Raises:
        CheckpointError: `resume` names no job's folder.
    """
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    shaped = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in ("run", "resume", "input") and value and value[0] not in "'\"":
            argument = f"{key}={quote_value(value)}"  # a path may hold what the grammar does not take bare
        shaped.append(quote_numeric_options(argument, groups))
        if key == "resume" and value:
            job = Path(value.strip("'\"")).expanduser().resolve()
            if not (job / "config.yaml").is_file():
                raise CheckpointError(
                    f"resume={value}: no job's folder is there (a job's folder holds a config.yaml); "
                    "name one such as outputs/<name>/<time>/<job>."
                )
            shaped += [f"hydra.sweep.dir={quote_value(str(job.parent))}", f"hydra.sweep.subdir={quote_value(job.name)}"]
    return shaped


def run(arguments: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code: 0, `EXIT_USER_ERROR` after one sentence on standard error, `EXIT_INTERRUPTED` after Ctrl-C or SIGTERM.
    """
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra prints its own pages of error text and exits unless told to raise: the sentence is ours to write.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        from summarizer.application import run_hydra

        run_hydra(shape(arguments))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return EXIT_INTERRUPTED
    except SummarizerError as error:
        if debug:
            raise
        return fail(str(error))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        from summarizer.composition_errors import sentence

        text = None if debug else sentence(error) or unwritable(error)
        if text is None:
            raise
        return fail(text)
    finally:
        if not debug:
            os.environ.pop("HYDRA_FULL_ERROR", None)
    return 0


def unwritable(error: Exception) -> str | None:
    """The sentence for an error of the file system. What a task reads and writes has its own; what is left is Hydra making
    the output folder."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    return f"{error.filename}: {error.strerror}; the output folder must be writable, hydra.sweep.dir names another."


def fail(text: str) -> int:
    print(f"Error: {text}", file=sys.stderr)
    return EXIT_USER_ERROR
