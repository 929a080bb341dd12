"""What a storage needs, asked of the config and of the storage itself while nothing has been paid for."""

from __future__ import annotations

import os
import uuid

from omegaconf import DictConfig

from summarizer.config import Task
from summarizer.errors import ConfigError
from summarizer.storage.place import open_place

VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION",
    "AWS_REGION",
)  # fmt: skip
"""By which the S3 client knows who it is and where its server is."""
SHARES_FILES = ("local", "slurm")
"""Providers whose machines see folders of the user's."""
USES = (Task.train, Task.prepare)


def storage_can_be_meant(config: DictConfig) -> None:
    """Rules of the config alone.

    Raises:
        ConfigError
    """
    address, provider = config.storage, config.provider
    if address is None:
        return
    if config.task not in USES:
        raise ConfigError(
            f"storage={address} is used by task=train and task=prepare: leave it out of task={config.task}."
        )
    protocol = address.partition("://")[0] if "://" in address else "file"
    if provider.name in SHARES_FILES:
        return
    if protocol == "file":
        raise ConfigError(
            f"storage={address} is a folder of this computer, which no machine of provider={provider.name} can reach: name a bucket, "
            "such as s3://bucket/prefix."
        )
    if protocol in ("gs", "gcs"):
        raise ConfigError(
            f"storage={address}: rented machines have no client for {protocol}://; use the bucket through s3:// with AWS_ENDPOINT_URL="
            "https://storage.googleapis.com and an HMAC key."
        )
    passed = [str(name).partition("=")[0] for name in provider.get("pass_environment", ())]
    missing = [name for name in VARIABLES if os.environ.get(name) and name not in passed]
    if protocol in ("s3", "s3a") and missing and not provider.get("secrets"):
        names = ",".join([*passed, *missing])
        raise ConfigError(
            f"storage={address}: the rented machine gets no variables of this environment that are not named: add "
            f"provider.pass_environment=[{names}]; best with a key that is good for this prefix alone."
        )


def probe(config: DictConfig) -> None:
    """Write and delete one object, before a machine is rented.

    Raises:
        ConfigError, OutputError: in one sentence.
    """
    place = open_place(config.storage)
    name = f".probe-{uuid.uuid4().hex}"
    place.write(name, b"")
    place.delete([name])


def preflight(config: DictConfig) -> None:
    """All that the client asks of a job before anything is rented."""
    from summarizer.checks import check

    check(config)
    if config.storage is not None and config.provider.name != "local":
        probe(config)
