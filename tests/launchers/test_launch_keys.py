"""The keys of a launch: a pair of ssh keys of its own that ends with it, and the API key that it was rented with."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import pytest

from launchers.errors import CredentialError
from launchers.ledger import Ledger
from launchers.lifecycle.launch_keys import keys_of
from launchers.transport.keys import blob, forget, launch_keys
from tests.launchers.conftest import KEY_VARIABLES, UserEnv, on_every_market

pytestmark = pytest.mark.turns(6)

SLOW = ("steps=3000", "seconds_per_step=0.1")


def test_each_launch_has_a_pair_of_its_own_which_nobody_else_can_read(tmp_path: Path):
    one, other = (launch_keys(tmp_path, "me", launch) for launch in ("a", "b"))
    assert blob(one.public) != blob(other.public)
    assert one.public == launch_keys(tmp_path, "me", "a").public
    assert one.public.endswith(" launchers-me-a")
    assert one.private.stat().st_mode & 0o777 == 0o600
    assert one.private.parent.stat().st_mode & 0o777 == 0o700
    forget(one)
    assert not one.private.parent.exists()
    assert other.private.exists()


def test_a_pair_that_others_can_read_is_not_used(tmp_path: Path):
    keys = launch_keys(tmp_path, "me", "a")
    assert keys.public
    keys.private.chmod(0o644)
    with pytest.raises(CredentialError, match="Others can read the private key"):
        _ = keys.public


def test_a_launch_of_an_earlier_version_is_opened_with_the_pair_that_its_machines_know(tmp_path: Path):
    former = tmp_path / "ssh" / "id_ed25519"
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add_launch("before", "/somewhere", [], 0.0)
    assert keys_of(ledger, "before", tmp_path).private != former
    former.parent.mkdir()
    former.touch(mode=0o600)
    assert keys_of(ledger, "before", tmp_path).private == former
    assert keys_of(ledger, "new", tmp_path).private != former
    ledger.close()


def private_keys(user_env: UserEnv) -> list[Path]:
    return [
        path
        for path in user_env.home.rglob("*")
        if path.is_file() and b"BEGIN OPENSSH PRIVATE KEY" in path.read_bytes()
    ]


def may_log_in(user_env: UserEnv, key: Path) -> bool:
    """Whether a private key opens the newest machine."""
    port = user_env.market.history[-1].cage.port
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"]
    done = subprocess.run(
        ["ssh", "-i", str(key), *options, "-p", str(port), "root@127.0.0.1", "true"], capture_output=True, timeout=30
    )
    return done.returncode == 0


@pytest.mark.slow
@on_every_market
def test_a_launchs_key_opens_no_other_launchs_machine_and_is_gone_at_its_end(user_env: UserEnv):
    user_env.start(*SLOW)
    user_env.wait_for_step(2)
    (first,) = private_keys(user_env)
    kept = user_env.folder / "kept"
    kept.write_bytes(first.read_bytes())
    kept.chmod(0o600)
    assert may_log_in(user_env, kept)
    assert user_env.launchers("stop", user_env.launch, "--yes").returncode == 0
    user_env.processes[-1].wait(60)
    user_env.wait_for(lambda: not private_keys(user_env), what="the end of the launch's key")
    assert user_env.market.account_keys == []
    user_env.start(*SLOW, "hydra.sweep.dir=outputs/second")
    user_env.wait_for(
        lambda: len(user_env.market.history) == 2 and user_env.market.history[-1].cage.alive, what="a second machine"
    )
    user_env.wait_for(
        lambda: private_keys(user_env) and may_log_in(user_env, private_keys(user_env)[0]), what="a login"
    )
    assert not may_log_in(user_env, kept)


@pytest.mark.slow
@on_every_market
def test_attach_uses_the_launchs_own_key(user_env: UserEnv):
    process = user_env.start("steps=40", "seconds_per_step=0.1")
    user_env.wait_for_step(3)
    process.kill()
    process.wait()
    assert len(private_keys(user_env)) == 1
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert private_keys(user_env) == []
    assert user_env.market.account_keys == []


@pytest.mark.slow
@pytest.mark.parametrize("user_env", ["vast", "jarvis"], indirect=True)  # the account of others holds none of our keys
def test_rotate_key_removes_keys_of_ours_that_no_open_launch_needs_and_no_others(user_env: UserEnv):
    assert user_env.run("steps=1").returncode == 0
    with sqlite3.connect(user_env.home / "ledger.sqlite") as ledger:
        client = ledger.execute("SELECT id FROM client").fetchone()[0]
    former = user_env.home / "ssh" / "id_ed25519"
    former.parent.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(former), "-C", "launchers"], check=True)
    names = {
        "former": former.with_suffix(".pub").read_text().strip(),
        "left": f"ssh-ed25519 AAAAleft launchers-{client}-20200101-000000-aaaa",
        "user's": "ssh-ed25519 AAAAusers me@laptop",
        "colleague's": "ssh-ed25519 AAAAother launchers-ffffff-20200101-000000-aaaa",
    }
    user_env.market.account_keys += [
        {"id": number, "key_id": str(number), "public_key": key, "ssh_key": key, "key_name": key.split()[2]}
        for number, key in enumerate(names.values())
    ]
    done = user_env.launchers(
        "doctor", "--rotate-key", "--provider", user_env.provider, "--api-url", user_env.market.url
    )
    assert done.returncode == 0, done.stdout
    assert "2 removed from the account" in done.stdout
    left = {key["public_key"] for key in user_env.market.account_keys}
    assert left == {names["user's"], names["colleague's"]}
    assert not former.exists()


@pytest.mark.slow
@on_every_market
def test_a_machine_is_not_asked_about_with_another_key_until_the_user_says_that_it_is_the_same_account(
    user_env: UserEnv,
):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(2)
    process.kill()
    process.wait()
    launch = user_env.launch
    right, user_env.market.key = user_env.market.key, "emulated-of-another-account"
    hidden, user_env.market.instances = user_env.market.instances, {}  # the other account has no machines
    asked = len(user_env.market.requests)
    done = user_env.launchers("attach", launch)
    assert done.returncode == 1
    assert "was rented with another" in done.stderr
    assert user_env.market.requests[asked:] == []
    user_env.launchers("reap", "--yes", "--api-url", user_env.market.url)
    machines = user_env.launchers("ps", "--json").stdout
    assert '"billing": "active"' in machines  # the empty answer of another account settles nothing
    user_env.market.instances, user_env.market.key = hidden, "emulated-replaced"
    done = user_env.launchers(
        "doctor", "--same-account", "--provider", user_env.provider, "--api-url", user_env.market.url
    )
    assert "this key is used for 1 open machine" in done.stdout
    assert user_env.launchers("stop", launch, "--yes").returncode == 0
    assert user_env.market.billed() == []
    assert right


@pytest.mark.slow
@on_every_market
def test_what_is_left_of_a_rehearsal_never_gets_the_accounts_key(user_env: UserEnv):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(2)
    process.kill()
    process.wait()
    asked = len(user_env.market.requests)
    user_env.variables[KEY_VARIABLES[user_env.provider]] = "0123456789abcdef-of-the-account"
    for command in (
        ["reap", "--yes"],
        ["ps"],
        ["attach", user_env.launch],
        ["offers", "--api-url", user_env.market.url],
    ):
        said = user_env.launchers(*command)
        assert "Traceback" not in said.stdout + said.stderr
    assert user_env.market.requests[asked:] == []
    assert '"billing": "active"' in user_env.launchers("ps", "--json").stdout
