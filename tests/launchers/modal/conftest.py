"""The user_env of every test here stands at an emulated Modal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.modal import containers
from tests.emulators.modal.server import Modal
from tests.launchers.modal.user_env import ModalUserEnv


@pytest.fixture
def user_env(project: Path, tmp_path: Path) -> Iterator[ModalUserEnv]:
    reason = containers.why_not()
    if reason:
        pytest.skip(reason)
    with Modal(tmp_path / "modal") as modal:
        user_env = ModalUserEnv(tmp_path, project, None, modal=modal)  # type: ignore[arg-type]
        yield user_env
        for process in user_env.processes:
            process.kill()
            process.wait()
