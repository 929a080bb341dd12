"""Summaries to a file, atomically, or to standard output as they come."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from summarizer.errors import OutputError
from summarizer.prediction.summarize import Prediction
from summarizer.run import write_atomically


def line(prediction: Prediction, output_format: str) -> str:
    """One line: the summary, or an object with id, summary, truncated and windows."""
    if output_format == "text" or (output_format == "auto" and not prediction.jsonl):
        return " ".join(prediction.summary.split())
    row = {
        "id": prediction.id,
        "summary": prediction.summary,
        "truncated": prediction.truncated,
        "windows": prediction.windows,
    }
    return json.dumps(row, ensure_ascii=False)


def write_predictions(predictions: Iterable[Prediction], config: Any) -> None:
    """Write one line a document to `predict.output`.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = (line(prediction, config.predict.output_format) + "\n" for prediction in predictions)
    if config.predict.output == "-":
        for text in lines:
            sys.stdout.write(text)
            sys.stdout.flush()
        return
    path = Path(config.predict.output).expanduser().absolute()
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} of predict.output does not exist: create it or name another file.")
    write_atomically(path, "".join(lines))
