"""Error messages about providers without a key."""

from __future__ import annotations

from collections.abc import Mapping

from launchers.errors import CredentialError, LaunchError


def missing_text(heading: str, errors: Mapping[str, LaunchError]) -> str:
    """The heading, then a line per provider."""
    return "\n".join([heading, *(f"  {name}: {error}" for name, error in sorted(errors.items()))])


def no_provider(errors: Mapping[str, LaunchError], instead: str = "") -> CredentialError:
    """The error when no provider has a key: what is missing for each, and what works without one."""
    text = missing_text("No provider has a key:", errors)
    steps = "`python -m launchers doctor` explains how to sign up with each."
    return CredentialError("\n".join([text, *([instead] if instead else []), steps]))
