"""The docstrings of installed distributions, read from their source without importing it."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# Tests, vendored copies of other packages and generated code: their docstrings are of another kind or another author.
SKIPPED_FOLDERS = re.compile(
    r"(^|/)(tests?|testing|_?vendor(ed)?|_vendored_packages|extern(al)?|third_?party|__pycache__)(/|$)"
)
SKIPPED_FILES = re.compile(r"(^test_|_tests?\.py$|^conftest\.py$|_pb2(_grpc)?\.py$)")
LARGEST_FILE = 2_000_000  # bytes; larger ones are generated


@dataclass(frozen=True)
class Distribution:
    """One installed distribution: its normalized name, version and Python files."""

    name: str
    version: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Docstring:
    """A docstring and the dotted name of what it documents, such as "numpy/ma/core.py:MaskedArray.sum"."""

    package: str
    name: str
    text: str


def distributions() -> list[Distribution]:
    """The distributions of this environment by name, those without Python source left out."""
    found = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if not name or name in found:
            continue
        files = [
            Path(str(distribution.locate_file(file)))
            for file in distribution.files or ()
            if file.suffix == ".py"
            and not SKIPPED_FOLDERS.search(str(file.parent))
            and not SKIPPED_FILES.search(file.name)
        ]
        if files:
            found[name] = Distribution(name, distribution.version, tuple(sorted(files)))
    return [found[name] for name in sorted(found)]


def docstrings(distribution: Distribution) -> Iterator[Docstring]:
    """Docstrings of the public modules, classes and functions of a distribution, in order of file and line."""
    for path in distribution.files:
        try:
            if path.stat().st_size > LARGEST_FILE:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in the strings of others
                tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue  # templates, and source of another version of Python
        module = "/".join(path.parts[-3:])
        for name, text in _in_node(tree, ""):
            yield Docstring(distribution.name, f"{module}:{name}" if name else module, text)


def _in_node(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node)
    if text:
        yield name, text
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return  # what is defined inside a function is not public
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not child.name.startswith("_"):
            yield from _in_node(child, f"{name}.{child.name}" if name else child.name)
