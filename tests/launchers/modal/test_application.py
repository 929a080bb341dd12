"""What is sent to Modal before a job starts: image, Function, configs; no secret, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.launchers.conftest import CANARIES, assert_only_needed_variables, readable
from tests.launchers.modal.desk import ModalDesk

pytestmark = pytest.mark.slow


def test_a_failed_build_is_told_once_and_leaves_nothing(desk: ModalDesk):
    desk.modal.control.fail_build = True
    done = desk.run("-m", "steps=1,2")
    assert done.returncode == 1
    assert "Modal could not build the image" in done.stdout + done.stderr
    assert "modal image logs im-" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert desk.modal.live_apps() == []
    assert desk.modal.counts()["FunctionMap"] == 0


def test_the_second_launch_uploads_and_builds_nothing_again(desk: ModalDesk):
    assert desk.run("steps=1").returncode == 0
    uploads, builds = desk.modal.control.storage.uploads, desk.modal.control.cold_builds
    done = desk.run("steps=2")
    assert done.returncode == 0, done.stdout
    assert desk.modal.control.cold_builds == builds
    assert desk.modal.control.storage.uploads == uploads


def test_an_image_that_modal_forgot_is_built_again_and_a_failure_is_shown_the_time_after(desk: ModalDesk):
    assert desk.run("steps=1").returncode == 0
    applications = desk.modal.counts()["AppCreate"]
    desk.modal.ask(desk.modal.control.built.clear)
    assert desk.run("steps=2").returncode == 0
    assert desk.modal.counts()["AppCreate"] == applications + 1  # a known image takes no application of its own
    desk.modal.control.fail_build = True
    refused = [desk.run("steps=3") for _ in range(2)]
    assert [done.returncode for done in refused] == [1, 1]
    assert all("Modal could not build the image" in done.stdout + done.stderr for done in refused)
    assert "=> FROM" in refused[1].stdout + refused[1].stderr  # the log of the build
    assert desk.modal.live_apps() == []


def test_the_image_holds_what_the_project_names(desk: ModalDesk):
    (desk.project / "pyproject.toml").write_text(
        '[project]\nname = "descent"\nversion = "1"\ndependencies = ["hydra-core"]\n'
    )
    (desk.project / "constraints.txt").write_text("hydra-core==1.3.8\n")
    done = desk.run("steps=1", "provider.python=null", "provider.apt=[git]")
    assert done.returncode == 0, done.stdout + done.stderr
    built = "\n".join(
        line for image in desk.modal.requested("ImageGetOrCreate") for line in image.image.dockerfile_commands
    )
    assert "pip install" in built
    assert "hydra-core" in built
    assert "-c /constraints.txt" in built
    assert "apt-get install -y git" in built


def test_the_function_asks_for_what_the_settings_say(desk: ModalDesk):
    done = desk.run(
        "steps=1", "provider.gpu=A100-80GB", "provider.num_gpus=2", "provider.gpu_fallback=[H100]", "provider.max_hours=30",
        "provider.timeout_s=86400",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (function,) = desk.modal.ask(lambda: list(desk.modal.control.functions.values()))
    assert function.cards == ["A100-80GB:2", "H100:2"]
    assert function.definition.timeout_secs == 86400
    assert function.definition.retry_policy.retries == 4  # three restarts, and one more attempt for 30 h
    assert function.definition.single_use_containers
    assert sorted(m.mount_path for m in function.definition.volume_mounts) == ["/mnt/cache", "/mnt/outputs"]


def test_a_folder_of_configs_that_the_command_names_travels(desk: ModalDesk, tmp_path: Path):
    (tmp_path / "own" / "curve").mkdir(parents=True)
    (tmp_path / "own" / "curve" / "far.yaml").write_text("{target: 100.0, rate: 1.0}\n")
    done = desk.run(f"--config-dir={tmp_path / 'own'}", "steps=1", "curve=far")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 1 weight 100.000000" in done.stdout


def test_no_secret_reaches_any_file_or_request(desk: ModalDesk):
    source = desk.project / "descent/__main__.py"
    added = "    import os; print('token', len(os.environ['CANARY_TOKEN']))\n    loss ="
    source.write_text(source.read_text().replace("    loss =", added))
    process = desk.start("steps=20", "seconds_per_step=0.1")
    desk.wait_for_step(5)
    arguments = b"".join(path.read_bytes() for path in readable(Path("/proc").glob("[0-9]*/cmdline")))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f"token {len(CANARIES['CANARY_TOKEN'])}" in output  # it came to the job all the same
    requests = "\n".join(str(request) for _, request in desk.modal.requests)
    files = [
        path for place in (desk.home, desk.project, desk.modal.folder) for path in place.rglob("*") if path.is_file()
    ]
    assert len(files) > 50
    for secret in [*CANARIES.values(), desk.modal.token_id, desk.modal.token_secret]:
        assert secret.encode() not in arguments
        assert secret not in output
        assert secret not in requests
        assert [str(path) for path in files if secret.encode() in path.read_bytes()] == []


def test_a_job_gets_the_variables_that_the_app_says_it_needs_and_no_others(desk: ModalDesk):
    assert_only_needed_variables(desk)
