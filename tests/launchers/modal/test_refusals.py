"""What a user of Modal can get wrong is told in one sentence, and then nothing was started."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.launchers.conftest import CANARIES
from tests.launchers.modal.user_env import ModalUserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]


def no_token(user_env: ModalUserEnv) -> None:
    user_env.variables |= {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}


def wrong_token(user_env: ModalUserEnv) -> None:
    user_env.variables |= {"MODAL_TOKEN_SECRET": "as-not-the-secret"}


def unknown_profile(user_env: ModalUserEnv) -> None:
    (user_env.folder / "modal.toml").write_text('[other]\ntoken_id = "a"\ntoken_secret = "b"\n')
    no_token(user_env)
    user_env.variables |= {"MODAL_PROFILE": "nosuch", "MODAL_CONFIG_PATH": str(user_env.folder / "modal.toml")}


def token_and_oauth(user_env: ModalUserEnv) -> None:
    user_env.variables |= {"MODAL_OAUTH_REFRESH_TOKEN": "refresh-me"}


def nothing(user_env: ModalUserEnv) -> None:
    pass


CASES = [
    ("no token", no_token, [], "No Modal token: run `modal token new`"),
    ("unknown profile", unknown_profile, [], "No Modal token in the profile nosuch"),
    ("token and OAuth", token_and_oauth, [], "Modal takes only one"),
    ("wrong token", wrong_token, [], "Modal refuses the token"),
    ("unknown card", nothing, ["provider.gpu=A1000"], "did you mean"),
    ("price cap", nothing, ["provider.max_price=1"], "it costs more than provider.max_price"),
    ("stored secret missing", nothing, ["provider.secrets=[wandb]"], "Secret 'wandb' not found"),
    ("no dependencies named", nothing, ["provider.python=null"], "neither uv.lock nor pyproject.toml"),
    ("secret in the config", nothing, [f"+note={CANARIES['HF_TOKEN']}"], "the value of HF_TOKEN"),
]


@pytest.mark.parametrize(("spoil", "arguments", "sentence"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bad_input_is_refused_in_one_sentence_and_nothing_runs(
    user_env: ModalUserEnv, spoil: Callable[[ModalUserEnv], None], arguments: list[str], sentence: str
):
    spoil(user_env)
    done = user_env.run("steps=1", *arguments)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert sentence in said
    assert "Traceback" not in said
    assert user_env.modal.counts()["FunctionMap"] == 0
    assert user_env.modal.live_apps() == []
