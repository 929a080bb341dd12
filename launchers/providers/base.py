"""What the lifecycle asks of a provider: six verbs, and abilities that some have.

Calls block, in the order of seconds, and raise the classes of `launchers.errors`: `RetryLater` for trouble that may pass (the
caller repeats the call), `OfferTaken` and `BadMachine` for an offer to avoid, `MendInput` for what only the user can change.
No verb repeats itself: whether a second call is safe is the caller's knowledge.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from launchers.errors import RetryLater
from launchers.job import MachineStatus, Offer

if TYPE_CHECKING:
    from launchers.host import Host
    from launchers.settings import RentalSettings
    from launchers.snapshot import Snapshot


@dataclass(frozen=True)
class Need:
    """What a job needs of a machine; the planner compares offers with it."""

    gpu: str | None
    num_gpus: int
    gpu_memory_gib: float
    disk_gb: float
    download_mbps: float
    region: str | None
    spot: bool
    max_price: float | None = None
    settings: RentalSettings | None = None
    """Of the launch, for what only this provider asks or filters by; None: look at everything that the market has."""


@dataclass(frozen=True)
class CreateRequest:
    """One machine to rent."""

    offer: Offer
    label: str
    image: str
    disk_gb: int
    public_key: str
    """Of the key pair that must be able to log in."""
    max_hours: float
    """After which the machine may end itself, should nobody ever have spoken to it."""
    snapshot: Snapshot | None = None
    settings: RentalSettings | None = None
    """Of the launch, for a provider that builds what runs before it starts."""


@dataclass(frozen=True)
class SignUp:
    """What a newcomer does to use a provider, each in a clause; stands in the provider's `signup.py`, read without its SDK."""

    title: str
    good_for: str
    page: str
    credit: str
    key: str
    """Where it comes from, and where it goes."""
    ssh: str
    prices: str
    """Where the figures of offers and estimates come from."""
    try_it: str
    """A first command that rents nothing."""


class Provider(Protocol):
    """A market for machines."""

    name: str
    account: str
    """Fingerprint of the key; see `launchers.credentials.fingerprint`."""

    def offers(self, need: Need) -> list[Offer]:
        """What the market has of that card, also what is too expensive or does not fit, so that a refusal can name the nearest.

        What an offer lacks of the provider's own settings stands in its `misfits`. Where filters that the market itself applies
        leave nothing, ask again without them.
        """

    def create(self, request: CreateRequest) -> str:
        """Rent, and return the instance's id at once, long before it runs.

        An error does not mean that nothing was created: look for the label afterwards.

        Raises:
            OfferTaken, RetryLater, MendInput.
        """

    def status(self, instance: str) -> MachineStatus:
        """One machine; `MachineState.gone` when the provider does not know it."""

    def destroy(self, instance: str) -> None:
        """Ask for the end of a rental; done already counts as done. Only `list_mine` proves it."""

    def list_mine(self) -> list[MachineStatus]:
        """Every machine of the account that exists, whoever made it."""


@runtime_checkable
class KnowsBalance(Protocol):
    """A prepaid account."""

    def balance(self) -> float:
        """$ left."""


@dataclass(frozen=True)
class AccountKey:
    """A public ssh key in an account's list."""

    id: str
    name: str
    public: str


@runtime_checkable
class DirectSsh(Protocol):
    """Machines one can log in to with an own key."""

    keys_per_machine: bool
    """Whether a machine takes keys of its own; otherwise it takes those that the account holds when it is created."""

    def register_key(self, public_key: str) -> None:
        """Before a machine is created: make the account know the key, where a machine takes it from there alone.

        A second call does nothing.
        """

    def authorize(self, instance: str, public_key: str) -> None:
        """Let the key log in to a machine that exists."""

    def account_keys(self) -> list[AccountKey]:
        """All of the account, whoever put them there."""

    def remove_account_key(self, key: str) -> None:
        """Take a key, by its id, off the account's list."""


@dataclass(frozen=True)
class SelfDestructRequest:
    """An HTTP request the machine can make itself; `{NAME}` stands for a variable of its container's environment."""

    method: str
    url: str
    headers: dict[str, str]


@runtime_checkable
class SelfDestruct(Protocol):
    """Machines that hold a key of their own which can end them and nothing else."""

    def self_destruct(self) -> SelfDestructRequest: ...


@runtime_checkable
class SpotBidding(Protocol):
    """Interruptible machines for a bid."""

    def floor(self, instance: str) -> float | None:
        """The lowest bid that would run this machine now, $ per hour; None when unknown."""


@dataclass(frozen=True)
class JobHandles:
    """What the provider calls a job that it runs, kept in the ledger; `put` returns when it is on disk."""

    get: Callable[[str], str | None]
    put: Callable[[str, str], None]


@runtime_checkable
class Serverless(Protocol):
    """No machine to log in to: `create` makes an application, which runs all jobs of a launch at once.

    Nothing but running jobs is billed. A job lives on without its client, may be moved to another container by the provider
    itself, and its results outlive the application, so that `host` works for an instance that is gone.
    """

    def host(self, instance: str, settings: RentalSettings, handles: JobHandles) -> Host: ...


@runtime_checkable
class Resumes(Protocol):
    """Machines that are paused, with their disk, when they are taken away."""

    def resume(self, instance: str, spot: bool) -> str:
        """Ask for a stopped machine again, of the same kind as before; returns its id, which may be a new one.

        As with `create`, an error does not mean that nothing happened: look for the label afterwards.

        Raises:
            OfferTaken, RetryLater, MendInput.
        """


BETWEEN = (
    "Something between this computer and {} answered {} with a page of its own, which says nothing about the key: check proxy, "
    "VPN and firewall."
)


@contextlib.contextmanager
def understood(provider: str) -> Iterator[None]:
    """Wraps what reads an answer of a provider's API; also a decorator.

    Raises:
        RetryLater: the answer is not what the API's documentation says: a list where an object stands, a text where a number does.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RetryLater(f"{provider} answered something unreadable ({type(error).__name__}: {error}).") from error
