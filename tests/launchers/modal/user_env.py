"""A user's place of work with an emulated Modal in place of a market."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.emulators.modal.server import Modal
from tests.launchers.conftest import CANARIES, UserEnv, environment

SLOW = ("steps=30", "seconds_per_step=0.1")
"""A job that lasts long enough for something to happen to it."""
FINAL_LOSS = (7 * 0.5**30) ** 2
"""What such a job reaches, whatever happens to it."""


@dataclass
class ModalUserEnv(UserEnv):
    modal: Modal = field(kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        own = {"LAUNCHERS_HOME": str(self.home), "COLUMNS": "200"}
        return environment(**(own | self.modal.variables | CANARIES | self.variables))

    def arguments(self, *arguments: str) -> list[str]:
        own = ["provider=modal", f"provider.python={sys.executable}"]
        return [*(a for a in arguments if a[0] == "-"), *own, *(a for a in arguments if a[0] != "-")]

    @property
    def volume(self) -> Path:
        """What is published of the Volume with the jobs' folders."""
        return self.modal.control.storage.folder / "volumes" / "descent-outputs"
