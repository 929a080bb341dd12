"""task=predict: texts in, summaries out, from a finished job's model or the one that ships with the project."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from summarizer.hardware import resolve, set_threads
from summarizer.models.loading import load_trained
from summarizer.paths import shipped_model_dir
from summarizer.prediction.inputs import read_documents
from summarizer.run import Run


def predict(run: Run, config: DictConfig, overrides: list[str]) -> None:
    """Summarize `config.input`; the summaries go to `config.predict.output`."""
    documents = read_documents(config)  # before the model: a misspelt path should not cost its loading
    from summarizer.prediction.outputs import write_predictions
    from summarizer.prediction.summarize import predict_texts

    device = resolve(config, overrides)
    set_threads(config.trainer.threads)
    run.write_config(config, overrides)
    folder = Run(Path(config.run).expanduser().resolve()).model if config.run else shipped_model_dir()
    model, tokenizer = load_trained(folder)
    write_predictions(predict_texts(model.to(device.accelerator), tokenizer, documents, config), config)
