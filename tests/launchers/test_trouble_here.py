"""Trouble of this computer, or of the way to the provider, never costs a running job its machine or its results."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tests.launchers.conftest import UserEnv, on_every_market, steps_in

pytestmark = [pytest.mark.slow, pytest.mark.turns(8)]

BIG = 8_000_000


def write_much(user_env: UserEnv) -> None:
    source = user_env.project / "descent" / "__main__.py"
    large = f"    import os; (folder / 'large.bin').write_bytes(os.urandom({BIG}))\n    loss ="
    source.write_text(source.read_text().replace("    loss =", large))


def on_a_small_disk(user_env: UserEnv, folder: str, size: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, with a file system of that size in place of a folder; nobody else sees it."""
    command = shlex.join([sys.executable, "-m", "descent", *user_env.arguments(*arguments)])
    mounted = f"mkdir -p {folder} && mount -t tmpfs -o size={size} tmpfs {folder} && exec {command}"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted], cwd=user_env.project, env=user_env.environment, text=True, capture_output=True,
        timeout=120,
    )  # fmt: skip


@on_every_market
def test_a_full_disk_keeps_the_machine_and_names_it_until_attach_has_fetched_the_results(user_env: UserEnv):
    write_much(user_env)
    done = on_a_small_disk(user_env, "outputs", "3m", "steps=3")
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "No space left on device" in said
    (instance,) = user_env.market.billed()
    assert f"STILL BILLED: {user_env.provider} instance {instance} was kept" in said
    assert f"python -m launchers attach {user_env.launch}" in said
    assert f"python -m launchers stop {user_env.launch}" in said
    assert "Traceback" not in said
    assert "not downloaded" in user_env.launchers("ps").stdout  # the ledger says so, too
    assert user_env.launchers("reap", "--yes", "--api-url", user_env.market.url).returncode == 0
    assert user_env.market.billed() == [instance]  # not an orphan within its hours
    attached = user_env.launchers("attach", user_env.launch)
    assert attached.returncode == 0, attached.stdout + attached.stderr
    assert (user_env.output() / "large.bin").stat().st_size == BIG
    assert "verified" in attached.stdout
    assert user_env.market.billed() == []


def test_a_ledger_that_can_not_be_written_keeps_the_machine_and_names_it_on_the_console(user_env: UserEnv):
    """Its disk is full while the job runs: whatever is written there fails from then on."""
    broken = (
        "import contextlib\n"
        "with contextlib.suppress(ImportError):\n"
        "    import sqlite3, launchers.ledger as ledger\n"
        "    plain = ledger.Ledger.transaction\n"
        "    def full(self):\n"
        "        if getattr(self, 'full', False):\n"
        "            raise sqlite3.OperationalError('database or disk is full')\n"
        "        return plain(self)\n"
        "    def note_results(self, *results):\n"
        "        self.full = True\n"
        "        full(self)\n"
        "    ledger.Ledger.transaction, ledger.Ledger.note_results = full, note_results\n"
    )
    (user_env.project / "descent" / "__init__.py").write_text(broken)
    done = user_env.run("steps=60", "seconds_per_step=0.05", "provider.sync_every_s=0.2")
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "database or disk is full" in said
    (instance,) = user_env.market.billed()
    assert f"STILL BILLED: vast instance {instance} was kept" in said
    assert "Traceback" not in said
    attached = user_env.launchers("attach", user_env.launch)
    assert attached.returncode == 0, attached.stdout + attached.stderr
    assert (user_env.output() / "metrics.json").exists()
    assert user_env.market.billed() == []


FORBIDDEN: dict[str, int | str] = {"a page of something between": "page", "401": 401, "403": 403, "not JSON": "text"}
ASKED = {"vast": r"v0/instances/\d+", "jarvis": r"users/fetch", "runpod": r"pods/\w+"}


@on_every_market
@pytest.mark.parametrize("answer", list(FORBIDDEN))
def test_a_refused_request_never_ends_a_running_job(user_env: UserEnv, answer: str):
    process = user_env.start("steps=80", "seconds_per_step=0.1")
    user_env.wait_for_step(5)
    user_env.market.faults.plant("GET", ASKED[user_env.provider], FORBIDDEN[answer], times=3)
    end = time.monotonic() + 2.0
    while time.monotonic() < end:  # its ssh is away
        user_env.market.history[0].cage.cut()
    output, _ = process.communicate(timeout=120)
    assert user_env.market.faults.hit, "nothing was asked"
    assert process.returncode == 0, output
    assert len(user_env.market.history) == 1
    assert user_env.loss() == pytest.approx((7 * 0.5**80) ** 2)
    assert user_env.market.billed() == []
    assert "the job keeps running" in output


def test_ctrl_c_in_attach_leaves_a_detached_job_running(user_env: UserEnv):
    assert user_env.run("steps=3000", "seconds_per_step=0.1", "provider.detach=true").returncode == 0
    launch = user_env.launch
    process = subprocess.Popen(
        [sys.executable, "-m", "launchers", "attach", launch], cwd=user_env.project, env=user_env.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)  # type: ignore[arg-type]
    reader.start()
    shown: Callable[[], bool] = lambda: any("step 5 " in line for line in lines)  # noqa: E731
    user_env.wait_for(shown, what="step 5")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    reader.join(10)
    assert "the jobs keep running without this client" in "".join(lines)
    assert len(user_env.market.billed()) == 1
    assert user_env.launchers("stop", launch, "--yes").returncode == 0
    assert user_env.market.billed() == []


def test_a_reader_that_leaves_costs_nothing_of_the_log(user_env: UserEnv):
    """As `| head -8` does, while the job goes on."""
    process = user_env.start("steps=30", "seconds_per_step=0.1")
    assert process.stdout
    for _ in range(8):
        process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 0
    assert steps_in((user_env.output() / "remote.log").read_text()) == list(range(1, 31))
    assert user_env.market.billed() == []
