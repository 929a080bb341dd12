"""A rented machine is a stranger's: what differs from what was paid for goes back, and nothing it says is written elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.launchers.conftest import UserEnv, files_below

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]

GOOD = "NVIDIA GeForce RTX 4090, 24564, 570.86.15"
LEMONS: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("another card", {"gpu_on_machine": "NVIDIA GeForce RTX 3090, 24576, 570.86.15"}, [], "its GPU is NVIDIA GeForce RTX 3090"),
    ("less memory", {"gpu_on_machine": "NVIDIA GeForce RTX 4090, 12282, 570.86.15"}, [], "with 12282 MiB, but the offer was RTX 4090"),
    ("no card", {"gpu_on_machine": None}, [], "nvidia-smi finds no GPU on it"),
    ("old driver", {"gpu_on_machine": "NVIDIA GeForce RTX 4090, 24564, 535.104.05"}, ["provider.min_cuda=12.8"], "535.104.05 is too old"),
    ("little shared memory", {"shm_mb": 8}, [], "its shared memory has 8 MB"),
]  # fmt: skip


@pytest.mark.parametrize(("lemon", "arguments", "sentence"), [case[1:] for case in LEMONS], ids=[c[0] for c in LEMONS])
def test_a_machine_that_is_not_what_was_paid_for_goes_back_and_the_next_is_taken(
    user_env: UserEnv, lemon: dict[str, Any], arguments: list[str], sentence: str
):
    user_env.market.gpu_on_machine = GOOD
    user_env.market.lemons.append(lemon)
    done = user_env.run("steps=1", "provider.check_gpu=true", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sentence in done.stdout
    first, second = user_env.market.history
    assert first.offer["machine_id"] != second.offer["machine_id"]
    assert first.ended is not None
    assert first.ended < second.created
    assert user_env.market.billed() == []


def test_after_four_bad_machines_the_launch_gives_up_in_one_sentence(user_env: UserEnv):
    user_env.market.gpu_on_machine = GOOD
    user_env.market.offers += [
        row | {"id": row["id"] + 10, "machine_id": row["id"] + 90} for row in user_env.market.offers[:3]
    ]
    user_env.market.lemons += [{"gpu_on_machine": None}] * 9
    done = user_env.run("steps=1", "provider.check_gpu=true")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "No machine after 4 tries; the last problem: nvidia-smi finds no GPU on it" in said
    assert "Traceback" not in said
    assert len(user_env.market.history) == 4
    assert user_env.market.billed() == []


HOSTILE = """
import base64
from acts import ACTS
_acts = dict(ACTS)
EVIL = {paths!r}

def hostile_manifest(root, request):
    import hashlib
    digest = hashlib.sha256(b"evil").hexdigest()
    listing = _acts["manifest"](root, request)
    listing.rows.extend(dict(path=p, kind="file", size=4, digest=digest) for p in EVIL)
    return listing

def hostile_contents(root, request):
    found = _acts["contents"](root, request)
    for number, wanted in enumerate(request.files):
        if wanted.path in EVIL:
            found.contents[number] = base64.b64encode(b"evil"[:wanted.size]).decode()
    return found

ACTS.update(manifest=hostile_manifest, contents=hostile_contents)

"""


def test_a_hostile_manifest_writes_nothing_outside_the_folder_of_the_job(user_env: UserEnv):
    source = user_env.project / "descent" / "__main__.py"
    link = '    (folder / "passwords").symlink_to("/etc/passwd")\n    loss ='
    source.write_text(source.read_text().replace("    loss =", link))
    process = user_env.start("steps=60", "seconds_per_step=0.1")
    user_env.wait_for_step(5)
    outside = user_env.folder / "outside"
    outside.mkdir()
    (user_env.output() / "here").symlink_to(outside)  # a way out that is on this machine already
    evil = [
        str(outside / "absolute"),
        "../../../outside/parent",
        "a/../../../evil",
        "here/through-a-link",
        ".sync/known.json",
    ]
    (agent,) = user_env.market.folder.glob("instance-*/private/launchers/agent/*/agent.py")
    agent.write_text(agent.read_text().replace("def serve(", HOSTILE.format(paths=evil) + "def serve("))
    user_env.wait_for(lambda: user_env.market.history[0].cage.cut())  # the client comes back to the changed agent
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    for path in [*evil, "passwords"]:
        assert f"not downloaded: '{path}'" in output
    assert list(outside.iterdir()) == []
    assert [file for file in files_below(user_env.folder / "project") if file.read_bytes() == b"evil"] == []
    assert not (user_env.output() / "passwords").exists()
    assert (user_env.output() / "metrics.json").exists()
    assert user_env.market.billed() == []


def test_a_machine_whose_files_do_not_match_its_manifest_is_left_for_another(user_env: UserEnv):
    process = user_env.start("steps=60", "seconds_per_step=0.1")
    user_env.wait_for_step(5)
    (agent,) = user_env.market.folder.glob("instance-*/private/launchers/agent/*/agent.py")
    changed = HOSTILE.format(paths=["metrics.json"]).replace("manifest=hostile_manifest, ", "")
    agent.write_text(agent.read_text().replace("def serve(", changed + "def serve("))
    user_env.wait_for(lambda: user_env.market.history[0].cage.cut())
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "keep changing on the machine (metrics.json)" in output
    assert json.loads((user_env.output() / "metrics.json").read_text())["loss"] == pytest.approx((7 * 0.5**60) ** 2)
    assert len(user_env.market.history) == 2
    assert user_env.market.billed() == []
