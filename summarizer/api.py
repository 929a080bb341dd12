"""The Python API: a trained model as an object, and training and evaluation as functions.

Each goes through the same composition, checks and code as the command line, so that a figure from a notebook and one
from a command are one figure.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from summarizer.composition import composed, run_jobs
from summarizer.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from summarizer.prediction.inputs import Document

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a job left.

    Attributes:
        folder: the job's folder.
        metrics: flat map of metrics.json; ROUGE x 100.
    """

    folder: Path
    metrics: dict[str, Any] = field(repr=False)

    @property
    def model(self) -> Summarizer:
        """The trained model, loaded anew at each use."""
        return load(self.folder)

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"

    def __getitem__(self, metric: str) -> Any:
        return self.metrics[metric]


@dataclass(frozen=True)
class Summarizer:
    """A model with its tokenizer and the search settings that its reported figures were measured with."""

    network: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    config: DictConfig = field(repr=False)
    name: str

    def summarize(
        self,
        texts: str | Iterable[str],
        *,
        long_input: Literal["truncate", "windows"] = "truncate",
        progress: Callable[[int, int], None] | bool = False,
    ) -> list[str]:
        """One summary per text, in order; exactly what the job wrote into its predictions for the same documents.

        Args:
            texts: one text or several.
            long_input: `truncate` reads what fits into the model and warns; `windows` summarizes every window and joins.
            progress: True draws a bar on standard error; a function gets (done, all) after each batch.

        Raises:
            DataError: a text is empty, is not a string, or there is none.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        if not listed:
            raise DataError("no text to summarize: give one text or a list of texts.")
        return list(self._stream(list(_documents(listed)), long_input, progress))

    def stream(self, texts: Iterable[str], *, long_input: Literal["truncate", "windows"] = "truncate") -> Iterator[str]:
        """Summaries as they are written, for texts of any number: a few hundred are read at a time.

        Raises:
            DataError: a text is empty or is not a string.
        """
        return self._stream(_documents(texts), long_input, False)

    def _stream(
        self, documents: Iterable[Document], long_input: str, progress: Callable[[int, int], None] | bool
    ) -> Iterator[str]:
        from omegaconf import OmegaConf

        from summarizer.prediction.summarize import predict_texts
        from summarizer.tasks.predict import rouge_tokenizer_of

        config = OmegaConf.merge(self.config, {"predict": {"long_input": long_input}})
        total = len(documents) if isinstance(documents, Sequence) else 0
        with _told(progress) as tell:
            predictions = predict_texts(
                self.network, self.tokenizer, documents, config, rouge_tokenizer_of(self.config)
            )
            for done, prediction in enumerate(predictions, 1):
                tell(done, total)
                yield prediction.summary


def load(source: str | Path | None = None, *, overrides: Sequence[str] = ()) -> Summarizer:
    """A model ready to summarize, on this machine's best device.

    Args:
        source: a job's folder; None for the model that comes with the project; else a hub id or a model folder, for which
            the option of `conf/model` with this id is taken.
        overrides: as on the command line, such as `generation.num_beams=4` or `hardware=cpu`.

    Raises:
        CheckpointError: the folder holds no finished model.
        ConfigError: an override or hub id that cannot be used.
    """
    from summarizer.checks import check
    from summarizer.tasks import prepare_libraries, settle
    from summarizer.tasks.predict import load_ready

    named = list(overrides)
    folder = Path(str(source)).expanduser() if source is not None else None
    if folder is not None and (folder / "config.yaml").is_file():
        if not (folder / "model").is_dir():
            raise CheckpointError(
                f"{folder} holds no finished model: its job did not end; continue it with resume={folder}."
            )
        named.append(f"run={folder.resolve()}")
    elif folder is not None:
        named += _hub_overrides(str(source), named)
    config = settle(composed(["task=predict", "input=-", *named]), named)
    check(config)
    prepare_libraries()
    network, tokenizer = load_ready(config, named)
    return Summarizer(network, tokenizer, config, str(source or "default model"))


def train(overrides: Sequence[str] = ()) -> Result:
    """Train one model and wait for its end, here or on the provider that the overrides name.

    Raises:
        SummarizerError: in one sentence, as the command line says it.
        ConfigError: overrides that mean a sweep: use the command line, or call this once per point.
    """
    return _run_one(["task=train", *overrides])


def evaluate(run: str | Path, *, splits: Sequence[str] = ("test",), overrides: Sequence[str] = ()) -> Result:
    """Evaluate a finished job again, on other splits, data or search settings.

    Raises:
        SummarizerError: in one sentence, as the command line says it.
    """
    folder = Path(run).expanduser().resolve()
    return _run_one(["task=evaluate", f"run={folder}", f"evaluation.splits=[{','.join(splits)}]", *overrides])


def _run_one(overrides: list[str]) -> Result:
    from summarizer.checks import check

    check(composed(overrides))
    returns = run_jobs(overrides)
    if len(returns) != 1:
        raise ConfigError(f"these overrides mean {len(returns)} jobs: give one value per setting.")
    _ = returns[0].return_value  # raises what the job raised
    folder = Path(returns[0].hydra_cfg.hydra.runtime.output_dir).resolve()
    return Result(folder, json.loads((folder / "metrics.json").read_text()))


def _documents(texts: Iterable[str]) -> Iterator[Document]:
    from summarizer.prediction.inputs import Document

    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"text {i} is not a string but {type(text).__name__}.")
        if not text.strip():
            raise DataError(f"text {i} is empty: leave it out.")
        yield Document(f"text {i}", text)


def _hub_overrides(source: str, named: Sequence[str]) -> list[str]:
    """The option of `conf/model` with this hub id; a model option named by the caller takes the id."""
    from omegaconf import OmegaConf

    from summarizer.paths import config_dir

    if any(override.startswith("model=") for override in named):
        return [f"model.hub_id={source}"]
    for option in sorted((config_dir() / "model").glob("*.yaml")):
        settings: Any = OmegaConf.load(option)
        if settings.get("hub_id") == source:
            return [f"model={option.stem}"]
    raise ConfigError(
        f"{source} is neither a job's folder nor the hub id of a model option: say what kind of model it is, such as "
        f"load({source!r}, overrides=['model=t5_small'])."
    )


def _told(progress: Callable[[int, int], None] | bool) -> AbstractContextManager[Callable[[int, int], None]]:
    """A progress function for the time of a block: the caller's own, a bar on standard error, or none."""
    if callable(progress):
        return nullcontext(progress)
    if progress:
        from summarizer.data.progress import progress as shown

        return shown("summarizing", "texts")
    return nullcontext(lambda done, total: None)
