"""The packages of a job on a rented machine: pinned tools, and files that hash to what the lock says. Real uv and index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launchers.remote import setup

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("uv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", setup.UV], check=True)
    return str(folder / "bin" / "uv")


@pytest.fixture
def tree(uv: str, tmp_path: Path) -> Path:
    """A project with a lock file."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "a"\nversion = "0"\nrequires-python = ">=3.10"\ndependencies = ["iniconfig"]\n'
    )
    subprocess.run([uv, "lock", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize("tampered", [False, True])
def test_a_package_is_installed_only_if_it_is_the_one_that_was_locked(
    uv: str, tree: Path, tampered: bool, monkeypatch: pytest.MonkeyPatch
):
    lock = tree / "uv.lock"
    if tampered:
        text, wrong = lock.read_text(), f"sha256:{'0' * 64}"
        lock.write_text("\n".join(
            line.partition("sha256:")[0] + wrong + line.partition("sha256:")[2][64:] if "sha256:" in line else line
            for line in text.split("\n")
        ))  # fmt: skip
    monkeypatch.setattr(setup, "_uv", lambda base: uv)
    if tampered:
        with pytest.raises(RuntimeError, match=r"(?i)hash"):
            setup.prepare(str(tree / "root"), str(tree), None, [], {})
        return
    python = setup.prepare(str(tree / "root"), str(tree), None, [], {})[0]
    assert subprocess.run([python, "-c", "import iniconfig"]).returncode == 0
    assert "--hash=" in next((tree / "root").glob("env/*/requirements.txt")).read_text()


@pytest.mark.parametrize(("package", "is_there"), [("pip", True), ("iniconfig_of_the_image", False)])
def test_a_package_that_the_image_has_stays_its_own_with_what_it_brings(
    uv: str, tree: Path, package: str, is_there: bool, monkeypatch: pytest.MonkeyPatch
):
    (tree / "uv.lock").unlink()  # uv itself leaves out what a package of a lock file brings
    monkeypatch.setattr(setup, "_uv", lambda base: uv)
    setup.prepare(str(tree / "root"), str(tree), None, [], {package: ["iniconfig=="]})
    listed = next((tree / "root").glob("env/*/requirements.txt")).read_text()
    assert any(line.startswith("iniconfig==") for line in listed.splitlines()) is not is_there
