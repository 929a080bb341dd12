"""Summaries to a file, all of it or nothing, or to standard output as they come."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from summarizer.errors import OutputError
from summarizer.prediction.summarize import Prediction
from summarizer.standard_output import reader_is_gone


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


def check_output(config: Any) -> None:
    """Find out that `predict.output` can be written before anything is summarized.

    Raises:
        OutputError: it cannot.
    """
    if config.predict.output == "-":
        return
    path = Path(config.predict.output).expanduser().absolute()
    if path.is_dir():
        raise OutputError(f"predict.output={config.predict.output} is a folder: name a file in it.")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} of predict.output does not exist: create it or name another file.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"the folder {path.parent} of predict.output is not writable: name another file.")


def write_predictions(predictions: Iterable[Prediction], config: Any) -> None:
    """Write one line per document to `predict.output`.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = (line(prediction, config.predict.output_format) + "\n" for prediction in predictions)
    if config.predict.output == "-":
        for text in lines:
            sys.stdout.write(text)
            sys.stdout.flush()
            if reader_is_gone():  # as after `| head -1`: nobody wants the rest
                return
        return
    check_output(config)
    path = Path(config.predict.output).expanduser().absolute()
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False
        ) as file:
            temporary = Path(file.name)
            file.writelines(lines)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(
                f"predict.output={path} cannot be written ({error.strerror}): free disk space, or name another file."
            ) from error
        raise
