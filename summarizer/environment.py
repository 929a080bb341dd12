"""Which secrets of this side a job can't do without, where it runs on another machine; asked before anything is rented.

Imports nothing heavy. A job gets no token for the case that it might want one: the machine is a stranger's.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from summarizer.run import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)
PROBE_SECONDS = 10


def needed(config: DictConfig) -> list[str]:
    """Names of the environment variables that the composed job needs."""
    names = []
    if config.logger.wandb and config.task == "train":
        names += ["WANDB_API_KEY", *(["WANDB_BASE_URL"] if os.environ.get("WANDB_BASE_URL") else [])]
    if needs_hub_token(config):
        names.append("HF_TOKEN")
    return names


def needs_hub_token(config: DictConfig) -> bool:
    """Whether the job pushes to the hub, or reads a repository that the hub does not give to everybody.

    The hub is asked only where there is a token to be given.
    """
    if config.export.push_to_hub and config.task == "train":
        return True
    if not os.environ.get("HF_TOKEN"):
        return False
    before = config.resume or config.run
    jobs = [config, *([Run(Path(before).expanduser()).load_config()] if before else [])]
    return any(is_gated(kind, name) for job in jobs for kind, name in repositories(job))


def repositories(config: DictConfig) -> list[tuple[str, str]]:
    """What a job reads from the hub: kind and id of each repository."""
    found = []
    if config.model.hub_id and not config.get("run") and not Path(config.model.hub_id).exists():
        found.append(("models", str(config.model.hub_id)))
    if config.data.kind == "hub" and config.data.hub_id:
        found.append(("datasets", str(config.data.hub_id)))
    for key in ("train_file", "validation_file", "test_file"):
        path = str(config.data.get(key) or "")
        if config.data.kind == "files" and path.startswith("hf://"):
            parts = path.removeprefix("hf://").split("/")
            kind, rest = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
            found.append((kind, "/".join(rest[:2]).partition("@")[0]))
    return list(dict.fromkeys(found))


@functools.cache
def is_gated(kind: str, name: str) -> bool:
    """Whether the hub gives a repository to this user's token and to nobody without one."""
    try:
        return not opens(kind, name, None) and opens(kind, name, os.environ["HF_TOKEN"].strip())
    except (OSError, ValueError):
        log.warning(
            "The hub does not answer, so that it is not known whether %s needs HF_TOKEN: the job goes without it. Hand it over "
            "with provider.pass_environment=[HF_TOKEN].", name,
        )  # fmt: skip
        return False


def opens(kind: str, name: str, token: str | None) -> bool:
    """Whether the hub gives a repository's files to those who hold `token`; without one, those of gated ones are not given."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    request = urllib.request.Request(f"{endpoint}/api/{kind}/{quote(name)}")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:
            facts = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):  # private, or none at all: without a token the hub does not tell which
            return False
        raise
    return token is not None or not (facts.get("gated") or facts.get("private"))
