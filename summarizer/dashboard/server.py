"""What is asked of a W&B server before anything else, within seconds: whether it answers, knows the key, and has the project.

The library's own attempts take minutes where a server is down.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

PROBE_SECONDS = 4
VIEWER = "query Viewer { viewer { id username entity teams { edges { node { name } } } } }"
PROJECT = """query ProjectOfDashboard($entity: String!, $project: String!) {
  project(name: $project, entityName: $entity) { id name readOnly }
}"""


class ServerTrouble(Exception):
    """W&B cannot be used; the text says why, in half a sentence."""


@dataclass(frozen=True)
class Account:
    """Whose key it is: the entity that runs go to by default, and all entities that it may name."""

    entity: str
    entities: tuple[str, ...]


def address() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")


def ask(query: str, **variables: str) -> dict[str, Any]:
    """The `data` of a GraphQL answer.

    Raises:
        ServerTrouble: no key, no answer, or one that refuses.
    """
    key = os.environ.get("WANDB_API_KEY")
    if not key:
        raise ServerTrouble("WANDB_API_KEY is not set")
    request = urllib.request.Request(
        f"{address()}/graphql",
        data=json.dumps({"operationName": query.split()[1].split("(")[0], "query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Basic " + b64encode(f"api:{key}".encode()).decode()},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:
            data = json.load(answer).get("data")
    except urllib.error.HTTPError as error:
        reason = "the server refuses the key" if error.code in (401, 403) else f"the server answers {error.code}"
        raise ServerTrouble(reason) from error
    except (OSError, ValueError, AttributeError) as error:
        raise ServerTrouble("the server does not answer") from error
    return data if isinstance(data, dict) else {}


def account() -> Account:
    """Whose key `WANDB_API_KEY` is.

    Raises:
        ServerTrouble: see `ask`; also where the key is nobody's.
    """
    viewer = ask(VIEWER).get("viewer")
    if not viewer:
        raise ServerTrouble("the server refuses the key")
    own = str(viewer.get("entity") or viewer.get("username") or "")
    teams = [edge["node"]["name"] for edge in (viewer.get("teams") or {}).get("edges", [])]
    named = [own, str(viewer.get("username") or own), *teams]
    return Account(own, tuple(dict.fromkeys(name for name in named if name)))


def has_project(entity: str, project: str) -> bool:
    """Whether this key sees the project; W&B does not tell one that is missing from one that is forbidden.

    Raises:
        ServerTrouble: see `ask`.
    """
    return bool(ask(PROJECT, entity=entity, project=project).get("project"))
