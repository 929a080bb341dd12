"""What every provider passes, as assertions: against a fake, an emulator, or, at its price, the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from launchers.job import MachineState
from launchers.providers.base import CreateRequest, DirectSsh, Need, Provider
from launchers.settings import RentalSettings

if TYPE_CHECKING:
    from launchers.job import MachineStatus
    from launchers.snapshot import Snapshot


def assert_rents_and_destroys(
    provider: Provider, need: Need, settings: RentalSettings, public_key: str, rest: Callable[[], object], label: str,
    snapshot: Snapshot | None = None,
) -> None:  # fmt: skip
    """One machine or application, from the market's offers until it is gone.

    Args:
        rest: lets a little time go by.
        snapshot: of a project, for a provider that builds what runs before it starts.
    """
    offers = [offer for offer in provider.offers(need) if not offer.spot and not offer.substitute and not offer.misfits]
    assert offers, "no offer fits"
    assert len({offer.id for offer in offers}) == len(offers), "two offers have one id"
    assert all(offer.price > 0 and offer.num_gpus == need.num_gpus and offer.gpu == need.gpu for offer in offers)
    assert {offer.provider for offer in offers} == {provider.name}
    assert _labeled(provider, label) == [], "the label is in use"

    if isinstance(provider, DirectSsh):
        provider.register_key(public_key)
        provider.register_key(public_key)  # does nothing
    offer = min(offers, key=lambda offer: offer.price)
    request = CreateRequest(offer, label, settings.image, settings.disk_gb, public_key, 1.0, snapshot, settings)
    instance = provider.create(request)
    try:
        (listed,) = _labeled(provider, label)
        assert (listed.instance, listed.label) == (instance, label)
        if isinstance(provider, DirectSsh):
            provider.authorize(instance, public_key)
        status = _until_running(provider, instance, rest)
        assert status.instance == instance
        assert status.price <= offer.price * 1.05, "it is billed above its offer"
        assert not status.spot, "it is a spot machine, on-demand was asked for"
    finally:
        provider.destroy(instance)
    for _ in range(100):
        if not _labeled(provider, label):
            break
        rest()
    assert _labeled(provider, label) == [], "it is listed after its end"
    assert provider.status(instance).state is MachineState.gone
    provider.destroy(instance)  # done already counts as done


def _labeled(provider: Provider, label: str) -> list[MachineStatus]:
    return [machine for machine in provider.list_mine() if machine.label == label]


def _until_running(provider: Provider, instance: str, rest: Callable[[], object]) -> MachineStatus:
    for _ in range(200):
        status = provider.status(instance)
        assert status.state in (MachineState.pending, MachineState.running), status.detail
        if status.state is MachineState.running and (status.addresses or not isinstance(provider, DirectSsh)):
            return status
        rest()
    raise AssertionError("it never runs")
