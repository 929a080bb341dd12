"""One command on an emulated Modal runs, streams, resumes, brings home and leaves nothing. Real client, real container code."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.emulators.modal import containers
from tests.emulators.modal.server import Modal
from tests.launchers.conftest import CANARIES
from tests.launchers.modal_desk import ModalDesk
from tests.launchers.test_vast import readable

pytestmark = pytest.mark.slow

SLOW = ("steps=30", "seconds_per_step=0.1")
FINAL_LOSS = (7 * 0.5**30) ** 2


@pytest.fixture
def desk(project: Path, tmp_path: Path) -> Iterator[ModalDesk]:
    reason = containers.why_not()
    if reason:
        pytest.skip(reason)
    with Modal(tmp_path / "modal") as modal:
        desk = ModalDesk(tmp_path, project, None, modal=modal)  # type: ignore[arg-type]
        yield desk
        for process in desk.processes:
            process.kill()
            process.wait()


def loss(desk: ModalDesk, number: int = 0) -> float:
    return json.loads((desk.output(number) / "metrics.json").read_text())["loss"]


def steps_in(text: str) -> list[int]:
    return [int(step) for step in re.findall(r"step (\d+) weight", text)]


def test_a_job_runs_in_a_container_and_leaves_no_application(desk: ModalDesk):
    done = desk.run("steps=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx((7 * 0.5**5) ** 2)
    assert steps_in((desk.output() / "remote.log").read_text()) == [1, 2, 3, 4, 5]
    assert steps_in(done.stdout) == [1, 2, 3, 4, 5]
    assert desk.modal.live_apps() == []
    assert "finished" in done.stdout


def test_a_sweep_runs_at_once_and_a_failure_stops_no_other(desk: ModalDesk):
    done = desk.run("-m", "steps=6,7,8", "seconds_per_step=0.1", "fail_at=7")
    assert done.returncode == 1, done.stdout + done.stderr
    assert loss(desk, 0) == pytest.approx((7 * 0.5**6) ** 2)
    assert loss(desk, 1) == pytest.approx((7 * 0.5**7) ** 2)
    assert "diverged at step 7" in (desk.output(2) / "remote.log").read_text()
    assert all(f"[{number}] step 6" in done.stdout for number in range(3))
    assert desk.modal.live_apps() == []
    assert desk.modal.counts()["FunctionMap"] == 3
    starts = [attempts[0]["started"] for attempts in desk.modal.attempts()]
    assert len(starts) == 3
    assert all(len(attempts) == 1 for attempts in desk.modal.attempts())  # a job's own failure is not tried again
    assert len(desk.modal.requested("FunctionCreate")) == 1  # one application for all


def test_parallelism_caps_the_containers(desk: ModalDesk):
    done = desk.run("-m", "steps=2,3,4", "provider.parallelism=1")
    assert done.returncode == 0, done.stdout + done.stderr
    (request,) = desk.modal.requested("FunctionCreate")
    assert request.function.autoscaler_settings.max_containers == 1 or request.function.concurrency_limit == 1
    first, second, third = sorted(a[0]["started"] for a in desk.modal.attempts())
    assert first < second < third


@pytest.mark.parametrize("loss_of_container", ["preempt", "crash"])
def test_a_job_goes_on_in_a_new_container_with_the_same_result(desk: ModalDesk, loss_of_container: str):
    process = desk.start(*SLOW)
    desk.wait_for_step(12)
    getattr(desk.modal, loss_of_container)()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert loss(desk) == pytest.approx(FINAL_LOSS)
    resumed = [int(s) for s in re.findall(r"starts at step (\d+)", (desk.output() / "remote.log").read_text())]
    assert resumed[0] == 0
    # Asked to stop, it saves all; killed, it goes on from the last commit.
    assert resumed[1] >= (12 if loss_of_container == "preempt" else 5)
    assert [len(attempts) for attempts in desk.modal.attempts()] == [2]
    assert desk.modal.live_apps() == []


def test_a_job_longer_than_an_attempt_goes_on_in_the_next(desk: ModalDesk):
    # Half of so short an attempt is kept for its end.
    done = desk.run("steps=50", "seconds_per_step=0.1", "provider.timeout_s=6", "provider.max_hours=0.01")
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx((7 * 0.5**50) ** 2)
    assert len(desk.modal.attempts()[0]) >= 2


def test_a_job_that_modal_times_out_keeps_its_last_commit(desk: ModalDesk):
    source = desk.project / "descent/__main__.py"
    # A job that ignores every request to stop: only Modal's own end is left.
    source.write_text(
        source.read_text().replace("import json\n", "import json, signal\nsignal.signal(15, lambda *_: 0)\n")
    )
    done = desk.run("steps=200", "seconds_per_step=0.1", "provider.timeout_s=3", "provider.max_restarts=0",
                    "provider.max_hours=0.0008", "provider.grace_s=60")  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "max_hours" in done.stdout
    assert json.loads((desk.output() / "checkpoints/last.json").read_text())["step"] > 3
    assert desk.modal.live_apps() == []


def test_a_killed_client_leaves_the_job_running_and_attach_brings_it_home(desk: ModalDesk):
    process = desk.start(*SLOW)
    desk.wait_for_step(5)
    process.kill()
    process.wait()
    assert desk.modal.running() == 1
    done = desk.launchers("attach", desk.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [len(attempts) for attempts in desk.modal.attempts()] == [1]
    assert steps_in((desk.output() / "remote.log").read_text()) == list(range(1, 31)), done.stdout
    assert loss(desk) == pytest.approx(FINAL_LOSS)
    assert desk.modal.live_apps() == []


def test_max_cost_binds_without_a_client(desk: ModalDesk):
    process = desk.start("steps=600", "seconds_per_step=0.1", "provider.max_cost=0.002")
    desk.wait_for_step(5)
    process.kill()
    process.wait()
    desk.wait_for(lambda: not desk.modal.running(), what="the container's own end")
    done = desk.launchers("attach", desk.launch)
    assert done.returncode == 1
    assert "max_cost is reached" in done.stdout
    assert json.loads((desk.output() / "checkpoints/last.json").read_text())["step"] > 5
    assert desk.modal.live_apps() == []


def test_a_call_that_the_dead_client_did_not_write_down_is_found(desk: ModalDesk):
    process = desk.start(*SLOW)
    desk.wait_for_step(5)
    process.kill()
    process.wait()
    with sqlite3.connect(desk.home / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE jobs SET handle = NULL")
    done = desk.launchers("attach", desk.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx(FINAL_LOSS)
    assert desk.modal.counts()["FunctionMap"] == 1


def test_results_of_an_application_that_has_ended_come_home(desk: ModalDesk):
    done = desk.run("steps=20", "seconds_per_step=0.1", "provider.detach=true")
    assert done.returncode == 0, done.stdout + done.stderr
    desk.wait_for(lambda: not desk.modal.live_apps(), what="the end of an application whose jobs have ended")
    done = desk.launchers("attach", desk.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx((7 * 0.5**20) ** 2)
    assert desk.modal.counts()["FunctionMap"] == 1


def test_a_result_that_modal_forgot_is_read_from_the_volume(desk: ModalDesk):
    assert desk.run("steps=10", "seconds_per_step=0.1", "provider.detach=true").returncode == 0
    desk.wait_for(lambda: not desk.modal.live_apps(), what="the end of the application")
    desk.modal.expire()
    done = desk.launchers("attach", desk.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx((7 * 0.5**10) ** 2)
    assert "finished" in done.stdout


def test_downloads_that_break_off_are_made_again_and_verified(desk: ModalDesk):
    source = desk.project / "descent/__main__.py"
    added = "    (folder / 'large.bin').write_bytes(bytes(range(256)) * 4096)\n    loss ="
    source.write_text(source.read_text().replace("    loss =", added))
    process = desk.start("steps=15", "seconds_per_step=0.1")
    desk.wait_for_step(3)
    desk.modal.control.storage.broken_reads = 30  # the client itself tries each block six times
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert desk.modal.control.storage.broken_reads == 0
    assert (desk.output() / "large.bin").read_bytes() == bytes(range(256)) * 4096
    assert loss(desk) == pytest.approx((7 * 0.5**15) ** 2)


def test_a_container_that_dies_every_time_fails_with_a_hint(desk: ModalDesk):
    process = desk.start("steps=200", "seconds_per_step=0.1")
    for number in (1, 2, 3):
        lives = f"container {number}"
        desk.wait_for(
            lambda n=number: [len(a) for a in desk.modal.attempts()] == [n] and desk.modal.working() == 1, what=lives
        )
        desk.modal.crash()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "most likely for lack of memory" in output
    assert "Traceback" not in output
    assert desk.modal.live_apps() == []


def test_a_module_that_is_not_in_the_tree_fails_the_job_and_its_log_names_it(desk: ModalDesk):
    done = desk.run("steps=1", "provider.entry_point=nosuch")
    assert done.returncode == 1
    assert "No module named nosuch" in (desk.output() / "remote.log").read_text()
    assert "Traceback" not in done.stdout + done.stderr


def test_every_attempt_of_a_job_is_one_run_at_weights_and_biases(desk: ModalDesk):
    source = desk.project / "descent/__main__.py"
    added = "import os\nprint('run', os.environ.get('WANDB_RUN_ID'), os.environ.get('WANDB_RESUME'), flush=True)\nimport json\n"
    source.write_text(source.read_text().replace("import json\n", added))
    process = desk.start(*SLOW)
    desk.wait_for_step(5)
    desk.modal.preempt()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    runs = re.findall(r"^run (\S+) allow$", output, re.MULTILINE)
    assert len(runs) == 2
    assert set(runs) == {f"{desk.launch}-0"}


def test_ctrl_c_once_leaves_the_job_and_twice_ends_it(desk: ModalDesk):
    process = desk.start("steps=120", "seconds_per_step=0.1")
    desk.wait_for_step(5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"launchers attach {desk.launch}" in output
    assert "Traceback" not in output
    assert desk.modal.running() == 1
    attached = desk.launch
    done = desk.launchers("reap", "--yes")  # not an orphan
    assert done.returncode == 0, done.stderr
    assert desk.modal.running() == 1
    done = desk.launchers("attach", attached)
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx((7 * 0.5**120) ** 2)

    process = desk.start("steps=300", "seconds_per_step=0.1", "hydra.sweep.dir=outputs/second")
    log = desk.project / "outputs/second/0/remote.log"
    desk.wait_for(lambda: log.exists() and "step 5 " in log.read_text())
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert json.loads((log.parent / "checkpoints/last.json").read_text())["step"] >= 5
    assert desk.modal.live_apps() == []
    assert desk.modal.running() == 0


def test_ps_logs_fetch_cost_tell_of_a_job_and_cancel_ends_it(desk: ModalDesk):
    process = desk.start("steps=600", "seconds_per_step=0.1", "provider.sync_every_s=2")
    desk.wait_for_step(5)
    process.kill()
    process.wait()
    launch = desk.launch
    doctor = desk.launchers("doctor")
    assert doctor.returncode == 0, doctor.stdout  # one provider with a key is enough
    assert "1 running" in doctor.stdout
    (both,) = json.loads(desk.launchers("ps", "--json").stdout)
    assert [job["state"] for job in both["jobs"]] == ["running"]
    assert [machine["provider"] for machine in both["machines"]] == ["modal"]
    assert "step 5 weight" in desk.launchers("logs", launch).stdout
    done = desk.launchers("fetch", launch)
    assert done.returncode == 0, done.stderr
    assert json.loads((desk.output() / "checkpoints/last.json").read_text())["step"] >= 3
    done = desk.launchers("cancel", launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified" in done.stdout
    assert desk.modal.live_apps() == []
    again = desk.launchers("cancel", launch)
    assert "has ended already (cancelled)" in again.stderr
    spent = {row["what"]: row["$"] for row in json.loads(desk.launchers("cost", "--json").stdout)}
    assert 0 < spent["all machines"] < 0.05
    assert spent["all machines"] == pytest.approx(spent[f"{launch}-0"])


def test_reap_ends_what_a_dead_client_left_and_the_job_can_be_taken_up_again(desk: ModalDesk):
    process = desk.start("steps=120", "seconds_per_step=0.1")
    desk.wait_for_step(5)
    process.kill()
    process.wait()
    refused = desk.launchers("reap")
    assert refused.returncode == 1
    assert "say --yes in a script" in refused.stderr
    assert desk.launchers("reap", "--yes").returncode == 0
    assert desk.modal.live_apps() == []
    done = desk.launchers("attach", desk.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx((7 * 0.5**120) ** 2)
    resumed = [int(s) for s in re.findall(r"starts at step (\d+)", (desk.output() / "remote.log").read_text())]
    assert len(resumed) >= 2
    assert resumed[1] >= 5
    assert desk.modal.live_apps() == []


def test_bursts_of_unavailable_are_ridden_out(desk: ModalDesk):
    process = desk.start(*SLOW)
    desk.wait_for_step(5)
    for rpc in ("FunctionGetOutputs", "AppGetLogs", "FunctionCallGetInfo", "VolumeGetFile2"):
        desk.modal.faults.plant("rpc", rpc, "UNAVAILABLE", times=9)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert loss(desk) == pytest.approx(FINAL_LOSS)
    assert steps_in((desk.output() / "remote.log").read_text()) == list(range(1, 31))
    assert desk.modal.live_apps() == []


def test_a_client_that_gets_no_answer_leaves_and_the_job_runs_on(desk: ModalDesk):
    process = desk.start("steps=80", "seconds_per_step=0.1", "hydra.launcher.timing.unreachable=1")
    desk.wait_for_step(5)
    desk.modal.faults.plant("rpc", "^(Function|App|Volume|Environment)", "UNAVAILABLE", times=1_000_000)
    output, _ = process.communicate(timeout=120)
    assert f"`python -m launchers attach {desk.launch}` takes them up" in output
    assert "Traceback" not in output
    desk.modal.faults.planted.clear()
    done = desk.launchers("attach", desk.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx((7 * 0.5**80) ** 2)
    assert [len(attempts) for attempts in desk.modal.attempts()] == [1]


def test_a_job_whose_start_was_never_answered_can_be_cancelled(desk: ModalDesk):
    desk.modal.faults.plant("rpc", "FunctionMap", "lost", times=1_000_000)
    left = desk.run("steps=600", "seconds_per_step=0.1", "hydra.launcher.timing.unreachable=1")
    assert f"`python -m launchers attach {desk.launch}` takes them up" in left.stdout
    assert desk.modal.running() == 1
    assert desk.launch in desk.launchers("ps").stdout
    desk.modal.faults.planted.clear()
    done = desk.launchers("cancel", desk.launch)
    assert "cancelled" in done.stdout, done.stdout + done.stderr
    assert json.loads((desk.output() / "checkpoints/last.json").read_text())["step"] > 0
    desk.wait_for(lambda: not desk.modal.running(), what="the end of the container")
    assert desk.modal.live_apps() == []


def test_an_application_that_was_made_without_an_answer_is_ended(desk: ModalDesk):
    desk.modal.faults.plant("rpc", "FunctionCreate", "lost", times=4)
    done = desk.run("steps=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx((7 * 0.5**2) ** 2)
    assert desk.modal.live_apps() == []
    assert len(desk.modal.requested("FunctionPrecreate")) == 2


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


def test_a_folder_of_configs_that_the_command_names_travels(desk: ModalDesk, tmp_path: Path):
    (tmp_path / "own" / "curve").mkdir(parents=True)
    (tmp_path / "own" / "curve" / "far.yaml").write_text("{target: 100.0, rate: 1.0}\n")
    done = desk.run(f"--config-dir={tmp_path / 'own'}", "steps=1", "curve=far")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 1 weight 100.000000" in done.stdout


def test_a_finished_job_leaves_one_copy_of_each_file_on_the_volume(desk: ModalDesk):
    process = desk.start(*SLOW, "provider.sync_every_s=0.2")
    desk.wait_for(lambda: list(desk.volume.glob("jobs/*/held/*")), what="a commit while the job runs")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    (job,) = desk.volume.glob("jobs/*")
    assert (job / "output/metrics.json").exists()
    assert sorted(path.name for path in job.iterdir()) == [
        "attempts.json", "log", "manifest.json", "output", "return.json", "status.json",
    ]  # fmt: skip


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


def test_a_finished_job_can_leave_the_volume(desk: ModalDesk):
    assert desk.run("steps=1", "provider.keep_remote=false").returncode == 0
    assert list(desk.volume.glob("jobs/*")) == []


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


def test_optuna_gets_the_values(desk: ModalDesk):
    done = desk.run(
        "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "curve=choice('4090','7')",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    best = (desk.project / "outputs/descent/optimization_results.yaml").read_text()
    assert float(best.rpartition("best_value: ")[2]) == pytest.approx(min(loss(desk, 0), loss(desk, 1)))


def no_token(desk: ModalDesk) -> None:
    desk.variables |= {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}


def wrong_token(desk: ModalDesk) -> None:
    desk.variables |= {"MODAL_TOKEN_SECRET": "as-not-the-secret"}


def unknown_profile(desk: ModalDesk) -> None:
    (desk.folder / "modal.toml").write_text('[other]\ntoken_id = "a"\ntoken_secret = "b"\n')
    no_token(desk)
    desk.variables |= {"MODAL_PROFILE": "nosuch", "MODAL_CONFIG_PATH": str(desk.folder / "modal.toml")}


def token_and_oauth(desk: ModalDesk) -> None:
    desk.variables |= {"MODAL_OAUTH_REFRESH_TOKEN": "refresh-me"}


def nothing(desk: ModalDesk) -> None:
    pass


CASES = [
    ("no token", no_token, [], "No Modal token: run `modal token new`"),
    ("unknown profile", unknown_profile, [], "No Modal token in the profile nosuch"),
    ("token and OAuth", token_and_oauth, [], "Modal takes only one"),
    ("wrong token", wrong_token, [], "Modal refuses the token"),
    ("unknown card", nothing, ["provider.gpu=A1000"], "did you mean"),
    ("price cap", nothing, ["provider.max_price=1"], "it costs more than provider.max_price"),
    ("stored secret missing", nothing, ["provider.secrets=[wandb]"], "Secret 'wandb' not found"),
    ("no dependencies named", nothing, ["provider.python=null"], "neither uv.lock nor pyproject.toml"),
    ("secret in the config", nothing, [f"+note={CANARIES['HF_TOKEN']}"], "the value of HF_TOKEN"),
]


@pytest.mark.parametrize(("spoil", "arguments", "sentence"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bad_input_is_refused_in_one_sentence_and_nothing_runs(
    desk: ModalDesk, spoil: Callable[[ModalDesk], None], arguments: list[str], sentence: str
):
    spoil(desk)
    done = desk.run("steps=1", *arguments)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert sentence in said
    assert "Traceback" not in said
    assert desk.modal.counts()["FunctionMap"] == 0
    assert desk.modal.live_apps() == []
