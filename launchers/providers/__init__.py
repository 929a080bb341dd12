"""Those who rent out machines, each in a folder with the same file names, behind the interface in `base.py`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a container at Modal imports this package on its way to the worker
    from launchers.providers.base import Provider, SignUp

NAMES = ("jarvis", "modal", "vast")


def open_provider(name: str, api_url: str | None = None) -> Provider:
    """The provider of that name, with the credentials of the environment.

    Raises:
        CredentialError: no key.
    """
    assert name in NAMES, name
    module = importlib.import_module(f"launchers.providers.{name}.provider")
    provider: Provider = module.open_provider(api_url)
    return provider


def sign_up(name: str) -> SignUp:
    """What a newcomer does to use the provider of that name."""
    module = importlib.import_module(f"launchers.providers.{name}.signup")
    steps: SignUp = module.SIGN_UP
    return steps
