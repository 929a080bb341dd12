"""Small real jobs for tests: a corpus of made-up pairs, a tiny model, the command in its own process."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
THINGS = ["parser", "editor", "server", "client", "library", "compiler", "monitor", "player", "viewer", "manager"]
KINDS = ["fast", "small", "portable", "graphical", "modular", "simple", "network", "audio", "image", "text"]
FIELDS = ["music", "mail", "maps", "sensors", "books", "games", "numbers", "weather", "graphs", "photos"]

LEDGER = os.environ.get("LAUNCHERS_HOME") or tempfile.mkdtemp(prefix="ledger-")
"""A folder of the tests' own for what the launchers remember, also of a test's processes."""

TINY = [
    "model=tiny", "data=files", "hardware=cpu", "trainer.threads=1", "generation.num_beams=2", "callbacks.progress=false",
    "model.shape.vocab_size=400", "model.shape.d_model=32", "model.shape.d_ff=64", "model.shape.num_heads=2",
    "model.shape.encoder_layers=1", "model.shape.decoder_layers=1", "trainer.batch_size=8", "optim.effective_batch_size=8",
    "evaluation.bootstrap_samples=50", "hardware.workers=1",
]  # fmt: skip


def made_up_pairs(count: int, seed: int) -> list[dict[str, str]]:
    """Documents whose summary is three of their words: learnable in seconds, written by nobody."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        kind, thing, field = rng.choice(KINDS), rng.choice(THINGS), rng.choice(FIELDS)
        filler = " ".join(rng.choice(THINGS + KINDS + FIELDS) for _ in range(rng.randint(5, 25)))
        rows.append({
            "id": f"row-{seed}-{number}",
            "document": f"This program is a {kind} {thing} for {field}. It works with {filler}.",
            "summary": f"{kind} {thing} for {field}",
        })  # fmt: skip
    return rows


def write_corpus(folder: Path, train: int = 96, validation: int = 12, test: int = 12) -> list[str]:
    """Write the three jsonl files and return the overrides that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    overrides = []
    for seed, (split, count) in enumerate({"train": train, "validation": validation, "test": test}.items()):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in made_up_pairs(count, seed)))
        overrides.append(f"data.{split}_file={path}")
    return overrides


def environment(cache: Path, **extra: str) -> dict[str, str]:
    """This process's environment with a cache of the test's own and no provider's credentials."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith(("_API_KEY", "_TOKEN"))}
    path = f"{ROOT}{os.pathsep}{ROOT / 'launchers'}"
    return (
        clean
        | {"SUMMARIZER_CACHE": str(cache), "LAUNCHERS_HOME": LEDGER, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        | extra
    )


@dataclass
class Job:
    """A command line running in a process of its own, forked from one that has paid for the imports already."""

    process: Any
    output_file: Path

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    def running(self) -> bool:
        return bool(self.process.is_alive())

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def wait(self, timeout: float = 240) -> int:
        """The exit code; negative for the signal that ended it, as in `subprocess`."""
        self.process.join(timeout)
        assert not self.running(), f"still running after {timeout} s:\n{self.output[-3000:]}"
        return int(self.process.exitcode)


def _run(arguments: tuple[str, ...], cwd: str, environ: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(n, "wb", 0), write_through=True) for n in (1, 2))
    if "HF_ENDPOINT" in environ:  # the fork server imported the hub's libraries under another one
        from tests.emulators.hub import library_settings

        for module, name, value in library_settings(environ["HF_ENDPOINT"], Path(environ["HF_HOME"]) / "hub"):
            setattr(module, name, value)
    from summarizer.__main__ import main

    main(list(arguments))


def start(*arguments: str, cwd: Path, **extra: str) -> Job:
    """Start `python -m summarizer` with these arguments in `cwd`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["summarizer.training.fit", "summarizer.tasks.train", "tests.summarizer.jobs"])
    output = Path(tempfile.mkstemp(dir=cwd, suffix=".log")[1])
    process = context.Process(target=_run, args=(arguments, str(cwd), environment(cwd / "cache", **extra), str(output)))
    process.start()
    return Job(process, output)


def summarizer(*arguments: str, cwd: Path, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m summarizer` in `cwd` to its end; standard output and error come as one text."""
    job = start(*arguments, cwd=cwd, **extra)
    code = job.wait()
    assert not check or code == 0, job.output[-4000:]
    return subprocess.CompletedProcess(list(arguments), code, job.output, job.output)


def die_elsewhere(home: int) -> int:
    """The number of this process; any but `home` dies of the question."""
    if os.getpid() != home:
        os._exit(1)
    return home


def job_folder(done: subprocess.CompletedProcess[str]) -> Path:
    """The folder that the last line of a finished command names."""
    return Path(done.stdout.strip().splitlines()[-1].split(": ", 1)[1])
