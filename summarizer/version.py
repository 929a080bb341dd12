"""What `summarizer --version` prints: this project with its commit, and the packages that decide a result."""

from __future__ import annotations

import platform
from importlib import metadata

from summarizer.provenance import git

SHOWN = ("torch", "pytorch-lightning", "transformers", "datasets", "hydra-core")


def commit_text() -> str | None:
    """`commit 3941f62a1b2c, with changes`; None outside a git checkout."""
    commit = (git("rev-parse", "--short=12", "HEAD") or "").strip()
    if not commit:
        return None
    return f"commit {commit}" + (", with changes" if (git("status", "--porcelain") or "").strip() else "")


def version_text() -> str:
    versions = [f"{name} {metadata.version(name)}" for name in SHOWN]
    commit = commit_text()
    where = f" ({commit})" if commit else ""
    return "\n".join(
        [f"summarizer {metadata.version('summarizer')}{where}", f"Python {platform.python_version()}", *versions]
    )
