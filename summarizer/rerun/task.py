"""rerun=<folder or storage URL>: the run's code, data and settings again, here or on any provider, and whether its figures agree."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from summarizer.errors import CheckpointError, ConfigError
from summarizer.evaluation.report import print_table
from summarizer.provenance import lock, versions
from summarizer.quoting import quote_value, unquoted
from summarizer.rerun.agreement import Agreement, agreements, summary
from summarizer.rerun.download import downloaded, is_address
from summarizer.rerun.source import rebuilt_source
from summarizer.run import Run, read_json

log = logging.getLogger(__name__)
DISAGREES = 1
"""Exit code where the figures do not agree."""
SHOWN = 12


def rerun(source: str, overrides: Sequence[str]) -> int:
    """Run the job of a folder, here or in a storage, again and compare.

    Args:
        source: a job's folder, or its address such as s3://bucket/outputs/<name>/<time>/0.
        overrides: what this command line adds: a provider, hardware, an output folder.

    Returns:
        0 where the figures agree; 1 where they do not; the job's own exit code where it failed.

    Raises:
        CheckpointError: no finished training is there, or the storage cannot be reached.
        ConfigError: its code cannot be rebuilt here.
    """
    if is_address(source):
        with downloaded(source) as folder:
            return rerun_folder(Run(folder), source, overrides)
    run = Run(Path(source).expanduser().resolve())
    return rerun_folder(run, str(run.folder), overrides)


def rerun_folder(run: Run, source: str, overrides: Sequence[str]) -> int:
    """The same, of a folder on this machine.

    Args:
        source: what messages and rerun.json call it.
    """
    metrics, provenance = run.metrics(), read_json(run.provenance_file)
    if not metrics or run.status().get("task", "train") != "train":
        raise CheckpointError(f"rerun={source}: no finished training is there; name a job's folder with metrics.json.")
    named = [*own_overrides(run), *overrides]
    target = output_folder(run, overrides)
    say_versions(provenance)
    with rebuilt_source(run, provenance) as tree:
        if tree is None:
            log.warning("%s names no commit: it is run with the code that is installed here.", source)
        code = run_again(tree, [*named, f"hydra.sweep.dir={target}", "hydra.sweep.subdir='0'"])
    if code:
        return code
    again = Run(target / "0")
    data = provenance.get("data")
    now = read_json(again.provenance_file).get("data")
    if data and now and data != now:
        log.warning("the data differ: then %s, now %s.", data, now)
    found = agreements(metrics, again.metrics())
    return show(source, again, found)


def own_overrides(run: Run) -> list[str]:
    """The run's own command line; paths that were relative to the folder it was started in are made absolute.

    Raises:
        CheckpointError: the folder does not tell.
    """
    try:
        listed = yaml.safe_load(run.overrides_file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"{run.overrides_file} cannot be read ({type(error).__name__}): the run cannot be repeated."
        ) from error
    kept = []
    for override in listed or []:
        key, _, value = str(override).partition("=")
        if key.lstrip("+~") in ("run", "resume", "rerun", "provider", "storage") or key.startswith(
            ("provider.", "hydra.")
        ):
            continue
        plain = unquoted(value)
        if plain != value:  # as Hydra notes it: `s3\://`
            value = quote_value(plain)
        if plain and not plain.startswith("/") and Path(plain).exists() and ("/" in plain or "." in plain):
            value = f"'{Path(plain).resolve()}'"
        kept.append(f"{key}={value}")
    return kept


def output_folder(run: Run, overrides: Sequence[str]) -> Path:
    """Where the rerun writes: named on the command line, or beside other runs of this folder."""
    for override in overrides:
        if override.startswith("hydra.sweep.dir="):
            raise ConfigError("rerun= chooses its own folder, outputs/rerun/<time>: leave hydra.sweep.dir out.")
    return Path.cwd() / "outputs" / "rerun" / f"{run.folder.parent.name}-{run.folder.name}-{time.strftime('%H-%M-%S')}"


def run_again(tree: Path | None, overrides: list[str]) -> int:
    """The command line in the rebuilt code; its output is this process's."""
    environment = dict(os.environ)
    if tree is not None:
        # the run's own code and plugins come before what is installed
        paths = [str(tree), str(tree / "launchers"), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, "-m", "summarizer", *overrides]
    return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


def say_versions(provenance: dict[str, Any]) -> None:
    """Name the packages whose versions differ from the run's: their arithmetic may differ too."""
    then = provenance.get("lock") or provenance.get("versions")
    if not isinstance(then, dict):
        return
    here = lock() if "lock" in provenance else versions()
    differing = [
        f"{name} {version} -> {here.get(name, 'not installed')}"
        for name, version in then.items()
        if here.get(name) != version
    ]
    if differing:
        more = f" and {len(differing) - 8} more" if len(differing) > 8 else ""
        log.warning(
            "Package versions differ from the run's: %s%s. Figures may differ in rounding.",
            ", ".join(differing[:8]),
            more,
        )


def show(source: str, again: Run, found: list[Agreement]) -> int:
    """Print the table and the verdict, and keep both beside the rerun's figures."""
    agrees, words = summary(found)
    ordered = sorted(found, key=lambda a: (a.verdict.value == "equal", a.name))
    rows = [
        [a.name, f"{a.then:.4f}", "-" if a.now is None else f"{a.now:.4f}", a.verdict.value] for a in ordered[:SHOWN]
    ]
    print_table("Then and now", ("figure", "then", "now", "verdict"), rows)
    if len(ordered) > SHOWN:
        print(f"  and {len(ordered) - SHOWN} more, all {ordered[-1].verdict.value}")
    print(f"The rerun {'agrees' if agrees else 'DOES NOT AGREE'} with {source}: {words}.")
    record = {
        "of": source,
        "agrees": agrees,
        "verdict": words,
        "figures": {a.name: a.verdict.value for a in found},
    }
    (again.folder / "rerun.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0 if agrees else DISAGREES
