"""Every stage of a job's life x every fault: the bill stops, what was synced stays, and the run ends well or says why.

Each cell is a whole job on an emulated market of its own; the fault strikes when the stage is seen. Printed as a table.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.emulators import cage
from tests.emulators.jarvis import Jarvis
from tests.emulators.runpod import Runpod
from tests.emulators.served import Delays
from tests.emulators.vast import Vast
from tests.emulators.zygote import Client, Zygote, outcome_of
from tests.launchers.conftest import EXAMPLE, UserEnv
from tests.turns import ALL, turn

pytestmark = pytest.mark.slow

STEPS = 16
JOB = (
    f"steps={STEPS}", "seconds_per_step=0.08", "provider.sync_every_s=0.2", "provider.min_disk_gb=0",
)  # fmt: skip
FINAL_LOSS = (7 * 0.5**STEPS) ** 2
CELLS_AT_ONCE = 4
TURNS = 32
"""A commit tries every twelfth cell, by its own number; all of them with ALL_CELLS=1."""

STAGES = ("plan", "create", "boot", "login", "snapshot", "run", "sync", "fetch", "destroy")
ON_A_MACHINE = ("login", "snapshot", "run", "sync", "fetch")
ASKED = ("plan", "create", "boot", "destroy")
ANSWERS: dict[str, int | str] = {
    "429": 429, "500": 500, "502": 502, "no answer": "drop", "reply lost": "lost", "not JSON": "text",
}  # fmt: skip
"""Fault -> what the emulator does instead of answering."""
PLANTED = (*ANSWERS, "offer taken", "success: false", "no capacity")
ANYWHERE = {
    "client killed": ("create", "boot", *ON_A_MACHINE, "destroy"),
    "interrupt": ("create", "boot", *ON_A_MACHINE, "destroy"),
    "cut, interrupt": ON_A_MACHINE,
    "cut, preempted": ON_A_MACHINE,
    "connection cut": ON_A_MACHINE,
    "preempted": ("boot", *ON_A_MACHINE),
    "disk full": ("snapshot", "run"),
    "disk here full": ("create", "boot", *ON_A_MACHINE, "destroy"),
    "disk here full, preempted": ("run", "fetch"),
    "disk here full, interrupt": ("run", "fetch"),
    "console closed": ("boot", *ON_A_MACHINE),
    "console closed, cut": ("run", "fetch"),
    "offer taken": ("create",),
    **dict.fromkeys(ANSWERS, ASKED),
    "success: false": ("create", "destroy"),
}
"""Fault -> the stages in which it can happen."""


@dataclass(frozen=True)
class Place:
    """A market to try the faults at."""

    provider: str
    open: Callable[[Path], Any]
    requests: dict[str, tuple[str, str]]
    """Stage -> method and path of its request."""
    faults: dict[str, tuple[str, ...]]
    taken: tuple[int, dict[str, Any]]
    """What is answered when an offer is gone."""
    destroys_failing: int
    job: tuple[str, ...] = ("provider.spot=true",)
    """Overrides of its jobs."""


VAST = Place(
    "vast",
    lambda folder: Vast(folder, delays=Delays(loading=0.3, sshd=0.2)),
    {
        "plan": ("POST", "bundles"), "create": ("PUT", "asks"), "boot": ("GET", r"v0/instances/\d+"),
        "destroy": ("DELETE", "instances"),
    },
    {**ANYWHERE, "machine exits": ("boot", *ON_A_MACHINE), "host lost": ("boot", *ON_A_MACHINE)},
    (404, {"success": False, "error": "no_such_ask", "msg": "offer is gone"}),
    3,
)  # fmt: skip
JARVIS = Place(
    "jarvis",
    lambda folder: Jarvis(folder, delays=Delays(loading=0.3, sshd=0.2)),
    {
        "plan": ("GET", "server_meta"), "create": ("POST", "/create$"), "boot": ("GET", r"users/fetch/\d+"),
        "destroy": ("POST", "misc/destroy"),
    },
    {**ANYWHERE, "no capacity": ("boot",)},
    (400, {"detail": "No GPU available"}),
    1,  # the SDK itself looks for 20 s whether it was destroyed all the same
)  # fmt: skip
RUNPOD = Place(
    "runpod",
    lambda folder: Runpod(folder, delays=Delays(loading=0.3, sshd=0.2)),
    {
        "plan": ("GET", "catalog/gpus"), "create": ("POST", "/pods$"), "boot": ("GET", r"/pods/\w+"),
        "destroy": ("DELETE", "/pods/"),
    },
    {**ANYWHERE, "no capacity": ("boot",), "host lost": ("boot", *ON_A_MACHINE)},
    (400, {"title": "Bad Request", "status": 400, "detail": "There are no instances currently available"}),
    3,
    (),  # none is interruptible
)  # fmt: skip


@dataclass
class Result:
    stage: str
    fault: str
    word: str
    """finished, or told: it ended otherwise and said why in one sentence."""
    problems: list[str]


def desk_in(folder: Path, place: Place) -> UserEnv:
    project = folder / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "--quiet", str(project)], check=True)
    return UserEnv(folder, project, place.open(folder / "market"), place.provider)


def seen(user_env: UserEnv, place: Place, stage: str) -> bool:
    """Whether the job has come to a stage; from the outside, never from the client's own word."""
    market = user_env.market
    first = market.history[0] if market.history else None
    if first is None:
        return False
    machine = Path(f"/proc/{first.cage.process.pid}/root{cage.PRIVATE}/launchers") if first.cage.process else None
    log = user_env.output() / "remote.log"
    match stage:
        case "create":
            return True
        case "boot":
            return first.booting
        case "login":
            return bool(first.cage.process and first.cage.sessions())
        case "snapshot":
            return bool(machine and machine.is_dir() and any(machine.glob("blobs/*")))
        case "run":
            return log.exists() and "step 3 " in log.read_text()
        case "sync":
            return (user_env.output() / ".sync" / "known.json").exists() and user_env.synced_step() > 0
        case "fetch":
            ended = list(machine.glob("jobs/*/status.json")) if machine and machine.is_dir() else []
            return any('"ended"' in path.read_text() for path in ended)
        case "destroy":
            method, path = place.requests[stage]
            return any(re.search(f"^{method} .*{path}", request) for request in market.requests)
    raise AssertionError(stage)


def fill_disk(user_env: UserEnv) -> None:
    first = user_env.market.history[0].cage
    assert first.process is not None
    target = Path(f"/proc/{first.process.pid}/root{cage.PRIVATE}/filler")
    try:
        with target.open("wb") as file:
            while True:
                file.write(b"\0" * (1 << 16))
    except OSError:
        user_env.market.disk_mb = None  # the next machine has room


def strike(user_env: UserEnv, fault: str, client: Client) -> None:
    """Of two faults with a comma, the second strikes at once after the first."""
    for each in fault.split(", "):
        strike_once(user_env, each, client)


def strike_once(user_env: UserEnv, fault: str, client: Client) -> None:
    market = user_env.market
    first = market.history[0] if market.history else None
    if fault == "client killed":
        client.kill()
    elif fault == "interrupt":
        client.send_signal(signal.SIGINT)  # without a terminal: save, download, destroy
    elif fault in ("connection cut", "cut") and first:
        deadline = time.monotonic() + 5
        while not first.cage.cut() and time.monotonic() < deadline:
            pass
    elif fault == "machine exits" and first and first.ended is None:
        market.preempt(first.id, "exited")  # only Vast says so
    elif fault == "preempted" and first and first.ended is None:
        market.preempt(first.id)
    elif fault == "host lost" and first and first.ended is None:
        market.lose_host(first.id)
    elif fault == "disk full":
        fill_disk(user_env)
    elif fault == "disk here full" and client.poll() is None:
        resource.prlimit(client.pid, resource.RLIMIT_FSIZE, (0, 0))  # it can write to no file any more
    elif fault == "console closed":
        assert client.stdout is not None
        client.stdout.close()


def run_cell(folder: Path, place: Place, stage: str, fault: str, zygote: Zygote) -> Result:
    user_env = desk_in(folder, place)
    plant(user_env, place, stage, fault)
    said: list[str] = []
    step_at_fault = 0
    with user_env.market:
        arguments = user_env.arguments(*JOB, *place.job)
        client = zygote.start("descent", *arguments, cwd=user_env.project, env=user_env.environment)
        assert client.stdout is not None
        reader = threading.Thread(target=read_lines, args=(client.stdout, said), daemon=True)
        reader.start()
        if fault not in PLANTED:
            wait(lambda: seen(user_env, place, stage) or client.poll() is not None, 40)
            step_at_fault = user_env.synced_step()
            strike(user_env, fault, client)
        try:
            client.wait(60)
            problems = []
        except subprocess.TimeoutExpired:
            client.kill()
            problems = ["the client never ended"]
        reader.join(10)
        if "interrupt" in fault and client.returncode not in (0, 130):
            problems.append(f"ended with {client.returncode} after an interrupt")
        problems += after_client_died(user_env, said, zygote) if fault == "client killed" else []
        problems += after_disk_was_full(user_env, said, zygote) if "disk here full" in fault else []
        # A job whose disk is full writes a traceback of its own into its log, which is shown.
        told = "".join(line for line in said if fault != "disk full" or "Traceback" not in line)
        problems += judge(user_env, told, step_at_fault, fault)
        finished = (user_env.output() / "metrics.json").exists()
    shutil.rmtree(folder, ignore_errors=True)
    return Result(stage, fault, "finished" if finished else "told", problems)


def plant(user_env: UserEnv, place: Place, stage: str, fault: str) -> None:
    faults = user_env.market.faults
    times = {"create": 1, "destroy": place.destroys_failing}.get(stage, 3)
    if fault in ANSWERS:
        faults.plant(*place.requests[stage], ANSWERS[fault], times=times)
    elif fault == "offer taken":
        status, body = place.taken
        faults.plant(*place.requests["create"], status, body=body)
    elif fault == "success: false":
        faults.plant(*place.requests[stage], "refuse", times=min(times, 2))
    elif fault == "no capacity":
        user_env.market.boots.append("capacity")
    elif fault == "disk full":
        user_env.market.disk_mb = 6


def after_client_died(user_env: UserEnv, said: list[str], zygote: Zygote) -> list[str]:
    """Reap, see the bill stop, then take the launch up again."""

    def launchers(*arguments: str) -> tuple[int, str]:
        return outcome_of(zygote.start("launchers", *arguments, cwd=user_env.project, env=user_env.environment))

    code, text = launchers("reap", "--yes")
    problems = [] if code == 0 else [f"reap: {text[-300:]}"]
    if user_env.market.billed():
        problems.append(f"billed after reap: {user_env.market.billed()}")
    code, text = launchers("attach", user_env.launch)
    said.append(text)
    if code != 0:
        problems.append(f"attach ended with {code}")
    return problems


def after_disk_was_full(user_env: UserEnv, said: list[str], zygote: Zygote) -> list[str]:
    """What is billed has been named; then there is room again, and the launch is taken up."""
    text = "".join(said)
    problems = [
        f"instance {instance} is billed, and nobody says so"
        for instance in user_env.market.billed()
        if not re.search(rf"BILLED: .*{re.escape(str(instance))}|MAY BE BILLED|python -m launchers reap", text)
    ]
    client = zygote.start("launchers", "attach", user_env.launch, cwd=user_env.project, env=user_env.environment)
    code, attached = outcome_of(client)
    said.append(attached)
    return problems + ([f"attach ended with {code}"] if code != 0 else [])


def judge(user_env: UserEnv, said: str, step_at_fault: int, fault: str) -> list[str]:
    problems = []
    if user_env.market.billed():
        problems.append(f"still billed: {user_env.market.billed()}")
    if "Traceback" in said:
        problems.append("a traceback")
    metrics, log = user_env.output() / "metrics.json", user_env.output() / "remote.log"
    if metrics.exists():
        if json.loads(metrics.read_text())["loss"] != pytest.approx(FINAL_LOSS):
            problems.append("other metrics than an undisturbed run")
        begins = [int(step) for step in re.findall(r"starts at step (\d+)", log.read_text())]
        if len(begins) > 1 and begins[-1] < step_at_fault:
            problems.append(f"began again at step {begins[-1]}, {step_at_fault} was synced")
    elif user_env.synced_step() < step_at_fault:
        problems.append("a synced checkpoint is gone")
    elif "console closed" in fault:
        problems.append("did not finish without a console")
    elif not re.search(r"(Job \S+ is|No machine after|disk is full)", said) and not (
        "interrupt" in fault and "Stopping: " in said
    ):
        problems.append("did not finish and did not say why")
    return [f"{problem}\n{said[-6000:]}" for problem in problems]


def read_lines(stdout: IO[str], said: list[str]) -> None:
    """Until the end, or until the console is closed."""
    with contextlib.suppress(ValueError, OSError):
        said.extend(stdout)


def wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def table(results: list[Result], faults: dict[str, tuple[str, ...]]) -> str:
    """A row a fault, a column a stage; a dot where the fault can't happen."""
    by_cell = {(r.stage, r.fault): "FAILED" if r.problems else r.word for r in results}
    width = max(map(len, faults)) + 2
    lines = ["", " " * width + "".join(f"{stage:10}" for stage in STAGES)]
    for fault in (fault for fault, stages in faults.items() if stages):
        lines.append(f"{fault:{width}}" + "".join(f"{by_cell.get((stage, fault), '.'):10}" for stage in STAGES))
    good = [r for r in results if not r.problems]
    finished = sum(r.word == "finished" for r in good)
    count = f"{len(results)} cells, {len(good)} good: {finished} finished, {len(good) - finished} told why"
    return "\n".join([*lines, count, ""])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", [VAST, JARVIS, RUNPOD], ids=["vast", "jarvis", "runpod"])
def test_every_fault_at_every_stage_stops_the_bill_and_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: Place
):
    reason = cage.why_not()
    if reason:
        pytest.skip(reason)
    every = [(stage, fault) for fault, stages in place.faults.items() for stage in stages]
    cells = every if ALL else every[turn(TURNS) :: TURNS]
    with Zygote() as zygote, ThreadPoolExecutor(CELLS_AT_ONCE) as pool:
        runs = [
            pool.submit(run_cell, tmp_path / f"{number}", place, stage, fault, zygote)
            for number, (stage, fault) in enumerate(cells)
        ]
        results = [run.result() for run in runs]
    with capsys.disabled():
        print(table(results, place.faults))
    # Not an assertion: pytest would cut what the cells said.
    bad = [f"{r.stage} x {r.fault}: {problem}" for r in results for problem in r.problems]
    if bad:
        pytest.fail("\n\n".join(bad), pytrace=False)
