"""Tells a secret from other text: by file name, by the shape of well-known keys, and by the values this process holds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

SECRET_NAMES = re.compile(r"(API_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
"""Environment variables whose value is a secret."""
_MIN_LENGTH = 8
"""Shorter values would be found everywhere by chance."""

_FILE_NAMES = re.compile(
    r"^(\.env(\..+)?|\.netrc|_netrc|\.pypirc|\.npmrc|id_(rsa|dsa|ecdsa|ed25519)|.*\.(pem|p12|pfx|keystore)"
    r"|vast_api_key|\.vast_api_key|credentials(\.json)?|service[-_]account.*\.json)$"
)
_HARMLESS_NAMES = re.compile(r"\.(example|sample|template|dist)$")
_SHAPES = (
    ("a private key", re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}")),
    ("an AWS key", re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})")),
    ("a Hugging Face token", re.compile(rb"\bhf_[A-Za-z0-9]{30,}")),
    ("an API key", re.compile(rb"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{32,}")),
    ("a Modal token", re.compile(rb"\ba[ks]-[A-Za-z0-9]{22}\b")),
    (
        "a key in an assignment",
        re.compile(rb"(?i)(?:wandb|vast|jl|hf|openai|modal)_(?:api_key|token)[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9_-]{20,}"),
    ),
)


def secret_values(environment: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """The secrets in an environment, by variable."""
    found = environment if environment is not None else os.environ
    return {
        name: value.encode()
        for name, value in found.items()
        if SECRET_NAMES.search(name) and len(value.strip()) >= _MIN_LENGTH
    }


def find_secret(path: str, content: bytes, patterns: bool = True) -> str | None:
    """What kind of secret a file holds, in words; None when none was found.

    `patterns=False` looks only for the values that this process holds: in a text corpus, shapes of keys are just text.
    """
    name = PurePosixPath(path).name
    if patterns and _FILE_NAMES.match(name) and not _HARMLESS_NAMES.search(name):
        return "credentials, by its name,"
    for variable, value in secret_values().items():
        if value in content:
            return f"the value of {variable}"
    if patterns:
        for what, shape in _SHAPES:
            match = shape.search(content)
            if match:
                line = content.count(b"\n", 0, match.start()) + 1
                return f"{what} (line {line})"
    return None
