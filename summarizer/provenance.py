"""Where a result came from: commit and uncommitted changes, package versions, machine, seed, timings."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from summarizer.hardware import Device, usable_cores

PACKAGES = (
    "summarizer", "torch", "pytorch-lightning", "transformers", "tokenizers", "datasets", "peft", "hydra-core", "omegaconf",
    "rouge-score", "numpy", "pyarrow", "wandb",
)  # fmt: skip

NEW_FILES = "new_files"
"""Folder beside changes.diff: files of the code that git did not know yet."""
CODE = ("conf", "summarizer", "launchers", "pyproject.toml", "constraints.txt")
"""What of a checkout decides a result. Other new files (data, notes, keys) are not kept."""
NEW_FILE_BYTES = 1_000_000


def git(*arguments: str) -> str | None:
    """Output of a git command about the folder of this code; None without git or outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).resolve().parent), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def sent(name: str) -> str:
    """A file beside a working tree that was sent here without its history (`SOURCE_PROVENANCE` names their folder); else ""."""
    folder = os.environ.get("SOURCE_PROVENANCE")
    path = Path(folder, name) if folder else None
    return path.read_text(errors="replace") if path and path.is_file() else ""


def repository() -> Path | None:
    """Root of the checkout that this code lies in; None outside one."""
    found = git("rev-parse", "--show-toplevel")
    return Path(found.strip()) if found else None


def lock() -> dict[str, str]:
    """Every installed distribution with its version."""
    found = {str(d.metadata["Name"]).lower().replace("_", "-"): d.version for d in metadata.distributions()}
    return {"python": platform.python_version(), **dict(sorted(found.items()))}


def new_files() -> dict[str, bytes]:
    """Code files of the checkout that git does not know yet and does not ignore: path from the root -> content."""
    root = repository()
    listed = git("ls-files", "--others", "--exclude-standard", "-z", "--full-name", "--", ":/") if root else None
    found: dict[str, bytes] = {}
    for name in (listed or "").split("\0"):
        if root and name and name.split("/")[0] in CODE:
            path = root / name
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= NEW_FILE_BYTES:
                found[name] = path.read_bytes()
    return found


def versions() -> dict[str, str]:
    """Installed versions of what decides a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def collect(device: Device, seed: int) -> dict[str, Any]:
    """The facts of a run at its start. Environment variables are not among them: they may hold secrets."""
    commit = sent("commit") or git("rev-parse", "HEAD")
    return {
        "commit": commit.strip() if commit else None,
        "dirty": bool((git("status", "--porcelain") or "").strip() or sent("changes.diff")),
        "versions": versions(),
        "lock": lock(),
        "seed": seed,
        "machine": {
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": usable_cores(),
            "accelerator": device.accelerator,
            "device": device.name,
            "device_memory_gib": round(device.memory_gib, 1),
        },
        "module": Path(sys.argv[0]).name,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def changes() -> str:
    """The uncommitted diff of the code, empty when there is none (or no git)."""
    return git("diff", "HEAD") or sent("changes.diff")
