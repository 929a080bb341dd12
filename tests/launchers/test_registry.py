"""Providers are found by entry point, from any package, and reading their table costs no SDK."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from launchers.errors import MendInput
from launchers.providers import descriptor, stop_command
from launchers.registry import CapacityKind, Charging, descriptors, names
from launchers.settings import RentalSettings
from tests.launchers.conftest import environment

ACME = """
from dataclasses import dataclass
from launchers.errors import NoKey
from launchers.job import Charging
from launchers.registry import CapacityKind, Descriptor
from launchers.settings import RentalSettings, bounded

@dataclass
class AcmeSettings(RentalSettings):
    anvils: int = bounded(2, 1, 5)

def _open(api_url):
    raise NoKey("No Acme key: set ACME_API_KEY.")

DESCRIPTOR = Descriptor(
    name="acme", title="Acme", settings=AcmeSettings, open=_open, sign_up=lambda: None, stop="acme end {instance}",
    capacity=CapacityKind.machines, charging=Charging.machine, key_variables=("ACME_API_KEY",),
)
"""


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """The folder of an installed distribution that adds a provider."""
    site = tmp_path / "site"
    info = site / "acme_cloud-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_cloud.py").write_text(ACME)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-cloud\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[console_scripts]\nvast = elsewhere:main\n\n[launchers.providers]\nacme = acme_cloud:DESCRIPTOR\nbad = acme_cloud:NOTHING\n"
    )
    return site


def run(project: Path, site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = environment()
    env["PYTHONPATH"] += f":{site}"
    return subprocess.run(
        [sys.executable, *command], cwd=project, env=env | {"LAUNCHERS_HOME": str(project / "home")}, text=True,
        capture_output=True, timeout=120,
    )  # fmt: skip


def test_a_package_of_others_adds_a_provider_with_its_launcher_and_settings(project: Path, acme: Path):
    folder = project / "descent" / "conf" / "provider"
    text = (folder / "vast.yaml").read_text().replace("vast", "acme")
    text = "".join(line for line in text.splitlines(True) if "reliability" not in line and "bid_factor" not in line)
    (folder / "acme.yaml").write_text(text)
    composed = run(project, acme, "-m", "descent", "provider=acme", "--cfg", "job")
    assert composed.returncode == 0, composed.stderr
    assert "anvils: 2" in composed.stdout
    assert "min_reliability" not in composed.stdout
    started = run(project, acme, "-m", "descent", "provider=acme")
    assert started.returncode == 1
    assert "No Acme key: set ACME_API_KEY." in started.stderr
    refused = run(project, acme, "-m", "descent", "provider=acme", "provider.anvils=9")
    assert "provider.anvils is 9: it must be at most 5" in refused.stderr


def test_a_provider_that_can_not_be_imported_is_named_and_the_others_work(project: Path, acme: Path):
    code = "from launchers.registry import broken, names; print(names(), broken())"
    done = run(project, acme, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "'acme'" in done.stdout
    assert "'vast'" in done.stdout
    assert "{'bad': \"acme_cloud:NOTHING can't be imported" in done.stdout


def test_reading_the_table_imports_no_sdk(project: Path, tmp_path: Path):
    heavy = ("vastai", "modal", "jarvislabs", "requests", "paramiko", "pydantic", "httpx", "importlib.metadata")
    code = f"import sys; from launchers.registry import descriptors; descriptors(); print([m for m in {heavy!r} if m in sys.modules])"
    done = run(project, tmp_path, "-c", code)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", names())
def test_a_descriptor_is_whole(name: str):
    found = descriptors()[name]
    steps = found.sign_up()
    assert steps.title == found.title
    assert found.charging is Charging.nothing or found.key_variables[0] in steps.key
    assert found.name in steps.try_it
    assert "i-1" in found.stop_command("i-1")
    assert found.capacity in CapacityKind
    common = {field.name for field in fields(RentalSettings)}
    own = [field for field in fields(found.settings) if field.name not in common]
    assert all(field.default is not MISSING or field.default_factory is not MISSING for field in own)


def test_a_name_that_no_package_provides_is_refused_with_those_that_are_there():
    with pytest.raises(MendInput, match="No provider is called 'acme'; installed are auto, jarvis, modal, "):
        descriptor("acme")
    assert stop_command("acme", "i-1") == "python -m launchers stop i-1"
