"""The house: what may import what, and what stands at the top level."""

import ast
import re
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


def test_no_provider_is_named_outside_its_folder():
    """Neither by an import nor by a string: a provider is added without an edit elsewhere."""
    names = {path.parent.name for path in (ROOT / "launchers" / "providers").glob("*/descriptor.py")}
    assert {"jarvis", "modal", "runpod", "slurm", "vast"} <= names
    found = []
    for path in (ROOT / "launchers").rglob("*.py"):
        own = path.parts[path.parts.index("providers") + 1] if "providers" in path.parts else ""
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named = {
                module.split(".")[2]
                for module in modules
                if module.startswith("launchers.providers.") and module.count(".") > 1
            }
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
            found += [f"{path}:{node.lineno} {name}" for name in named & names if name != own]
    assert found == []


def test_the_launchers_know_no_variable_of_a_library_that_only_the_app_uses():
    """W&B, PyTorch, transformers: what a job needs of them stands in `conf/`. Looking for keys is another matter."""
    looks_for_keys = {"secrecy.py", "secret_scan.py"}
    found = []
    for path in (ROOT / "launchers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if path.name not in looks_for_keys and re.fullmatch(
                r"(WANDB|HF|TORCH|TOKENIZERS|TRANSFORMERS|PYTORCH)_\w+", text
            ):
                found.append(f"{path}:{node.lineno} {text}")
    assert found == []


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
    assert names - fixed <= {
        "benchmarks",
        "docs",
        "LICENSE",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "constraints.txt",
        "CHANGELOG.md",
        "CITATION.cff",
        "Dockerfile",
        "Makefile",
        "mkdocs.yml",
    }
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


def test_only_capacity_asks_which_kind_a_provider_is():
    """Machines, serverless or a queue: the rest of the launch core works with `launchers.capacity.base.Capacity`."""
    found = []
    for path in (ROOT / "launchers").rglob("*.py"):
        if "capacity" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.id] if isinstance(node, ast.Name) else [node.attr] if isinstance(node, ast.Attribute) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            names += [node.arg] if isinstance(node, ast.keyword | ast.arg) and node.arg else []
            found += [f"{path}:{node.lineno} {name}" for name in names if name in ("Serverless", "per_job")]
    assert found == []


def test_the_launchers_name_no_package_that_only_the_app_uses():
    """Not even a string: which packages an image provides is a setting that the app gives."""
    found = []
    for path in (ROOT / "launchers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in ("torch", "torchvision", "torchaudio", "triton"):
                found.append(f"{path}:{node.lineno} {node.value}")
    assert found == []


def test_no_file_is_longer_than_a_reader_holds():
    long = [
        f"{path}: {count}"
        for folder in ("launchers", "summarizer", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 400
    ]
    assert long == []
