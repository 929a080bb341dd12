"""The end of a job: model and metrics are written before anything that may fail without them. Real trainings."""

import json

import pytest

from summarizer.metric_names import measured_at_validation
from tests.summarizer.jobs import TINY, job_folder, summarizer, write_corpus

pytestmark = pytest.mark.slow
SHORT = [*TINY, "trainer.max_steps=2", "trainer.validations=1"]


def test_what_is_optional_fails_after_model_and_metrics_in_one_sentence(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", train=48, validation=6, test=6)
    folder = tmp_path / "run" / "0"
    (folder / "predictions.parquet").mkdir(parents=True)  # cannot be written
    arguments = [*SHORT, *corpus, f"hydra.sweep.dir={folder.parent}", "export.push_to_hub=someone/short"]
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_something"}
    done = summarizer(*arguments, cwd=tmp_path, check=False, **nowhere)
    errors = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 2
    assert "Traceback" not in done.stdout
    assert len(errors) == 1
    words = ["predictions.parquet cannot be written", "pushed to someone/short", "complete", f"resume={folder}"]
    assert all(word in errors[0] for word in words), errors[0]
    assert "Scores x 100 on test" in done.stdout, "the report comes all the same"
    assert (folder / "model" / "model.safetensors").is_file()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test/rows"] == 6
    assert {key for key in metrics if key.startswith("validation/")} == measured_at_validation()
    # the way out that it names: nothing is trained again
    (folder / "predictions.parquet").rmdir()
    again = summarizer(f"resume={folder}", "export.push_to_hub=null", cwd=tmp_path, **nowhere)
    assert (job_folder(again) / "predictions.parquet").is_file()
    assert json.loads((folder / "metrics.json").read_text())["test/rougeL"] == metrics["test/rougeL"]


def test_a_job_without_a_test_split_is_scored_on_what_it_names(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", train=48, validation=6)[:2]
    folder = job_folder(summarizer(*SHORT, *corpus, "evaluation.splits=[validation]", cwd=tmp_path))
    assert json.loads((folder / "metrics.json").read_text())["validation/rows"] == 6
