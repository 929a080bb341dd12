"""A machine whose owner put his own agent in place of ours gets nothing and writes nothing but the job's results."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launchers.conftest import UserEnv, files_below, on_every_market

pytestmark = [pytest.mark.slow, pytest.mark.turns(8)]

ONCE = ("steps=3", "provider.max_restarts=0")
ESC, BEL, RTL = "\x1b", "\x07", "\u202e"


def loot(user_env: UserEnv) -> list[Path]:
    return list(user_env.market.folder.glob("instance-*/private/loot"))


@on_every_market
def test_a_machine_that_asks_for_a_file_of_the_user_does_not_get_it(user_env: UserEnv, tmp_path: Path):
    key = tmp_path / "id_rsa"
    key.write_text("the user's own key")
    user_env.market.hostile, user_env.market.victim = "reads_files", str(key)
    done = user_env.run(*ONCE)
    assert loot(user_env) == []
    assert done.returncode == 1
    assert "missing: digests: no SHA-256" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert user_env.market.billed() == []


def test_a_machine_that_asks_for_what_it_was_not_offered_gets_what_it_was(user_env: UserEnv):
    user_env.market.hostile = "asks_for_more"
    done = user_env.run(*ONCE)
    assert done.returncode == 0, done.stdout + done.stderr


@on_every_market
def test_a_row_whose_digest_is_a_path_leaves_no_file_there_and_touches_none(user_env: UserEnv, tmp_path: Path):
    outside = tmp_path / "bashrc.d"
    outside.mkdir()
    mine = outside / "evil.partial"
    mine.write_text("a download of the user")
    user_env.market.hostile, user_env.market.victim = "writes_outside", str(outside / "evil")
    done = user_env.run(*ONCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert mine.read_text() == "a download of the user"
    assert list(outside.iterdir()) == [mine]
    assert "not downloaded: 'checkpoints/large'" in done.stdout
    assert user_env.loss() > 0


@on_every_market
def test_results_are_no_code(user_env: UserEnv):
    user_env.market.hostile = "plants_code"
    done = user_env.run(*ONCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (user_env.output() / "good/notes.txt").read_text() == "good"
    evil = [path for path in files_below(user_env.output()) if path.read_bytes() == b"evil"]
    assert sorted(path.relative_to(user_env.output()).as_posix() for path in evil) == [
        "bare/config", "bare/objects/x", "bare/refs/heads/x", "d\u202etxt",
    ]  # fmt: skip
    for name in (".git/HEAD", "bare/HEAD", "sub/.GIT/config", "rich.py", "types.py", "a\\nb", "c\\x1b[2J"):
        assert f"not downloaded: '{name}'" in done.stdout
    asked = subprocess.run(
        ["git", "-C", str(user_env.output() / "bare"), "rev-parse", "--git-dir"], capture_output=True, text=True
    )
    assert asked.stdout.strip() in ("", str(user_env.project / ".git"))


def test_a_file_that_does_not_end_is_cut_at_the_size_that_was_announced(user_env: UserEnv):
    user_env.market.hostile = "sends_endlessly"
    done = user_env.run(*ONCE)
    assert done.returncode == 1
    assert "keep changing on the machine (checkpoints/large)" in done.stdout
    assert sum(path.stat().st_size for path in files_below(user_env.output())) < 3_000_000
    assert user_env.loss() > 0  # the rest is here
    assert user_env.market.billed() == []


def test_an_answer_that_does_not_end_is_a_bad_machine(user_env: UserEnv):
    user_env.market.hostile = "talks_endlessly"
    done = user_env.run(*ONCE)
    assert done.returncode == 1
    assert "an answer of more than 16.8 MB" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert user_env.market.billed() == []


def test_a_long_log_is_cut_in_the_file_and_on_the_console(user_env: UserEnv):
    user_env.market.hostile = "logs_endlessly"
    done = user_env.run(*ONCE, "provider.max_log_mb=1")
    assert done.returncode == 0, done.stdout[-2000:]
    log = user_env.output() / "remote.log"
    assert log.stat().st_size <= 1_000_000
    assert b"bytes of this log were dropped here" in log.read_bytes()
    assert len(done.stdout) < 100_000


@on_every_market
def test_what_a_machine_says_cannot_steer_the_terminal(user_env: UserEnv):
    user_env.market.hostile = "paints"
    done = user_env.run(*ONCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"begin {ESC}]0;owned{BEL}" in (user_env.output() / "remote.log").read_text()  # as it came
    followed = user_env.launchers("logs", user_env.launch)
    table = user_env.launchers("ps", "--all")
    assert table.returncode == 0, table.stderr
    for text in (done.stdout, done.stderr, followed.stdout, table.stdout):
        assert not {ESC, BEL, RTL} & set(text)
    assert "begin \\x1b]0;owned\\x07" in done.stdout
    assert "begin \\x1b]0;owned\\x07" in followed.stdout
    assert "[/x]" in table.stdout


def test_a_card_with_a_name_that_paints_is_named_without_it(user_env: UserEnv):
    user_env.market.hostile = "paints"
    done = user_env.run(*ONCE, "provider.check_gpu=true", "provider.gpu=A100")
    assert done.returncode == 1
    assert not {ESC, BEL, RTL} & set(done.stdout + done.stderr)


@on_every_market
def test_rows_that_make_no_sense_cost_only_themselves(user_env: UserEnv):
    user_env.market.hostile = "talks_nonsense"
    done = user_env.run(*ONCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert user_env.loss() > 0
    assert (user_env.output() / "checkpoints/last.json").exists()
    for name in ("short", "nan", "minus", "checkpoints", "more", "huge"):
        assert f"not downloaded: '{name}'" in done.stdout, name
    assert len(re.findall(r"not downloaded: 'row \d+ of the manifest'", done.stdout)) == 3


def test_files_of_ours_are_not_replaced(user_env: UserEnv):
    user_env.market.hostile = "replaces_ours"
    done = user_env.run(*ONCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 3 " in (user_env.output() / "remote.log").read_text()
    assert not [path for path in files_below(user_env.output()) if path.read_bytes() == b"evil"]


@pytest.mark.parametrize("mode", ["lies_about_status", "lies_about_the_machine"])
def test_an_answer_of_another_shape_is_the_machines_fault(user_env: UserEnv, mode: str):
    user_env.market.hostile = mode
    done = user_env.run(*ONCE, "hydra.launcher.timing.max_attempts=1")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "an answer that makes no sense" in said
    assert "mistake" not in said
    assert "Traceback" not in said
    assert user_env.market.billed() == []


@on_every_market
def test_what_a_login_prints_is_skipped(user_env: UserEnv):
    user_env.market.noise = "echo Welcome\necho\necho '{}'\necho -n more\n"
    body = "    (folder / 'large.bin').write_bytes(bytes(range(256)) * 8192)\n    loss ="
    source = user_env.project / "descent/__main__.py"
    source.write_text(source.read_text().replace("    loss =", body))
    done = user_env.run(*ONCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (user_env.output() / "large.bin").read_bytes() == bytes(range(256)) * 8192
    assert (user_env.output() / "remote.log").read_text().startswith("starts at step 0")


def test_a_login_that_prints_without_end_is_a_bad_machine(user_env: UserEnv):
    user_env.market.noise = "yes Welcome\n"
    done = user_env.run(*ONCE, "hydra.launcher.timing.max_attempts=1")
    assert done.returncode == 1
    assert "prints without end" in done.stdout + done.stderr
    assert user_env.market.billed() == []


def test_the_launchers_import_nothing_from_the_current_folder(user_env: UserEnv):
    folder = user_env.folder / "results"
    folder.mkdir()
    for name in ("rich", "platformdirs", "omegaconf"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('OWNED by {name}')")
    done = subprocess.run(
        [sys.executable, "-m", "launchers", "ps"], cwd=folder, env=user_env.environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert "OWNED" not in done.stdout + done.stderr
