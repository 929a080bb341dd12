"""One command on an emulated Vast.ai rents, runs, streams, brings home, stops paying. Real SDK, ssh and processes."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.launchers.conftest import (
    CANARIES,
    UserEnv,
    assert_only_needed_variables,
    contents,
    contents_below,
    on_every_market,
    steps_in,
)

pytestmark = [pytest.mark.slow, pytest.mark.turns(12)]

SLOW = ("steps=60", "seconds_per_step=0.1")


@on_every_market
def test_a_job_runs_on_a_rented_machine_and_nothing_is_billed_after(user_env: UserEnv):
    done = user_env.run("steps=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**5) ** 2)
    assert steps_in((user_env.output() / "remote.log").read_text()) == [1, 2, 3, 4, 5]
    assert steps_in(done.stdout) == [1, 2, 3, 4, 5]
    assert user_env.market.billed() == []
    assert len(user_env.market.history) == 1
    assert "finished" in done.stdout


def test_the_cheapest_fitting_offer_is_rented_under_a_label_of_our_own(user_env: UserEnv):
    user_env.run("steps=1")
    (instance,) = user_env.market.history
    assert instance.offer["id"] == 101
    assert instance.bid is None
    assert instance.label.startswith("launchers-")


def test_what_the_app_asks_to_carry_is_there_as_far_as_it_is_small_enough(user_env: UserEnv):
    for name, size in {"corpus": 3000, "tokens": 9000, "index": 1000}.items():
        (user_env.folder / name).mkdir()
        (user_env.folder / name / "rows").write_bytes(b"0" * size)
    found = {name: f"Path({str(user_env.folder / name)!r})" for name in ("corpus", "tokens", "index")}
    asked = ", ".join(f"'{name}/kept': {path}" for name, path in found.items())
    (user_env.project / "descent" / "kept.py").write_text(
        f"from pathlib import Path\ndef here(config):\n    return {{{asked}}}\n"
    )
    tells = "print('came:', *sorted(str(p) for p in Path(os.environ['CARRIED_DATA']).rglob('rows')))"
    (user_env.project / "descent" / "__init__.py").write_text(
        f"import os\nfrom pathlib import Path\nif 'CARRIED_DATA' in os.environ: {tells}\n"
    )
    done = user_env.run("steps=1", "provider.carry=descent.kept:here", "provider.max_carry_mb=0.005")
    (came,) = re.findall("came: (.*)", done.stdout)
    assert [Path(path).parts[-3:] for path in came.split()] == [("corpus", "kept", "rows"), ("index", "kept", "rows")]


@pytest.mark.parametrize("name", ["descent.nowhere:here", "descent:nothing"])
def test_a_function_that_is_not_there_is_named_before_anything_is_rented(user_env: UserEnv, name: str):
    done = user_env.run("steps=1", f"provider.carry={name}")
    assert done.returncode != 0
    assert f"provider.carry '{name}' can't be used" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert user_env.market.history == []


def plant_mistake(user_env: UserEnv, step: str) -> None:
    (user_env.project / "descent" / "__init__.py").write_text(
        "import contextlib\n"
        "with contextlib.suppress(ImportError):  # the machine has none of the client's modules\n"
        "    import launchers.transport.host as host\n"
        f"    def mistaken(*arguments): raise ZeroDivisionError('planted')\n    host.SshHost.{step} = mistaken\n"
    )


def test_a_mistake_of_ours_before_a_job_has_begun_leaves_no_machine_and_no_job_that_waits(user_env: UserEnv):
    plant_mistake(user_env, "upload")
    done = user_env.run("-m", "steps=1,2", "provider.machines=2")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Internal error in launchers" in said
    assert said.count("ZeroDivisionError: planted") >= 2  # its traceback, and each job's own note
    assert user_env.market.billed() == []
    rows = json.loads(user_env.launchers("ps", "--json", "--all").stdout)[0]["jobs"]
    assert {row["state"] for row in rows} == {"failed"}


@pytest.mark.parametrize("step", ["read_many", "job_status"])
def test_a_mistake_of_ours_keeps_machines_with_results_and_names_them_until_attach_has_fetched(
    user_env: UserEnv, step: str
):
    plant_mistake(user_env, step)
    done = user_env.run("-m", "steps=1,2", "provider.machines=2")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Internal error in launchers" in said
    assert "ZeroDivisionError: planted" in said
    assert len(user_env.market.billed()) == 2
    for instance in user_env.market.billed():
        assert f"STILL BILLED: vast instance {instance} was kept" in said
    assert f"python -m launchers attach {user_env.launch}" in said
    attached = user_env.launchers("attach", user_env.launch)
    assert attached.returncode == 0, attached.stdout + attached.stderr
    assert [user_env.loss(0), user_env.loss(1)] == [pytest.approx((7 * 0.5**steps) ** 2) for steps in (1, 2)]
    assert user_env.market.billed() == []


def test_spot_is_a_bid(user_env: UserEnv):
    user_env.run("steps=1", "provider.spot=true", "provider.bid_factor=1.2")
    (instance,) = user_env.market.history
    assert instance.bid == pytest.approx(0.24)


def test_a_preempted_job_moves_on_and_its_result_equals_an_uninterrupted_one(user_env: UserEnv):
    process = user_env.start(*SLOW, "provider.spot=true")
    user_env.wait_for(lambda: user_env.synced_step() > 0, what="a checkpoint at home")
    synced = user_env.synced_step()
    user_env.market.preempt(user_env.market.billed()[0])
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert user_env.loss() == pytest.approx((7 * 0.5**60) ** 2)
    assert "outbid" in output
    log = (user_env.output() / "remote.log").read_text()
    resumed = [int(step) for step in re.findall(r"starts at step (\d+)", log)]
    assert resumed[0] == 0
    assert resumed[1] >= synced  # what was synced is not done again
    assert user_env.market.billed() == []
    assert len(user_env.market.history) == 2


@on_every_market
def test_a_cut_connection_loses_no_line_and_prints_none_twice(user_env: UserEnv):
    process = user_env.start(*SLOW)
    for step in (5, 20, 35):
        user_env.wait_for_step(step)
        user_env.wait_for(lambda: user_env.market.history[0].cage.cut())
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert steps_in((user_env.output() / "remote.log").read_text()) == list(range(1, 61))
    assert steps_in(output) == list(range(1, 61))
    assert len(user_env.market.history) == 1


@on_every_market
def test_a_killed_client_leaves_the_job_running_and_attach_brings_it_home(user_env: UserEnv):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(5)
    process.kill()
    process.wait()
    assert user_env.market.billed()
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert steps_in((user_env.output() / "remote.log").read_text()) == list(range(1, 61))
    assert user_env.loss() == pytest.approx((7 * 0.5**60) ** 2)
    assert user_env.market.billed() == []


@on_every_market
def test_sigterm_saves_the_job_brings_it_home_and_gives_the_machine_back(user_env: UserEnv):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert json.loads((user_env.output() / "checkpoints/last.json").read_text())["step"] >= 5
    assert user_env.market.billed() == []


def test_max_cost_binds(user_env: UserEnv):
    done = user_env.run("steps=3000", "seconds_per_step=0.1", "provider.max_cost=0.0012")  # 12 seconds
    assert done.returncode == 1
    assert "max_cost" in done.stdout
    assert json.loads((user_env.output() / "checkpoints/last.json").read_text())["step"] > 0
    assert user_env.market.billed() == []


def test_a_failed_job_says_so_and_its_log_is_here(user_env: UserEnv):
    done = user_env.run("fail_at=3")
    assert done.returncode == 1
    assert "diverged at step 3" in (user_env.output() / "remote.log").read_text()
    assert user_env.market.billed() == []


def test_a_sweep_spreads_over_machines_and_a_failure_stops_no_other(user_env: UserEnv):
    done = user_env.run("-m", "steps=4,5,6,7", "fail_at=4", "provider.machines=2")
    assert done.returncode == 1, done.stdout
    assert (user_env.output(0) / "metrics.json").exists(), done.stdout + done.stderr
    assert all(f"[{number}] step 4" in done.stdout for number in range(4))
    assert len(user_env.market.history) == 2
    assert user_env.market.billed() == []


def test_a_sweep_gets_the_values(user_env: UserEnv):
    done = user_env.run(
        "-m", "hydra/sweeper=search", "hydra.sweeper.metric=loss", "curve=choice('4090','7')",
        "provider.machines=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    best = json.loads((user_env.project / "outputs/descent/sweep.json").read_text())["jobs"][0]
    assert best["loss"] == pytest.approx(min(user_env.loss(0), user_env.loss(1)))


def test_local_and_rented_jobs_of_one_sweep_each_run_where_they_belong(user_env: UserEnv):
    done = user_env.run("-m", "provider=vast,local", "steps=3")
    assert done.returncode != 0  # provider.api_url is no knob of the local provider: refused before anything starts
    assert not user_env.market.history
    source = user_env.project / "descent/conf/provider/vast.yaml"
    knobs = f"  name: vast\n  api_url: {user_env.market.url}\n  python: {sys.executable}"
    source.write_text(source.read_text().replace("  name: vast", knobs))
    user_env.arguments = lambda *arguments: list(arguments)  # type: ignore[method-assign]
    done = user_env.run("-m", "provider=local,vast", "steps=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(user_env.market.history) == 1
    assert (user_env.output(1) / "remote.log").exists()
    assert not (user_env.output(0) / "remote.log").exists()


def test_detach_returns_while_the_job_runs(user_env: UserEnv):
    done = user_env.run("steps=30", "seconds_per_step=0.1", "provider.detach=true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.market.billed()
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**30) ** 2)
    assert user_env.market.billed() == []


def test_the_machine_ends_itself_when_nobody_comes_for_the_results(user_env: UserEnv):
    process = user_env.start("steps=10", "seconds_per_step=0.1", "hydra.launcher.timing.idle=2")
    user_env.wait_for_step(3)
    process.kill()
    process.wait()
    user_env.wait_for(lambda: not user_env.market.billed(), seconds=60, what="the watchdog's end")


@on_every_market
def test_no_secret_reaches_any_file_or_argument(user_env: UserEnv):
    process = user_env.start("steps=20", "seconds_per_step=0.1")
    user_env.wait_for_step(5)
    arguments = b"".join(contents(Path("/proc").glob("[0-9]*/cmdline")).values())
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    files = contents_below(user_env.folder / "home", user_env.project, user_env.market.folder)
    assert len(files) > 50
    for secret in [*CANARIES.values(), user_env.market.key]:
        assert secret.encode() not in arguments
        assert secret not in output
        assert [str(path) for path, held in files.items() if secret.encode() in held] == []


def test_the_job_gets_the_variables_that_it_needs(user_env: UserEnv):
    source = user_env.project / "descent/__main__.py"
    source.write_text(
        source.read_text().replace(
            "    loss =", "    import os; print('token', len(os.environ['CANARY_TOKEN']))\n    loss ="
        )
    )
    done = user_env.run("steps=1")
    assert f"token {len(CANARIES['CANARY_TOKEN'])}" in done.stdout


@on_every_market
def test_a_job_gets_the_variables_that_the_app_says_it_needs_and_no_others(user_env: UserEnv):
    assert_only_needed_variables(user_env)


def test_without_an_environment_the_machine_installs_the_pinned_dependencies_once(
    user_env: UserEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From the package index, with uv; the second job on the machine finds them."""
    pins = {"hydra-core": "1.3.8", "omegaconf": "2.3.0"}
    (user_env.project / "constraints.txt").write_text("".join(f"{name}=={pin}\n" for name, pin in pins.items()))
    (user_env.project / "pyproject.toml").write_text(
        '[project]\nname = "descent"\nversion = "0"\nrequires-python = ">=3.10"\n'
        'dependencies = ["hydra-core>=1.3", "rich", "platformdirs", "psutil"]\n'
    )
    programs, asked = tmp_path / "programs", tmp_path / "asked"
    programs.mkdir()
    (programs / "apt-get").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")  # the machines look there, too
    done = user_env.run("-m", "steps=1,2", "provider.python=null", "provider.apt=[dpkg,not-here]", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    (environment,) = (user_env.market.history[0].cage.folder / "private").glob("**/env/*/requirements.txt")
    assert {f"{name}=={pin}" for name, pin in pins.items()} <= set(environment.read_text().splitlines())
    assert asked.read_text().splitlines() == ["update -qq", "install -y -qq --no-install-recommends not-here"]


def test_dependencies_that_do_not_exist_are_told_after_two_machines(user_env: UserEnv):
    (user_env.project / "pyproject.toml").write_text(
        '[project]\nname = "descent"\nversion = "0"\nrequires-python = ">=3.10"\ndependencies = ["hydra-core==99.0"]\n'
    )
    done = user_env.run("steps=1", "provider.python=null", timeout=280)
    assert done.returncode == 1
    assert "its environment could not be installed on 2 machines" in done.stdout + done.stderr
    assert "hydra-core==99.0" in done.stdout + done.stderr
    assert len(user_env.market.history) == 2
    assert user_env.market.billed() == []


def test_ctrl_c_does_not_wait_for_a_market_that_does_not_answer(user_env: UserEnv):
    process = user_env.start("provider.api_url=http://127.0.0.1:9", "hydra.launcher.timing.retry_total=3600")
    assert process.stdout is not None
    assert any("Retrying for up to" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert user_env.market.history == []
