"""`Provider` for JarvisLabs: no bids, no labels but a name, and machines that come back from a pause under a new id."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from launchers.credentials import check_address, fingerprint, key_from_environment, key_in_file, read_key_file
from launchers.errors import CredentialError, MendInput, NoKey, OfferTaken, RetryLater
from launchers.job import MachineState, MachineStatus, Offer
from launchers.providers.base import AccountKey, CreateRequest, Need, understood
from launchers.providers.jarvis import mapping
from launchers.providers.jarvis.client import JarvisClient, NotThere, Refused, address_of, region_codes
from launchers.transport.keys import blob

KEY_VARIABLE = "JL_API_KEY"
UNLISTED_S = 15.0
"""How long a new machine may be missing from the service's own answers."""
CATALOG_S = 60.0
"""How long prices that were just read serve for the rate of a machine that runs."""


def open_provider(api_url: str | None) -> Jarvis:
    key = find_key()
    check_address(key, api_url, "JarvisLabs", KEY_VARIABLE, None)
    return Jarvis(key, api_url)


def find_key() -> str:
    """The API key, from where JarvisLabs' own tools look for it.

    Raises:
        CredentialError: none, none that can be right, or in a file that others can read.
    """
    key = key_from_environment(KEY_VARIABLE)
    if key:
        return key
    import tomllib

    import platformdirs

    path = Path(platformdirs.user_config_dir("jl")) / "config.toml"
    text = read_key_file(path)
    if text is not None:
        try:
            token = tomllib.loads(text).get("auth", {}).get("token")
        except (tomllib.TOMLDecodeError, AttributeError):
            raise CredentialError(f"The key file {path} can't be read: run `jl setup` again.") from None
        key = key_in_file(str(token or ""), path)
        if key:
            return key
    raise NoKey(
        f"No JarvisLabs key: set {KEY_VARIABLE}, from https://jarvislabs.ai/settings/api-keys "
        "(`python -m launchers doctor` checks it)."
    )


class Jarvis:
    """JarvisLabs' containers: fixed prices by card and region, spot machines that are paused when they are taken away."""

    name = "jarvis"
    keys_per_machine = False

    def __init__(self, key: str, api_url: str | None = None) -> None:
        self.account = fingerprint(key)
        self._client = JarvisClient(key, api_url)
        self._catalog: tuple[float, list[Any]] = (0.0, [])
        self._made: dict[str, tuple[str, float]] = {}
        """Machines made here: their region, and until when the service's answers may not know them yet."""

    def _rows(self, age: float) -> list[Any]:
        read, rows = self._catalog
        if not rows or time.monotonic() - read > age:
            rows = self._client.rows()
            self._catalog = (time.monotonic(), rows)
        return rows

    @understood("JarvisLabs")
    def offers(self, need: Need) -> list[Offer]:
        currency = self._client.currency()
        if currency != "USD":
            raise MendInput(
                f"The JarvisLabs account pays in {currency} and provider.max_price is in $: "
                "use an account that pays in $, or another provider."
            )
        return mapping.offers_of_rows(self._rows(0.0), need, region_codes())

    @understood("JarvisLabs")
    def create(self, request: CreateRequest) -> str:
        if len(request.label) > mapping.NAME_LENGTH:
            raise MendInput(
                f"JarvisLabs takes names of at most {mapping.NAME_LENGTH} characters and {request.label} is longer: "
                "start a new launch."
            )
        region, _ = mapping.region_and_type(request.offer)
        payload = mapping.create_payload(request.offer, request.label, request.disk_gb)
        try:
            instance = str(self._client.create(request.image, region, payload))
        except Refused as refused:
            raise refused.of_create() from None
        except NotThere as error:
            raise MendInput(f"JarvisLabs has no template {request.image!r} ({error}): set provider.image.") from None
        self._made[instance] = region, time.monotonic() + UNLISTED_S
        return instance

    @understood("JarvisLabs")
    def status(self, instance: str) -> MachineStatus:
        try:
            row = self._client.get(int(instance))
        except NotThere:
            # Also what a hiccup of the service looks like: its list decides.
            row = next((row for row in self._client.list() if str(row.machine_id) == instance), None)
        if row is None:
            _, unlisted_until = self._made.get(instance, ("", 0.0))
            early = time.monotonic() < unlisted_until
            state = MachineState.pending if early else MachineState.gone
            return MachineStatus(instance, "", state, "not known to JarvisLabs", 0.0, False, None, "")
        status = self._status_of(row)
        if status.state is MachineState.failed:
            why = self._client.failure(row.machine_id, row.region)
            return MachineStatus(**(vars(status) | {"detail": f"{status.detail}, {why}" if why else status.detail}))
        return status

    def _status_of(self, row: Any) -> MachineStatus:
        state = mapping.state_of(row.status)
        address = address_of(row.ssh_command) if row.ssh_command else None
        return MachineStatus(
            instance=str(row.machine_id),
            label=row.name or "",
            state=state,
            detail=row.status,
            price=self._rate(row, state),
            spot=bool(row.is_spot),
            gpu=mapping.card_of(row.gpu_type),
            host=f"{row.region}/{row.gpu_type}",
            addresses=(address,) if address else (),
        )

    def _rate(self, row: Any, state: MachineState) -> float:
        """$ per hour now. A machine's own row tells what it cost so far, not its rate: that is in the catalog."""
        disk = float(row.storage_gb or 0)
        if state is MachineState.stopped:
            return round(mapping.storage_price(disk), 4)
        for sold in self._rows(CATALOG_S):
            if (sold.gpu_type, sold.region) == (row.gpu_type, row.region) and sold.workload_type in (None, "container"):
                return mapping.price_of(sold, row.num_gpus or 1, disk, bool(row.is_spot)) or 0.0
        return 0.0

    @understood("JarvisLabs")
    def destroy(self, instance: str) -> None:
        # The request goes to the machine's own region; where its row can't be read, the list has the region too.
        try:
            row = self._client.get(int(instance))
        except RetryLater:
            row = next((row for row in self._client.list() if str(row.machine_id) == instance), None)
        # One that was made a moment ago may not be listed yet, and is billed all the same.
        region = row.region if row is not None else self._made.get(instance, (None, 0.0))[0]
        if region is None:
            return
        with contextlib.suppress(NotThere):
            self._client.destroy(int(instance), region)
        if row is not None:  # it was listed once: from here on it is gone when it is not
            self._made.pop(instance, None)

    @understood("JarvisLabs")
    def list_mine(self) -> list[MachineStatus]:
        return [self._status_of(row) for row in self._client.list()]

    # --- abilities

    @understood("JarvisLabs")
    def balance(self) -> float:
        return self._client.balance()

    @understood("JarvisLabs")
    def register_key(self, public_key: str) -> None:
        if all(blob(public_key) != blob(key.public) for key in self.account_keys()):
            self._client.add_key(public_key, public_key.split()[2])

    @understood("JarvisLabs")
    def account_keys(self) -> list[AccountKey]:
        return [AccountKey(key.key_id, key.key_name, key.ssh_key) for key in self._client.ssh_keys()]

    @understood("JarvisLabs")
    def remove_account_key(self, key: str) -> None:
        with contextlib.suppress(NotThere):
            self._client.remove_key(key)

    @understood("JarvisLabs")
    def authorize(self, instance: str, public_key: str) -> None:
        """Nothing to do: a machine takes the account's keys when it is created, and no others later."""

    @understood("JarvisLabs")
    def resume(self, instance: str, spot: bool) -> str:
        try:
            row = self._client.get(int(instance))
        except NotThere:
            raise OfferTaken(f"JarvisLabs does not know machine {instance} any more.") from None
        if row.status == "Pausing":
            raise RetryLater(f"JarvisLabs is still pausing machine {instance}.")
        if row.status in ("Resuming", "Running"):
            return str(row.machine_id)
        if row.status != "Paused":
            raise OfferTaken(f"JarvisLabs' machine {instance} can't be resumed ({row.status}).")
        try:
            return str(self._client.resume(row.template, row.region, mapping.resume_payload(row, spot)))
        except Refused as refused:
            raise refused.of_create() from None
        except NotThere as error:
            raise OfferTaken(f"JarvisLabs does not resume machine {instance}: {error}.") from None
