"""`python -m launchers`: what it prints is true, in a table and as JSON, and what it ends is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.jarvis import Jarvis
from tests.launchers.conftest import UserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(8)]
JOB = ("steps=60", "seconds_per_step=0.1")


def rows(user_env: UserEnv, *arguments: str) -> list[dict[str, Any]]:
    done = user_env.launchers(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def abandoned(user_env: UserEnv, *arguments: str) -> str:
    """A job that runs on a machine after its client was killed."""
    process = user_env.start(*JOB, *arguments)
    user_env.wait_for_step(5)
    process.kill()
    process.wait()
    return user_env.launch


def test_offers_are_those_of_the_market_cheapest_first(user_env: UserEnv):
    found = rows(user_env, "offers", "--gpu", "4090", "--api-url", user_env.market.url)
    on_demand = [row for row in found if row["kind"] == "on-demand"]
    assert [row["$/h"] for row in on_demand] == [0.36, 0.41, 0.44, 0.72]
    spot = rows(user_env, "offers", "--gpu", "4090", "--spot", "--max-price", "0.24", "--api-url", user_env.market.url)
    assert {(row["kind"], row["offer"]) for row in spot} == {("spot", "101"), ("spot", "102")}


def test_doctor_says_what_is_missing_and_exits_by_it(user_env: UserEnv):
    assert user_env.launchers("doctor", "--api-url", user_env.market.url).returncode == 0
    user_env.market.credit = 0.0
    done = user_env.launchers("doctor", "--api-url", user_env.market.url)
    assert done.returncode == 1
    assert "add credit" in done.stdout


@pytest.fixture
def three_clouds(user_env: UserEnv, tmp_path: Path) -> Iterator[UserEnv]:
    """Keys of all three providers; Vast.ai and JarvisLabs are emulated, and Modal's prices need no server."""
    with Jarvis(tmp_path / "jarvis") as jarvis:
        user_env.variables |= {"JL_API_KEY": jarvis.key, "MODAL_TOKEN_ID": "id", "MODAL_TOKEN_SECRET": "none"}
        for name, url in {"vast": user_env.market.url, "jarvis": jarvis.url}.items():
            path = user_env.project / f"descent/conf/provider/{name}.yaml"
            path.write_text(path.read_text().replace(f"  name: {name}\n", f"  name: {name}\n  api_url: {url}\n"))
        user_env.variables["PLACES"] = f"vast={user_env.market.url} jarvis={jarvis.url}"
        yield user_env


def test_offers_of_all_three_clouds_stand_in_one_table_with_their_sources(three_clouds: UserEnv):
    places = [part for url in three_clouds.variables["PLACES"].split() for part in ("--api-url", url)]
    found = rows(three_clouds, "offers", "--gpu", "A100", *places)
    assert {row["provider"] for row in found} == {"jarvis", "modal", "vast"}
    assert [row["$/h"] for row in found] == sorted(row["$/h"] for row in found if row["card"] == "1 x A100") + sorted(
        row["$/h"] for row in found if row["card"] != "1 x A100"
    )
    shown = " ".join(three_clouds.launchers("offers", "--gpu", "4090", *places).stdout.split())
    assert "jarvis has no RTX 4090: the nearest cards there are L4 (24 GB) at $0." in shown
    assert "jarvis: live catalog" not in shown  # no figure of it is in the table
    assert "vast: live search" in shown


def test_the_estimate_has_a_row_for_every_hardware_and_cloud_and_says_why_where_there_is_none(three_clouds: UserEnv):
    conf = three_clouds.project / "descent/conf"
    (conf / "hardware").mkdir()
    for card in ("A100", "4090"):
        (conf / f"hardware/{card.lower()}.yaml").write_text(f'# @package _global_\nprovider: {{gpu: "{card}"}}\n')
    config = conf / "config.yaml"
    config.write_text(config.read_text().replace("  - provider: local\n", "  - provider: local\n  - hardware: a100\n"))
    overrides = ["provider.max_price=3"]
    found = rows(three_clouds, "estimate", "--app", "descent", "--hardware", "a100,4090", *overrides)
    by_place = {(row["hardware"], row["provider"]): row for row in found if row.get("kind") != "spot"}
    assert set(by_place) == {(card, name) for card in ("a100", "4090") for name in ("jarvis", "modal", "vast")}
    priced = {place for place, row in by_place.items() if row.get("$_job")}
    assert priced == {("a100", "jarvis"), ("a100", "modal"), ("a100", "vast"), ("4090", "vast")}
    assert "jarvis has no RTX 4090: the nearest cards there are L4" in by_place["4090", "jarvis"]["note"]
    assert "Modal has no RTX 4090" in by_place["4090", "modal"]["note"]


def test_doctor_walks_a_newcomer_through_every_cloud_and_exits_by_the_chosen_one(user_env: UserEnv):
    done = user_env.launchers("doctor", "--api-url", user_env.market.url)
    assert done.returncode == 0, done.stdout
    assert "Ready: vast." in done.stdout
    for steps in ("sign up at https://jarvislabs.ai/", "export JL_API_KEY=", "modal token new"):
        assert steps in done.stdout
    assert "sign up at https://cloud.vast.ai/" not in done.stdout  # that one is set up
    assert user_env.launchers("doctor", "--provider", "vast", "--api-url", user_env.market.url).returncode == 0
    chosen = user_env.launchers("doctor", "--provider", "jarvis")
    assert chosen.returncode == 1
    assert "jarvis is not ready." in chosen.stdout


def test_ps_logs_fetch_cost_tell_of_a_job_and_cancel_ends_it(user_env: UserEnv):
    launch = abandoned(user_env, "steps=3000")  # still running however slow this machine is
    (both,) = rows(user_env, "ps")
    assert [(job["launch"], job["state"]) for job in both["jobs"]] == [(launch, "running")]
    assert [machine["billing"] for machine in both["machines"]] == ["active"]
    assert "step 5 weight" in user_env.launchers("logs", launch).stdout
    (fetched,) = rows(user_env, "fetch", launch)
    assert fetched["files"] >= 0
    assert json.loads((user_env.output() / "checkpoints/last.json").read_text())["step"] >= 5
    assert user_env.market.billed() != []
    done = user_env.launchers("cancel", launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified" in done.stdout
    assert user_env.market.billed() == []
    again = user_env.launchers("cancel", launch)
    assert again.returncode == 1
    assert "has ended already (cancelled): nothing to cancel" in again.stderr
    spent = {row["what"]: row["$"] for row in rows(user_env, "cost")}
    billed = sum(row["dollars"] for row in user_env.market.bill())
    assert spent["all machines"] == pytest.approx(billed, rel=0.2)
    assert rows(user_env, "ps")[0] == {"jobs": [], "machines": []}


def test_logs_follows_a_job_without_a_client_to_its_end(user_env: UserEnv):
    launch = abandoned(user_env)
    done = user_env.launchers("logs", "-f", launch)
    assert done.returncode == 0, done.stderr
    assert "step 60 weight" in done.stdout
    assert user_env.market.billed() != []  # looking at a log ends nothing
    assert user_env.launchers("attach", launch).returncode == 0
    assert user_env.market.billed() == []


def test_logs_shows_what_a_detached_job_has_printed_by_now(user_env: UserEnv):
    assert user_env.run("steps=200", "seconds_per_step=0.1", "provider.detach=true").returncode == 0
    user_env.wait_for(
        lambda: "step 3 weight" in user_env.launchers("logs", user_env.launch).stdout, what="step 3 in the log"
    )
    said = user_env.launchers("logs", user_env.launch).stdout
    assert said.count("step 3 weight") == 1
    assert "step 200 weight" not in said
    assert user_env.launchers("cancel", user_env.launch).returncode == 0


def test_a_living_client_ends_the_job_that_another_command_cancels(user_env: UserEnv):
    process = user_env.start(
        "steps=2000", "seconds_per_step=0.1"
    )  # it must run when the command comes, however busy we are
    user_env.wait_for_step(5)
    done = user_env.launchers("cancel", user_env.launch)
    assert done.returncode == 0, done.stderr
    assert "Told the client that is attached" in done.stdout
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cancelled" in output
    assert user_env.market.billed() == []


def test_stop_and_reap_ask_first_and_end_what_is_ours(user_env: UserEnv):
    launch = abandoned(user_env)
    for command in (["stop", launch], ["reap"]):
        done = user_env.launchers(*command)
        assert done.returncode == 1
        assert "say --yes in a script" in done.stderr
        assert len(user_env.market.billed()) == 1
    assert user_env.launchers("stop", launch, "--yes").returncode == 0
    assert user_env.market.billed() == []


def test_a_reaped_job_can_be_taken_up_again(user_env: UserEnv):
    launch = abandoned(user_env)
    assert user_env.launchers("reap", "--yes").returncode == 0
    assert user_env.market.billed() == []
    done = user_env.launchers("attach", launch[-4:], "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(job["launch"], job["state"]) for job in json.loads(done.stdout)] == [(launch, "finished")]  # JSON alone
    assert "step 60 weight" in done.stderr
    assert json.loads((user_env.output() / "metrics.json").read_text())["loss"] == pytest.approx((7 * 0.5**60) ** 2)
    assert len(user_env.market.history) == 2
    assert user_env.market.billed() == []


def test_reap_leaves_a_detached_job_alone(user_env: UserEnv):
    assert user_env.run("steps=2000", "seconds_per_step=0.1", "provider.detach=true").returncode == 0
    assert user_env.launchers("reap", "--yes").returncode == 0
    assert len(user_env.market.billed()) == 1
    assert user_env.launchers("cancel", user_env.launch).returncode == 0
    assert user_env.market.billed() == []


def test_a_machine_that_cannot_be_ended_is_shouted_about_and_reaped_later(user_env: UserEnv):
    user_env.market.faults.plant("DELETE", "instances", "refuse", times=1000)
    done = user_env.run("steps=1")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "STILL BILLED: vast instance 7001" in said
    assert "$0.360 per hour" in said
    assert "vastai destroy instance 7001" in said
    assert [machine["billing"] for machine in rows(user_env, "ps")[0]["machines"]] == ["unconfirmed"]
    user_env.market.faults.planted.clear()
    assert user_env.launchers("reap", "--yes").returncode == 0
    assert user_env.market.billed() == []


def test_a_strangers_machine_with_the_number_of_one_of_ours_elsewhere_is_never_touched(
    user_env: UserEnv, tmp_path: Path
):
    assert user_env.run("steps=1").returncode == 0
    ours = user_env.market.history[0].id
    with Jarvis(tmp_path / "jarvis") as jarvis:
        jarvis._next = ours - 1
        jarvis.create(jarvis.catalog[0], {"name": "a colleague's"})
        user_env.variables["JL_API_KEY"] = jarvis.key
        markets = ["--api-url", f"vast={user_env.market.url}", "--api-url", f"jarvis={jarvis.url}"]
        done = user_env.launchers("reap", "--yes", *markets)
        assert "JarvisLabs" not in done.stderr, done.stderr
        assert jarvis.billed() == [ours]
