"""What `summarizer --version` prints: this project with its commit, and the packages that decide a result."""

from __future__ import annotations

import platform
from importlib import metadata

from summarizer.provenance import git

SHOWN = ("torch", "pytorch-lightning", "transformers", "datasets", "hydra-core")


def version_text() -> str:
    commit = (git("rev-parse", "--short=12", "HEAD") or "").strip()
    changed = ", with changes" if commit and (git("status", "--porcelain") or "").strip() else ""
    versions = [f"{name} {metadata.version(name)}" for name in SHOWN]
    where = f" (commit {commit}{changed})" if commit else ""
    return "\n".join(
        [f"summarizer {metadata.version('summarizer')}{where}", f"Python {platform.python_version()}", *versions]
    )
