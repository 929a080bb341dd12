"""Caps, Ctrl-C and SIGTERM hold whatever the machine says: the client's own deadline destroys it, and says so."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.emulators.cage import Cage
from tests.launchers.conftest import UserEnv, on_every_market

pytestmark = [pytest.mark.slow, pytest.mark.turns(12)]

MACHINES = {
    "says that its job runs": """
def evil_status(root, request):
    status = _acts["status"](root, request)
    return dict(vars(status), state="running") if status.state == "ended" else status
ACTS.update(status=evil_status)
""",
    "does not stop its job": """
ACTS.update(stop=lambda root, request: dict(state="running"))
""",
    "never lists the results": """
def evil_manifest(root, request):
    while status_of(root, request.job)["state"] == "ended":
        time.sleep(1)
    return _acts["manifest"](root, request)
ACTS.update(manifest=evil_manifest)
""",
    "answers one byte at a time": """
def evil_status(root, request):
    while _acts["status"](root, request).state == "ended":
        sys.stdout.write(" ")
        sys.stdout.flush()
        time.sleep(0.2)
    return _acts["status"](root, request)
ACTS.update(status=evil_status)
""",
    "installs packages for ever": """
ACTS.update(prepare=lambda root, request: time.sleep(3600))
""",
}
"""What the machine's owner puts into our agent."""

_INTERPRETER = """#!{python}
import os, sys
arguments = sys.argv[1:]
evil = {evil!r}
before = "def evil_start(): pass\\nfrom acts import ACTS\\n_acts = dict(ACTS)\\n"
before += "ACTS.update(lease=lambda root, request: dict(made=True))\\n"  # nobody on it watches its hours
if arguments[:2] == ["-S", "-c"]:
    patch = (
        "agent = os.path.join(folder, 'agent.py'); text = open(agent).read()\\n"
        "open(agent, 'w').write(text if 'def evil_start' in text else text.replace('def serve(', %r + 'def serve(', 1))\\n"
    ) % (before + evil + "\\n\\n")
    arguments[2] = arguments[2].replace("path = os.path", patch + "path = os.path")
os.execv({python!r}, [{python!r}, *arguments])
"""

HOURS_S, GRACE_S, FETCH_S = 9.0, 1.0, 2.0
SLACK_S = 12.0
"""For the requests that destroy a machine and confirm it, while other processes keep the processor busy."""
TIMING = (f"hydra.launcher.timing.grace={GRACE_S}", f"hydra.launcher.timing.fetch={FETCH_S}")


@pytest.fixture
def taken_over(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes every machine that comes up one of those above."""

    def take_over(machine: str) -> None:
        script = _INTERPRETER.format(python=sys.executable, evil=MACHINES[machine])
        prepare = Cage.prepare

        def evil_prepare(cage: Cage) -> None:
            prepare(cage)
            cage.install("python3", script)

        monkeypatch.setattr(Cage, "prepare", evil_prepare)

    return take_over


def seconds_billed(user_env: UserEnv) -> float:
    """By the market's own bill, of all machines."""
    return sum(float(row["dollars"]) / float(row["rate"]) * 3600 for row in user_env.market.bill())


def states(user_env: UserEnv) -> list[dict[str, Any]]:
    import json

    return list(json.loads(user_env.launchers("ps", "--json", "--all").stdout)[0]["jobs"])


@on_every_market
@pytest.mark.parametrize("machine", [m for m in MACHINES if "packages" not in m])
def test_max_hours_holds_whatever_the_machine_says(user_env: UserEnv, taken_over: Callable[[str], None], machine: str):
    taken_over(machine)
    steps = "steps=3000" if "not stop" in machine else "steps=20"
    done = user_env.run(steps, "seconds_per_step=0.1", f"provider.max_hours={HOURS_S / 3600}", *TIMING)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert user_env.market.billed() == []
    assert seconds_billed(user_env) < HOURS_S + GRACE_S + FETCH_S + SLACK_S
    (job,) = states(user_env)
    assert job["state"] == "capped", said
    assert "provider.max_hours is reached" in job["note"]
    assert "the machine was destroyed before the job ended" in job["note"]
    assert user_env.synced_step() > 0  # what was synced stays
    assert "Traceback" not in said


def test_max_cost_holds_whatever_the_machine_says(user_env: UserEnv, taken_over: Callable[[str], None]):
    taken_over("says that its job runs")
    cost = 0.36 * HOURS_S / 3600
    done = user_env.run("steps=20", "seconds_per_step=0.1", f"provider.max_cost={cost:.6f}", *TIMING)
    assert done.returncode == 1
    assert user_env.market.billed() == []
    (bill,) = user_env.market.bill()
    assert bill["dollars"] < cost + 0.36 * (GRACE_S + FETCH_S + SLACK_S) / 3600
    (job,) = states(user_env)
    assert job["state"] == "capped"
    assert "provider.max_cost is reached" in job["note"]


def test_max_total_cost_holds_over_all_machines_of_a_launch(user_env: UserEnv):
    total = (0.36 + 0.41) * 14 / 3600
    done = user_env.run(
        "-m", "steps=3000,3001", "seconds_per_step=0.1", "provider.machines=2", f"provider.max_total_cost={total:.6f}", *TIMING
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "at most $" in said
    assert user_env.market.billed() == []
    assert sum(row["dollars"] for row in user_env.market.bill()) < total + 0.77 * SLACK_S / 3600
    assert {job["state"] for job in states(user_env)} == {"capped"}
    assert all("provider.max_total_cost is reached" in job["note"] for job in states(user_env))


def test_max_hours_counts_over_all_machines_of_a_job(user_env: UserEnv):
    process = user_env.start("steps=3000", "seconds_per_step=0.1", f"provider.max_hours={HOURS_S / 3600}", *TIMING)
    user_env.wait_for(lambda: user_env.synced_step() > 0, what="a checkpoint at home")
    user_env.market.preempt(user_env.market.billed()[0])
    output, _ = process.communicate(timeout=120)
    assert len(user_env.market.history) == 2, output
    assert seconds_billed(user_env) < HOURS_S + GRACE_S + FETCH_S + SLACK_S
    (job,) = states(user_env)
    assert job["state"] == "capped"
    assert job["$"] == pytest.approx(sum(row["dollars"] for row in user_env.market.bill()), rel=0.25)


def test_a_job_that_is_capped_leaves_its_machine_and_hours_of_their_own_to_the_next(user_env: UserEnv):
    done = user_env.run("-m", "steps=3000,30", "seconds_per_step=0.1", f"provider.max_hours={HOURS_S / 3600}", *TIMING)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [job["state"] for job in states(user_env)] == ["capped", "finished"]
    assert len(user_env.market.history) == 1
    assert user_env.market.billed() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_bill_when_the_grace_is_over_whatever_the_machine_says(
    user_env: UserEnv, taken_over: Callable[[str], None], number: int
):
    taken_over("does not stop its job")
    process = user_env.start("steps=3000", "seconds_per_step=0.1", *TIMING)
    user_env.wait_for_step(5)
    process.send_signal(number)
    asked = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert time.monotonic() - asked < GRACE_S + 5 + SLACK_S
    assert user_env.market.billed() == []
    assert [job["state"] for job in states(user_env)] == ["cancelled"]
    assert "jobs have 1 s to save a checkpoint" in output


def test_a_stop_during_the_set_up_destroys_the_machine_at_once(user_env: UserEnv, taken_over: Callable[[str], None]):
    taken_over("installs packages for ever")
    process = user_env.start("steps=5", "hydra.launcher.timing.grace=60")
    user_env.wait_for(
        lambda: any(user_env.market.folder.glob("instance-*/private/launchers/trees/*")), what="the set-up"
    )
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert time.monotonic() - asked < SLACK_S
    assert "What runs no job yet is destroyed now" in output
    assert user_env.market.billed() == []


def slow_answers(user_env: UserEnv, method: str, path: str, seconds: float) -> None:
    answer = user_env.market.answer

    def late(asked: str, where: str, *rest: Any) -> Any:
        if asked == method and path in where:
            time.sleep(seconds)
        return answer(asked, where, *rest)

    user_env.market.answer = late


PHASES: dict[str, tuple[str | None, float, Callable[[UserEnv], bool]]] = {
    "creating": (None, 2.0, lambda user_env: any("asks" in request for request in user_env.market.requests)),
    "creating, answered too late": (None, 30.0, lambda user_env: any("asks" in request for request in user_env.market.requests)),
    "set-up": (
        "installs packages for ever", 0.0,
        lambda user_env: any(user_env.market.folder.glob("instance-*/private/launchers/trees/*")),
    ),
    "running": (None, 0.0, lambda user_env: user_env.synced_step() > 0),
    "downloading": (
        "never lists the results", 0.0,
        lambda user_env: any(
            '\"ended\"' in file.read_text()
            for file in user_env.market.folder.glob("instance-*/private/launchers/jobs/*/status.json")
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("phase", list(PHASES))
@pytest.mark.parametrize("pause", [0.1, 0.3])
def test_any_number_of_ctrl_c_ends_with_nothing_billed_or_with_its_name_and_the_command(
    user_env: UserEnv, taken_over: Callable[[str], None], phase: str, pause: float
):
    machine, delay, reached = PHASES[phase]
    if machine:
        taken_over(machine)
    if delay:
        slow_answers(user_env, "PUT", "asks", delay)
    process = user_env.start("steps=3000" if phase == "running" else "steps=5", "seconds_per_step=0.1")
    user_env.wait_for(lambda: reached(user_env), what=phase)
    pressed = time.monotonic()
    while process.poll() is None and time.monotonic() < pressed + 40:
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "Exception ignored" not in output
    if phase == "creating, answered too late":
        label = f"launchers-{user_env.launch}".replace("launchers-", "")
        assert "MAY BE BILLED" in output
        assert f"{label}-0" in output
        assert "python -m launchers reap" in output
    elif user_env.market.billed():
        assert f"STILL BILLED: vast instance {user_env.market.billed()[0]}" in output
        assert "python -m launchers reap" in output


def test_reap_ends_the_machine_of_a_client_that_hangs_beyond_its_deadline(
    user_env: UserEnv, monkeypatch: pytest.MonkeyPatch, taken_over: Callable[[str], None]
):
    process = user_env.start("steps=3000", "seconds_per_step=0.1", f"provider.max_hours={HOURS_S / 3600}", *TIMING)
    user_env.wait_for_step(3)
    process.send_signal(signal.SIGSTOP)
    patched = "import launchers.cli.reopen as m; m.OVERDUE_S = 0; from launchers.__main__ import main; main()"
    command = [sys.executable, "-c", patched, "reap", "--yes", "--api-url", user_env.market.url]

    def reap() -> str:
        done = subprocess.run(command, cwd=user_env.project, env=user_env.environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    early = reap()
    if time.time() < user_env.market.history[0].created + HOURS_S:
        assert user_env.market.billed() != [], early  # attended to
    time.sleep(max(user_env.market.history[0].created + HOURS_S + GRACE_S + FETCH_S + 2 - time.time(), 0))
    late = reap()
    process.kill()
    assert user_env.market.billed() == [], late
