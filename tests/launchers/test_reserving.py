"""Offers and labels are reserved in the ledger; a lost create call is looked for until it is settled."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from launchers.job import Offer
from launchers.ledger import Ledger
from tests.emulators.market import offer as market_offer
from tests.launchers.conftest import UserEnv, on_every_market

pytestmark = pytest.mark.turns(6)


def offer(number: int, **changes: Any) -> Offer:
    fields: dict[str, Any] = {
        "provider": "vast", "id": str(number), "host": str(number), "gpu": "RTX 4090", "num_gpus": 1, "gpu_memory_gib": 24.0,
        "price": 0.3, "spot": False, "disk_gb": 100.0, "download_mbps": 500.0, "upload_mbps": 500.0, "reliability": 1.0,
        "region": "SE",
    }  # fmt: skip
    return Offer(**(fields | changes))


def test_launches_of_one_ledger_never_get_the_same_offer_or_label(tmp_path: Path):
    path, launches = tmp_path / "ledger.sqlite", 10
    first = Ledger(path)
    for number in range(launches):
        first.add_launch(f"launch-{number}", "/", [], 0.0)
    offers = [offer(number) for number in range(40)]

    def reserve(number: int) -> list[tuple[str, str]]:
        ledger = Ledger(path)  # as another process has its own
        taken = [ledger.intend_machine(f"launch-{number % launches}", None, offers, (), None, 0.0) for _ in range(4)]
        ledger.close()
        return [(record.label, record.offer.id) for record in taken if record is not None]

    with ThreadPoolExecutor(10) as pool:
        reserved = [pair for pairs in pool.map(reserve, range(10)) for pair in pairs]
    assert len(reserved) == 40
    assert len({label for label, _ in reserved}) == 40
    assert len({chosen for _, chosen in reserved}) == 40
    assert first.intend_machine("launch-0", None, offers, (), None, 0.0) is None
    label, chosen = reserved[0]
    first.machine_gone(label, 1.0)
    again = first.intend_machine("launch-0", None, offers, (), None, 0.0)
    assert again is not None
    assert again.offer.id == chosen
    assert again.label != label


def test_a_kind_of_machine_that_a_market_has_many_of_is_reserved_by_many(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add_launch("launch", "/", [], 0.0)
    many = [offer(1, many=True)]
    assert [ledger.intend_machine("launch", None, many, (), None, 0.0) is not None for _ in range(3)] == [True] * 3


def test_a_label_that_the_account_carries_already_is_left_out(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add_launch("launch", "/", [], 0.0)
    foreign = f"launchers-{ledger.client}-launch-0"
    record = ledger.intend_machine("launch", None, [offer(1)], {foreign}, None, 0.0)
    assert record is not None
    assert record.label == f"launchers-{ledger.client}-launch-1"


@pytest.mark.slow
def test_a_launch_with_eight_machines_gets_them_all(user_env: UserEnv):
    user_env.market.offers = [market_offer(500 + n, dph_total=0.30 + n / 1000) for n in range(24)]
    steps = ",".join(str(n) for n in range(1, 9))
    done = user_env.run("-m", f"steps={steps}", "provider.machines=8", timeout=280)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert len(user_env.market.history) == 8
    assert "taken by someone else" not in said
    assert sorted(i.offer["id"] for i in user_env.market.history) == list(range(500, 508))  # the cheapest
    assert user_env.market.billed() == []


@pytest.mark.slow
def test_a_launch_with_thirty_two_machines_gets_them_all(user_env: UserEnv):
    user_env.market.offers = [market_offer(500 + n, dph_total=0.30 + n / 1000) for n in range(40)]
    user_env.market.boots = ["stuck"] * 32  # rented, and that is all that is asked for here
    steps = ",".join(str(n) for n in range(1, 33))
    process = user_env.start("-m", f"steps={steps}", "provider.machines=32", "hydra.launcher.timing.boot=200")
    user_env.wait_for(lambda: len(user_env.market.billed()) == 32, seconds=120, what="32 machines")
    assert len({i.offer["id"] for i in user_env.market.history}) == 32
    assert len({i.label for i in user_env.market.history}) == 32
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "is not available" not in output
    assert user_env.market.billed() == []


@pytest.mark.slow
def test_jobs_for_which_the_market_has_no_machine_wait_for_the_others(user_env: UserEnv):
    user_env.market.offers = [market_offer(500 + n, dph_total=0.30) for n in range(2)]
    done = user_env.run("-m", "steps=21,22,23,24", "seconds_per_step=0.1", "provider.machines=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(user_env.market.history) == 2
    assert "waiting for one of the other jobs' machines" in done.stdout


# --- lost create calls


def lose_a_create_call(user_env: UserEnv, unlisted_s: float) -> dict[str, float]:
    """The next create call acts, its answer is lost, and the list does not show that machine for a while."""
    path = {"vast": ("PUT", "asks"), "jarvis": ("POST", "/create$"), "runpod": ("POST", "/pods$")}[user_env.provider]
    user_env.market.faults.plant(*path, "lost")
    lag = {"seconds": unlisted_s}
    kept = user_env.market.instances
    first: list[int] = []

    class Lagging(dict):  # type: ignore[type-arg]
        """What the market's list shows: all but the first machine, until it is no longer new."""

        def items(self) -> Any:
            if not first and kept:
                first.append(min(kept))
            hidden = [n for n in first if n in kept and time.time() < kept[n].created + lag["seconds"]]
            return [(n, i) for n, i in dict.items(self) if n not in hidden]

    user_env.market.instances = kept = Lagging(kept)
    return lag


@pytest.mark.slow
@on_every_market
def test_a_machine_whose_create_call_was_never_answered_is_destroyed_when_it_shows_up(user_env: UserEnv):
    lose_a_create_call(user_env, unlisted_s=4)
    done = user_env.run("steps=60", "seconds_per_step=0.1")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "it may be billed; it is looked for" in said
    assert len(user_env.market.history) == 2
    assert user_env.market.billed() == []


@pytest.mark.slow
@on_every_market
def test_a_machine_whose_create_call_was_never_answered_is_named_until_a_command_finds_it(user_env: UserEnv):
    lag = lose_a_create_call(user_env, unlisted_s=3600)
    done = user_env.run("steps=1")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "MAY BE BILLED" in said
    assert "python -m launchers reap" in said
    lost = user_env.market.billed()
    assert len(lost) == 1
    shown = user_env.launchers("ps")
    assert "MAY BE BILLED" in shown.stderr
    assert "intended" in shown.stdout
    assert user_env.launchers("reap", "--yes", "--api-url", user_env.market.url).returncode == 3
    lag["seconds"] = 0
    assert user_env.launchers("ps").returncode == 0
    assert user_env.market.billed() == []
    assert "intended" not in user_env.launchers("ps", "--all").stdout
