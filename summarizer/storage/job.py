"""A job and its storage: claimed and restored at the start, kept up to date by a thread, complete at the end."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from summarizer.errors import ConfigError, OutputError
from summarizer.run import DECIDING, FINISHED, PLACES, Run
from summarizer.storage.manifest import MANIFEST, OWNER, local_step
from summarizer.storage.place import Place, open_place
from summarizer.storage.restore import restore, stored_manifest
from summarizer.storage.upload import Replaced, Uploader

log = logging.getLogger(__name__)

LOOK_S = 1.0
LAST_TRIES_S = 60.0
"""How long the last upload is tried again."""


def place_of(address: str, number: int) -> Place:
    """Where the job of that number is stored."""
    return open_place(address) / str(number)


@contextmanager
def stored(run: Run, config: DictConfig, number: int) -> Iterator[None]:
    """Restore what is newer there, and keep the storage equal to the job's folder while inside; does nothing without `storage`.

    Raises:
        ConfigError: another run is stored there, or the address cannot be used.
        CheckpointError: what is stored there cannot be read.
        OutputError: the storage refuses or does not answer at the start. Later it is a warning: training goes on.
    """
    if config.storage is None:
        yield
        return
    place = place_of(config.storage, number)
    writer = uuid.uuid4().hex
    claim(place, config, writer)
    fetch_newer(place, run)
    keeper = Keeper(Uploader(place, run, writer), run, place)
    keeper.start()
    try:
        yield
    finally:
        keeper.close()


def claim(place: Place, config: DictConfig, writer: str) -> None:
    """Become the owner of a place: of an empty one, or of one where this very run was stored before.

    Raises:
        ConfigError: it holds another run, or something else.
        OutputError: the storage refuses or does not answer.
    """
    settings = digest(config)
    content = place.read(OWNER)
    if content is None:
        names = [name for name in place.names() if not PurePosixPath(name).name.startswith(".")]  # half-written
        if names and MANIFEST not in names:
            raise ConfigError(f"storage={place.address} holds other files ({names[0]}): name an empty prefix.")
    else:
        try:
            owner = json.loads(content)
            known = dict(owner["settings"])
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"storage={place.address}: {OWNER} cannot be read: name another prefix, or delete what is there."
            ) from None
        other = [group for group in DECIDING if known.get(group) != settings[group]]
        if other and not config.resume:
            raise ConfigError(
                f"storage={place.address} is in use by another run (of another {', '.join(other)}): name another prefix, or "
                "delete what is there."
            )
    place.write(OWNER, (json.dumps({"writer": writer, "started": time.time(), "settings": settings}) + "\n").encode())


def digest(config: DictConfig) -> dict[str, str]:
    """Of each group that makes another run, a digest."""
    found: dict[str, str] = {}
    for group in DECIDING:
        content: Any = config[group]
        if OmegaConf.is_config(content):
            content = OmegaConf.to_container(content, resolve=True)
        if group == "data":
            content = {key: value for key, value in content.items() if f"data.{key}" not in PLACES}
        text = json.dumps(content, sort_keys=True, default=str)
        found[group] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def fetch_newer(place: Place, run: Run) -> None:
    """Download what is stored where it is further than the folder here."""
    manifest = stored_manifest(place)
    if manifest is None:
        return
    here = run.status().get("state")
    step = local_step(run.folder)
    if here == FINISHED or not (manifest.step > step or (manifest.state == FINISHED and manifest.step == step)):
        return
    size = sum(entry.size for entry in manifest.files.values())
    log.info("%s is further than this folder: downloading %.1f MB ...", place.address, size / 1e6)
    damaged = restore(place, manifest, run.folder)
    if damaged:
        log.warning("%s: damaged or missing there, and left out: %s", place.address, ", ".join(damaged))


class Keeper:
    """A thread that uploads after each checkpoint, and everything at the end."""

    def __init__(self, uploader: Uploader, run: Run, place: Place) -> None:
        self._uploader, self._run, self._place = uploader, run, place
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="storage", daemon=True)
        self._seen: object = self._checkpoints()
        self._is_replaced = False

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Wait for the upload that runs, then store the end of the job; a warning where that fails."""
        self._closing.set()
        self._thread.join()
        if self._is_replaced:
            return
        end, pause = time.monotonic() + LAST_TRIES_S, 1.0
        while True:
            try:
                self._uploader.upload()
                log.info("Stored: %s", self._place.address)
                return
            except Replaced as error:
                log.warning("%s", error)
                return
            except OutputError as error:
                if time.monotonic() + pause > end:
                    log.warning("%s The results are only in %s.", error, self._run.folder)
                    return
                time.sleep(pause)
                pause *= 2

    def _checkpoints(self) -> object:
        found = []
        for path in sorted(self._run.checkpoints.glob("*.ckpt")):
            try:
                found.append((path.name, path.stat().st_mtime_ns))
            except FileNotFoundError:
                continue
        return found

    def _work(self) -> None:
        failures, again = 0, 0.0
        while not self._closing.wait(LOOK_S):
            now = self._checkpoints()
            if now == self._seen or time.monotonic() < again:
                continue
            try:
                self._uploader.upload()
                self._seen = now
                if failures:
                    log.info("%s takes checkpoints again.", self._place.address)
                failures = 0
            except Replaced as error:
                log.warning("%s", error)
                self._is_replaced = True
                os.kill(os.getpid(), signal.SIGTERM)  # saves here and ends, as for any other stop
                return
            except OutputError as error:
                if not failures:
                    log.warning("%s Training goes on, and the next checkpoint is tried again.", error)
                failures += 1
                again = time.monotonic() + min(2.0**failures, 60.0)
