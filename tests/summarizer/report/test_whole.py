"""A sweep through the command line and what one looks at afterwards: pages, tables, the Python API, a rerun."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from tests.emulators.s3 import BUCKET, client, s3_server
from tests.summarizer.jobs import TINY, summarizer, write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.turns(3)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of two jobs; its parent is where the commands run."""
    here = tmp_path_factory.mktemp("sweep")
    rates = "optim.lr=1e-3,3e-3"
    summarizer(
        "-m",
        *TINY,
        *write_corpus(here),
        rates,
        "trainer.max_epochs=2",
        "generation.reranking=mbr",
        "hydra.sweep.dir=out",
        cwd=here,
    )
    return here / "out"


def test_every_job_and_the_sweep_have_a_page(sweep: Path) -> None:
    for folder in (sweep, sweep / "0", sweep / "1"):
        assert (folder / "report.html").is_file(), folder
    assert "validation/rougeL" in (sweep / "report.html").read_text()


def test_compare_names_what_differs_best_first(sweep: Path) -> None:
    printed = summarizer("task=compare", "runs=out", cwd=sweep.parent).stdout
    assert "optim.lr" in printed
    assert "on the same 12 test rows" in printed
    values = [json.loads((sweep / job / "metrics.json").read_text())["validation/rougeL"] for job in "01"]
    best = "0.001" if values[0] >= values[1] else "0.003"
    rows = [line.split()[0] for line in printed.splitlines() if line.strip().startswith(("0.001", "0.003"))]
    assert rows[0] == best
    assert sorted(p.name for p in sweep.parent.iterdir() if p.is_dir()) == ["cache", "out"], "it leaves no folder"


def test_a_report_over_a_pattern_is_one_file(sweep: Path) -> None:
    done = summarizer("task=report", "runs=out/**", "output=all.html", cwd=sweep.parent)
    assert (sweep.parent / "all.html").stat().st_size < 5e6
    assert "2 runs" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["task=report", "runs=nowhere"], "no finished run is there"),
        (["task=compare"], "needs runs="),
        (["task=compare", "runs=out", "sweep.metric=validation/rougel"], "did you mean validation/rougeL?"),
        (["rerun=nowhere"], "no finished training is there"),
        (["task=dashboard", "logger.project=a/b"], "WANDB_API_KEY is not set"),
    ],
)
def test_what_cannot_be_shown_ends_in_one_sentence(sweep: Path, arguments: list[str], words: str) -> None:
    done = summarizer(*arguments, cwd=sweep.parent, check=False)
    assert done.returncode == 2
    assert words in done.stdout
    assert "Traceback" not in done.stdout


def test_the_python_api_gives_the_summaries_of_the_report(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import summarizer as package

    monkeypatch.setenv("SUMMARIZER_CACHE", str(sweep.parent / "cache"))
    monkeypatch.chdir(sweep.parent)
    rows = parquet.read_table(sweep / "0" / "predictions.parquet").to_pylist()
    model = package.load(sweep / "0")
    assert model.summarize([row["document"] for row in rows]) == [row["summary"] for row in rows]
    assert list(model.stream(row["document"] for row in rows[:3])) == [row["summary"] for row in rows[:3]]
    result = package.evaluate(sweep / "0", splits=["validation"], overrides=["hydra.sweep.dir=again"])
    assert result["validation/rows"] == 12
    assert result.report.is_file()


@pytest.fixture(scope="module")
def storage(sweep: Path) -> Iterator[dict[str, str]]:
    """An S3 server on loopback that holds the sweep as `runs/out`; gives the variables that reach it."""
    with s3_server() as variables:
        for path in sweep.rglob("*"):
            if path.is_file():
                client(variables).upload_file(str(path), BUCKET, f"out/{path.relative_to(sweep)}")
        yield variables


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_a_rerun_is_equal_to_the_last_bit(sweep: Path, storage: dict[str, str], place: str) -> None:
    source = "s3://runs/out/0" if place == "s3" else str(sweep / "0")
    done = summarizer(f"rerun={source}", cwd=sweep.parent, **storage)
    assert f"agrees with {source}" in done.stdout
    assert "are equal to the last bit" in done.stdout
    assert "The rerun agrees" in done.stdout
    kept = next((sweep.parent / "outputs" / "rerun").glob("*/0/rerun.json"))
    assert json.loads(kept.read_text())["agrees"] is True


def test_a_rerun_of_figures_that_are_not_the_runs_says_so(sweep: Path) -> None:
    path = sweep / "1" / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps({**metrics, **{f"test/rougeL{end}": 99.0 for end in ("", "_low", "_high")}}))
    try:
        done = summarizer(f"rerun={sweep / '1'}", cwd=sweep.parent, check=False)
    finally:
        path.write_text(json.dumps(metrics))
    assert done.returncode == 1
    assert "DOES NOT AGREE" in done.stdout
