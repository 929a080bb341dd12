"""The providers, each in a folder with the same file names, behind the interface in `base.py`.

Nothing outside a provider's folder names it: `launchers.registry` finds its descriptor by entry point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a container at Modal imports this package on its way to the worker
    from launchers.providers.base import Provider, SignUp
    from launchers.registry import Descriptor, Parts
    from launchers.settings import RentalSettings


def descriptor(name: str) -> Descriptor:
    """
    Raises:
        MendInput: no such provider is installed, or it is broken.
    """
    from launchers.errors import MendInput
    from launchers.registry import broken, descriptors

    found = descriptors().get(name)
    if found is not None:
        return found
    if name in broken():
        raise MendInput(f"The provider {name} is installed and can't be used: {broken()[name]}.")
    raise MendInput(
        f"No provider is called {name!r}; installed are {', '.join(descriptors()) or 'none'}: choose one of them, or install the "
        "package that adds it."
    )


def open_provider(name: str, api_url: str | None = None) -> Provider:
    """The provider of that name, with the credentials of the environment.

    Raises:
        CredentialError: no key, or one that can't be right.
    """
    return descriptor(name).open(api_url)


def parts_of(settings: RentalSettings) -> Parts:
    """The providers at which a launch with these settings may rent, each with its own settings: one, or those that `auto` stands for.

    Raises:
        MendInput: none of them can be asked for this.
    """
    from launchers.registry import Parts

    parts = descriptor(settings.name).parts
    return Parts({settings.name: settings}, {}) if parts is None else parts(settings)


def sign_up(name: str) -> SignUp:
    """What a newcomer does to use the provider of that name."""
    return descriptor(name).sign_up()


def stop_command(name: str, instance: str) -> str:
    """The command that destroys a machine without this package; with it, where the provider is not installed any more."""
    from launchers.registry import descriptors

    found = descriptors().get(name)
    return found.stop_command(instance) if found else f"python -m launchers stop {instance}"
