"""Every stage of a job at Modal x every fault: no application is left, no commit is lost, and the run ends well or says why."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.emulators.modal import containers
from tests.emulators.modal.server import Modal
from tests.emulators.zygote import Client, Zygote, outcome_of
from tests.launchers.conftest import EXAMPLE
from tests.launchers.modal.user_env import ModalUserEnv
from tests.turns import ALL, turn

pytestmark = pytest.mark.slow
TURNS = 3
"""A commit tries every third cell; all of them with ALL_CELLS=1."""

STEPS = 16
JOB = (f"steps={STEPS}", "seconds_per_step=0.08", "provider.sync_every_s=0.2")
FINAL_LOSS = (7 * 0.5**STEPS) ** 2
CELLS_AT_ONCE = 3

RPC_OF = {
    "look": "AppList", "build": "ImageGetOrCreate", "upload": "MountGetOrCreate", "create": "FunctionCreate",
    "start": "FunctionMap", "run": "FunctionGetOutputs", "log": "AppGetLogs", "fetch": "VolumeGetFile2", "stop": "AppStop",
}  # fmt: skip
BURSTS: dict[str, tuple[str, int]] = {
    "short burst": ("UNAVAILABLE", 3),
    "long burst": ("UNAVAILABLE", 9),
    "replies lost": ("lost", 5),
}
IN_A_CONTAINER = ("run", "fetch")
FAULTS = {
    **dict.fromkeys(BURSTS, tuple(RPC_OF)),
    "client killed": ("create", "start", *IN_A_CONTAINER),
    "preempted": IN_A_CONTAINER,
    "crashed": IN_A_CONTAINER,
}
"""Fault -> the stages in which it can happen."""


def seen(user_env: ModalUserEnv, stage: str) -> bool:
    """Whether the job has come to a stage, by what Modal was asked and holds."""
    if stage == "run":
        return any(
            '"step": 3' in path.read_text() for path in user_env.volume.glob("jobs/*/output/checkpoints/last.json")
        )
    if stage == "fetch":
        return any('"ended"' in path.read_text() for path in user_env.volume.glob("jobs/*/status.json"))
    return user_env.modal.counts()[RPC_OF[stage]] > 0


def strike(user_env: ModalUserEnv, fault: str, client: Client) -> None:
    if fault == "client killed":
        client.kill()
    elif user_env.modal.running():
        user_env.modal.preempt() if fault == "preempted" else user_env.modal.crash()


def run_cell(folder: Path, stage: str, fault: str, zygote: Zygote) -> tuple[str, list[str]]:
    """How one job ended, and what was wrong with that."""
    project = folder / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "--quiet", str(project)], check=True)
    problems = []
    with Modal(folder / "modal") as modal:
        user_env = ModalUserEnv(folder, project, None, modal=modal)  # type: ignore[arg-type]
        if fault in BURSTS:
            modal.faults.plant("rpc", f"^{RPC_OF[stage]}$", BURSTS[fault][0], times=BURSTS[fault][1])
        arguments = user_env.arguments(*JOB)
        client = zygote.start("descent", *arguments, cwd=project, env=user_env.environment)
        if fault not in BURSTS:
            deadline = time.monotonic() + 40
            while not seen(user_env, stage) and client.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            strike(user_env, fault, client)
        try:
            said, _ = client.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            client.kill()
            said, problems = client.communicate()[0], ["the client never ended"]
        if fault == "client killed":
            attach = ("launchers", "attach", user_env.launch)
            said += outcome_of(zygote.start(*attach, cwd=project, env=user_env.environment))[1]
        metrics = user_env.output() / "metrics.json"
        finished = metrics.exists()
        if finished and json.loads(metrics.read_text())["loss"] != pytest.approx(FINAL_LOSS):
            problems.append("other metrics than an undisturbed run")
        if not finished and not re.search(r"Job \S+ is \w+: ", said):
            problems.append("did not finish and did not say why")
        if "Traceback" in said:
            problems.append("a traceback")
        if modal.live_apps():
            problems.append("an application is left")
        lines = (user_env.output() / "remote.log").read_text() if (user_env.output() / "remote.log").exists() else ""
        begins = [int(step) for step in re.findall(r"starts at step (\d+)", lines)]
        if begins[1:] and fault != "client killed" and fault not in BURSTS and begins[-1] == 0 and stage == "run":
            problems.append("began again although a commit was there")
        if fault in BURSTS and len(begins) > 1:
            problems.append(f"the job ran twice, {modal.attempts()}:\n{lines}")
    shutil.rmtree(folder, ignore_errors=True)
    return ("finished" if finished else "told"), [f"{stage} x {fault}: {p}\n{said[-6000:]}" for p in problems]


def table(results: dict[tuple[str, str], tuple[str, list[str]]]) -> str:
    """A row a fault, a column a stage; a dot where the fault can't happen."""
    width = max(map(len, FAULTS)) + 2
    lines = ["", " " * width + "".join(f"{stage:10}" for stage in RPC_OF)]
    for fault in FAULTS:
        words = (results.get((stage, fault)) for stage in RPC_OF)
        lines.append(f"{fault:{width}}" + "".join(f"{('FAILED' if w[1] else w[0]) if w else '.':10}" for w in words))
    good = [word for word, problems in results.values() if not problems]
    count = f"{len(results)} cells, {len(good)} good: {good.count('finished')} finished, {good.count('told')} told why"
    return "\n".join([*lines, count, ""])


@pytest.mark.timeout(900)
def test_every_fault_at_every_stage_leaves_nothing_and_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    reason = containers.why_not()
    if reason:
        pytest.skip(reason)
    every = [(stage, fault) for fault, stages in FAULTS.items() for stage in stages]
    cells = every if ALL else every[turn(TURNS) :: TURNS]
    with Zygote() as zygote, ThreadPoolExecutor(CELLS_AT_ONCE) as pool:
        runs = {cell: pool.submit(run_cell, tmp_path / f"{n}", *cell, zygote) for n, cell in enumerate(cells)}
        results = {cell: run.result() for cell, run in runs.items()}
    with capsys.disabled():
        print(table(results))
    # Not an assertion: pytest would cut what the cells said.
    bad = [problem for _, problems in results.values() for problem in problems]
    if bad:
        pytest.fail("\n\n".join(bad), pytrace=False)
