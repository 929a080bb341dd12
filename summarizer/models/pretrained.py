"""The one door to `from_pretrained`: a folder's or a hub's configuration, tokenizer and weights, or one sentence.

transformers raises a dozen kinds of errors, and initializes what a file of weights lacks without an error: a training from
there looks like any other. Both end here, as a kind: whatever it raises is translated by what lies on the disk, and a trained
tensor that came from no file is refused.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from summarizer import hub
from summarizer.errors import HubError, ModelError, SummarizerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

POINTER = b"version https://git-lfs"
GGUF = b"GGUF"
NAMES_SHOWN = 3
LOCAL_COPY = "A local folder that holds the model can be named as model.hub_id."


@dataclass(frozen=True)
class Source:
    """Where a model is loaded from.

    Attributes:
        place: a folder of this machine, or an id of the hub.
        trust_remote_code: whether Python code that comes with it may run. Left open, transformers asks on the terminal, in
            the middle of something else.
        safetensors_only: read no pickle, which runs code.
        advice: what to do where its files are damaged or do not fit; None is for a folder or hub id of model.hub_id.
        gguf: name of the GGUF file there that is the whole model; None: transformers' own form.
    """

    place: str
    revision: str | None = None
    trust_remote_code: bool = False
    safetensors_only: bool = False
    advice: str | None = None
    gguf: str | None = None

    @property
    def local(self) -> bool:
        return Path(self.place).is_dir()

    @property
    def mend(self) -> str:
        if self.advice:
            return self.advice
        return "copy the model anew" if self.local else "remove it to have it downloaded again"

    @property
    def choose(self) -> str:
        return self.advice or "check model.hub_id and model.revision, or choose another model"

    def refusal(self) -> str | None:
        """Why nothing of it can be downloaded; None for a folder."""
        return None if self.local else hub.refusal("model", self.place, self.revision)

    def where(self) -> str:
        """What `from_pretrained` is given: the hub's cache while the hub does not answer, so that no file is asked for six times.

        Raises:
            HubError: the hub gives nothing of it, and the cache holds nothing.
        """
        sentence = self.refusal()
        if sentence is None:
            return self.place
        folder = self.folder()
        if folder is None:
            raise HubError(f"{sentence} {LOCAL_COPY}")
        return str(folder)

    def options(self) -> dict[str, Any]:
        """Options of every `from_pretrained`."""
        file = {"gguf_file": self.gguf} if self.gguf else {}  # transformers asks whether the key is there
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code, **file}

    def folder(self) -> Path | None:
        """Where its files lie on this machine; None where there are none."""
        if self.local:
            return Path(self.place)
        from huggingface_hub import try_to_load_from_cache

        for name in (self.gguf,) if self.gguf else ("config.json", "tokenizer_config.json", "tokenizer.json"):
            found = try_to_load_from_cache(self.place, name, revision=self.revision)
            if isinstance(found, str):
                return Path(found).parent
        return None


def load_config(source: Source) -> Any:
    """The model's own configuration.

    Raises:
        HubError, ModelError: see `translated`.
    """
    from transformers import AutoConfig

    with translated(source, "model"):
        return AutoConfig.from_pretrained(source.where(), **source.options())


def load_pretrained_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The model's own tokenizer.

    Raises:
        HubError, ModelError: see `translated`.
    """
    from transformers import AutoTokenizer

    with translated(source, "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source.where(), **source.options())
        return tokenizer


def load_weights(auto: Any, source: Source, **options: Any) -> PreTrainedModel:
    """A model, all of whose trained tensors came from its files.

    Args:
        auto: one of transformers' Auto classes.
        options: of its `from_pretrained`, beside the source's own.

    Raises:
        HubError, ModelError: see `translated`; also a tensor that is missing or has another shape.
    """
    model: PreTrainedModel
    if source.safetensors_only:
        options["use_safetensors"] = True
    if source.gguf:
        options |= dense_options()
    with translated(source, "model"):
        model, loaded = auto.from_pretrained(
            source.where(), **source.options(), **options, output_loading_info=True, ignore_mismatched_sizes=True
        )
    refuse_other_shapes(source, loaded["mismatched_keys"])
    refuse_missing(source, model, loaded["missing_keys"])
    if loaded["unexpected_keys"]:
        tell_left_out(source.place, some(sorted(loaded["unexpected_keys"]), "tensors"))
    return model


def dense_options() -> dict[str, Any]:
    """What has the weights of a GGUF file dequantized for good: packed ones can neither be trained nor saved.

    Before it could keep them packed, transformers always dequantized, and had no such option.
    """
    import transformers

    packing = getattr(transformers, "GgufConfig", None)
    return {} if packing is None else {"quantization_config": packing(dequantize=True)}


@cache
def tell_left_out(place: str, names: str) -> None:
    """Once in a process: a model is checked before it is built."""
    log.warning(
        "model %s: its weights hold %s, which its config.json has no place for: they are left out.", place, names
    )


def refuse_other_shapes(source: Source, mismatched: Any) -> None:
    """Refuse tensors of another shape than the configuration says.

    Raises:
        ModelError: there is one.
    """
    for name, found, wanted in sorted(mismatched, key=str):
        raise ModelError(
            f"model {source.place}: tensor {name} is {shape(found)} in the weights, but {shape(wanted)} by config.json"
            f"{f', and {len(mismatched) - 1} more differ' if len(mismatched) > 1 else ''}: weights and config.json are of two "
            f"models; {source.choose}."
        )


def shape(sizes: Any) -> str:
    return " x ".join(map(str, sizes))


def refuse_missing(source: Source, model: Any, missing: Any) -> None:
    """Refuse trained tensors that no file holds: they would be random numbers.

    Two kinds of tensors need no file: those tied to another tensor, which transformers does not report, and those that the
    model computes itself, such as PEGASUS's sinusoidal positions. transformers returns the latter as trainable; they are frozen again.

    Raises:
        ModelError: there is one.
    """
    if not missing:
        return
    import torch

    with torch.device("meta"):
        fresh = type(model)(model.config)
    frozen = {name for name, tensor in fresh.named_parameters(remove_duplicate=False) if not tensor.requires_grad}
    random = []
    for name, tensor in model.named_parameters(remove_duplicate=False):
        if name in missing and name in frozen:
            tensor.requires_grad_(False)
        elif name in missing:
            random.append(name)
    if random:
        fresh_advice = "" if source.advice else ", or train from fresh weights with model.pretrained=false"
        raise ModelError(
            f"model {source.place}: its weights lack {some(sorted(random), 'tensors')}, which would be random numbers: the files are "
            f"incomplete or of another model; {source.choose}{fresh_advice}."
        )


def some(names: Sequence[str], what: str) -> str:
    """A few names and how many more: "a, b, c and 9 more tensors"."""
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more {what}" if rest > 0 else "")


@contextmanager
def translated(source: Source, what: str) -> Iterator[None]:
    """Turn whatever is raised about a hub id or folder into one sentence.

    Args:
        what: model or tokenizer.

    Raises:
        HubError: the hub does not answer, refuses, or has no such repository.
        ModelError: something is there, but it is damaged, unknown, or no model or tokenizer.
    """
    try:
        yield
    except SummarizerError:
        raise
    except (
        Exception
    ) as error:  # transformers, tokenizers and safetensors raise a dozen kinds, `Exception` itself among them
        raise problem(source, what, error) from error


def problem(source: Source, what: str, error: Exception) -> SummarizerError:
    """What is wrong with a model that cannot be loaded, by its files first and by the error's text last."""
    named = f"{what} {source.place}"
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{named} comes with Python code of its own, which is not run: use another model, or set "
            "model.trust_remote_code=true if you have read that code."
        )
    folder = source.folder()
    found = None
    if folder is not None:
        found = (
            damaged_gguf(folder / source.gguf, source.mend)
            if source.gguf
            else damage(folder, source.mend)
            or unknown_type(folder)
            or (unknown_class(folder) if what == "tokenizer" else None)
        )
    if found is not None:
        return ModelError(f"{named}: {found}")
    if (sentence := source.refusal()) is not None:  # and the cache does not hold all of it
        return HubError(f"{sentence} {LOCAL_COPY}")
    if isinstance(error, ImportError):
        return ModelError(
            f"{named} needs a package that is not installed ({one_line(error)}): pip install it, or choose another model."
        )
    if hub.said_by_hub(error) and not source.local:
        return HubError(hub.refused(error, named))
    import tokenizers
    import transformers

    return ModelError(
        f"{named} cannot be loaded by transformers {transformers.__version__} and tokenizers {tokenizers.__version__} "
        f"({one_line(error)}): {source.choose}; one made by newer versions needs those."
    )


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".: ") or type(error).__name__


def damage(folder: Path, mend: str) -> str | None:
    """What is wrong with the first damaged file of a model's folder, and how to mend it; None where all are whole."""
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            beginning = file.read(len(POINTER))
        if beginning == POINTER:
            return (
                f"{path} is a git-lfs pointer, not the file itself: run `git lfs pull` in the folder it was cloned to."
            )
        if path.suffix == ".safetensors" and (cut := cut_off(path)):
            return f"{path} is {cut}: {mend}."
        if path.suffix == ".json":
            try:
                json.loads(path.read_bytes())
            except ValueError as error:
                return f"{path} is no whole JSON file ({one_line(error)}): {mend}."
    return None


def damaged_gguf(path: Path, mend: str) -> str | None:
    """What is wrong with a GGUF file, and how to mend it; None where it is whole, and transformers does not know its kind."""
    if not path.is_file():
        there = some(sorted(file.name for file in path.parent.glob("*.gguf")), "files")
        return f"{path} is not there ({f'GGUF files there: {there}' if there else 'no GGUF file is'}): check model.gguf_file."
    with path.open("rb") as file:
        beginning = file.read(len(POINTER))
    if beginning == POINTER:
        return f"{path} is a git-lfs pointer, not the file itself: run `git lfs pull` in the folder it was cloned to."
    if not beginning.startswith(GGUF):
        return f"{path} is no GGUF file (it does not begin with {GGUF.decode()}): check model.gguf_file."
    import gguf

    try:
        gguf.GGUFReader(path)
    except Exception as error:  # numpy's, where the file is shorter than its header says; struct's and its own
        return f"{path} is cut off or damaged ({one_line(error)}; {path.stat().st_size:,} bytes): {mend}."
    return None


def cut_off(path: Path) -> str | None:
    """Whether a file of weights is shorter than its header says; the header is read, no weights are."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np"):
            return None
    except SafetensorError as error:
        return f"cut off or damaged ({one_line(error)}; {path.stat().st_size:,} bytes)"


def unknown_type(folder: Path) -> str | None:
    """Whether a folder's configuration names a family that the installed transformers does not have."""
    import transformers
    from transformers import CONFIG_MAPPING

    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    family = config.get("model_type") if isinstance(config, dict) else None
    if family is None:
        return f"{folder / 'config.json'} names no model_type: choose a model in transformers' own form."
    if family not in CONFIG_MAPPING and "auto_map" not in config:
        made = config.get("transformers_version")
        return (
            f"its model_type {family} is not known to transformers {transformers.__version__}"
            f"{f' (it was made by {made})' if made else ''}: pip install -U transformers, or choose another model."
        )
    return None


def unknown_class(folder: Path) -> str | None:
    """Whether a folder's tokenizer is of a class that the installed transformers does not have; a tokenizer.json needs none."""
    import transformers

    try:
        name = json.loads((folder / "tokenizer_config.json").read_text()).get("tokenizer_class")
    except (OSError, ValueError, AttributeError):
        return None
    if not name or hasattr(transformers, name) or (folder / "tokenizer.json").exists():
        return None
    return (
        f"its tokenizer_class {name} is not known to transformers {transformers.__version__}, and it has no tokenizer.json: "
        "pip install -U transformers, or choose another model."
    )
