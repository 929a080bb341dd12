"""`provider=auto` on two emulated clouds at once: the cheapest of both, and the next best anywhere when it fails."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.emulators import cage
from tests.emulators.runpod import Runpod
from tests.emulators.vast import Vast
from tests.launchers.conftest import CANARIES, KEY_VARIABLES, UserEnv, environment

pytestmark = [pytest.mark.slow, pytest.mark.turns(8)]

STEPS = 40
JOB = (f"steps={STEPS}", "seconds_per_step=0.1")


@dataclass
class TwoClouds(UserEnv):
    """A user with a key of each of two markets."""

    markets: dict[str, Any] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        keys = {KEY_VARIABLES[name]: market.key for name, market in self.markets.items()}
        return environment(**(keys | {"LAUNCHERS_HOME": str(self.home), "COLUMNS": "200"} | CANARIES | self.variables))

    def arguments(self, *arguments: str) -> list[str]:
        own = [f"+provider.of.{name}.api_url={market.url}" for name, market in self.markets.items()]
        own = ["provider=auto", *own, f"provider.python={sys.executable}"]
        return [*(a for a in arguments if a[0] == "-"), *own, *(a for a in arguments if a[0] != "-")]

    def billed(self) -> list[str]:
        return [f"{name} {instance}" for name, market in self.markets.items() for instance in market.billed()]

    def rented(self) -> dict[str, int]:
        return {name: len(market.history) for name, market in self.markets.items()}

    def begins(self) -> list[int]:
        """The step at which each start of the job began."""
        return [int(step) for step in re.findall(r"starts at step (\d+)", (self.output() / "remote.log").read_text())]


@pytest.fixture
def clouds(project: Path, tmp_path: Path) -> Iterator[TwoClouds]:
    reason = cage.why_not()
    if reason:
        pytest.skip(reason)
    markets = {"runpod": Runpod(tmp_path / "runpod"), "vast": Vast(tmp_path / "vast")}
    env = TwoClouds(tmp_path, project, markets["vast"], "auto", markets=markets)
    with ExitStack() as opened:
        for market in markets.values():
            opened.enter_context(market)
        yield env
        for process in env.processes:
            process.kill()
            process.wait()


def undisturbed(project: Path, *job: str) -> str:
    """What the same job writes here, without a machine."""
    subprocess.run(
        [sys.executable, "-m", "descent", *job, "hydra.sweep.dir=here"], cwd=project, env=environment(), check=True,
        capture_output=True, timeout=120,
    )  # fmt: skip
    return (project / "here" / "0" / "metrics.json").read_text()


def test_a_job_runs_where_it_costs_least_and_the_reason_is_said(clouds: TwoClouds):
    done = clouds.run("steps=2")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert clouds.rented() == {"runpod": 1, "vast": 0}
    assert re.search(r"runpod is the cheapest for this job \(\$0\.\d\d, on-demand\); next is vast \(\$0\.\d\d\)", said)
    (row,) = json.loads(clouds.launchers("ps", "--json", "--all").stdout)[0]["jobs"]
    assert row["provider"] == "runpod"
    assert clouds.billed() == []


def test_a_dry_run_ranks_the_offers_of_all_and_names_who_was_not_asked(clouds: TwoClouds):
    clouds.variables["RUNPOD_API_KEY"] = ""
    clouds.variables["HOME"] = str(clouds.folder)
    alone = clouds.run("provider.dry_run=true")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert "runpod is left out: " in alone.stdout
    del clouds.variables["RUNPOD_API_KEY"]
    both = clouds.run("provider.dry_run=true")
    assert re.search(r"^ *runpod +community/\S+ \S+ RTX 4090 \*", both.stdout, re.MULTILINE), both.stdout
    assert re.search(r"^ *vast +101 .* on-demand ", both.stdout, re.MULTILINE)
    assert "left out" not in both.stdout
    assert clouds.rented() == {"runpod": 0, "vast": 0}


def test_where_spot_is_allowed_it_competes_with_on_demand_and_the_job_moves_to_whatever_is_cheapest_next(
    clouds: TwoClouds,
):
    process = clouds.start(*JOB, "provider.spot=true", "provider.max_price=0.35")
    clouds.wait_for(lambda: clouds.synced_step() > 0, what="a checkpoint at home")
    market = clouds.markets["vast"]
    for offer in market.offers:
        offer["min_bid"] = 0.34
    market.preempt(market.billed()[0])
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert market.history[0].bid == pytest.approx(0.2)
    assert "vast is the cheapest for this job" in output
    assert clouds.rented() == {"runpod": 1, "vast": 1}
    assert "runpod is the cheapest for this job ($0.33, on-demand); next is vast" in output
    assert clouds.billed() == []


def test_a_lost_machine_moves_to_the_other_cloud_with_its_checkpoint_and_ends_with_the_same_bits(clouds: TwoClouds):
    process = clouds.start(*JOB)
    clouds.wait_for(lambda: clouds.synced_step() > 0, what="a checkpoint at home")
    synced = clouds.synced_step()
    (pod,) = clouds.markets["runpod"].billed()
    clouds.markets["runpod"].preempt(pod)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert clouds.rented() == {"runpod": 1, "vast": 1}
    assert clouds.begins()[1] >= synced
    assert (clouds.output() / "metrics.json").read_text() == undisturbed(clouds.project, *JOB)
    assert clouds.billed() == []


def test_a_cloud_that_does_not_answer_is_left_out(clouds: TwoClouds):
    clouds.markets["runpod"].faults.plant("GET", ".*", 502, times=1000)
    done = clouds.run("steps=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert clouds.rented() == {"runpod": 0, "vast": 1}


def test_a_cloud_that_refuses_to_rent_is_followed_by_the_next(clouds: TwoClouds):
    clouds.markets["runpod"].faults.plant("POST", "pods$", "refuse", times=1000)
    done = clouds.run("steps=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert clouds.rented()["vast"] == 1
    assert clouds.billed() == []


def test_a_killed_client_s_job_is_brought_home_by_attach_from_the_cloud_that_it_is_on(clouds: TwoClouds):
    process = clouds.start(*JOB)
    clouds.wait_for_step(3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [place.split()[0] for place in clouds.billed()] == ["runpod"]
    attached = clouds.launchers("attach", clouds.launch)
    assert attached.returncode == 0, attached.stdout + attached.stderr
    assert clouds.begins() == [0]
    assert clouds.rented() == {"runpod": 1, "vast": 0}
    assert clouds.billed() == []


def test_two_jobs_share_the_two_clouds_and_ctrl_c_leaves_nothing_behind(clouds: TwoClouds):
    process = clouds.start("-m", "curve.rate=0.1,0.2", "steps=1000", "seconds_per_step=0.1", "provider.machines=2")
    clouds.wait_for(lambda: len(clouds.billed()) == 2, what="two machines")
    clouds.wait_for_step(2, number=0)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert clouds.billed() == []


BAD = {
    "no key": ([], {"VAST_API_KEY": "", "RUNPOD_API_KEY": ""}, "There is a key of none of vast, runpod: set VAST_API_KEY or RUN"),
    "an unknown provider": (["provider.providers=[lambda]"], {}, "provider=auto can't choose 'lambda'"),
    "one without prices": (["provider.providers=[slurm]"], {}, "provider=auto can't choose 'slurm'"),
    "none": (["provider.providers=[]"], {}, "provider.providers names no provider"),
    "an unknown setting": (["+provider.of.vast.colour=red"], {}, "provider.of.vast is invalid: Key 'colour'"),
    "a deadline that no offer meets": (["provider.deadline_hours=0.02", "steps=1"], {}, "provider.deadline_hours refuses"),
    "a price that no offer meets": (["provider.max_price=0.01"], {}, "provider.max_price refuses"),
    "several nodes": (["provider.nodes=2"], {}, "provider.nodes=2: machines of"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_is_one_sentence_and_rents_nothing(clouds: TwoClouds, kind: str):
    overrides, variables, sentence = BAD[kind]
    clouds.variables |= variables | ({"HOME": str(clouds.folder)} if variables else {})
    done = clouds.run(*overrides)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert re.search(sentence, said), said
    assert "Traceback" not in said
    assert clouds.rented() == {"runpod": 0, "vast": 0}
