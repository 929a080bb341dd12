"""One job's folder: every path, file name and state of it, in one object.

outputs/<name>/<time>/<job>/
  config.yaml overrides.yaml   the composed job and what the command line said
  provenance.json changes.diff where it came from: commit, dirty diff, versions, machine, timings
  data.json                    rows and fingerprint of each split
  resumed/                     the same of each resume: <n>.yaml (command line, changed settings), <n>.json, <n>.diff
  status.json                  running | finished | failed | interrupted
  progress.json                step, steps and seconds left, while it trains
  reports.jsonl                the sweep's metric at each validation after the warm-up
  metrics.json                 a flat map of what was measured
  predictions.parquet          one row a document: id, document, reference, summary, ROUGE
  tokenizer/                   the tokenizer that the checkpoints were trained with
  checkpoints/                 step-*.ckpt (newest two) and best.ckpt
  logs/                        metrics.csv, samples, TensorBoard and W&B files
  new_files/                   code that git did not know yet
  model/                       the finished model, for transformers
  report.html                  all of it to look at, in one file
  rental.json                  machines and their bill, of a job that was rented
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from summarizer.errors import CheckpointError, OutputError

REPORT = "report.html"
BILL = "rental.json"
"""Machines and their cost, written at home by what rented them; absent for a job that ran here."""
LOCKS: list[Any] = []
DECIDING = ("model", "data", "optim", "scheduler", "seed", "generation")
"""Groups of the config that make another run."""
PLACES = ("data.train_file", "data.validation_file", "data.test_file", "data.cache_dir")
"""Keys that may name another place for the same content."""
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader, or a kill, never meets half of it.

    Raises:
        OutputError: the folder cannot be written or the disk is full; what stood there before stays.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise OutputError(
            f"{path} cannot be written ({error.strerror}): free space or name another folder with hydra.sweep.dir=."
        ) from error


@dataclass(frozen=True)
class Run:
    """A job's folder. Nothing is created by naming it."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def overrides_file(self) -> Path:
        return self.folder / "overrides.yaml"

    @property
    def provenance_file(self) -> Path:
        return self.folder / "provenance.json"

    @property
    def data_file(self) -> Path:
        return self.folder / "data.json"

    @property
    def changes_file(self) -> Path:
        return self.folder / "changes.diff"

    @property
    def resumed(self) -> Path:
        return self.folder / "resumed"

    @property
    def progress_file(self) -> Path:
        return self.folder / "progress.json"

    @property
    def status_file(self) -> Path:
        return self.folder / "status.json"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def predictions_file(self) -> Path:
        return self.folder / "predictions.parquet"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def has_progress(self) -> bool:
        """Whether there is a checkpoint to continue from."""
        return any(self.checkpoints.glob("step-*.ckpt"))

    @property
    def best_checkpoint(self) -> Path:
        return self.checkpoints / "best.ckpt"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def claim(self) -> None:
        """Create the folder and hold it until this process ends: two processes never write one job.

        Raises:
            OutputError: it cannot be created or written, or another process runs this job.
        """
        from filelock import FileLock, Timeout

        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"the output folder {self.folder} cannot be created ({error.strerror}): make it writable or set "
                "hydra.sweep.dir to a folder that is."
            ) from error
        if not os.access(self.folder, os.W_OK):
            raise OutputError(
                f"the output folder {self.folder} is not writable: make it so or set hydra.sweep.dir to one that is."
            )
        lock = FileLock(self.folder / ".lock", is_singleton=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f"{self.folder} belongs to a job that is running now: wait for its end or stop it first."
            ) from error
        LOCKS.append(lock)  # a lock that is collected is released

    # ------------------------------------------------------------------ state
    def status(self) -> dict[str, Any]:
        """The last written status, empty when the job never started."""
        return read_json(self.status_file)

    def set_status(self, state: str, **facts: Any) -> None:
        write_atomically(self.status_file, json.dumps({"state": state, "time": time.time(), **facts}, indent=1) + "\n")

    def restore_status(self, status: Mapping[str, Any]) -> None:
        """Write back an earlier status, time and all."""
        write_atomically(self.status_file, json.dumps(status, indent=1) + "\n")

    def accepted_starts(self) -> dict[str, int]:
        """When each start that is on record (`record_start`) was written down, by file."""
        files = [self.provenance_file, *self.resumed.glob("*.json")]
        return {file.name: file.stat().st_mtime_ns for file in files if file.exists()}

    def metrics(self) -> dict[str, Any]:
        """Numbers by name; `<split>/rouge_tokenizer` is a string."""
        return read_json(self.metrics_file)

    def rouge_tokenizer(self) -> str | None:
        """How words were counted when beams were chosen for its reported figures; None where nothing was evaluated."""
        found = (value for key, value in self.metrics().items() if key.endswith("/rouge_tokenizer"))
        return next(found, None)

    def write_metrics(self, metrics: Mapping[str, float | str]) -> None:
        write_atomically(self.metrics_file, json.dumps(dict(sorted(metrics.items())), indent=1) + "\n")

    # ------------------------------------------------------------------ config
    def load_config(self) -> DictConfig:
        """The composed config that this job ran with.

        Raises:
            CheckpointError: the folder is no job's, or its config cannot be read.
        """
        try:
            config = OmegaConf.load(self.config_file)
            # It was written resolved. What is not was put there by somebody else, to be resolved here: `${oc.env:...}`.
            if "${" in str(OmegaConf.to_container(config, resolve=False)):
                raise ValueError("it holds an interpolation, which a job never writes")
            if not isinstance(config, DictConfig):
                raise ValueError("it is a list")
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{self.folder} is not a job's folder: it has no config.yaml; name one such as outputs/<name>/<time>/<job>."
            ) from error
        except Exception as error:
            raise CheckpointError(f"{self.config_file} cannot be read ({error}): name another job's folder.") from error
        return config

    def write_config(self, config: DictConfig, overrides: list[str]) -> None:
        # resolved: a saved `${now:}` or `${hardware.x}` must mean tomorrow what it meant today
        write_atomically(self.config_file, OmegaConf.to_yaml(config, resolve=True))
        write_atomically(self.overrides_file, OmegaConf.to_yaml(OmegaConf.create(overrides)))

    def record_start(
        self, config: DictConfig, overrides: list[str], provenance: Mapping[str, Any], changes: str = ""
    ) -> Path:
        """Write down an accepted start of a training. `config.yaml` is what the job has from now on; what a resume was
        asked for, what it changed and where it ran are kept beside the first start's, in `resumed/`.

        Args:
            changes: the uncommitted diff of the code.

        Returns:
            The provenance file of this start.
        """
        config = config.copy()
        config.resume = None  # this folder, wherever it is
        if not self.has_progress():  # nothing of an earlier start is left in the job
            self.write_config(config, overrides)
            provenance_file, changes_file = self.provenance_file, self.changes_file
        else:
            self.resumed.mkdir(exist_ok=True)
            number = 1 + max((int(p.stem) for p in self.resumed.glob("*.yaml") if p.stem.isdecimal()), default=0)
            record = {"overrides": overrides, "changed": changed_settings(self.load_config(), config)}
            write_atomically(self.resumed / f"{number}.yaml", OmegaConf.to_yaml(OmegaConf.create(record)))
            write_atomically(self.config_file, OmegaConf.to_yaml(config, resolve=True))
            provenance_file, changes_file = (self.resumed / f"{number}.{ending}" for ending in ("json", "diff"))
        write_atomically(provenance_file, json.dumps(provenance, indent=1) + "\n")
        if changes:
            write_atomically(changes_file, changes)
        return provenance_file


def changed_settings(before: DictConfig, after: DictConfig) -> dict[str, dict[str, Any]]:
    """Dotted key -> its values `before` and `after`, where they differ; None where a key was or is not there."""
    # as YAML says it: an Enum and its name are one
    one, other = (flat(OmegaConf.create(OmegaConf.to_yaml(config, resolve=True))) for config in (before, after))
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return {key: {"before": one.get(key), "after": other.get(key)} for key in keys}


def flat(config: DictConfig | ListConfig) -> dict[str, Any]:
    """A config as dotted keys and plain values."""
    found: dict[str, Any] = {}

    def walk(node: Mapping[Any, Any], prefix: str) -> None:
        for key, value in node.items():
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{key}.")
            else:
                found[f"{prefix}{key}"] = value

    content = OmegaConf.to_container(config, resolve=True)
    assert isinstance(content, dict)
    walk(content, "")
    return found


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}
