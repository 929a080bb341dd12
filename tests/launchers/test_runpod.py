"""An emulated RunPod: its catalog, its pods and its ways to lose one. Real HTTPS client, ssh and processes.

What every provider must pass is in `test_vast.py`, marked `on_every_market`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.launchers.conftest import UserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(8), pytest.mark.parametrize("user_env", ["runpod"], indirect=True)]

STEPS = 30
JOB = (f"steps={STEPS}", "seconds_per_step=0.1")
FINAL_LOSS = (7 * 0.5**STEPS) ** 2


def test_a_pod_of_the_cheapest_tier_that_is_asked_for_is_created_under_a_label_of_our_own(user_env: UserEnv):
    done = user_env.run("steps=1")
    assert done.returncode == 0, done.stdout + done.stderr
    (pod,) = user_env.market.history
    assert pod.body["cloud"] == "COMMUNITY"
    assert pod.label.startswith("launchers-")
    assert pod.body["disk"] == 20
    assert user_env.market.billed() == []


def test_a_pod_that_is_stopped_under_its_job_is_deleted_and_the_job_continues_on_another(user_env: UserEnv):
    process = user_env.start(*JOB)
    user_env.wait_for(lambda: user_env.synced_step() > 0, what="a checkpoint at home")
    synced = user_env.synced_step()
    user_env.market.preempt(user_env.market.billed()[0])
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert len(user_env.market.history) == 2
    begins = [int(s) for s in re.findall(r"starts at step (\d+)", (user_env.output() / "remote.log").read_text())]
    assert begins[1] >= synced
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    assert user_env.market.billed() == []


def test_a_pod_whose_client_never_returns_ends_itself_with_its_own_key(user_env: UserEnv):
    process = user_env.start(
        "steps=3000", "seconds_per_step=0.1", "provider.max_hours=0.004", "hydra.launcher.timing.fetch=2"
    )
    user_env.wait_for_step(2)
    process.kill()
    process.wait()
    user_env.wait_for(lambda: user_env.market.billed() == [], seconds=90, what="the pod deletes itself")


def test_pods_that_do_not_come_up_are_deleted_and_the_next_offer_is_taken(user_env: UserEnv):
    user_env.market.boots += ["capacity"]
    done = user_env.run("steps=2", "provider.gpu=null", "hydra.launcher.timing.boot=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "did not come up (ERROR)" in done.stdout
    assert len(user_env.market.history) == 2
    assert user_env.market.billed() == []


FAULTS: dict[str, list[tuple[str, str, int | str, int]]] = {
    "lost replies": [
        ("POST", "pods$", "lost", 1), ("GET", r"pods/\w+", "lost", 1), ("DELETE", "pods", "lost", 1),
    ],
    "answers without JSON": [
        ("GET", "catalog", "text", 2), ("POST", "pods$", "text", 1), ("GET", r"pods/\w+", "page", 2), ("DELETE", "pods", "page", 1),
    ],
    "errors of the server": [
        ("GET", "catalog", 429, 3), ("POST", "pods$", 502, 1), ("DELETE", "pods", 500, 2),
    ],
    "answers with fields missing": [("GET", "catalog", "refuse", 1), ("POST", "pods$", "refuse", 1), ("DELETE", "pods", "refuse", 1)],
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_of_the_service_are_survived_and_nothing_is_billed_after(user_env: UserEnv, kind: str):
    for fault in FAULTS[kind]:
        user_env.market.faults.plant(*fault)
    done = user_env.run("steps=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [fault for fault in user_env.market.faults.planted if fault.times] == []  # each was met
    assert user_env.market.billed() == []


def test_a_pod_that_cannot_be_deleted_is_named_with_the_command_and_reaped_later(user_env: UserEnv):
    user_env.market.faults.plant("DELETE", "pods", "refuse", times=1000)
    done = user_env.run("steps=1")
    assert done.returncode != 0
    (pod,) = user_env.market.billed()
    assert f"STILL BILLED: runpod instance {pod}" in done.stdout + done.stderr
    assert f"runpodctl pod delete {pod}" in done.stdout + done.stderr
    user_env.market.faults.planted.clear()
    assert user_env.launchers("reap", "--yes").returncode == 0
    assert user_env.market.billed() == []


def nothing(user_env: UserEnv) -> None:
    pass


def drop_key(user_env: UserEnv) -> None:
    user_env.variables |= {"RUNPOD_API_KEY": "", "HOME": str(user_env.folder)}


def open_key_file(user_env: UserEnv) -> None:
    drop_key(user_env)
    (user_env.folder / ".runpod").mkdir()
    (user_env.folder / ".runpod" / "config.toml").write_text(f'apikey = "{user_env.market.key}"\n')
    (user_env.folder / ".runpod" / "config.toml").chmod(0o644)


def wrong_key(user_env: UserEnv) -> None:
    user_env.variables["RUNPOD_API_KEY"] = "emulated-not-the-key"


def poor(user_env: UserEnv) -> None:
    user_env.market.credit = 0.0


def old_drivers(user_env: UserEnv) -> None:
    for sold in user_env.market.catalog:
        sold["cudaVersions"] = [{"version": "12.4", "availability": "HIGH"}]


BAD_INPUT: list[tuple[str, Callable[[UserEnv], None], list[str], str]] = [
    ("no key", drop_key, [], "No RunPod key: set RUNPOD_API_KEY"),
    ("wrong key", wrong_key, [], "RunPod refuses the key in RUNPOD_API_KEY"),
    ("key file open to others", open_key_file, [], "Others can read the key file"),
    ("spot", nothing, ["provider.spot=true"], "RunPod's API has no interruptible pods"),
    ("a card not offered", nothing, ["provider.gpu=T4"], "runpod has no T4: the nearest cards there are"),
    ("old drivers", old_drivers, ["provider.min_cuda=12.8"], "provider.min_cuda refuses 2"),
    ("no credit", poor, [], "RunPod refuses to rent (Payment Required: insufficient balance): add credit"),
    ("unreachable API", nothing, ["provider.api_url=http://127.0.0.1:9"], "RunPod does not answer"),
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
