"""The command line for people: short ids, human units, JSON alone on stdout, and one sentence where something is missing."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launchers.cli.main import run
from launchers.cli.tables import Sheet, show
from launchers.job import JobSpec, JobState, Offer
from launchers.ledger import Ledger
from tests.launchers.conftest import ROOT, environment

NOW = 1_795_000_000.0
FIRST, SECOND, THIRD = "20261120-101500-a111", "20261120-111500-b2ab", "20261121-121500-e725"
OFFER = Offer("vast", "101", "host", "RTX 4090", 1, 24.0, 0.36, False, 100.0, 500.0, 500.0, 0.99, "Sweden, SE")
SETTINGS = {
    "name": "vast", "remote_overrides": ["provider=local"], "max_hours": 1.0, "detach": False, "machines": 1,
    "remote_root": "/mnt/launchers", "objective": "loss",
}  # fmt: skip


def spec(folder: Path, launch: str, number: int, *overrides: str) -> JobSpec:
    home = folder / "a long folder of results, longer than any terminal is wide" / ("x" * 60) / launch / str(number)
    home.mkdir(parents=True)
    own = ("--config-name=config", "data=small", *overrides, "provider=local")
    timing = {"grace": 60.0, "fetch": 1800.0}
    return JobSpec(f"{launch}-{number}", number, str(home), "app", own, "digest", SETTINGS, timing, 1.0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without keys, on a terminal of 100 columns."""
    for name in ("VAST_API_KEY", "JL_API_KEY", "RUNPOD_API_KEY", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))
    monkeypatch.setenv("LAUNCHERS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path, tmp_path: Path) -> Ledger:
    """Three launches: two that ended, and one of two jobs, the first of which has run on a machine."""
    ledger = Ledger.open()
    for launch in (FIRST, SECOND):
        ledger.add_launch(launch, "/", [spec(tmp_path, launch, 0)], NOW)
        ledger.job_ended(f"{launch}-0", JobState.cancelled, None, NOW)
        ledger.close_launch(launch, NOW)
    jobs = [spec(tmp_path, THIRD, number, f"optim.lr={lr}") for number, lr in enumerate(("1e-3", "2e-3"))]
    ledger.add_launch(THIRD, "/", jobs, NOW)
    machine = ledger.intend_machine(THIRD, "http://127.0.0.1:9", [OFFER], (), jobs[0].id, NOW)
    assert machine is not None
    ledger.machine_created(machine.label, "7001")
    ledger.job_started(jobs[0].id, machine.label, 0, NOW)
    ledger.machine_gone(machine.label, NOW + 258)
    return ledger


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_without_a_command_there_is_help_and_a_version(capsys: pytest.CaptureFixture[str]):
    code, out, _ = said(capsys)
    assert code == 0
    assert out.startswith("usage: ")
    assert "Reconnect to a launch" in out
    assert said(capsys, "--version")[:2] == (0, "launchers 0.1.0\n")


def test_an_empty_ledger_says_so(home: Path, capsys: pytest.CaptureFixture[str]):
    assert said(capsys, "ps") == (0, "No jobs yet.\n", "")
    assert said(capsys, "cost") == (0, "No jobs yet.\n", "")
    assert json.loads(said(capsys, "ps", "--json")[1]) == [{"jobs": [], "machines": []}]
    for command in ("logs", "attach", "fetch", "cancel"):
        code, out, err = said(capsys, command)
        assert (code, out) == (1, "")
        assert err.startswith("No jobs yet.")


def test_ps_is_for_people(ledger: Ledger, capsys: pytest.CaptureFixture[str]):
    record = ledger.job(f"{THIRD}-0")
    (record.spec.home / "progress.json").write_text('{"step": 200, "steps": 3000, "left_s": 312.0}')
    code, out, _ = said(capsys, "ps")
    assert code == 0
    job = next(line for line in out.splitlines() if line.startswith("e725-0"))
    for cell in ("optim.lr=1e-3", "vast", "running", "200/3000", "5.2 min", "0.026"):
        assert cell in job
    assert "e725-1" in out
    assert "data=small" not in out  # both have it
    assert "provider=local" not in out
    assert "a111" not in out
    assert "No client is attached to e725; reconnect with `python -m launchers attach e725`." in out
    assert "Spent so far, 4 jobs since 2026-11-" in out
    assert ": $0.026\n" in out
    table = out[: out.index("No client")]
    assert max(map(len, table.splitlines())) <= 100
    assert "a111-0" in said(capsys, "ps", "--all")[1]


@pytest.mark.parametrize(
    ("content", "step"),
    [
        ('{"step": 3}', "3"),
        ('{"step": 3, "steps": "many", "left_s": -1}', "3"),
        ('{"step": true}', "-"),
        ("[", "-"),
        ("\x1b", "-"),
    ],
)
def test_a_machines_word_on_progress_is_checked(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], content: str, step: str
):
    (ledger.job(f"{THIRD}-0").spec.home / "progress.json").write_text(content)
    (row, _) = json.loads(said(capsys, "ps", "--json")[1])[0]["jobs"]
    assert (row["step"], row["left_s"]) == (None if step == "-" else int(step), None)


def test_the_last_report_is_a_jobs_step(ledger: Ledger, capsys: pytest.CaptureFixture[str]):
    (ledger.job(f"{THIRD}-0").spec.home / "reports.jsonl").write_text(
        '{"step": 5, "value": 1}\n{"step": 10, "value": 0}\n{"st'
    )
    (row, _) = json.loads(said(capsys, "ps", "--json")[1])[0]["jobs"]
    assert row["step"] == 10


@pytest.mark.parametrize(
    ("part", "jobs"),
    [
        ("e725-0", [f"{THIRD}-0"]), ("e725", [f"{THIRD}-0", f"{THIRD}-1"]), (f"{THIRD}-1", [f"{THIRD}-1"]), ("25-1", [f"{THIRD}-1"]),
        ("1121", [f"{THIRD}-0", f"{THIRD}-1"]), ("b2", [f"{SECOND}-0"]), (None, [f"{THIRD}-0", f"{THIRD}-1"]),
    ],
)  # fmt: skip
def test_any_unique_part_of_an_id_names_a_job(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], part: str | None, jobs: list[str]
):
    code, out, err = said(capsys, "logs", "--json", *([part] if part else []))
    assert code == 0
    assert [row["job"] for row in json.loads(out)] == jobs
    assert ("The last launch: e725, 2 jobs." in err) == (part is None)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("2026", "'2026' matches a111, b2ab, e725: type more of one of them.\n"),
        ("-0", "'-0' matches a111-0, b2ab-0, e725-0: type more of one of them.\n"),
        ("x", "No job matches 'x': `python -m launchers ps --all` lists all jobs.\n"),
    ],
)
def test_an_ambiguous_part_lists_what_it_matches(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], part: str, sentence: str
):
    for command in ("logs", "attach", "fetch", "cancel", "stop"):
        assert said(capsys, command, part) == (1, "", sentence)


def test_ids_and_paths_are_never_folded(ledger: Ledger, capsys: pytest.CaptureFixture[str]):
    from launchers.cli.job_tables import show_ended

    records = ledger.jobs(THIRD)
    show_ended(records[:1], NOW)
    assert f"The job's folder: {records[0].spec.folder}\n" in capsys.readouterr().out
    show_ended(records, NOW)
    assert f"The jobs' folders are in {Path(records[0].spec.folder).parent}\n" in capsys.readouterr().out
    show(Sheet("Wide", ("id", "note"), [{"id": "i" * 120, "note": "word " * 40 + "/a/" + "p" * 80}]))
    out = capsys.readouterr().out
    assert "i" * 120 in out
    assert "/a/" + "p" * 80 in out
    note = "not downloaded: " + "/a/long/path" * 12
    ledger.note_job(records[1].spec.id, note)
    assert f"e725-1: {note}\n" in said(capsys, "ps")[1]


def test_json_knows_no_nan(capsys: pytest.CaptureFixture[str]):
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    rows: list[dict[str, Any]] = [{"a": float("nan"), "b": [float("inf"), {"c": -float("inf")}], "d": (1.5, "NaN")}]
    show(Sheet("", (), rows), as_json=True)
    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found == [{"a": None, "b": [None, {"c": None}], "d": [1.5, "NaN"]}]


def test_following_a_job_that_nobody_follows_ends(ledger: Ledger, capsys: pytest.CaptureFixture[str]):
    code, _, err = said(capsys, "logs", "-f", "e725-1")
    assert code == 1
    assert "No client is attached, so the log does not grow." in err
    assert "Reconnect with `python -m launchers attach e725`." in err


def test_what_lacks_a_key_is_named_for_every_provider(home: Path, capsys: pytest.CaptureFixture[str]):
    for command in (["offers"], ["reap"]):
        code, out, err = said(capsys, *command)
        assert (code, out) == (1, "")
        for name in (
            "jarvis: No JarvisLabs key",
            "modal: No Modal token",
            "runpod: No RunPod key",
            "vast: No Vast.ai key",
        ):
            assert f"  {name}" in err


def test_list_prices_need_no_account(home: Path, capsys: pytest.CaptureFixture[str]):
    code, out, _ = said(capsys, "offers", "--list", "--gpu", "A100")
    assert code == 0
    assert "2.42" in out
    assert "modal: list prices of " in out
    assert "Without a published list: runpod, vast" in out
    rows = json.loads(said(capsys, "offers", "--list", "--json", "--gpu", "A100")[1])
    assert {row["provider"] for row in rows} == {"jarvis", "modal"}
    assert all(row["as_of"] and row["source"] for row in rows)
    assert "jarvis has no RTX 4090: the nearest cards" in said(capsys, "offers", "--list", "--gpu", "4090")[1]
    assert "provider.max_price refuses" in said(capsys, "offers", "--list", "--gpu", "A100", "--max-price", "0.1")[1]


def test_the_documentation_shows_what_is_printed(home: Path, capsys: pytest.CaptureFixture[str]):
    page = (ROOT / "docs" / "launching.md").read_text().splitlines()
    for command in (("offers", "--list", "--gpu", "A100"), ("reap",)):
        _, out, err = said(capsys, *command)
        starts = [number for number, line in enumerate(page) if line == f"$ launchers {' '.join(command)}"]
        printed = [line.rstrip() for line in (out + err).splitlines()]
        assert printed in [page[start + 1 : start + 1 + len(printed)] for start in starts]


def test_a_machine_without_a_key_to_look_for_it_is_named_as_billed(ledger: Ledger, capsys: pytest.CaptureFixture[str]):
    machine = ledger.intend_machine(THIRD, None, [OFFER], (), f"{THIRD}-1", NOW)
    assert machine is not None
    ledger.machine_created(machine.label, "7002")
    code, _, err = said(capsys, "reap", "--yes")
    assert code == 3
    assert "STILL BILLED: vast instance 7002" in err
    assert "No Vast.ai key: set VAST_API_KEY" in err


CLUSTER = """
from launchers.errors import LaunchError
from launchers.providers.base import SignUp
from launchers.job import Charging
from launchers.registry import CapacityKind, Descriptor
from launchers.settings import RentalSettings

class Cluster:
    name = account = "queue"

    def list_mine(self):
        raise LaunchError("squeue: error: no cluster\\nsqueue: fatal")

DESCRIPTOR = Descriptor(
    name="queue", title="Queue", settings=RentalSettings, open=lambda url: Cluster(),
    sign_up=lambda: SignUp("Queue", "own nodes", "-", "-", "-", "-", "none", "-"),
    stop="scancel {instance}", capacity=CapacityKind.serverless, charging=Charging.nothing, key_variables=(),
)
"""


def test_a_cluster_without_keys_is_no_market(home: Path, tmp_path: Path):
    info = tmp_path / "site" / "queue-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: queue\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[launchers.providers]\nqueue = cluster_queue:DESCRIPTOR\n")
    (tmp_path / "site" / "cluster_queue.py").write_text(CLUSTER)
    for command in ("offers", "reap"):
        done = launchers(home, command, stdout=subprocess.PIPE, path=tmp_path / "site")
        assert (done.returncode, done.stdout) == (1, "")
        assert "  vast: No Vast.ai key" in done.stderr
        assert "squeue" not in done.stderr
    done = launchers(home, "doctor", stdout=subprocess.PIPE, path=tmp_path / "site")
    assert done.returncode == 1
    assert re.search(r"^fix  queue: cluster +squeue: error: no cluster squeue: fatal$", done.stdout, re.MULTILINE)
    assert "No provider is ready." in done.stdout


def launchers(
    home: Path, *arguments: str, path: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    variables = environment(LAUNCHERS_HOME=str(home), HOME=str(home), XDG_CONFIG_HOME=str(home))
    variables["PYTHONPATH"] += f"{os.pathsep}{path}" if path else ""
    command = [sys.executable, "-m", "launchers", *arguments]
    return subprocess.run(command, env=variables, text=True, stderr=subprocess.PIPE, timeout=60, **options)


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", Path("/proc/launchers")):
        done = launchers(home, "ps", stdout=subprocess.PIPE)
        assert done.returncode == 1
        assert done.stderr.startswith(f"The folder {home} can't be used")
        assert done.stderr.count("\n") == 1


def test_ctrl_d_at_a_question_is_a_no(ledger: Ledger, home: Path):
    machine = ledger.intend_machine(THIRD, None, [OFFER], (), f"{THIRD}-1", NOW)
    assert machine is not None
    controller, terminal = pty.openpty()
    os.write(controller, b"\x04")
    done = launchers(home, "stop", "e725", "--json", stdin=terminal, stdout=subprocess.PIPE)
    assert done.returncode == 1
    assert "No answer: nothing was done." in done.stderr
    assert "Traceback" not in done.stderr
    assert [row["machine"] for row in json.loads(done.stdout)] == [machine.label]
    assert ledger.machine(machine.label).ended is None


def test_a_reader_that_leaves_ends_it_quietly(ledger: Ledger, home: Path):
    reader, writer = os.pipe()
    os.close(reader)
    done = launchers(home, "ps", "--all", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
