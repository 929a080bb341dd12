"""What a user can get wrong is told in one sentence, and then nothing was created."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launchers.conftest import CANARIES, UserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(8)]


def drop_key(user_env: UserEnv) -> None:
    user_env.variables["VAST_API_KEY"] = ""
    user_env.variables["HOME"] = user_env.variables["XDG_CONFIG_HOME"] = str(user_env.folder)


def change_key(user_env: UserEnv) -> None:
    user_env.variables["VAST_API_KEY"] = "emulated-not-the-key"


def open_key_file(user_env: UserEnv) -> None:
    drop_key(user_env)
    (user_env.folder / ".vast_api_key").write_text(user_env.market.key)
    (user_env.folder / ".vast_api_key").chmod(0o644)


def corrupt_ledger(user_env: UserEnv) -> None:
    user_env.home.mkdir()
    (user_env.home / "ledger.sqlite").write_bytes(b"not a data base" * 100)


def newer_ledger(user_env: UserEnv) -> None:
    user_env.home.mkdir()
    with sqlite3.connect(user_env.home / "ledger.sqlite") as ledger:
        ledger.execute("PRAGMA user_version = 99")


def plant_secret(user_env: UserEnv) -> None:
    (user_env.project / ".env").write_text("NAME=value\n")


def poor(user_env: UserEnv) -> None:
    user_env.market.credit = 0.01


def nothing(user_env: UserEnv) -> None:
    pass


CASES: list[tuple[str, Callable[[UserEnv], None], list[str], str]] = [
    ("no key", drop_key, [], "No Vast.ai key: set VAST_API_KEY"),
    ("wrong key", change_key, [], "Vast.ai refuses the key in VAST_API_KEY"),
    ("key file open to others", open_key_file, [], "Others can read the key file"),
    ("unreachable API", nothing, ["provider.api_url=http://127.0.0.1:9"], "does not answer"),
    ("unknown card", nothing, ["provider.gpu=RTX4900"], "did you mean"),
    ("price cap below the market", nothing, ["provider.max_price=0.1"], "nearest is 101 at $0.360/h"),
    ("max_cost below the estimate", nothing, ["provider.max_cost=0.01", "provider.forecast=descent:hours"], "max_cost"),
    ("disk below need", nothing, ["provider.disk_gb=5", "provider.min_disk_gb=50"], "rent a larger disk"),
    ("no time", nothing, ["provider.max_hours=0"], "must be above 0"),
    ("price cap that is no number", nothing, ["provider.max_price=nan"], "provider.max_price is nan"),
    ("hours without end", nothing, ["provider.max_hours=inf"], "provider.max_hours is inf"),
    ("deadline that is no number", nothing, ["hydra.launcher.timing.grace=nan"], "hydra.launcher.timing.grace is nan"),
    ("unknown knob", nothing, ["+provider.max_prize=1"], "max_prize"),
    ("corrupted ledger", corrupt_ledger, [], "can't be read"),
    ("ledger of a newer version", newer_ledger, [], "newer version"),
    ("secret in the tree", plant_secret, [], ".env"),
    ("secret in the config", nothing, [f"+note={CANARIES['HF_TOKEN']}"], "the value of HF_TOKEN"),
    ("too large a tree", nothing, ["provider.max_snapshot_mb=0.001"], "max_snapshot_mb"),
    ("balance below the estimate", poor, [], "account"),
]


@pytest.mark.parametrize(("spoil", "arguments", "sentence"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bad_input_is_refused_in_one_sentence_and_nothing_is_created(
    user_env: UserEnv, spoil: Callable[[UserEnv], None], arguments: list[str], sentence: str
):
    (user_env.project / "descent" / "__init__.py").write_text("def hours(config):\n    return 0.5\n")
    spoil(user_env)
    done = user_env.run(*arguments)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert sentence in said
    assert "Traceback" not in said
    assert user_env.market.history == []


def test_an_unreachable_market_is_given_up_once_and_is_no_lost_machine(user_env: UserEnv):
    done = user_env.run("provider.api_url=http://127.0.0.1:9")
    said = done.stdout + done.stderr
    assert said.count("Retrying for up to 3 s") == 1
    assert "lost its machine" not in said


def test_a_missing_file_of_the_user_is_named(user_env: UserEnv):
    done = user_env.run("+data_file=/nowhere/train.csv", "provider.local_paths=[data_file]")
    assert done.returncode != 0
    assert "data_file names /nowhere/train.csv, which is not here" in done.stdout + done.stderr
    assert user_env.market.history == []


@pytest.mark.parametrize("command", [["attach", "x"], ["logs", "x"], ["fetch", "x"], ["cancel", "x"], ["stop", "x"]])
def test_an_unknown_job_is_said_to_be_unknown(user_env: UserEnv, command: list[str]):
    done = user_env.launchers(*command)
    assert done.returncode == 1
    assert done.stderr.startswith("No job matches 'x'")


def test_an_older_ledger_is_kept_and_brought_up_to_date(user_env: UserEnv):
    user_env.home.mkdir()
    sqlite3.connect(user_env.home / "ledger.sqlite").close()
    assert user_env.run("steps=1").returncode == 0
    mode = (user_env.home / "ledger.sqlite").stat().st_mode & 0o777
    assert mode == 0o600


def test_a_foreign_machine_is_never_touched_whatever_its_label(user_env: UserEnv):
    foreign = [
        user_env.market.create(offer, {"label": label}).id
        for offer, label in zip(
            user_env.market.offers[4:], ["", "launchers", "launchers-0a1b2c-20250101-000000-aaaa-0"], strict=False
        )
    ]
    assert user_env.run("steps=1").returncode == 0
    done = user_env.launchers("reap", "--yes", "--api-url", user_env.market.url)
    assert done.returncode == 0, done.stderr
    assert user_env.market.billed() == foreign


def test_two_clients_cannot_attend_to_one_launch(user_env: UserEnv):
    process = user_env.start("steps=200", "seconds_per_step=0.1")
    user_env.wait_for_step(2)
    second = user_env.launchers("attach", user_env.launch)
    assert second.returncode == 1
    assert "Another client on this computer is already attached" in second.stderr
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


def test_help_of_every_command_names_its_options():
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    for command in ("offers", "estimate", "doctor", "ps", "logs", "attach", "fetch", "cancel", "stop", "reap", "cost"):
        done = subprocess.run(
            [sys.executable, "-m", "launchers", command, "--help"], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "--json" in done.stdout
