"""`launchers.plan` and `launchers.launch`: the same composition and checks as on the command line, with typed results."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launchers.conftest import ROOT, environment

Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def python(project: Path, tmp_path: Path) -> Python:
    """Runs a script in the example app's folder, for a user without any key."""
    home = {name: str(tmp_path / "home") for name in ("HOME", "XDG_CONFIG_HOME", "LAUNCHERS_HOME")}
    variables = environment(**home, MODAL_CONFIG_PATH=str(tmp_path / "none"))

    def run(script: str, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, cwd=project, env=variables | extra, capture_output=True, text=True, timeout=120)

    return run


def test_the_examples_of_the_documentation_run(python: Python):
    page = (ROOT / "docs" / "launching.md").read_text()
    [script] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    done = python(script)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = [line for line in done.stdout.splitlines() if line]
    promised = [line.split("#", 1)[1].strip() for line in script.splitlines() if "print(" in line and "#" in line]
    assert len(promised) == 4
    for promise in promised:
        parts = [part.strip() for part in promise.split("...") if part.strip()]
        assert [line for line in printed if all(part in line for part in parts)], f"{promise!r} is not in {printed}"


def test_the_import_is_cheap(python: Python):
    done = python(
        "import launchers, sys; print(sorted({'hydra', 'torch', 'paramiko', 'rich', 'omegaconf'} & set(sys.modules)))"
    )
    assert done.stdout == "[]\n"
    done = python("import launchers; print(launchers.JobState.finished, launchers.nothing)")
    assert "module 'launchers' has no attribute 'nothing'" in done.stderr


def test_a_plan_leaves_nothing_behind_and_puts_hydra_back(python: Python, project: Path):
    done = python(
        "import launchers\n"
        "from hydra.core.global_hydra import GlobalHydra\n"
        "jobs = launchers.plan('descent', ['provider=modal,local', 'provider.gpu=A100', 'steps=1,2'])\n"
        "print([(j.number, j.provider, j.cost is not None, j.refusal, 'steps=2' in j.overrides) for j in jobs])\n"
        "print(GlobalHydra.instance().is_initialized())\n".replace("'provider.gpu=A100', ", "")
    )
    assert done.returncode == 0, done.stderr
    jobs, initialized = done.stdout.splitlines()
    assert jobs == str(
        [(0, "modal", True, None, False), (1, "modal", True, None, True), (2, "local", True, None, False), (3, "local", True, None, True)]
    )  # fmt: skip
    assert initialized == "False"
    assert not (project / "outputs").exists()


def test_a_plan_says_why_a_launch_would_be_refused(python: Python):
    done = python(
        "import launchers\n"
        "[job] = launchers.plan('descent', ['provider=jarvis', 'provider.gpu=H100'])\n"
        "print(job.best, job.cost, job.refusal)\n"
    )
    assert done.returncode == 0, done.stderr
    assert "None None No offer of 1 x H100 fits: of 1 on the market, provider.max_price refuses 1." in done.stdout


def test_a_failed_job_is_a_result(python: Python, project: Path):
    done = python(
        "import launchers\n"
        "for r in launchers.launch('descent', ['steps=3', 'fail_at=null,1']):\n"
        "    print('result', r.number, r.state, r.value, r.error, r.cost, r.id, r.folder)\n"
    )
    assert done.returncode == 0, done.stderr
    first, second = (line for line in done.stdout.splitlines() if line.startswith("result"))
    assert first == f"result 0 finished 0.765625 None 0.0 None {project / 'outputs/descent/0'}"
    assert second == f"result 1 failed None ValueError: diverged at step 1 0.0 None {project / 'outputs/descent/1'}"


@pytest.mark.parametrize(
    ("app", "override", "sentence"),
    [
        ("'descent'", "provider=vast", "No Vast.ai key: set VAST_API_KEY"),
        ("'descent'", "nothing=1", "nothing"),
        ("'descent'", "provider=nowhere", "nowhere"),
        ("'nowhere'", "steps=1", "Unknown app: nowhere"),
        ("'json'", "steps=1", "Unknown app: json"),
    ],
)
def test_bad_input_is_one_exception_of_one_kind(python: Python, project: Path, app: str, override: str, sentence: str):
    done = python(
        f"import launchers\ntry: launchers.launch({app}, ['{override}'])\nexcept launchers.MendInput as error: print('refused', error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused ")
    assert sentence in done.stdout


def test_an_app_is_also_named_by_its_parts(python: Python, project: Path):
    (project / "elsewhere").mkdir()
    (project / "elsewhere" / "config.yaml").write_text("size: 2\nhydra: {sweep: {dir: out, subdir: '0'}}\n")
    done = python(
        "import launchers\n"
        "def double(config): return config.size * 2\n"
        "[r] = launchers.launch(launchers.App(double, 'elsewhere', module='app'), ['size=21'])\n"
        "print('result', r.state, r.value)\n"
    )
    assert done.returncode == 0, done.stderr
    assert "result finished 42" in done.stdout
    done = python(
        "import launchers\n"
        "def double(config): raise SystemExit('a plan runs nothing')\n"
        "launchers.plan(launchers.App(double, 'elsewhere', module='app'), ['size=21'])\n"
    )
    assert (
        "MendInput: hydra/launcher is hydra._internal.core_plugins.basic_launcher.BasicLauncher, which can't plan"
        in done.stderr
    )


@pytest.mark.slow
def test_a_rented_job_comes_back_with_its_cost(user_env):
    script = (
        "import launchers\n"
        f"[r] = launchers.launch('descent', {user_env.arguments('steps=2')!r})\n"
        "print('result', r.state, round(r.value, 3), r.cost > 0, r.id is not None, (r.folder / 'metrics.json').exists())\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=user_env.project, env=user_env.environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "result finished 3.062 True True True" in done.stdout
    assert user_env.market.billed() == []
