"""Whole jobs with a storage on a real S3 server: killed and begun again elsewhere, refused, cut off, with prepared data."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.emulators.s3 import BUCKET, client, s3_server
from tests.summarizer.jobs import TINY, job_folder, start, summarizer, write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]
JOB = [
    *TINY,
    "trainer.max_epochs=50",
    "trainer.checkpoint_every_n_steps=40",
    "model.dropout=0.1",
    "optim.ema_decay=0.9",
]


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server() as variables:
        yield variables


def stored_steps(variables: dict[str, str], prefix: str) -> list[int]:
    """Of the checkpoints that a job's manifest names."""
    s3 = client(variables)
    try:
        content = s3.get_object(Bucket=BUCKET, Key=f"{prefix}/manifest.json")["Body"].read()
    except s3.exceptions.NoSuchKey:
        return []
    files = json.loads(content)["files"]
    return sorted(int(path.split("-")[1].split(".")[0]) for path in files if path.startswith("checkpoints/step-"))


def figures(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "metrics.json").read_text())
    timed = ("second", "memory", "wait", "utilization")
    return {key: value for key, value in found.items() if not any(word in key for word in timed)}


def test_a_job_that_is_killed_goes_on_from_the_bucket_on_a_machine_that_knows_nothing(
    server: dict[str, str], tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    for name in ("whole", "first", "second"):
        (tmp_path / name).mkdir()
    undisturbed = job_folder(summarizer(*JOB, *corpus, cwd=tmp_path / "whole"))
    job = start(*JOB, *corpus, "storage=s3://runs/killed", cwd=tmp_path / "first", **server)
    while job.running() and not stored_steps(server, "killed/0"):
        time.sleep(0.3)  # each question takes its time of the server, which runs in this process
    job.signal(signal.SIGKILL)
    job.wait()
    assert (steps := stored_steps(server, "killed/0")), job.output
    done = summarizer(*JOB, *corpus, "storage=s3://runs/killed", cwd=tmp_path / "second", **server)
    assert "is further than this folder: downloading" in done.stdout
    assert f"continuing from step-{steps[-1]:08d}.ckpt" in done.stdout
    folder = job_folder(done)
    assert figures(folder) == figures(undisturbed)
    one, other = (load_file(each / "model" / "model.safetensors") for each in (folder, undisturbed))
    assert all(one[name].equal(other[name]) for name in one)
    again = summarizer(*JOB, *corpus, "storage=s3://runs/killed", cwd=tmp_path / "first", **server)
    assert "already finished" in again.stdout
    assert figures(job_folder(again)) == figures(undisturbed)
    rerun = summarizer("rerun=s3://runs/killed/0", cwd=tmp_path / "whole", **server)
    assert "are equal to the last bit" in rerun.stdout
    refused = summarizer(
        *JOB, *corpus, "optim.lr=0.1", "storage=s3://runs/killed", cwd=tmp_path / "first", check=False, **server
    )
    assert refused.returncode == 2
    assert "in use by another run (of another optim)" in refused.stdout
    missing = summarizer(*JOB, *corpus, "storage=s3://absent/x", cwd=tmp_path / "first", check=False, **server)
    assert missing.returncode == 2
    assert "create the bucket" in missing.stdout
    assert "Traceback" not in refused.stdout + missing.stdout


def test_prepared_data_in_a_bucket_spares_a_machine_the_tokenizing(server: dict[str, str], tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    storage = "storage=s3://runs/prepared"
    assert (
        "Prepared data: s3://runs/prepared/data"
        in summarizer("task=prepare", *JOB, *corpus, storage, cwd=tmp_path / "here", **server).stdout
    )
    done = summarizer(*JOB, *corpus, "trainer.max_steps=2", storage, cwd=tmp_path / "there", **server)
    assert "downloading prepared data of s3://runs/prepared/data" in done.stdout
    assert "tokenizing" not in done.stdout
    assert "learning a tokenizer" not in done.stdout
