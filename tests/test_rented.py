"""The summarizer's own job on emulated machines of each provider: what the two halves promise together."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from launchers.snapshot import pack
from tests.emulators import cage
from tests.emulators.jarvis import Jarvis
from tests.emulators.modal import containers
from tests.emulators.modal.server import Modal
from tests.emulators.s3 import BUCKET, s3_server
from tests.emulators.vast import Vast
from tests.summarizer.jobs import ROOT, TINY, environment, job_folder, start, summarizer, write_corpus
from tests.summarizer.models.test_gguf import write_gguf
from tests.summarizer.storage.test_whole import stored_steps
from tests.summarizer.training.test_resume import same_result

pytestmark = pytest.mark.turns(6)

SHORT = [
    *(option for option in TINY if not option.startswith(("hardware=", "trainer.threads="))), "trainer.max_steps=20",
    "hardware.accelerator=cpu", "hardware.precision=32-true", "hardware.compile=false", f"provider.python={sys.executable}",
]  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.check_output(["git", "-C", str(folder), *identity, *arguments], text=True)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """This project as a user would hold it: committed, then changed."""
    folder = tmp_path / "project"
    for name in git(ROOT, "ls-files", "-z").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "All")
    (folder / "README.md").write_text("Changed and not committed.\n")
    return folder


def assert_home(folder: Path, output: str, checkout: Path, corpus: list[str]) -> None:
    """The folder holds what a local job would have left, and says where it came from."""
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"test/rougeL", "test/lead1/rougeL", "test/is_a/rougeL"} <= metrics.keys()
    assert (folder / "predictions.parquet").exists()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert (provenance["commit"], provenance["dirty"]) == (git(checkout, "rev-parse", "HEAD").strip(), True)
    assert "+Changed and not committed." in (folder / "changes.diff").read_text()
    assert f"python -m summarizer task=predict run={folder} input=-" in output
    assert "validation/rougeL" in output  # the column of its value in the table
    again = summarizer("task=evaluate", f"run={folder}", *corpus, "hardware=cpu", cwd=checkout.parent)
    assert json.loads((job_folder(again) / "metrics.json").read_text())["test/rougeL"] == metrics["test/rougeL"]


def test_the_project_itself_holds_nothing_that_may_not_travel(tmp_path):
    snapshot, _ = pack(ROOT, tmp_path, max_bytes=20_000_000)
    paths = {entry.path for entry in snapshot.entries}
    assert {"summarizer/__main__.py", "conf/config.yaml", "pyproject.toml"} <= paths


@pytest.mark.slow
@pytest.mark.skipif(cage.why_not() is not None, reason=str(cage.why_not()))
@pytest.mark.parametrize(
    ("emulator", "key", "choice"),
    [
        (Vast, "VAST_API_KEY", ["provider=vast", "hardware=4090"]),
        (Jarvis, "JL_API_KEY", ["provider=jarvis", "hardware=a100", "provider.max_price=2"]),
    ],
)
def test_a_job_on_a_rented_machine_comes_home_as_a_local_one_would(emulator, key, choice, checkout, tmp_path):
    corpus, results = write_corpus(tmp_path / "corpus"), tmp_path / "outputs"
    summarizer("task=prepare", *SHORT[:-1], *corpus, choice[1], cwd=checkout)
    with emulator(tmp_path / "market") as market:
        command = [
            *SHORT, *corpus, *choice, f"provider.api_url={market.url}", "provider.check_gpu=false",
            "provider.remote_root=/mnt/launchers", f"hydra.sweep.dir={results}",
        ]  # fmt: skip
        here = {"cwd": checkout, "LAUNCHERS_HOME": str(tmp_path / "home"), key: market.key}
        assert "Plan" in summarizer(*command, "provider.dry_run=true", **here).stdout
        assert not results.exists()
        done = summarizer(*command, **here)
        assert market.billed() == []
    assert job_folder(done) == results / "0"
    assert_home(results / "0", done.stdout, checkout, corpus)
    # What was prepared here went along.
    assert "tokenizing" not in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(cage.why_not() is not None, reason=str(cage.why_not()))
def test_a_model_in_a_file_of_this_machine_travels_with_the_job(checkout, tmp_path):
    (tmp_path / "weights").mkdir()
    write_gguf(tmp_path / "weights" / "tiny.gguf")
    corpus, results = write_corpus(tmp_path / "corpus", train=12, validation=4, test=4), tmp_path / "outputs"
    short = [option for option in SHORT if not option.startswith(("model=", "model.shape", "trainer.max_steps"))]
    with Vast(tmp_path / "market") as market:
        summarizer(
            *short, *corpus, "model=llm_lora", f"model.hub_id={tmp_path}/weights/tiny.gguf", "trainer.max_steps=2",
            "model.max_source_tokens=64", "provider=vast", "hardware=4090", f"provider.api_url={market.url}",
            "provider.check_gpu=false", "provider.remote_root=/mnt/launchers", f"hydra.sweep.dir={results}",
            cwd=checkout, LAUNCHERS_HOME=str(tmp_path / "home"), VAST_API_KEY=market.key,
        )  # fmt: skip
        assert market.billed() == []
    assert json.loads((results / "0" / "metrics.json").read_text())["train/steps"] == 2
    # an emulated machine sees this one's files, too: what it read was its own copy
    used = OmegaConf.load(results / "0" / "config.yaml").model.hub_id
    assert used.endswith("tiny.gguf")
    assert not used.startswith(str(tmp_path))
    assert (results / "0" / "model" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(containers.why_not() is not None, reason=str(containers.why_not()))
def test_a_job_at_modal_comes_home_as_a_local_one_would(checkout, tmp_path):
    corpus, results = write_corpus(tmp_path / "corpus"), tmp_path / "outputs"
    with Modal(tmp_path / "modal") as modal:
        done = summarizer(
            *SHORT, *corpus, "hardware=a100", "provider=modal", f"hydra.sweep.dir={results}",
            cwd=checkout, LAUNCHERS_HOME=str(tmp_path / "home"), **modal.variables,
        )  # fmt: skip
        assert modal.live_apps() == []
        functions = modal.ask(lambda: list(modal.control.functions.values()))
        assert {tuple(function.cards) for function in functions} == {("A100-40GB:1",)}
    assert job_folder(done) == results / "0"
    assert_home(results / "0", done.stdout, checkout, corpus)
    # Nothing had been prepared here.
    assert "tokenizing 96 documents of train" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(cage.why_not() is not None, reason=str(cage.why_not()))
def test_a_job_that_moves_between_machines_and_home_ends_as_one_that_stayed(checkout, tmp_path):
    """Preempted on one machine, resumed on another, interrupted there, resumed here."""
    corpus, results = write_corpus(tmp_path / "corpus"), tmp_path / "outputs"
    settings = [
        *(option for option in SHORT if not option.startswith(("trainer.max_steps=", "provider."))), *corpus, "trainer.threads=1",
        "trainer.max_steps=2000", "trainer.max_epochs=200", "trainer.validations=20", "trainer.checkpoint_every_n_steps=20",
        "optim.ema_decay=0.9", "hardware=4090",
        # the model only gets worse, so that its first validation is never beaten
        "optim.lr=1", "optim.gradient_clip_norm=null", "scheduler=constant",
    ]  # fmt: skip
    whole = job_folder(summarizer(*settings, f"hydra.sweep.dir={tmp_path / 'whole'}", cwd=checkout))
    with Vast(tmp_path / "market") as market:
        job = start(
            *settings, "provider=vast", f"provider.api_url={market.url}", "provider.check_gpu=false",
            "provider.remote_root=/mnt/launchers", f"provider.python={sys.executable}", "provider.spot=true",
            "provider.sync_every_s=1", f"hydra.sweep.dir={results}",
            cwd=checkout, LAUNCHERS_HOME=str(tmp_path / "home"), VAST_API_KEY=market.key,
        )  # fmt: skip

        def fetched() -> int:
            return max((int(path.stem[5:]) for path in results.glob("0/checkpoints/step-*.ckpt")), default=0)

        def wait_beyond(step: int) -> int:
            while fetched() <= step:
                assert job.running(), job.output
                time.sleep(0.1)
            return fetched()

        first = wait_beyond(0)
        market.preempt(market.billed()[0])
        while job.output.count("continuing from step-") < 1:
            assert job.running(), job.output
            time.sleep(0.1)
        second = wait_beyond(first)
        job.signal(signal.SIGTERM)
        assert job.wait() != 0, job.output
        assert len(market.history) == 2
        assert market.billed() == []
    assert first < second < 2000
    assert json.loads((results / "0" / "status.json").read_text())["state"] == "interrupted"
    done = summarizer(f"resume={results / '0'}", *corpus, cwd=tmp_path)
    assert "learning a tokenizer" not in done.stdout
    same_result(whole, results / "0")
    assert len(list((results / "0" / "resumed").glob("*.json"))) == 2


@pytest.mark.slow
@pytest.mark.skipif(cage.why_not() is not None, reason=str(cage.why_not()))
def test_a_job_whose_machine_and_client_know_nothing_goes_on_from_its_bucket(checkout, tmp_path):
    """Nothing is synced here, and the machine is lost; then the client dies, and the next machine is lost, too."""
    corpus, results, home = write_corpus(tmp_path / "corpus"), tmp_path / "outputs", tmp_path / "home"
    with s3_server() as variables, Vast(tmp_path / "market") as market:
        secrets = {"VAST_API_KEY": market.key, "LAUNCHERS_HOME": str(home), **variables}
        job = start(
            *SHORT, *corpus, "trainer.max_steps=3000", "trainer.max_epochs=300", "trainer.checkpoint_every_n_steps=20",
            "trainer.threads=1", "hardware=4090", "provider=vast", f"provider.api_url={market.url}", "provider.check_gpu=false",
            "provider.remote_root=/mnt/launchers", "provider.spot=true", "provider.sync_every_s=10000",
            f"provider.pass_environment=[{','.join(variables)}]", f"storage=s3://{BUCKET}/rented", f"hydra.sweep.dir={results}",
            cwd=checkout, **secrets,
        )  # fmt: skip

        def wait_for_step_beyond(step: int) -> int:
            while (steps := stored_steps(variables, "rented/0")) == [] or steps[-1] <= step:
                assert job.running(), job.output
                time.sleep(0.1)
            return steps[-1]

        first = wait_for_step_beyond(0)
        market.lose_host(market.billed()[0])
        while "continuing from step-" not in job.output:
            assert job.running(), job.output
            time.sleep(0.1)
        assert int(job.output.partition("continuing from step-")[2][:8]) >= first
        second = wait_for_step_beyond(first + 100)
        job.signal(signal.SIGKILL)
        job.wait()
        market.lose_host(market.billed()[0])
        command = [sys.executable, "-m", "launchers", "fetch"]
        done = subprocess.run(
            command, cwd=checkout, env=environment(home, **secrets), text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert max(int(path.stem[5:]) for path in results.glob("0/checkpoints/step-*.ckpt")) >= second
