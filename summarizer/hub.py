"""What the Hugging Face Hub answers, as one sentence with advice: for models, data and whatever else is taken from it.

A repository is asked for once, with one more try that is shown, before a library's own downloads begin: those try each file
six times in silence, 23 to 46 seconds long, and say afterwards what they did instead of what the hub said.

Must not know models, corpora or jobs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import cache
from typing import Literal

log = logging.getLogger(__name__)

Kind = Literal["model", "dataset"]
ASK_AGAIN_SECONDS = 2.0
TIMEOUT_SECONDS = 10.0
PASSING = (408, 429, 500, 502, 503, 504)  # statuses that another try may change
TOKENS = "https://huggingface.co/settings/tokens"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those it was raised from: libraries wrap what the hub said in errors of their own."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def refusal(kind: Kind, repository: str, revision: str | None) -> str | None:
    """Why a repository cannot be downloaded from here, in one sentence; None where it can.

    Asked once in a process for each repository.
    """
    from huggingface_hub import constants

    return _asked(constants.ENDPOINT, kind, repository, revision)


@cache
def _asked(endpoint: str, kind: Kind, repository: str, revision: str | None) -> str | None:
    from huggingface_hub import is_offline_mode

    what = f"{kind} {repository}{f' at {revision}' if revision else ''}"
    if is_offline_mode():
        return (
            f"{what} is not in the hub's cache, and HF_HUB_OFFLINE allows no download: unset it, or name a local copy."
        )
    for last in (False, True):
        try:
            _ask(endpoint, kind, repository, revision)
        except Exception as error:  # the HTTP library below has changed twice, and its errors with it
            sentence = refused(error, what)
            status = status_of(error)
            if last or (status is not None and status not in PASSING):
                return sentence
            said = f"answers {status}" if status else f"cannot be reached ({type(error).__name__})"
            log.warning("the hub %s for %s; asking once more in %.0f s ...", said, what, ASK_AGAIN_SECONDS)
            time.sleep(ASK_AGAIN_SECONDS)
        else:
            return None
    return None


def _ask(endpoint: str, kind: Kind, repository: str, revision: str | None) -> None:
    """One request for the repository's list of files, and one for a file: a gated repository shows the list to everyone."""
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    info = HfApi(endpoint=endpoint).repo_info(repository, repo_type=kind, revision=revision, timeout=TIMEOUT_SECONDS)
    files = [file.rfilename for file in getattr(info, "siblings", None) or []]
    open_to_all = (".gitattributes", "README.md")
    for name in [name for name in files if name not in open_to_all][:1]:
        url = hf_hub_url(repository, name, repo_type=kind, revision=revision, endpoint=endpoint)
        get_hf_file_metadata(url, timeout=TIMEOUT_SECONDS)


def status_of(error: BaseException) -> int | None:
    """The status of the hub's answer; None where there was no answer."""
    for found in causes(error):
        status = getattr(getattr(found, "response", None), "status_code", None)
        if status is not None:
            return int(status)
    return None


def said_by_hub(error: BaseException) -> bool:
    """Whether an error, or one it was raised from, is about an answer of the hub or the way to it."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    transport = ("httpx", "httpx2", "httpcore", "requests", "urllib3", "aiohttp")
    return any(
        isinstance(
            found, (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError)
        )
        or type(found).__module__.partition(".")[0] in transport
        for found in causes(error)
    )


def refused(error: BaseException, what: str) -> str:
    """The sentence for an error of the hub's client.

    Args:
        what: is asked for, such as "model google/t5" or "dataset a/b at main".
    """
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = status_of(error)
    kinds = tuple(causes(error))
    answered = f"the hub answers {status} for {what}"
    if any(isinstance(found, GatedRepoError) for found in kinds):
        return (
            f"{answered}, which is gated: accept its conditions on its page of the hub, and set HF_TOKEN to a token of that "
            f"account ({TOKENS})."
        )
    if any(isinstance(found, DisabledRepoError) for found in kinds):
        return f"{answered}, which its owners or the hub disabled: choose another."
    if any(isinstance(found, RevisionNotFoundError) for found in kinds):
        return f"{answered}: the repository is there, but not this revision; check the revision's name."
    if any(isinstance(found, RepositoryNotFoundError) for found in kinds) or status == 404:
        return f"{answered}: neither the hub nor this machine has it; check the name, and for a private one set HF_TOKEN ({TOKENS})."
    if status == 401:
        return f"{answered}: it does not accept the token in HF_TOKEN; make another one ({TOKENS}) or unset it."
    if status == 403:
        return f"{answered}: the token in HF_TOKEN has no right to it; give it the right to read this repository ({TOKENS})."
    if status == 429:
        return (
            f"{answered}, too many requests from this address: wait {_wait(kinds)} and give the same command again; with HF_TOKEN set "
            "the limit is higher."
        )
    if status is not None and status >= 500:
        return f"{answered}, an error of its own: give the same command again in some minutes (https://status.huggingface.co)."
    if status is not None:
        return f"{answered}: check HF_ENDPOINT."
    return f"the hub cannot be reached for {what} ({type(kinds[-1]).__name__}): check the network and HF_ENDPOINT."


def _wait(kinds: tuple[BaseException, ...]) -> str:
    for found in kinds:
        asked = getattr(getattr(found, "response", None), "headers", {}).get("Retry-After", "")
        if asked.isdecimal():
            return f"{asked} s"
    return "some minutes"


def forget() -> None:
    """Ask anew from now on: a process that lives long may see another network."""
    _asked.cache_clear()
