"""Hydra's own test suites of launchers, for the local launcher and for a rented machine of the emulated market.

What a launcher that rents can't satisfy, each with its reason, and what is tested in its place:

- `test_sweep_with_custom_resolver`: the resolver and the task are closures of the test process. What ships is text: the
  machine runs `python -m APP`, so that a resolver must be registered by the app. No part of a result would be comparable.
- `test_custom_sweeper_run_workdir` expects the job's working directory to be the sweep's folder. The job works in a folder of
  the machine; what comes home lies in the sweep's folder. That is asserted, with the suite's own configs and folders.
- `test_get_orig_dir_multirun` expects the directory of the command. On the machine it is the shipped copy of that directory.
- `test_to_absolute_path_multirun` expects paths relative to the command's directory, and the job to work in the sweep's folder
  (see above). Its absolute half, and paths relative to the shipped copy, are asserted.
- `BatchedSweeperTestSuite` would rent a machine a batch; it says nothing of the launcher that `LauncherTestSuite` does not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)
from hydra.test_utils.test_utils import integration_test
from omegaconf import OmegaConf

from tests.emulators import cage
from tests.emulators.vast import Delays, Vast
from tests.launchers.conftest import EXAMPLE, ROOT, environment

APP = '''\
"""What the suite runs in the test process, as an app that a machine can run."""
import hydra

@hydra.main(version_base=None, config_path="pkg://hydra.test_utils.configs")
def main(cfg):
    return 100

main()
'''


@pytest.fixture
def process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of the developer's, and the launchers importable in what the suite starts."""
    clean = environment()
    for name in set(os.environ) - set(clean):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", clean["PYTHONPATH"])


@pytest.mark.parametrize(("launcher_name", "overrides"), [("local", [])])
class TestLocalLauncher(LauncherTestSuite):
    pass


@pytest.mark.parametrize(("launcher_name", "overrides"), [("local", ["hydra.sweeper.max_batch_size=2"])])
class TestLocalLauncherInBatches(BatchedSweeperTestSuite):
    pass


@pytest.mark.slow
@pytest.mark.usefixtures("process_environment")
@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=local"])])
class TestLocalLauncherInAppsOfItsOwn(IntegrationTestSuite):
    pass


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vast]:
    reason = cage.why_not()
    if reason:
        pytest.skip(reason)
    with Vast(tmp_path_factory.mktemp("market"), delays=Delays(loading=0.02, sshd=0.02)) as market:
        yield market
        assert market.billed() == []


@pytest.fixture
def client(market: Vast, tmp_path: Path, process_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of its own and the key of the market."""
    monkeypatch.setenv("VAST_API_KEY", market.key)
    monkeypatch.setenv("LAUNCHERS_HOME", str(tmp_path / "home"))


def rental(market: Vast, **changes: Any) -> list[str]:
    """Overrides that send every job to the market; with the values that the example app has in its provider file."""
    source: Any = OmegaConf.to_container(OmegaConf.load(EXAMPLE / "descent" / "conf" / "provider" / "vast.yaml"))
    settings = source["provider"] | {
        "api_url": market.url, "python": sys.executable, "remote_overrides": [], "pass_environment": [], "sync_early": [],
    } | changes  # fmt: skip
    timing = source["hydra"]["launcher"]["timing"] | {"poll": 0.05, "status": 0.05}
    return [f"hydra.launcher.rental={grammar(settings)}", f"hydra.launcher.timing={grammar(timing)}"]


def grammar(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{grammar(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(grammar, value)) + "]"
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


@pytest.mark.slow
class TestVastLauncher(LauncherTestSuite):
    @pytest.fixture
    def launcher_name(self) -> str:
        return "vast"

    @pytest.fixture
    def overrides(self, market: Vast, client: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        project = tmp_path / "project"
        project.mkdir()
        (project / "a_module.py").write_text(APP)
        monkeypatch.chdir(project)
        return rental(market, entry_point="a_module.py", machines=2)

    # what the suite's own test asserts can't hold: see the module's docstring
    test_sweep_with_custom_resolver = None


@pytest.mark.slow
class TestVastLauncherInAppsOfItsOwn(IntegrationTestSuite):
    """The suite's apps write what they see to an absolute path; an emulated machine shares the file system, so it arrives."""

    @pytest.fixture
    def task_launcher_cfg(self) -> dict[str, Any]:
        return {}

    @pytest.fixture
    def extra_flags(self, market: Vast, client: None) -> list[str]:
        return ["-m", "hydra/launcher=vast", *rental(market)]

    @pytest.fixture
    def tmpdir(self, tmp_path: Path) -> Path:
        """The folder of the app; the ledger must not lie in the tree that ships."""
        return tmp_path / "app"

    @pytest.mark.parametrize(*IntegrationTestSuite.test_custom_sweeper_run_workdir.pytestmark[0].args)
    def test_custom_sweeper_run_workdir(
        self,
        tmpdir: Path,
        task_config: dict[str, Any],
        overrides: list[str],
        expected_dir: str,
        extra_flags: list[str],
    ) -> None:
        integration_test(
            tmpdir=tmpdir,
            task_config=task_config,
            overrides=[*extra_flags, *overrides, "hydra.job.chdir=True"],
            prints="os.getcwd()",
            expected_outputs=r"/mnt/launchers/jobs/[0-9a-f-]+-0/output",
        )
        home = tmpdir / expected_dir
        assert (home / "remote.log").exists()
        assert OmegaConf.load(home / ".hydra" / "overrides.yaml") == overrides_of_the_task(overrides)

    def test_get_orig_dir_multirun(self, tmpdir: Path, extra_flags: list[str]) -> None:
        integration_test(
            tmpdir=tmpdir,
            task_config={},
            overrides=extra_flags,
            prints="hydra.utils.get_original_cwd()",
            expected_outputs=r"/mnt/launchers/trees/[0-9a-f]+$",
        )

    def test_to_absolute_path_multirun(self, tmpdir: Path, extra_flags: list[str]) -> None:
        integration_test(
            tmpdir=tmpdir,
            task_config={},
            overrides=[*extra_flags, "hydra.job.chdir=True"],
            prints=["hydra.utils.to_absolute_path('/foo/bar')", "hydra.utils.to_absolute_path('foo/bar')"],
            expected_outputs=["/foo/bar", r"/mnt/launchers/trees/[0-9a-f]+/foo/bar"],
        )


def overrides_of_the_task(overrides: list[str]) -> list[str]:
    return [override for override in overrides if not override.startswith("hydra.")]


def test_the_suite_runs_on_the_plugins_of_this_tree() -> None:
    from hydra_plugins.launchers_plugin import local

    assert Path(local.__file__).is_relative_to(ROOT)
