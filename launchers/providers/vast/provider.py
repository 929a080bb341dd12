"""`Provider` for Vast.ai. The only module that imports its SDK, and only when it is used.

The SDK repeats every failed request, creates included, so a second client that tries once makes and ends machines; what a
lost reply leaves behind is found by label, by the lifecycle.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launchers.credentials import check_address, fingerprint, key_from_environment, key_in_file, read_key_file
from launchers.errors import CredentialError, MendInput, NoKey, OfferTaken, RetryLater, Unreachable
from launchers.job import MachineState, MachineStatus, Offer
from launchers.providers.base import BETWEEN, AccountKey, CreateRequest, Need, SelfDestructRequest, understood
from launchers.providers.vast import mapping

KEY_VARIABLE = "VAST_API_KEY"
DOMAIN = "vast.ai"
DEFAULT_URL = "https://console.vast.ai"
REQUEST_TIMEOUT_S = 30
MOST_PAGES = 1000
"""Of 25 instances each; a list that goes on is not believed."""


def open_provider(api_url: str | None) -> Vast:
    key = find_key()
    check_address(key, api_url, "Vast.ai", KEY_VARIABLE, DOMAIN)
    return Vast(key, api_url)


def find_key() -> str:
    """The API key, from where Vast's own tools look for it.

    Raises:
        CredentialError: none, none that can be right, or in a file that others can read.
    """
    key = key_from_environment(KEY_VARIABLE)
    if key:
        return key
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for path in (config / "vastai" / "vast_api_key", Path.home() / ".vast_api_key"):
        key = key_in_file(read_key_file(path) or "", path)
        if key:
            return key
    raise NoKey(
        f"No Vast.ai key: set {KEY_VARIABLE}, from https://cloud.vast.ai/manage-keys/ (`python -m launchers doctor` checks it)."
    )


class Vast:
    """Vast.ai's market: bids for spot, machines with ssh and a key of their own to end themselves."""

    name = "vast"
    keys_per_machine = True

    def __init__(self, key: str, api_url: str | None = None) -> None:
        self.account = fingerprint(key)
        self.api_url = (api_url or DEFAULT_URL).rstrip("/")
        import logging

        VastAI = _sdk()
        # The SDK logs requests at INFO on a handler of its own.
        logging.getLogger("vastai").setLevel(logging.WARNING)
        self._reader = VastAI(key, server_url=self.api_url, retry=3)
        self._once = VastAI(key, server_url=self.api_url, retry=1)
        for client in (self._reader.client, self._once.client):
            client.timeout = REQUEST_TIMEOUT_S

    @understood("Vast.ai")
    def offers(self, need: Need) -> list[Offer]:
        return [offer for spot in (False, True) for offer in self._offers(need, spot)]

    def _offers(self, need: Need, spot: bool) -> list[Offer]:
        """Of the first search that finds something."""
        for query in mapping.offer_queries(need):
            with _translated():
                rows = self._reader.search_offers(
                    dict(query), type="bid" if spot else "on-demand", order="dph_total", storage=need.disk_gb
                )
            found = [offer for row in rows if (offer := mapping.offer_of_row(row, need, spot))]
            if found:
                return found
        return []

    @understood("Vast.ai")
    def create(self, request: CreateRequest) -> str:
        offer = request.offer
        try:
            with _translated():
                reply = self._once.create_instance(
                    id=int(offer.id),
                    image=request.image,
                    disk=request.disk_gb,
                    label=request.label,
                    # Without the price this would be an on-demand rental, whatever the search asked for.
                    bid_price=offer.price if offer.spot else None,
                    onstart_cmd="touch ~/.no_auto_tmux",
                    ssh=True,
                    direct=True,
                    # An error now, not a stopped instance that bills its disk.
                    cancel_unavail=True,
                )
        except _Refused as refused:
            self._destroy_half_made(refused.body)
            raise refused.translated() from None
        if not reply.get("success") or not reply.get("new_contract"):
            self._destroy_half_made(reply)
            raise _Refused(200, reply)  # in its own words: nothing was rented
        return str(reply["new_contract"])

    def _destroy_half_made(self, body: dict[str, Any]) -> None:
        """A refused bid can leave a stopped instance that bills its disk; its id is only in the error's body."""
        if body.get("new_contract"):
            with contextlib.suppress(RetryLater, MendInput):
                self.destroy(str(body["new_contract"]))

    @understood("Vast.ai")
    def status(self, instance: str) -> MachineStatus:
        gone = MachineStatus(instance, "", MachineState.gone, "not known to Vast.ai", 0.0, False, None, "")
        try:
            with _translated():
                row = self._raw(instance)
        except _Refused as refused:
            if refused.status == 404:
                return gone
            raise refused.translated() from None
        return mapping.status_of_row(row) if row else gone

    def _raw(self, instance: str) -> dict[str, Any] | None:
        # Not `show_instance`: it crashes on the fields that a starting instance lacks.
        reply = self._reader.client.get(f"/instances/{instance}/", query_args={"owner": "me"})
        reply.raise_for_status()
        row: dict[str, Any] | None = reply.json().get("instances")
        return row

    @understood("Vast.ai")
    def destroy(self, instance: str) -> None:
        try:
            with _translated():
                reply = self._once.destroy_instance(id=int(instance))
        except _Refused as refused:
            if refused.status == 404 or "no_such_instance" in str(refused.body):
                return
            raise refused.translated() from None
        if not reply.get("success"):
            raise RetryLater(f"Vast.ai did not destroy instance {instance}: {_words(reply)}.")

    @understood("Vast.ai")
    def list_mine(self) -> list[MachineStatus]:
        rows: list[dict[str, Any]] = []
        params: dict[str, Any] = {"select_filters": {}, "order_by": [{"col": "id", "dir": "asc"}], "limit": 25}
        for _ in range(MOST_PAGES):
            with _translated():
                page = self._reader.show_instances_v1(dict(params))
            rows += page.get("instances") or []
            if not page.get("next_token"):
                return [mapping.status_of_row(row) for row in rows]
            params["after_token"] = page["next_token"]
        raise RetryLater(f"Vast.ai's list of instances did not end after {MOST_PAGES} pages.")

    # --- abilities

    @understood("Vast.ai")
    def balance(self) -> float:
        with _translated():
            user = self._reader.show_user()
        return float(user.get("credit") or 0) + float(user.get("balance") or 0)

    @understood("Vast.ai")
    def register_key(self, public_key: str) -> None:
        """Nothing to do: the key is attached to the machine alone."""

    @understood("Vast.ai")
    def authorize(self, instance: str, public_key: str) -> None:
        with _translated():
            self._once.attach_ssh(int(instance), public_key)

    @understood("Vast.ai")
    def account_keys(self) -> list[AccountKey]:
        with _translated():
            rows = self._reader.show_ssh_keys() or []
        return [AccountKey(str(r["id"]), "", str(r.get("public_key") or r.get("key") or "")) for r in rows]

    @understood("Vast.ai")
    def remove_account_key(self, key: str) -> None:
        with _translated():
            self._once.delete_ssh_key(int(key))

    def self_destruct(self) -> SelfDestructRequest:
        return SelfDestructRequest(
            "DELETE",
            self.api_url + "/api/v0/instances/{CONTAINER_ID}/",
            {"Authorization": "Bearer {CONTAINER_API_KEY}", "Content-Type": "application/json"},
        )

    @understood("Vast.ai")
    def floor(self, instance: str) -> float | None:
        try:
            with _translated():
                row = self._raw(instance)
        except _Refused:
            return None
        return None if not row or row.get("min_bid") is None else float(row["min_bid"])


def _sdk() -> Any:
    """The SDK's client class. Its serverless half, which it can do without, takes longer to import than a request."""
    import sys

    unwanted = "vastai.serverless"
    if "vastai" in sys.modules or unwanted in sys.modules:
        from vastai import VastAI

        return VastAI
    sys.modules[unwanted] = None  # type: ignore[assignment]
    try:
        from vastai import VastAI
    finally:
        del sys.modules[unwanted]
    return VastAI


class _Refused(RetryLater):
    """An HTTP answer of 4xx or 5xx, with its body; a `RetryLater` unless `translated` knows better."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"Vast.ai answered {status}: {_words(body)}.")
        self.status = status
        self.body = body
        self.may_have_acted = status >= 500

    def translated(self) -> Exception:
        words = _words(self.body).lower()
        if self.status in (401, 403):
            return CredentialError(f"Vast.ai refuses the key in {KEY_VARIABLE} ({_words(self.body)}): make a new one.")
        if "credit" in words or "spend" in words:
            return MendInput(f"Vast.ai refuses to rent ({_words(self.body)}): add credit to the account.")
        if self.status in (404, 410) or "no_such_ask" in words:
            return OfferTaken("The offer is no longer available.")
        if self.status in (400, 422):
            return OfferTaken(f"Vast.ai refuses this offer: {_words(self.body)}.")
        return self


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The SDK's exceptions as ours. It has none of its own: `requests` errors, and KeyErrors on odd rows, come through."""
    import requests

    try:
        yield
    except requests.exceptions.HTTPError as error:
        response = error.response
        assert response is not None
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            # Of something between us and the API, which knows nothing of keys and machines.
            raise RetryLater(BETWEEN.format("Vast.ai", response.status_code)) from None
        refused = _Refused(response.status_code, body)
        if response.status_code in (401, 403):
            raise refused.translated() from None
        raise refused from None
    except requests.exceptions.JSONDecodeError:
        raise RetryLater("Vast.ai answered something unreadable.") from None
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise Unreachable(f"Vast.ai does not answer ({type(error).__name__}): check the network.") from None
    except requests.exceptions.RequestException as error:
        raise MendInput(f"The request to Vast.ai can't be made ({error}): check provider.api_url.") from None


def _words(body: dict[str, Any]) -> str:
    found = [str(body[key]) for key in ("error", "msg", "detail", "message") if body.get(key)]
    return ": ".join(found) or "no reason given"
