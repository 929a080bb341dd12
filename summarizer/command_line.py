"""From argv to a running job: what is shaped before Hydra sees it, and how errors end.

Hydra 1.3 cannot take a group option that looks like a number (`hardware=4090` raises "Config group override must be a
string"), so such options are quoted here; and `resume=<dir>` becomes the output folder of the job.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from summarizer.errors import CheckpointError, SummarizerError
from summarizer.paths import config_dir
from summarizer.quoting import quote_text, quote_value, unquoted
from summarizer.standard_output import outlive_reader

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


def shape(arguments: list[str]) -> list[str]:
    """The arguments as Hydra shall see them.

    Raises:
        CheckpointError: `resume` names no job's folder.
        ConfigError: an argument is not UTF-8.
    """
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    shaped = []
    for argument in map(quote_text, arguments):
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
    return shaped


def run(arguments: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code: 0, `EXIT_USER_ERROR` after one sentence on standard error, `EXIT_INTERRUPTED` after Ctrl-C.
    """
    outlive_reader()
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra prints its own pages of error text and exits unless told to raise: the sentence is ours to write.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        from summarizer.application import run_hydra

        run_hydra(shape(arguments))
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
