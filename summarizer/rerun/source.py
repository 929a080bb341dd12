"""The code of a run, rebuilt: its commit in a worktree of this repository, its uncommitted changes, its new files."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from summarizer.errors import ConfigError
from summarizer.provenance import NEW_FILES, repository
from summarizer.run import Run


@contextmanager
def rebuilt_source(run: Run, provenance: dict[str, Any]) -> Iterator[Path | None]:
    """A folder with the run's code, removed at the end; None where it ran from an installed package, which has no commits.

    Raises:
        ConfigError: the commit is not in this repository, or the changes do not apply to it.
    """
    commit = provenance.get("commit")
    if not commit:
        yield None
        return
    root = repository()
    if root is None:
        raise ConfigError(
            f"{run.folder} ran from commit {str(commit)[:12]}, but this is no git checkout: clone the project, and start "
            "rerun= there."
        )
    if git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise ConfigError(
            f"{run.folder} ran from commit {str(commit)[:12]}, which this repository does not have: fetch it first "
            f"(git fetch origin {commit})."
        )
    folder = Path(tempfile.mkdtemp(prefix="summarizer-rerun-"))
    tree = folder / "source"
    try:
        made = git(root, "worktree", "add", "--detach", "--quiet", str(tree), str(commit))
        if made.returncode:
            raise ConfigError(
                f"git cannot check out {str(commit)[:12]} ({last_line(made.stderr)}): see git worktree list."
            )
        apply_changes(run, tree)
        yield tree
    finally:
        git(root, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(folder, ignore_errors=True)


def apply_changes(run: Run, tree: Path) -> None:
    """Put the run's uncommitted changes and new files into a checkout of its commit."""
    changes = run.folder / "changes.diff"
    if changes.is_file() and changes.read_bytes().strip():
        done = git(tree, "apply", "--whitespace=nowarn", str(changes.resolve()))
        if done.returncode:
            raise ConfigError(
                f"{changes} does not apply to the run's own commit ({last_line(done.stderr)}): it was edited or cut."
            )
    new = run.folder / NEW_FILES
    if new.is_dir():
        for path in sorted(new.rglob("*")):
            if path.is_file() and not path.is_symlink():
                target = tree / path.relative_to(new)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
