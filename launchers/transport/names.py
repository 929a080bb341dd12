"""Which names of a machine's files may be written here. A folder of results is a place where programs look for code."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

SCRATCH = ".sync"
"""Folder of unfinished downloads and of what is known of finished ones; gone when all is verified."""
LOG_NAME = "remote.log"
LOCK_NAME = ".lock"
END_NAME = ".ended.json"
"""How the job ended, written once all its results are here: the proof that it never has to run again."""
_OURS = frozenset((SCRATCH, LOG_NAME, LOCK_NAME, END_NAME))
_PROGRAMS = frozenset((
    ".git", ".hg", ".jj", ".svn", ".bzr",  # their settings name commands, which a prompt or an editor runs
    ".envrc", ".autoenv", ".mise.toml", "mise.toml", ".vscode", ".idea", ".devcontainer",
    "sitecustomize.py", "usercustomize.py",
))  # fmt: skip
_MODULE = re.compile(r"([^.]+)\.(py|pyc|pyo|pyw|so|pyd|dylib|.+\.(so|pyd))")
_IGNORED = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Some file systems leave these out when they compare names."""
_CONTROL = re.compile("[\x00-\x1f\x7f]")
LONGEST_NAME = 255
LONGEST_PATH = 1024


def why_refused(path: str) -> str | None:
    """Why a path of a machine's answer may not be written below a job's folder; None when it may."""
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or any(part in ("", ".", "..") for part in parts):
        return "it is no plain path inside the job's folder"
    if (not path.isascii() and any(unicodedata.category(char) == "Cc" for char in path)) or _CONTROL.search(path):
        return "control characters in its name"
    try:
        longest = max(len(os.fsencode(part)) for part in parts)
    except UnicodeEncodeError:
        return "its name is no text"
    if longest > LONGEST_NAME or len(os.fsencode(path)) > LONGEST_PATH:
        return "its name is too long"
    plain = [folded(part) for part in parts]
    if plain[0] in _OURS:
        return "the name belongs to the launchers"
    program = next((part for part in plain if part in _PROGRAMS or part.endswith(".pth")), None)
    if program is not None:
        return f"programs run what lies in {program}"
    if plain[-1] == "head":
        return "git would take its folder for a repository, and run what that names"
    module = _module_of(plain)
    if module is not None and _is_importable(module):
        return f"Python would take it for the module {module}"
    return None


def folded(path: str) -> str:
    """The same for two names that a file system may take for one."""
    plain = path.lower() if path.isascii() else _IGNORED.sub("", unicodedata.normalize("NFC", path)).casefold()
    return "/".join(part.rstrip(". ") or part for part in plain.split("/"))


def twins(paths: Iterable[str]) -> dict[str, str]:
    """Path -> an earlier one that a file system may take for the same."""
    first: dict[str, str] = {}
    return {path: earlier for path in paths if (earlier := first.setdefault(folded(path), path)) != path}


def _module_of(parts: list[str]) -> str | None:
    """The module that Python, started in the job's folder, would find in a file at its top."""
    if len(parts) == 2 and _MODULE.fullmatch(parts[1]) and parts[1].startswith("__init__."):
        return parts[0]
    found = _MODULE.fullmatch(parts[0]) if len(parts) == 1 else None
    return found[1] if found else None


def _is_importable(module: str) -> bool:
    """Whether a program that is installed here may import a module of that name. Imports nothing.

    The project's own scripts do not count: a job may well leave a copy of them.
    """
    if module in sys.stdlib_module_names or module == "launchers":
        return True
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return True
    if spec is None or spec.origin is None:
        return False
    origin = Path(spec.origin)
    return not {"site-packages", "dist-packages"}.isdisjoint(origin.parts) or not origin.is_relative_to(Path.cwd())
