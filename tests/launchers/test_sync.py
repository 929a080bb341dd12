"""Downloads of a job's folder from a host that says what it likes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers.errors import RetryLater, Unreachable
from launchers.host import Manifest, RemoteFile
from launchers.job import JobSpec
from launchers.transport import sync
from launchers.transport.folder import Folder
from launchers.transport.names import SCRATCH, twins, why_refused


class Machine:
    """Files by path, and what is wrong with them."""

    def __init__(self, **files: bytes) -> None:
        self.files = {name.replace("__", "/"): content for name, content in files.items()}
        self.rows: list[RemoteFile] = []
        self.read_bytes = 0
        self.breaks_after: int | None = None
        self.is_endless = False

    def manifest(self, job: JobSpec) -> Manifest:
        own = [RemoteFile(path, len(text), hashlib.sha256(text).hexdigest()) for path, text in self.files.items()]
        return Manifest([*own, *self.rows])

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        content = self.files.get(file.path, b"evil")[offset:]
        while True:
            for start in range(0, len(content), 1000):
                if self.breaks_after is not None and self.read_bytes >= self.breaks_after:
                    raise Unreachable("the connection broke")
                chunk = content[start : start + 1000]
                self.read_bytes += len(chunk)
                yield chunk
            if not self.is_endless:
                return


@pytest.fixture
def job(tmp_path: Path) -> JobSpec:
    settings = {"remote_root": "/r", "max_results_gb": 1e-3}
    return JobSpec("job-0", 0, str(tmp_path / "job"), "app", (), "", settings, {}, 1.0)


def pulled(machine: Any, job: JobSpec, patterns: list[str] | None = None) -> sync.Pulled:
    return sync.pull(machine, job, patterns)


def reasons(report: sync.Pulled) -> dict[str, str]:
    return {refused.path: refused.why for refused in report.refused}


GOOD = ["metrics.json", "checkpoints/last.ckpt", ".hydra/config.yaml", "model/modeling.py", "train.py", "ünïcode 日本.txt",
        "code/types.py", "code/rich/__init__.py", ".gitignore", "headless", "a.pth.tar", "x" * 255]  # fmt: skip
EVIL = [
    "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "", "a\\b", "a\0b", "a\nb", "a\x1bb", "a\x85b", "x" * 256,
    "d/" * 600 + "x", "\ud800", ".git/config", "a/.GIT/hooks/x", ".g\u200cit/config", ".git. /config", ".git", ".hg/hgrc",
    "bare/HEAD", "a/.envrc", ".vscode/tasks.json", ".IDEA/x", "x.pth", "sub/X.PTH", "sub/sitecustomize.py", "usercustomize.py",
    "rich.py", "types.py", "json.pyc", "hydra/__init__.py", "launchers/__init__.py", "rich.cpython-311-x86_64-linux-gnu.so",
    ".sync/known.json", ".SYNC/known.json", "remote.log", "Remote.LOG", ".lock",
]  # fmt: skip


@pytest.mark.parametrize("path", GOOD)
def test_names_of_results_are_welcome(path: str):
    assert why_refused(path) is None


@pytest.mark.parametrize("path", EVIL, ids=range(len(EVIL)))
def test_names_that_leave_the_folder_or_are_code_or_ours_are_refused(path: str):
    assert why_refused(path)


def test_a_copy_of_the_projects_own_script_is_welcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "descend_here.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert why_refused("descend_here.py") is None


def test_two_names_that_a_disk_may_take_for_one():
    assert twins(["a", "A", "b", "e\u0301", "\u00e9"]) == {"A": "a", "\u00e9": "e\u0301"}


def test_on_a_disk_that_knows_no_case_the_second_of_two_twins_is_refused(job: JobSpec, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sync, "_is_case_sensitive", lambda folder: False)
    report = pulled(Machine(Model=b"1", model=b"2"), job)
    assert list(reasons(report)) == ["model"]
    assert (job.home / "Model").read_bytes() == b"1"


def test_a_download_that_broke_goes_on_where_it_stopped(job: JobSpec):
    machine = Machine(large=bytes(range(250)) * 40)
    machine.breaks_after = 5000
    with pytest.raises(Unreachable):
        pulled(machine, job)
    machine.breaks_after = None
    assert pulled(machine, job).files == 1
    assert machine.read_bytes == 10_000
    assert (job.home / "large").read_bytes() == machine.files["large"]
    assert pulled(machine, job).files == 0


class Batching(Machine):
    """One that sends small files many at a time."""

    def read_many(self, job: JobSpec, files: list[tuple[RemoteFile, int]]) -> Iterator[tuple[RemoteFile, bytes | None]]:
        for file, offset in files:
            yield file, self.files[file.path][offset:]


@pytest.mark.parametrize("kind", [Machine, Batching])
def test_a_client_that_dies_between_two_steps_of_a_download_still_knows_what_it_has(
    job: JobSpec, monkeypatch: pytest.MonkeyPatch, kind: type[Machine]
):
    pulled(kind(last=b"first"), job)
    with monkeypatch.context() as dying:

        def die(*arguments: object, **options: object) -> None:
            raise KeyboardInterrupt

        dying.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            pulled(kind(last=b"second"), job)
    (row,) = sync.held(job)
    assert row.digest == hashlib.sha256(b"first").hexdigest()
    pulled(kind(last=b"second"), job)
    (row,) = sync.held(job)
    assert row.digest == hashlib.sha256(b"second").hexdigest()


def test_nothing_is_written_through_a_link_or_in_place_of_a_folder(job: JobSpec, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    job.home.mkdir()
    (job.home / "link").symlink_to(outside)
    (job.home / "file").symlink_to(outside / "file")
    (job.home / "folder").mkdir()
    (job.home / "folder" / "x").write_text("mine")
    os.mkfifo(job.home / "pipe")
    report = pulled(
        Machine(link__evil=b"evil", file=b"evil", folder=b"evil", pipe=b"evil", good=b"good", deep__er=b"1"), job
    )
    assert set(reasons(report)) == {"link/evil", "folder"}
    assert (outside / "file").read_text() == "mine"
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (job.home / "file").read_bytes() == b"evil"  # the link is replaced, not followed
    assert (job.home / "good").read_bytes() == b"good"


def test_a_file_that_became_a_folder_arrives(job: JobSpec):
    pulled(Machine(a=b"1"), job)
    pulled(Machine(a__b=b"2"), job)
    assert (job.home / "a/b").read_bytes() == b"2"


def test_what_is_gone_there_is_removed_here_only_by_a_whole_download(job: JobSpec):
    pulled(Machine(a=b"1", b=b"2"), job)
    pulled(Machine(b=b"2"), job, ["*"])
    assert (job.home / "a").exists()
    pulled(Machine(b=b"2"), job)
    assert not (job.home / "a").exists()


def test_a_file_without_an_end_is_read_to_its_size(job: JobSpec):
    machine = Machine(a=b"x" * 10_000)
    machine.rows = [RemoteFile("endless", 20_000, "1" * 64)]
    machine.is_endless = True
    report = pulled(machine, job)
    assert report.changing == ["a", "endless"]
    assert machine.read_bytes < 35_000
    assert list((job.home / SCRATCH).glob("*.partial")) == []
    with pytest.raises(RetryLater):
        sync.pull_all(machine, job)  # type: ignore[arg-type]


def test_results_over_the_limit_are_refused_and_the_others_kept(job: JobSpec):
    machine = Machine(a=b"1" * 400_000, b=b"2" * 400_000, large=b"3" * 400_000, small=b"4")
    assert list(reasons(pulled(machine, job))) == ["large"]
    assert (job.home / "small").exists()


def test_the_disk_of_this_computer_is_not_filled(job: JobSpec, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 500_000_500))
    machine = Machine(small=b"1", large=b"2" * 1000)
    assert pulled(machine, job, ["*"]).postponed == ["large"]
    with pytest.raises(OSError, match=r"No space left on device.*large"):
        pulled(machine, job)
    assert (job.home / "small").exists()


def test_what_is_known_of_downloads_names_no_file_elsewhere(job: JobSpec, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    pulled(Machine(a=b"1"), job)
    (job.home / "link").symlink_to(secret)
    mark = f"{secret.stat().st_size}:{secret.stat().st_mtime_ns}"
    known = job.home / SCRATCH / "known.json"
    rows = {path: [mark, digest] for path in (str(secret), "../secret", "link")} | {
        "a": json.loads(known.read_text())["a"]
    }
    known.write_text(json.dumps(rows | {"odd": 5, "b": ["1", "2"]}))
    assert [row.path for row in sync.held(job)] == ["a"]
    pulled(Machine(), job)
    assert secret.read_text() == "mine"
    for content in ("[1]", "{", '"text"', "[" * 100_000):
        known.write_text(content)
        assert sync.held(job) == []


def test_a_folder_refuses_names_that_its_caller_should_have(tmp_path: Path):
    with Folder(tmp_path / "job") as folder:
        for path in ("../x", "a/../x", "a/."):
            with pytest.raises((AssertionError, OSError)):
                folder.open(path, os.O_WRONLY | os.O_CREAT, "wb")
    assert not (tmp_path / "x").exists()
