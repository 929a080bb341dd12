"""Loggers against the real packages; W&B against a server on loopback that speaks its protocol."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
from omegaconf import OmegaConf

from summarizer.run import Run
from summarizer.training import loggers as module
from summarizer.training.loggers import build_loggers, finish_loggers, log_samples, offline_reason
from tests.emulators.wandb_server import KEY, WandbServer
from tests.summarizer.jobs import TINY, job_folder, start, summarizer, write_corpus

SAMPLES = [("row-1", "A long document.", "a reference", "a summary"), ("row-2", "Another.", "one", "two")]
WRONG_KEY = "f" * 40


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb-data"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    wandb.teardown()  # it remembers the first server of a process


@pytest.fixture
def server():
    with WandbServer() as running:
        yield running


@pytest.fixture
def signed_in(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> WandbServer:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


def job(tmp_path: Path, number: int = 0) -> Run:
    run = Run(tmp_path / "outputs" / "name" / "2026-01-02" / str(number))
    run.logs.mkdir(parents=True, exist_ok=True)
    return run


def config(**on: bool):
    logger = {
        "csv": False, "tensorboard": False, "wandb": False, "project": "summarizer", "entity": None, "group": None,
        "tags": ["mine"], "sample_predictions": 2, **on,
    }  # fmt: skip
    names = {group: {"name": name} for group, name in
             (("model", "tiny"), ("data", "debsum"), ("provider", "local"))}  # fmt: skip
    hardware = {"name": "cpu", "accelerator": "cpu", "gpu": None}
    return OmegaConf.create(
        {"seed": 0, "optim": {"lr": 0.1}, "trainer": {"devices": 1}, "hardware": hardware, "logger": logger, **names}
    )


def log_a_little(run: Run, first_step: int = 0, **on: bool) -> None:
    built = build_loggers(config(**on), run)
    for step in range(first_step, first_step + 3):
        for logger in built:
            logger.log_metrics({"train/loss": 1.0 / (step + 1)}, step)
    log_samples(built, first_step + 2, SAMPLES)
    for logger in built:
        logger.save()
    finish_loggers(built, {"test/rougeL": 33.5}, step=first_step + 2)


def test_a_job_is_one_run_with_its_group_config_tags_metrics_and_table(signed_in: WandbServer, tmp_path: Path) -> None:
    run = job(tmp_path)
    log_a_little(run, wandb=True)
    [stored] = signed_in.runs.values()
    assert stored.project == "summarizer"
    assert stored.group == "2026-01-02"
    assert stored.name == "2026-01-02/0"
    assert set(stored.tags) == {"mine", "tiny", "debsum", "cpu", "local"}
    assert stored.config["optim"] == {"lr": 0.1}
    assert stored.column("train/loss") == pytest.approx([1, 1 / 2, 1 / 3])
    assert stored.column("test/rougeL") == [33.5]
    assert stored.exit_code == 0
    [table] = [content for name, content in stored.files.items() if name.endswith(".table.json")]
    assert json.loads(table)["data"] == [list(row) for row in SAMPLES]
    assert stored.column("samples")[0]["nrows"] == 2
    assert stored.column("samples")[0]["_type"] == "table-file"


def test_a_rented_job_logs_its_machine_and_its_dollars_so_far(
    signed_in: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {
        "provider": "vast",
        "price": 36.0,
        "gpu": "RTX 4090",
        "region": "SE",
        "spot": True,
        "restarts": 1,
        "cost": 2.0,
    }
    monkeypatch.setenv("LAUNCHERS_RENTAL", json.dumps(facts))
    log_a_little(job(tmp_path), wandb=True)
    [stored] = signed_in.runs.values()
    assert stored.config["rental"] == {
        **{name: value for name, value in facts.items() if name != "cost"},
        "num_gpus": 0,
    }
    dollars = stored.column("money/dollars")
    assert len(dollars) >= 3
    assert 2.0 <= dollars[0] <= dollars[-1]


def test_a_restarted_job_continues_its_run_and_another_job_has_its_own(signed_in: WandbServer, tmp_path: Path) -> None:
    log_a_little(job(tmp_path), wandb=True)
    log_a_little(job(tmp_path), first_step=3, wandb=True)
    log_a_little(job(tmp_path, 1), wandb=True)
    first, second = signed_in.runs.values()
    assert first.id != second.id
    assert first.group == second.group
    assert first.column("train/loss") == pytest.approx([1 / n for n in range(1, 7)])
    assert second.column("train/loss") == pytest.approx([1, 1 / 2, 1 / 3])


def test_the_key_is_in_no_body_and_no_file(signed_in: WandbServer, tmp_path: Path) -> None:
    log_a_little(job(tmp_path), wandb=True, csv=True)
    assert signed_in.runs
    assert not any(KEY.encode() in body for body in signed_in.bodies)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_without_a_key_a_run_is_offline_and_can_be_synced(
    server: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = job(tmp_path)
    log_a_little(run, wandb=True)
    assert "WANDB_API_KEY is not set" in caplog.text
    assert server.requests == []
    [offline] = (run.logs / "wandb").glob("offline-run-*")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", str(offline)],
        env=os.environ | server.environment, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [stored] = server.runs.values()
    assert stored.id == module.run_id(run)
    assert stored.column("train/loss") == pytest.approx([1, 1 / 2, 1 / 3])
    assert stored.config["optim"] == {"lr": 0.1}


@pytest.mark.parametrize("trouble", ["wrong key", "port closed", "error 500", "silent"])
def test_trouble_at_the_start_means_offline_within_bounds(
    trouble: str,
    signed_in: WandbServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if trouble == "wrong key":
        monkeypatch.setenv("WANDB_API_KEY", WRONG_KEY)
    elif trouble == "port closed":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    elif trouble == "error 500":
        signed_in.status = 500
    else:
        signed_in.delay = 60
        monkeypatch.setattr("summarizer.dashboard.server.PROBE_SECONDS", 0.3)
    run = job(tmp_path)
    log_a_little(run, wandb=True)
    assert "W&B goes offline" in caplog.text
    assert WRONG_KEY not in caplog.text
    assert list((run.logs / "wandb").glob("offline-run-*"))
    assert os.environ.get("WANDB_MODE") is None, "the next job may have a server again"


def test_a_server_that_dies_in_the_middle_holds_up_no_step_and_the_end_only_so_long(
    signed_in: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FINISH_SECONDS", 3)
    monkeypatch.setattr(module, "TABLE_SECONDS", 1)
    run = job(tmp_path)
    built = build_loggers(config(wandb=True), run)
    built[0].log_metrics({"train/loss": 1.0}, 0)
    signed_in.status = 503
    started = time.monotonic()
    log_samples(built, 0, SAMPLES)
    for step in range(1, 50):
        built[0].log_metrics({"train/loss": 1.0}, step)
    finish_loggers(built, {"test/rougeL": 33.5}, step=49)
    assert time.monotonic() - started < 60, "without bounds wandb waits for the server for hours"
    assert "wandb sync" in caplog.text
    signed_in.status = None
    command = shlex.split(caplog.messages[-1].split("later: ")[1])
    subprocess.run([sys.executable, "-m", *command], check=True, timeout=60, cwd=tmp_path)
    [stored] = signed_in.runs.values()
    assert len(stored.column("train/loss")) == 50, "nothing is lost: what the server missed was on disk"
    assert stored.column("test/rougeL") == [33.5]


def test_only_the_first_process_of_a_job_logs_to_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert build_loggers(config(wandb=True), job(tmp_path)) == []


def test_an_offline_mode_that_the_user_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert offline_reason() == "WANDB_MODE=offline"


def test_csv_and_tensorboard_together(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = job(tmp_path)
    log_a_little(run, csv=True, tensorboard=True)
    rows = list(csv.DictReader((run.logs / "metrics.csv").open()))
    assert [float(row["train/loss"]) for row in rows] == pytest.approx([1, 1 / 2, 1 / 3])
    samples = [json.loads(line) for line in (run.logs / "samples" / "step-2.jsonl").read_text().splitlines()]
    assert [row["summary"] for row in samples] == ["a summary", "two"]
    events = EventAccumulator(str(run.logs / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx([1, 1 / 2, 1 / 3])
    assert [(event.step, event.value) for event in events.Scalars("test/rougeL")] == [(2, 33.5)]
    assert "samples/text_summary" in events.Tags()["tensors"]


def test_a_restarted_job_goes_on_with_its_table(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    run = job(tmp_path)
    log_a_little(run, csv=True)
    with (run.logs / "metrics.csv").open("a") as table:
        table.write("0.1")  # a kill in the middle of a line
    built = build_loggers(config(csv=True), run)
    built[0].log_metrics({"train/loss": 0.25, "validation/loss": 0.5}, 3)
    built[0].save()
    rows = list(csv.DictReader((run.logs / "metrics.csv").open()))
    assert [float(row["train/loss"]) for row in rows] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert [row["validation/loss"] for row in rows] == ["", "", "", "0.5"]
    assert not [warning for warning in recwarn if "will be deleted" in str(warning.message)]


JOB = [*TINY, "logger=all", "trainer.max_steps=6", "trainer.validations=2", "trainer.log_every_n_steps=1"]


@pytest.mark.slow
@pytest.mark.turns(2)
def test_a_whole_job_logs_what_training_validation_and_test_measured(signed_in: WandbServer, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    done = summarizer(*JOB, *corpus, cwd=tmp_path, **signed_in.environment)
    folder = job_folder(done)
    [stored] = signed_in.runs.values()
    assert (stored.group, stored.name) == (folder.parent.name, f"{folder.parent.name}/{folder.name}")
    assert {"tiny", "files", "cpu", "local"} <= set(stored.tags)
    assert stored.config["trainer"]["max_steps"] == 6
    measured = json.loads((folder / "metrics.json").read_text())
    assert stored.column("test/rougeL") == pytest.approx([measured["test/rougeL"]])
    assert len(stored.column("train/loss")) == 6
    assert len(stored.column("train/gradient_norm")) == 6
    # linear, from the first step to none after the last
    assert stored.column("train/lr") == pytest.approx([0.003 * left / 6 for left in range(6, 0, -1)])
    assert len(stored.column("validation/rougeL")) == len(stored.column("samples")) == 2
    assert stored.config["rental"] == {
        "provider": "local", "price": 0.0, "restarts": 0, "gpu": "cpu", "num_gpus": 0, "region": "local", "spot": False,
    }  # fmt: skip
    assert {"minutes/tokenizing", "minutes/training", "minutes/test"} <= {
        key for row in stored.history.values() for key in row
    }
    assert stored.exit_code == 0
    assert (folder / "logs" / "metrics.csv").exists()
    assert list((folder / "logs" / "tensorboard").glob("events.*"))
    assert KEY not in done.stdout
    assert not any(KEY.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.turns(2)
def test_a_job_ends_well_when_its_server_dies_on_the_way(signed_in: WandbServer, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    job = start(*JOB, "trainer.max_steps=30", "trainer.validations=3", *corpus, cwd=tmp_path, **signed_in.environment)
    deadline = time.monotonic() + 120
    while not signed_in.runs and time.monotonic() < deadline and job.running():
        time.sleep(0.05)
    signed_in.status = 503
    assert job.wait() == 0, job.output[-3000:]
    folder = Path(job.output.strip().splitlines()[-1].split(": ", 1)[1])
    assert "test/rougeL" in json.loads((folder / "metrics.json").read_text())
    assert "wandb sync" in job.output
