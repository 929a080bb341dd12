"""What to say where providers can't be asked for want of a key."""

from __future__ import annotations

from collections.abc import Mapping

from launchers.errors import CredentialError, LaunchError


def missing_text(heading: str, errors: Mapping[str, LaunchError]) -> str:
    """The heading, then a line per provider."""
    return "\n".join([heading, *(f"  {name}: {error}" for name, error in sorted(errors.items()))])


def no_provider(errors: Mapping[str, LaunchError], instead: str = "") -> CredentialError:
    """No provider can be asked: why, for each, and what can be done without a key."""
    text = missing_text("No provider can be asked:", errors)
    steps = "`python -m launchers doctor` explains how to sign up with each."
    return CredentialError("\n".join([text, *([instead] if instead else []), steps]))
