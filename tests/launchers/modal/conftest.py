"""The desk of every test here stands at an emulated Modal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.modal import containers
from tests.emulators.modal.server import Modal
from tests.launchers.modal.desk import ModalDesk


@pytest.fixture
def desk(project: Path, tmp_path: Path) -> Iterator[ModalDesk]:
    reason = containers.why_not()
    if reason:
        pytest.skip(reason)
    with Modal(tmp_path / "modal") as modal:
        desk = ModalDesk(tmp_path, project, None, modal=modal)  # type: ignore[arg-type]
        yield desk
        for process in desk.processes:
            process.kill()
            process.wait()
