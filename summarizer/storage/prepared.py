"""Prepared data in a storage: `task=prepare storage=...` puts it there, and a job begins without tokenizing.

It has the layout of the cache, below `<storage>/data/`, so that `summarizer.data.carried` reads what was downloaded.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from omegaconf import DictConfig

from summarizer.data.carried import notes_of, to_carry
from summarizer.data.store import MARK, cache_root, read_mark
from summarizer.errors import OutputError
from summarizer.storage.place import Place, open_place

log = logging.getLogger(__name__)
DATA = "data"
DOWNLOADED = "storage"
"""Folder of the cache for data of storages, which is only read."""


def put_prepared(config: DictConfig) -> None:
    """Upload what this machine's cache holds for a config; what is there already stays.

    Raises:
        ConfigError, OutputError: in one sentence.
    """
    place = open_place(config.storage) / DATA
    there, sent = set(place.names()), 0
    for name, source in sorted(
        to_carry(config).items(), key=lambda item: item[1].is_file()
    ):  # notes last: they name folders
        files = {name: source} if source.is_file() else folder_files(name, source)
        for path, file in files.items():
            if path not in there or source.is_file():
                place.upload(path, file)
                sent += file.stat().st_size
    print(f"Prepared data: {place.address} ({sent / 1e6:.1f} MB uploaded)")


def get_prepared(config: DictConfig) -> None:
    """Download what a job of this config reads, unless this machine has it; afterwards `carried` finds it.

    Trouble is a warning: the job prepares its data itself then.
    """
    if "CARRIED_DATA" in os.environ or to_carry(config):
        return
    place = open_place(config.storage) / DATA
    root = cache_root(config.data.cache_dir) / DOWNLOADED
    try:
        names = place.names()
        folders: list[str] = []
        if names:
            log.info("downloading prepared data of %s ...", place.address)
        for note in notes_of(config, lambda name: place.read(name) if name in names else None):
            write_file(root / note.name, note.content)
            folders += note.folders
        for folder in dict.fromkeys(folders):
            download_folder(place, folder, [name for name in names if name.startswith(f"{folder}/")], root)
    except (OutputError, OSError) as error:
        log.warning("%s The data is prepared here.", error)
        return
    if folders:
        os.environ["CARRIED_DATA"] = str(root)


def folder_files(name: str, folder: Path) -> dict[str, Path]:
    """Its files, the mark last: a folder without one counts as not there."""
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: (p.name == MARK, p))
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in files}


def download_folder(place: Place, folder: str, names: list[str], root: Path) -> None:
    if read_mark(root / folder) is not None:
        return
    for name in sorted(names, key=lambda name: (name.endswith(f"/{MARK}"), name)):
        target = root / name
        if ".." in Path(name).parts:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        place.download(name, partial)
        partial.replace(target)
    if read_mark(root / folder) is None:
        log.warning("%s/%s is not whole: the data is prepared here.", place.address, folder)


def write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
