"""A job's files on the Volume: how they come home, and what stays there."""

from __future__ import annotations

import pytest

from tests.launchers.modal.user_env import SLOW, ModalUserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]


def test_downloads_that_break_off_are_made_again_and_verified(user_env: ModalUserEnv):
    source = user_env.project / "descent/__main__.py"
    added = "    (folder / 'large.bin').write_bytes(bytes(range(256)) * 4096)\n    loss ="
    source.write_text(source.read_text().replace("    loss =", added))
    process = user_env.start("steps=15", "seconds_per_step=0.1")
    user_env.wait_for_step(3)
    user_env.modal.control.storage.broken_reads = 30  # the client itself tries each block six times
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert user_env.modal.control.storage.broken_reads == 0
    assert (user_env.output() / "large.bin").read_bytes() == bytes(range(256)) * 4096
    assert user_env.loss() == pytest.approx((7 * 0.5**15) ** 2)


def test_a_finished_job_leaves_one_copy_of_each_file_on_the_volume(user_env: ModalUserEnv):
    process = user_env.start(*SLOW, "provider.sync_every_s=0.2")
    user_env.wait_for(lambda: list(user_env.volume.glob("jobs/*/held/*")), what="a commit while the job runs")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    (job,) = user_env.volume.glob("jobs/*")
    assert (job / "output/metrics.json").exists()
    assert sorted(path.name for path in job.iterdir()) == [
        "attempts.json", "log", "manifest.json", "output", "return.json", "status.json",
    ]  # fmt: skip


def test_a_finished_job_can_leave_the_volume(user_env: ModalUserEnv):
    assert user_env.run("steps=1", "provider.keep_remote=false").returncode == 0
    assert list(user_env.volume.glob("jobs/*")) == []
