"""What is sent to Modal before a job starts: image, Function, configs; no secret, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launchers.conftest import CANARIES, assert_only_needed_variables, contents, contents_below
from tests.launchers.modal.user_env import ModalUserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]


def test_a_failed_build_is_told_once_and_leaves_nothing(user_env: ModalUserEnv):
    user_env.modal.control.fail_build = True
    done = user_env.run("-m", "steps=1,2")
    assert done.returncode == 1
    assert "Modal could not build the image" in done.stdout + done.stderr
    assert "modal image logs im-" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert user_env.modal.live_apps() == []
    assert user_env.modal.counts()["FunctionMap"] == 0


def test_the_second_launch_uploads_and_builds_nothing_again(user_env: ModalUserEnv):
    assert user_env.run("steps=1").returncode == 0
    uploads, builds = user_env.modal.control.storage.uploads, user_env.modal.control.cold_builds
    done = user_env.run("steps=2")
    assert done.returncode == 0, done.stdout
    assert user_env.modal.control.cold_builds == builds
    assert user_env.modal.control.storage.uploads == uploads


def test_an_image_that_modal_forgot_is_built_again_and_a_failure_is_shown_the_time_after(user_env: ModalUserEnv):
    assert user_env.run("steps=1").returncode == 0
    applications = user_env.modal.counts()["AppCreate"]
    user_env.modal.ask(user_env.modal.control.built.clear)
    assert user_env.run("steps=2").returncode == 0
    assert user_env.modal.counts()["AppCreate"] == applications + 1  # a known image takes no application of its own
    user_env.modal.control.fail_build = True
    refused = [user_env.run("steps=3") for _ in range(2)]
    assert [done.returncode for done in refused] == [1, 1]
    assert all("Modal could not build the image" in done.stdout + done.stderr for done in refused)
    assert "=> FROM" in refused[1].stdout + refused[1].stderr  # the log of the build
    assert user_env.modal.live_apps() == []


def test_the_image_holds_what_the_project_names(user_env: ModalUserEnv):
    (user_env.project / "pyproject.toml").write_text(
        '[project]\nname = "descent"\nversion = "1"\ndependencies = ["hydra-core"]\n'
    )
    (user_env.project / "constraints.txt").write_text("hydra-core==1.3.8\n")
    done = user_env.run("steps=1", "provider.python=null", "provider.apt=[git]")
    assert done.returncode == 0, done.stdout + done.stderr
    built = "\n".join(
        line for image in user_env.modal.requested("ImageGetOrCreate") for line in image.image.dockerfile_commands
    )
    assert "pip install" in built
    assert "hydra-core" in built
    assert "-c /constraints.txt" in built
    assert "apt-get install -y git" in built


def test_the_function_asks_for_what_the_settings_say(user_env: ModalUserEnv):
    done = user_env.run(
        "steps=1", "provider.gpu=A100-80GB", "provider.num_gpus=2", "provider.gpu_fallback=[H100]", "provider.max_hours=30",
        "provider.timeout_s=86400",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (function,) = user_env.modal.ask(lambda: list(user_env.modal.control.functions.values()))
    assert function.cards == ["A100-80GB:2", "H100:2"]
    assert function.definition.timeout_secs == 86400
    assert function.definition.retry_policy.retries == 4  # three restarts, and one more attempt for 30 h
    assert function.definition.single_use_containers
    assert sorted(m.mount_path for m in function.definition.volume_mounts) == ["/mnt/cache", "/mnt/outputs"]


def test_a_folder_of_configs_that_the_command_names_travels(user_env: ModalUserEnv, tmp_path: Path):
    (tmp_path / "own" / "curve").mkdir(parents=True)
    (tmp_path / "own" / "curve" / "far.yaml").write_text("{target: 100.0, rate: 1.0}\n")
    done = user_env.run(f"--config-dir={tmp_path / 'own'}", "steps=1", "curve=far")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 1 weight 100.000000" in done.stdout


def test_no_secret_reaches_any_file_or_request(user_env: ModalUserEnv):
    source = user_env.project / "descent/__main__.py"
    added = "    import os; print('token', len(os.environ['CANARY_TOKEN']))\n    loss ="
    source.write_text(source.read_text().replace("    loss =", added))
    process = user_env.start("steps=20", "seconds_per_step=0.1")
    user_env.wait_for_step(5)
    arguments = b"".join(contents(Path("/proc").glob("[0-9]*/cmdline")).values())
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f"token {len(CANARIES['CANARY_TOKEN'])}" in output  # it came to the job all the same
    requests = "\n".join(str(request) for _, request in user_env.modal.requests)
    files = contents_below(user_env.home, user_env.project, user_env.modal.folder)
    assert len(files) > 50
    for secret in [*CANARIES.values(), user_env.modal.token_id, user_env.modal.token_secret]:
        assert secret.encode() not in arguments
        assert secret not in output
        assert secret not in requests
        assert [str(path) for path, held in files.items() if secret.encode() in held] == []


def test_a_job_gets_the_variables_that_the_app_says_it_needs_and_no_others(user_env: ModalUserEnv):
    assert_only_needed_variables(user_env)
