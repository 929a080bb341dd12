"""A user's place of work with an emulated Modal in place of a market."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.emulators.modal.server import Modal
from tests.launchers.conftest import CANARIES, Desk, environment


@dataclass
class ModalDesk(Desk):
    modal: Modal = field(kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        own = {"LAUNCHERS_HOME": str(self.home), "COLUMNS": "200"}
        return environment(**(own | self.modal.variables | CANARIES | self.variables))

    def arguments(self, *arguments: str) -> list[str]:
        import sys

        own = ["provider=modal", f"provider.python={sys.executable}"]
        return [*(a for a in arguments if a[0] == "-"), *own, *(a for a in arguments if a[0] != "-")]

    @property
    def volume(self) -> Path:
        """What is published of the Volume with the jobs' folders."""
        return self.modal.control.storage.folder / "volumes" / "descent-outputs"
