"""The house: what may import what, and what stands at the top level."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imported(package):
    """Every (file, module) that a package imports, at whatever depth of its code."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield path, node.module


@pytest.mark.parametrize(("package", "other"), [("summarizer", "launchers"), ("launchers", "summarizer")])
def test_science_and_logistics_do_not_know_each_other(package, other):
    files = list(imported(package))
    assert len(files) > 20
    assert [
        f"{path}: {module}" for path, module in files if module.split(".")[0] in (other, "hydra_plugins")
    ] == [] or (package == "launchers" and not [m for _, m in files if m.split(".")[0] == other])


def test_every_folder_of_code_opens_with_what_it_holds():
    for package in ("summarizer", "launchers"):
        for init in (ROOT / package).rglob("__init__.py"):
            assert ast.get_docstring(ast.parse(init.read_text())), f"{init} has no docstring"


def test_the_top_level_is_what_the_design_fixes():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    names = {name.split("/")[0] for name in tracked if name and not name.startswith(".")}
    fixed = {"conf", "summarizer", "launchers", "tests", "outputs", "pyproject.toml", "README.md"}
    assert fixed <= names
    assert names - fixed <= {"benchmarks", "docs", "LICENSE", "SECURITY.md", "constraints.txt"}
    assert [name for name in tracked if name.startswith("outputs/")] == ["outputs/README.md"]


def test_one_function_destroys_machines():
    """Whoever ends a rental, it is confirmed by the provider's own list."""
    callers = [
        (path.relative_to(ROOT).as_posix(), function.name)
        for path in (ROOT / "launchers").rglob("*.py")
        if "providers" not in path.parts and "testing" not in path.parts
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "destroy"
    ]
    assert callers == [("launchers/lifecycle/release.py", "confirm_gone")]
