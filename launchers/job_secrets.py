"""The secrets of a job: it gets those that it needs through the environment, and its config holds none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers.app_functions import ask_app
from launchers.credentials import check_passed
from launchers.errors import MendInput
from launchers.secret_scan import find_secret

if TYPE_CHECKING:
    from launchers.dispatch import ComposedJob
    from launchers.settings import RentalSettings


def check_config_holds_no_secret(job: ComposedJob) -> None:
    """
    Raises:
        MendInput: it does, and would be written to files.
    """
    found = find_secret("the config", ("\n".join(job.overrides) + "\n" + job.text).encode())
    if found:
        raise MendInput(
            f"The config of job {job.number} holds {found}, which would be written to files: "
            "set it in the environment and name the variable in provider.pass_environment."
        )


def needed_variables(job: ComposedJob, settings: RentalSettings) -> list[str]:
    """Environment variables of this side that the job gets: those that the user names, and those that the app asks for."""
    asked = (
        ask_app("provider.needed_environment", settings.needed_environment, job) if settings.needed_environment else []
    )
    names = list(dict.fromkeys([*settings.pass_environment, *asked]))
    check_passed(names)
    return names
