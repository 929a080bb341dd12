"""RunPod's REST API v2 behind plain calls, its error answers as our exceptions. No call repeats itself."""

from __future__ import annotations

from typing import Any

from launchers.errors import CredentialError, LaunchError, MendInput, OfferTaken, RetryLater, Unreachable
from launchers.providers.base import BETWEEN

DEFAULT_URL = "https://api.runpod.io"
REQUEST_TIMEOUT_S = 30
_UNREADABLE = "RunPod answered something that is not the JSON it should be."


class Refused(RetryLater):
    """An error answer of the API; a `RetryLater` unless what was asked for makes it something else."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"RunPod answered {status}: {words.rstrip('.')}.")
        self.status = status
        self.words = words.rstrip(".")
        self.may_have_acted = status >= 500

    def of_create(self) -> LaunchError:
        """What a refused create means, by the table in RunPod's reference of that call."""
        if self.status == 402:
            return MendInput(f"RunPod refuses to rent ({self.words}): add credit to the account.")
        if self.status == 422:
            return MendInput(f"RunPod refuses the request ({self.words}): check provider.image and provider.disk_gb.")
        if self.status in (400, 403, 404, 409):
            # There is no code for a lack of capacity: whatever the reason, this offer can't be had.
            return OfferTaken(f"RunPod refuses this offer: {self.words}.")
        return self


class RunpodClient:
    """One account.

    Raises:
        CredentialError, RetryLater, Unreachable, MendInput: of every call; `Refused` for error answers of the API.
    """

    def __init__(self, key: str, api_url: str | None = None) -> None:
        import requests

        self.url = (api_url or DEFAULT_URL).rstrip("/")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key}"

    def gpus(self, cloud: str, count: int) -> list[dict[str, Any]]:
        """The cards of a tier with prices and stock, for pods with so many of them."""
        query = {"include": "AVAILABILITY", "product": "POD", "cloud": cloud.upper(), "count": count}
        return self._list("catalog/gpus", "gpus", query)

    def pods(self) -> list[dict[str, Any]]:
        return self._list("pods", "pods", {"includeClusterPods": "true"})

    def pod(self, pod: str) -> dict[str, Any] | None:
        """None when there is none of that id."""
        try:
            return self._request("GET", f"pods/{pod}")
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def create(self, payload: dict[str, Any]) -> str:
        """The id at once, long before the pod runs."""
        reply = self._request("POST", "pods", json=payload)
        if not reply.get("id"):
            raise RetryLater("RunPod answered the create call without an id.")
        return str(reply["id"])

    def delete(self, pod: str) -> None:
        """Done already counts as done."""
        try:
            self._request("DELETE", f"pods/{pod}")
        except Refused as refused:
            if refused.status != 404:
                raise

    def _list(self, path: str, name: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        rows = self._request("GET", path, params=query).get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.get("id") for row in rows):
            raise RetryLater(_UNREADABLE)
        return rows

    def _request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        import requests

        try:
            # A redirect would carry the key elsewhere.
            reply = self._session.request(
                method, f"{self.url}/v2/{path}", timeout=REQUEST_TIMEOUT_S, allow_redirects=False, **arguments
            )
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise Unreachable(f"RunPod does not answer ({type(error).__name__}): check the network.") from None
        except requests.exceptions.RequestException as error:
            raise MendInput(f"The request to RunPod can't be made ({error}): check provider.api_url.") from None
        if reply.status_code == 204:
            return {}
        try:
            body = reply.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            if reply.ok:
                raise RetryLater(_UNREADABLE)
            raise RetryLater(BETWEEN.format("RunPod", reply.status_code))
        if reply.ok and reply.status_code < 300:
            return body
        raise _translated(reply.status_code, body)


def _translated(status: int, body: dict[str, Any]) -> LaunchError:
    words = ": ".join(str(body[key]) for key in ("title", "detail") if body.get(key)) or "no reason given"
    words += "".join(f"; {error}" for error in body.get("errors") or [])
    if status == 401:
        return CredentialError(f"RunPod refuses the key in RUNPOD_API_KEY ({words}): make a new one.")
    return Refused(status, words)
