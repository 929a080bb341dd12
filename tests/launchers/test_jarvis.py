"""An emulated JarvisLabs: its prices, its pauses, and its ways to lose a machine. Real SDK, ssh and processes.

What every provider must pass is in `test_vast.py`, marked `on_every_market`.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable

import pytest

from tests.launchers.conftest import UserEnv
from tests.launchers.search.pruned import assert_a_job_that_is_behind_is_pruned_and_comes_home

pytestmark = [pytest.mark.slow, pytest.mark.turns(8), pytest.mark.parametrize("user_env", ["jarvis"], indirect=True)]

STEPS = 30
JOB = (f"steps={STEPS}", "seconds_per_step=0.1", "provider.spot=true")
FINAL_LOSS = (7 * 0.5**STEPS) ** 2


def begins(user_env: UserEnv) -> list[int]:
    """The step that each start of the job began at."""
    return [int(step) for step in re.findall(r"starts at step (\d+)", (user_env.output() / "remote.log").read_text())]


def places(user_env: UserEnv) -> list[str]:
    return [f"{i.sold['region']}/{i.sold['gpu_type']}" for i in user_env.market.history]


def taken_away(user_env: UserEnv, before: Callable[[], object] = lambda: None, *overrides: str) -> tuple[int, str, int]:
    """Run a spot job and pause its machine once a checkpoint is here; returns exit code, output, and the synced step."""
    process = user_env.start(*JOB, *overrides)
    user_env.wait_for(lambda: user_env.synced_step() > 0, what="a checkpoint at home")
    synced = user_env.synced_step()
    before()
    user_env.market.preempt(user_env.market.billed()[0])
    output, _ = process.communicate(timeout=120)
    return process.returncode, output, synced


def test_the_cheapest_row_of_all_regions_is_rented_and_no_virtual_machine(user_env: UserEnv):
    done = user_env.run("steps=1")
    assert done.returncode == 0, done.stdout + done.stderr
    (instance,) = user_env.market.history
    assert (instance.sold["region"], instance.sold["workload_type"]) == ("india-chennai-01", "container")
    assert instance.label.startswith("launchers-")
    assert len(instance.label) <= 40
    assert not instance.spot


def test_a_paused_machine_is_resumed_as_spot_under_its_new_id_and_the_job_goes_on_where_it_was(user_env: UserEnv):
    code, output, synced = taken_away(user_env)
    assert code == 0, output
    assert "paused by the provider" in output
    (instance,) = user_env.market.history
    assert instance.resumes == 1
    assert instance.id != 5001
    assert instance.spot
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    first, second = begins(user_env)
    assert (first, second >= synced) == (0, True)
    steps = [int(s) for s in re.findall(r"^step (\d+) ", (user_env.output() / "remote.log").read_text(), re.MULTILINE)]
    assert steps == list(range(1, STEPS + 1))  # its disk was kept: not even a step that was never synced is done again
    assert user_env.market.billed() == []


def test_a_resume_whose_reply_is_lost_is_found_by_name(user_env: UserEnv):
    code, output, _ = taken_away(user_env, lambda: user_env.market.faults.plant("POST", "resume", "lost"))
    assert code == 0, output
    assert (len(user_env.market.history), user_env.market.history[0].resumes) == (1, 1)
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    assert user_env.market.billed() == []


def test_without_a_free_card_the_job_goes_elsewhere_and_the_paused_machine_is_destroyed(user_env: UserEnv):
    def sold_out() -> None:
        user_env.market.history[0].sold["spot_num_free_devices"] = 0

    code, output, synced = taken_away(user_env, sold_out)
    assert code == 0, output
    assert "could not be resumed" in output
    assert places(user_env) == ["india-chennai-01/L4", "india-noida-01/L4"]
    assert begins(user_env)[1] >= synced
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    assert user_env.market.billed() == []


def test_a_machine_that_would_come_back_on_demand_is_given_back(user_env: UserEnv):
    code, output, _ = taken_away(user_env, lambda: user_env.market.boots.append("ondemand"))
    assert code == 0, output
    assert "is on-demand although a spot machine was asked for" in output
    assert places(user_env) == ["india-chennai-01/L4", "india-noida-01/L4"]
    assert user_env.market.billed() == []


def test_a_pause_for_an_empty_balance_is_told_from_a_preemption(user_env: UserEnv):
    def spend_all() -> None:
        user_env.market.credit = 0.0

    code, output, _ = taken_away(user_env, spend_all)
    assert code == 1
    assert "was stopped because the account is empty" in output
    assert "add credit" in output
    assert user_env.market.history[0].resumes == 0
    assert user_env.market.billed() == []


def test_a_machine_paused_while_the_client_was_dead_is_taken_up_by_attach(user_env: UserEnv):
    process = user_env.start(*JOB)
    user_env.wait_for(lambda: user_env.synced_step() > 0, what="a checkpoint at home")
    process.kill()
    process.wait()
    user_env.market.preempt(user_env.market.billed()[0])
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.market.history[0].resumes == 1
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    assert user_env.market.billed() == []


def test_machines_that_do_not_come_up_are_destroyed_and_the_next_row_is_taken(user_env: UserEnv):
    user_env.market.boots += ["capacity", "stuck"]
    done = user_env.run("steps=2", "provider.max_price=0.95", "provider.gpu=null", "hydra.launcher.timing.boot=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Requested GPU capacity is not available" in done.stdout
    assert "did not run after 2 s (Creating)" in done.stdout
    assert places(user_env) == ["india-chennai-01/L4", "india-noida-01/L4", "india-noida-01/A100"]
    assert user_env.market.billed() == []


FAULTS: dict[str, list[tuple[str, str, int | str, int]]] = {
    "lost replies": [
        ("POST", "create", "lost", 1),
        ("GET", r"users/fetch/\d+", "refuse", 2),  # "not found" for a moment
        ("POST", "destroy", "lost", 1),
    ],
    "answers without JSON": [
        ("POST", "create", "text", 1),
        ("GET", r"users/fetch$", "text", 2),
        ("GET", r"users/fetch/\d+", "text", 2),
        ("POST", "destroy", "text", 1),
    ],
    "errors of the server": [
        ("GET", "server_meta", 429, 3),
        ("POST", "create", 502, 1),
        ("POST", "destroy", 500, 2),
    ],
    "refusals": [
        ("POST", "create", 400, 1),
        ("POST", "destroy", "refuse", 2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_of_the_service_are_survived_and_nothing_is_billed_after(user_env: UserEnv, kind: str):
    for fault in FAULTS[kind]:
        user_env.market.faults.plant(*fault)
    done = user_env.run("steps=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [fault for fault in user_env.market.faults.planted if fault.times] == []  # each was met
    assert len(user_env.market.history) == 1
    assert user_env.market.billed() == []


def test_the_first_question_of_a_destroy_may_fail(user_env: UserEnv):
    process = user_env.start("steps=20", "seconds_per_step=0.1")
    user_env.wait_for_step(1)
    user_env.market.faults.plant("GET", r"users/fetch/\d+", 500, 3)  # nothing asks for the row again before the destroy
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert user_env.market.faults.hit
    assert user_env.market.billed() == []


def test_a_machine_that_is_not_listed_yet_is_waited_for(user_env: UserEnv):
    user_env.market.lag = 2.0
    done = user_env.run("steps=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(user_env.market.history) == 1
    assert user_env.market.billed() == []


def test_a_machine_that_is_not_listed_yet_is_ended_all_the_same(user_env: UserEnv):
    user_env.market.lag = 3600.0
    user_env.market.boots += ["stuck"] * 9
    done = user_env.run("steps=1", "hydra.launcher.timing.boot=1", "hydra.launcher.timing.max_attempts=1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(user_env.market.history) == 1
    assert user_env.market.billed() == []


def test_a_machine_that_cannot_be_ended_is_shouted_about_and_reaped_later(user_env: UserEnv):
    user_env.market.faults.plant("POST", "destroy", "refuse", times=1000)
    done = user_env.run("steps=1")
    assert done.returncode != 0
    assert "STILL BILLED: jarvis instance 5001" in done.stdout + done.stderr
    assert "jl destroy 5001" in done.stdout + done.stderr
    user_env.market.faults.planted.clear()
    assert user_env.launchers("reap", "--yes").returncode == 0
    assert user_env.market.billed() == []


def test_the_next_command_ends_a_machine_whose_hours_are_over_since_it_cannot_end_itself(user_env: UserEnv):
    process = user_env.start("steps=3000", "seconds_per_step=0.1")
    user_env.wait_for_step(2)
    process.kill()
    process.wait()
    assert user_env.launchers("ps").returncode == 0
    assert len(user_env.market.billed()) == 1  # within its hours `attach` may still want it
    with sqlite3.connect(user_env.home / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE machines SET created = created - 86400, deadline = deadline - 86400")
    done = user_env.launchers("ps")
    assert "past its deadline" in done.stderr
    assert user_env.market.billed() == []


def drop_key(user_env: UserEnv) -> None:
    user_env.variables |= {"JL_API_KEY": "", "HOME": str(user_env.folder), "XDG_CONFIG_HOME": str(user_env.folder)}


def open_key_file(user_env: UserEnv) -> None:
    drop_key(user_env)
    (user_env.folder / "jl").mkdir()
    (user_env.folder / "jl" / "config.toml").write_text(f'[auth]\ntoken = "{user_env.market.key}"\n')
    (user_env.folder / "jl" / "config.toml").chmod(0o644)


def wrong_key(user_env: UserEnv) -> None:
    user_env.variables["JL_API_KEY"] = "emulated-not-the-key"


def pay_in_rupees(user_env: UserEnv) -> None:
    user_env.market.rupees = True


def poor(user_env: UserEnv) -> None:
    user_env.market.credit = 0.001


def nothing(user_env: UserEnv) -> None:
    pass


BAD_INPUT: list[tuple[str, Callable[[UserEnv], None], list[str], str]] = [
    ("no key", drop_key, [], "No JarvisLabs key: set JL_API_KEY"),
    ("wrong key", wrong_key, [], "JarvisLabs refuses the key in JL_API_KEY"),
    ("key file open to others", open_key_file, [], "Others can read the key file"),
    ("an account in rupees", pay_in_rupees, [], "pays in INR and provider.max_price is in $"),
    (
        "a card not offered", nothing, ["provider.gpu=4090"],
        "jarvis has no RTX 4090: the nearest cards there are L4 (24 GB) at $0.44/h, A100 (40 GB) at $0.89/h",
    ),
    ("more cards than are free", nothing, ["provider.num_gpus=8", "provider.max_price=9"], "it has 4 cards, not 8"),
    ("balance below the estimate", poor, [], "The account's balance is $0.00"),
    ("unreachable API", nothing, ["provider.api_url=http://127.0.0.1:9"], "JarvisLabs does not answer"),
    ("an address that is none", nothing, ["provider.api_url=localhost"], "is no address"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "arguments", "sentence"), [c[1:] for c in BAD_INPUT], ids=[c[0] for c in BAD_INPUT])
def test_bad_input_is_refused_in_one_sentence_and_nothing_is_created(
    user_env: UserEnv, spoil: Callable[[UserEnv], None], arguments: list[str], sentence: str
):
    spoil(user_env)
    done = user_env.run(*arguments)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert sentence in said
    assert "Traceback" not in said
    assert user_env.market.history == []


def test_a_job_that_is_behind_is_pruned(user_env: UserEnv):
    assert_a_job_that_is_behind_is_pruned_and_comes_home(user_env, "jarvis")
    assert user_env.market.billed() == []
