"""Settings that name functions lead to the app's own package and to nothing that it imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launchers.conftest import UserEnv

MARK = "import pathlib; pathlib.Path('OWNED').touch()"


def plant(project: Path) -> None:
    """The app imports programs of others, as every app does."""
    (project / "descent" / "tools.py").write_text(
        "import subprocess\nfrom subprocess import Popen\nfrom os import system\n"
        "def fine(config):\n    print('asked about', config.steps, flush=True)\n"
    )


FOREIGN = (
    "subprocess.Popen",
    "os.system",
    "descent.tools.Popen",
    "descent.tools.system",
    "descent.tools.subprocess.Popen",
    "Popen",
)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_config_from_elsewhere_runs_no_program(descent, project: Path, tmp_path: Path, name: str):
    plant(project)
    (tmp_path / "tips").mkdir()
    (tmp_path / "tips" / "tips.yaml").write_text(
        f"defaults: [config, _self_]\ntouch: null\nOWNED: null\nhydra:\n  launcher:\n    preflight: {name}\n"
    )
    done = descent("--config-dir", str(tmp_path / "tips"), "--config-name", "tips", "steps=1")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "hydra.launcher.preflight" in said
    assert "Traceback" not in said
    assert not (project / "OWNED").exists()
    assert "step 1 weight" not in said


def test_a_function_of_the_app_is_asked(descent, project: Path):
    plant(project)
    done = descent("steps=1", "hydra.launcher.preflight=descent.tools.fine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "asked about 1" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("key", ["forecast", "carry", "needed_environment"])
@pytest.mark.parametrize("name", ["os:system", "descent.tools:system"])
def test_no_knob_of_a_provider_calls_another_program(user_env: UserEnv, key: str, name: str):
    plant(user_env.project)
    done = user_env.run("steps=1", f"provider.{key}={name}")
    assert done.returncode != 0
    assert f"provider.{key} names '{name}', which is no function of descent" in done.stdout + done.stderr
    assert user_env.market.history == []
