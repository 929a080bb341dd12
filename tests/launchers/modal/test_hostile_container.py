"""A container that runs more than our programs: what it returns is not executed, what it writes becomes no code and no path."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from modal_proto import api_pb2

from tests.launchers.modal.user_env import ModalUserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]


class Program:
    """Touches a file of whoever unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def write(user_env: ModalUserEnv, text: str) -> None:
    """Let the job do more at its end."""
    source = user_env.project / "descent/__main__.py"
    source.write_text(
        source.read_text()
        .replace("    loss =", f"    {text}\n    loss =")
        .replace("import json\n", "import json, os\n")
    )


@pytest.mark.parametrize("is_error", [False, True], ids=["result", "exception"])
def test_what_a_container_returns_is_not_unpickled(user_env: ModalUserEnv, tmp_path: Path, is_error: bool):
    owned = tmp_path / "owned"
    evil = pickle.dumps(Program(owned))

    def tamper(item: Any) -> None:
        item.result.data, item.data_format = evil, api_pb2.DATA_FORMAT_PICKLE
        if is_error:
            item.result.status = api_pb2.GenericResult.GENERIC_STATUS_FAILURE
            item.result.exception = "evil \x1b[2J"
            item.result.serialized_tb = item.result.tb_line_cache = evil

    user_env.modal.control.tamper = tamper
    done = user_env.run("steps=3", "provider.max_restarts=0")
    assert not owned.exists()
    assert done.returncode == is_error, done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert user_env.loss() > 0


def test_names_that_are_code_stay_on_the_volume(user_env: ModalUserEnv):
    write(user_env, "[(os.makedirs(folder / p, exist_ok=True), (folder / p / n).write_text('evil')) for p, n in (('.git', 'config'), "
                "('bare', 'HEAD'), ('.', 'rich.py'), ('.', 'remote.log'), ('.', 'x\\x1b[2J'), ('good', 'notes'))]")  # fmt: skip
    done = user_env.run("steps=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (user_env.output() / "good/notes").exists()
    for name in (".git/config", "bare/HEAD", "rich.py", "remote.log", "x\\x1b[2J"):
        assert f"not downloaded: '{name}'" in done.stdout
    assert not (user_env.output() / ".git/config").exists()
    assert "step 3 " in (user_env.output() / "remote.log").read_text()


@pytest.mark.parametrize("name", ["manifest.json", "status.json", "attempts.json", "return.json"])
def test_what_a_container_writes_about_itself_is_checked(user_env: ModalUserEnv, name: str):
    def tamper(item: Any) -> None:
        for path in user_env.volume.glob(f"jobs/*/{name}"):
            path.write_text('{"path": 5, "state": ["running"]}')

    user_env.modal.control.tamper = tamper
    done = user_env.run("steps=3", "provider.max_restarts=0")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "an answer that makes no sense" in said
    assert "mistake" not in said
    assert "Traceback" not in said
    assert user_env.modal.live_apps() == []
