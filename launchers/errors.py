"""What can go wrong on the way, sorted by what the caller does next. The text of each is one sentence for the user.

    LaunchError
    ├── MendInput            a key, file, option or cap of yours is wrong: change it and start again
    │   ├── CredentialError      a wrong key, or a key file that others can read
    │   │   └── NoKey                none at all
    │   ├── NoOffer              nothing on the market fits the caps
    │   ├── SnapshotRefused       the working tree may not travel as it is
    │   └── UnknownJob           no such job in the ledger
    ├── RetryLater           the provider does not answer now; nothing was lost
    │   └── Unreachable          no connection to the provider or the machine
    ├── TryAnotherOffer      this machine or offer is no good, another may be
    │   ├── OfferTaken           someone else rented it first
    │   ├── BadMachine           it did not come up, or is not what was paid for
    │   │   ├── SetupFailed      the project's packages could not be installed
    │   │   └── RemoteError          a command of ours failed on it
    │   └── Preempted            the machine was taken away from a running job
    ├── Cancelled            the user asked for the end
    ├── Capped               a cap or a stop is over, and the machine was not done by then: it was destroyed
    └── StopAndLook          a person must look: something may still cost money
        └── StillBilled          a machine could not be confirmed gone
            └── Kept                 a machine was kept, since its results could not be written here

Our own mistakes are assertions and keep their traceback.
"""

from __future__ import annotations

from launchers.secrecy import scrub
from launchers.text import shown


class LaunchError(Exception):
    """Base of all: its text is shown to the user as it is, without a traceback.

    It often quotes a machine, a provider or a library: secrets that they may quote are taken out here, and control characters
    become visible escapes.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(shown(scrub(text)))


class MendInput(LaunchError):
    """Something the user gave is wrong; nothing was created."""


class CredentialError(MendInput):
    """A key is missing, refused by the provider, or readable by others."""


class NoKey(CredentialError):
    """The user has no key of that provider."""


class NoOffer(MendInput):
    """No offer fits what was asked for within the caps."""


class SnapshotRefused(MendInput):
    """The working tree holds a secret, or is larger than may be shipped."""


class UnknownJob(MendInput):
    """The ledger has no such job."""


class RetryLater(LaunchError):
    """The provider has trouble of its own; the same request may succeed later."""

    may_have_acted = True
    """Whether the request may have been carried out all the same; false where the provider itself said that it was not."""


class Unreachable(RetryLater):
    """The provider or the machine did not answer."""


class TryAnotherOffer(LaunchError):
    """The offer or machine is unusable; the lifecycle excludes it and takes the next."""


class OfferTaken(TryAnotherOffer):
    """The offer was gone when it was asked for."""


class BadMachine(TryAnotherOffer):
    """The machine did not come up in time, or differs from what was offered."""


class SetupFailed(BadMachine):
    """The environment could not be made there: for want of the machine, or of what the project asks for."""


class RemoteError(BadMachine):
    """A command of ours failed on the machine; the text is the last line it wrote about it."""


class Preempted(TryAnotherOffer):
    """The machine was taken away while the job ran."""


class Cancelled(LaunchError):
    """The user stopped the launch."""


class Capped(LaunchError):
    """A cap is reached, or the time that a stop leaves a machine is over."""


class StopAndLook(LaunchError):
    """The state is unknown and only a person can settle it."""


class StillBilled(StopAndLook):
    """A machine could not be confirmed gone and may cost money."""


class Kept(StillBilled):
    """A machine holds results that could not be written here, and costs money until someone fetches them."""
