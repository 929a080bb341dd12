"""At Modal, too: trouble of this computer or a refused request costs a job neither its container nor its results."""

from __future__ import annotations

import pytest

from tests.launchers.modal.desk import FINAL_LOSS, SLOW, ModalDesk
from tests.launchers.test_trouble_here import BIG, on_a_small_disk, write_much

pytestmark = pytest.mark.slow


def test_a_full_disk_leaves_the_results_at_modal_until_attach_has_fetched_them(desk: ModalDesk):
    write_much(desk)
    done = on_a_small_disk(desk, "outputs", "3m", "steps=3")
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "No space left on device" in said
    assert "NOT DOWNLOADED" in said
    assert f"python -m launchers attach {desk.launch}" in said
    assert "Traceback" not in said
    attached = desk.launchers("attach", desk.launch)
    assert attached.returncode == 0, attached.stdout + attached.stderr
    assert (desk.output() / "large.bin").stat().st_size == BIG
    assert desk.modal.live_apps() == []


def test_a_refused_token_never_ends_a_running_job(desk: ModalDesk):
    process = desk.start(*SLOW)
    desk.wait_for_step(5)
    desk.modal.faults.plant("rpc", "FunctionGetOutputs", "UNAUTHENTICATED", times=3)
    output, _ = process.communicate(timeout=120)
    assert desk.modal.faults.hit, "nothing was asked"
    assert process.returncode == 0, output
    assert desk.loss() == pytest.approx(FINAL_LOSS)
    assert [len(attempts) for attempts in desk.modal.attempts()] == [1]
    assert desk.modal.live_apps() == []
