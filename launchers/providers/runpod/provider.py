"""`Provider` for RunPod: pods at fixed prices, with ssh and a key of their own to end themselves."""

from __future__ import annotations

from pathlib import Path

from launchers.credentials import check_address, fingerprint, key_from_environment, key_in_file, read_key_file
from launchers.errors import CredentialError, NoKey
from launchers.job import MachineState, MachineStatus, Offer
from launchers.providers.base import AccountKey, CreateRequest, Need, SelfDestructRequest, understood
from launchers.providers.runpod import mapping
from launchers.providers.runpod.client import Refused, RunpodClient

KEY_VARIABLE = "RUNPOD_API_KEY"
DOMAIN = "runpod.io"


def open_provider(api_url: str | None) -> Runpod:
    key = find_key()
    check_address(key, api_url, "RunPod", KEY_VARIABLE, DOMAIN)
    return Runpod(key, api_url)


def find_key() -> str:
    """The API key, from where RunPod's own tools look for it.

    Raises:
        CredentialError: none, none that can be right, or in a file that others can read.
    """
    key = key_from_environment(KEY_VARIABLE)
    if key:
        return key
    path = Path.home() / ".runpod" / "config.toml"
    text = read_key_file(path)
    if text is not None:
        import tomllib

        try:
            config = tomllib.loads(text)
            stored = config.get("apikey") or config.get("default", {}).get("api_key")
        except (tomllib.TOMLDecodeError, AttributeError):
            raise CredentialError(f"The key file {path} can't be read: run `runpodctl config` again.") from None
        key = key_in_file(str(stored or ""), path)
        if key:
            return key
    raise NoKey(
        f"No RunPod key: set {KEY_VARIABLE}, from https://www.console.runpod.io/user/settings "
        "(`python -m launchers doctor` checks it)."
    )


class Runpod:
    """RunPod's pods. The account's ssh keys are not used: a pod takes the key that it is created with."""

    name = "runpod"
    keys_per_machine = True

    def __init__(self, key: str, api_url: str | None = None) -> None:
        self.account = fingerprint(key)
        self._client = RunpodClient(key, api_url)

    @understood("RunPod")
    def offers(self, need: Need) -> list[Offer]:
        found = []
        for cloud in mapping.clouds_of(need):
            found += mapping.offers_of_rows(self._client.gpus(cloud, need.num_gpus), need, cloud)
        own = [offer for offer in found if not offer.substitute]
        return own or found

    @understood("RunPod")
    def create(self, request: CreateRequest) -> str:
        try:
            return self._client.create(mapping.create_payload(request))
        except Refused as refused:
            raise refused.of_create() from None

    @understood("RunPod")
    def status(self, instance: str) -> MachineStatus:
        pod = self._client.pod(instance)
        if pod is None:
            # Also what a hiccup of the service looks like: its list decides.
            pod = next((row for row in self._client.pods() if str(row["id"]) == instance), None)
        if pod is None:
            return MachineStatus(instance, "", MachineState.gone, "not known to RunPod", 0.0, False, None, "")
        return mapping.status_of_pod(pod)

    @understood("RunPod")
    def destroy(self, instance: str) -> None:
        self._client.delete(instance)

    @understood("RunPod")
    def list_mine(self) -> list[MachineStatus]:
        pods = [mapping.status_of_pod(pod) for pod in self._client.pods()]
        return [pod for pod in pods if pod.state is not MachineState.gone]

    # --- abilities

    @understood("RunPod")
    def register_key(self, public_key: str) -> None:
        """Nothing to do: a pod is created with the key."""

    @understood("RunPod")
    def authorize(self, instance: str, public_key: str) -> None:
        """Nothing to do: the pod has the key since it was created."""

    @understood("RunPod")
    def account_keys(self) -> list[AccountKey]:
        return []

    @understood("RunPod")
    def remove_account_key(self, key: str) -> None:
        """Nothing to do: none of ours is in the account."""

    def self_destruct(self) -> SelfDestructRequest:
        url = f"{self._client.url}/v2/pods/{{RUNPOD_POD_ID}}"
        return SelfDestructRequest("DELETE", url, {"Authorization": "Bearer {RUNPOD_API_KEY}"})
