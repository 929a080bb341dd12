"""A job's storage: what a reader finds at every moment, whose it is, and what is refused. On fsspec's own file systems."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from summarizer.checks import check
from summarizer.data.carried import carried, note_tokens
from summarizer.data.store import built_once
from summarizer.errors import CheckpointError, ConfigError, OutputError
from summarizer.run import FINISHED, RUNNING, Run
from summarizer.storage import job
from summarizer.storage.conditions import preflight
from summarizer.storage.job import claim, fetch_newer, stored
from summarizer.storage.manifest import MANIFEST, OWNER
from summarizer.storage.place import Place, open_place, what_failed
from summarizer.storage.prepared import get_prepared, put_prepared
from summarizer.storage.restore import restore, stored_manifest
from summarizer.storage.upload import SMALL, Replaced, Uploader, files_of
from tests.summarizer.composition import composed


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A job's folder with two checkpoints, one of them larger than what is read at once."""
    run = Run(tmp_path / "here")
    run.checkpoints.mkdir(parents=True)
    run.set_status(RUNNING)
    (run.folder / "metrics.json").write_text("{}")
    (run.checkpoints / "step-00000004.ckpt").write_bytes(b"four")
    (run.checkpoints / "step-00000008.ckpt").write_bytes(os.urandom(SMALL + 1))
    (run.folder / ".lock").write_text("")
    return run


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    name = tmp_path.name
    return open_place(str(tmp_path / "bucket" / "0") if request.param == "folder" else f"memory://{name}/0")


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in files_of(folder)}


def restored(place: Place, folder: Path) -> dict[str, bytes]:
    manifest = stored_manifest(place)
    assert manifest is not None
    assert restore(place, manifest, folder) == []
    return contents(folder)


def test_what_is_restored_is_what_was_there_without_hidden_files(run: Run, place: Place, tmp_path: Path) -> None:
    Uploader(place, run, "a").upload()
    assert restored(place, tmp_path / "there") == contents(run.folder)
    assert ".lock" not in contents(tmp_path / "there")


def test_a_second_upload_sends_what_has_changed_and_deletes_what_is_not_named_any_more(
    run: Run, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploader = Uploader(place, run, "a")
    uploader.upload()
    before = set(place.names())
    sent: list[str] = []
    for verb in ("write", "upload"):
        plain = getattr(Place, verb)

        def noted(self: Place, name: str, content: object, plain: Callable[..., None] = plain) -> None:
            sent.append(name)
            plain(self, name, content)

        monkeypatch.setattr(Place, verb, noted)
    (run.checkpoints / "step-00000004.ckpt").unlink()
    (run.checkpoints / "step-00000012.ckpt").write_bytes(b"twelve")
    uploader.upload()
    assert [name.split(".")[0] for name in sent] == ["checkpoints/step-00000012", "manifest"]
    gone = before - set(place.names())
    assert [name.split(".")[0] for name in gone] == ["checkpoints/step-00000004"]
    assert restored(place, tmp_path / "there") == contents(run.folder)


@pytest.mark.parametrize("at", ["checkpoints/step-00000012", "manifest"])
def test_an_upload_that_is_cut_off_leaves_the_job_as_it_was_before(
    run: Run, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    uploader = Uploader(place, run, "a")
    uploader.upload()
    before = contents(run.folder)
    (run.checkpoints / "step-00000004.ckpt").unlink()
    (run.checkpoints / "step-00000012.ckpt").write_bytes(b"twelve")
    (run.folder / "metrics.json").write_text('{"new": 1}')
    plain = Place.write

    def broken(self: Place, name: str, content: bytes) -> None:
        if name.startswith(at):
            raise OutputError("the storage does not answer")
        plain(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "write", broken)
        with pytest.raises(OutputError):
            uploader.upload()
    assert restored(place, tmp_path / "between") == before
    Uploader(place, run, "b").upload()  # another process, which finds what the first one left behind
    assert restored(place, tmp_path / "after") == contents(run.folder)
    manifest = stored_manifest(place)
    assert manifest is not None
    assert set(place.names()) == {entry.object for entry in manifest.files.values()} | {MANIFEST}


def test_a_damaged_and_a_missing_object_are_left_out_and_named(run: Run, place: Place, tmp_path: Path) -> None:
    Uploader(place, run, "a").upload()
    manifest = stored_manifest(place)
    assert manifest is not None
    place.write(manifest.files["checkpoints/step-00000004.ckpt"].object, b"for")
    place.delete([manifest.files["metrics.json"].object])
    left_out = restore(place, manifest, tmp_path / "there")
    assert sorted(left_out) == ["checkpoints/step-00000004.ckpt", "metrics.json"]
    assert sorted(contents(tmp_path / "there")) == ["checkpoints/step-00000008.ckpt", "status.json"]


def edited(**changes: object) -> Callable[[dict[str, object]], bytes]:
    return lambda found: json.dumps(found | changes).encode()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda found: b"{", "cannot be read"),
        (edited(files=3), "cannot be read"),
        (edited(version=2), "another version"),
        (edited(files={"../x": {"object": "a", "size": 1, "sha256": ""}}), "outside of the job"),
        (edited(files={"x": {"object": "/etc/passwd", "size": 1, "sha256": ""}}), "outside of the job"),
    ],
)
def test_a_manifest_that_cannot_be_ours_is_refused(
    run: Run, place: Place, edit: Callable[[dict[str, object]], bytes], words: str
) -> None:
    Uploader(place, run, "a").upload()
    content = place.read(MANIFEST)
    assert content is not None
    place.write(MANIFEST, edit(json.loads(content)))
    with pytest.raises(CheckpointError, match=words):
        stored_manifest(place)


def test_a_folder_that_is_further_is_left_alone_and_one_that_is_behind_is_brought_up(
    run: Run, place: Place, tmp_path: Path
) -> None:
    Uploader(place, run, "a").upload()
    behind = Run(tmp_path / "behind")
    behind.checkpoints.mkdir(parents=True)
    (behind.checkpoints / "step-00000004.ckpt").write_bytes(b"four")
    fetch_newer(place, behind)
    assert contents(behind.folder) == contents(run.folder)
    further = Run(tmp_path / "further")
    further.checkpoints.mkdir(parents=True)
    (further.checkpoints / "step-00000012.ckpt").write_bytes(b"twelve")
    fetch_newer(place, further)
    assert list(contents(further.folder)) == ["checkpoints/step-00000012.ckpt"]
    run.set_status(FINISHED)
    Uploader(place, run, "a").upload()
    fetch_newer(place, further)
    assert list(contents(further.folder)) == ["checkpoints/step-00000012.ckpt"]
    fetch_newer(place, behind)
    assert behind.status()["state"] == FINISHED


def test_a_file_that_grows_while_it_is_sent_stays_as_it_was_stored_before(
    run: Run, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploader = Uploader(place, run, "a")
    uploader.upload()
    before, plain = contents(run.folder), Place.upload

    def growing(self: Place, name: str, source: Path) -> None:
        plain(self, name, source)
        with source.open("ab") as file:  # a link of the job's own file
            file.write(b"more")

    with (run.checkpoints / "step-00000008.ckpt").open("ab") as file:
        file.write(b"more")
    with monkeypatch.context() as patch:
        patch.setattr(Place, "upload", growing)
        uploader.upload()
    assert restored(place, tmp_path / "between") == before
    uploader.upload()
    assert restored(place, tmp_path / "after") == contents(run.folder)


@pytest.mark.parametrize("verb", ["link", "walk"])
def test_trouble_of_this_computers_disk_never_ends_a_job(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(job, "LAST_TRIES_S", 0.0)
    with monkeypatch.context() as patch, stored(run, composed(f"storage={tmp_path}/bucket"), 0):
        patch.setattr(os, verb, broken)
        patch.setattr("shutil.copy2", broken)
    assert "Input/output error" in caplog.text
    assert "The results are only in" in caplog.text


def test_an_upload_to_a_folder_that_is_cut_off_is_not_taken_for_whole(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"8")
        raise OSError(28, "No space left on device")

    place = open_place(str(tmp_path / "bucket"))
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", cut_off)
        with pytest.raises(OutputError):
            Uploader(place, run, "a").upload()
    Uploader(place, run, "b").upload()
    assert restored(place, tmp_path / "there") == contents(run.folder)
    assert not [name for name in place.names() if name.endswith(".part")]


def test_a_rented_job_probes_its_storage_before_anything_is_rented(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Place, name: str, content: bytes) -> None:
        raise OutputError("storage=memory://a is forbidden to this key.")

    monkeypatch.setattr(Place, "write", refused)
    preflight(composed("storage=memory://a/b"))
    with pytest.raises(OutputError, match="forbidden"):
        preflight(composed("storage=memory://a/b", "provider=vast", "hardware=4090"))


def test_a_place_of_another_run_or_of_something_else_is_refused(place: Place) -> None:
    config = composed("storage=unused")
    claim(place, config, "a")
    claim(place, config, "b")
    other = composed("storage=unused", "optim.lr=0.5", "seed=3")
    with pytest.raises(ConfigError, match=r"in use by another run \(of another optim, seed"):
        claim(place, other, "c")
    claim(place, composed("storage=unused", "trainer.max_epochs=7"), "d")
    elsewhere = place / "elsewhere"
    elsewhere.write("thesis.pdf", b"x")
    with pytest.raises(ConfigError, match=r"holds other files \(thesis.pdf\)"):
        claim(elsewhere, config, "a")


def test_the_first_of_two_writers_stops_before_it_changes_what_the_second_wrote(run: Run, place: Place) -> None:
    config = composed("storage=unused")
    claim(place, config, "first")
    first = Uploader(place, run, "first")
    first.upload()
    claim(place, config, "second")
    Uploader(place, run, "second").upload()
    before = place.read(MANIFEST)
    (run.folder / "metrics.json").write_text('{"of": "first"}')
    with pytest.raises(Replaced, match="another process has taken this job over"):
        first.upload()
    assert place.read(MANIFEST) == before
    assert b"second" in (place.read(OWNER) or b"")


def test_a_storage_that_fails_in_the_middle_is_a_warning_and_is_tried_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(job, "LOOK_S", 0.01)
    config = composed(f"storage={tmp_path}/bucket")
    plain, fails = Place.write, [1]

    def broken(self: Place, name: str, content: bytes) -> None:
        if name == MANIFEST and fails:
            fails.pop()
            raise OutputError("storage=bucket does not answer.")
        plain(self, name, content)

    caplog.set_level(logging.INFO)
    with stored(run, config, 0):
        monkeypatch.setattr(Place, "write", broken)
        (run.checkpoints / "step-00000012.ckpt").write_bytes(b"twelve")
        while fails:
            time.sleep(0.01)
    assert "does not answer. Training goes on" in caplog.text
    assert restored(open_place(f"{tmp_path}/bucket/0"), tmp_path / "there") == contents(run.folder)


def test_nothing_is_stored_without_a_storage(run: Run, tmp_path: Path) -> None:
    with stored(run, composed(), 0):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]


class ClientError(Exception):
    """As botocore's, whose text may hold anything."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError("Access Denied"), "forbidden to this key"),
        (ClientError("An error occurred (403): Forbidden"), "forbidden to this key"),
        (FileNotFoundError("The specified bucket does not exist"), "create the bucket"),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate"), "finds no credentials"),
        (ConnectionError("key=AKIA123"), "check the address and the network"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_an_error_of_a_client_becomes_a_clause_without_its_text(error: Exception, words: str) -> None:
    assert words in what_failed(error)
    assert "AKIA" not in what_failed(error)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["task=evaluate", "run=x", "storage=s3://a/b"], "used by task=train and task=prepare"),
        (["storage=/somewhere", "provider=vast", "hardware=4090"], "name a bucket"),
        (["storage=gs://a/b", "provider=vast", "hardware=4090"], "AWS_ENDPOINT_URL"),
        (["storage=s3://a/b", "provider=vast", "hardware=4090"], r"pass_environment=\[AWS_ACCESS_KEY_ID\]"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_paid_for(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    with pytest.raises(ConfigError, match=words):
        check(composed(*arguments))
    passed = "provider.pass_environment=[AWS_ACCESS_KEY_ID]"
    check(composed("storage=s3://a/b", "provider=vast", "hardware=4090", passed))


@pytest.mark.parametrize(
    ("address", "words"),
    [("s3://key:secret@bucket/x", "holds credentials"), ("nowhere://a/b", "no address"), ("s3://", "no bucket")],
)
def test_an_address_that_is_none_is_refused(address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        open_place(address)
    assert "secret" not in str(refused.value)


def test_prepared_data_comes_from_the_storage_to_a_machine_that_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(cache: str) -> DictConfig:
        rows = [f"data.{split}_file={tmp_path}/rows.jsonl" for split in ("train", "validation", "test")]
        return composed("data=files", *rows, f"data.cache_dir={tmp_path}/{cache}", f"storage={tmp_path}/bucket")

    def build(into: Path) -> dict[str, int]:
        (into / "tokens.arrow").write_bytes(b"ids")
        return {"rows": 1}

    monkeypatch.setenv("CARRIED_DATA", "")
    monkeypatch.delenv("CARRIED_DATA")
    folder = tmp_path / "cache" / "tokenized" / "abc"
    built_once(folder, build)
    note_tokens(config("cache"), [folder])
    put_prepared(config("cache"))
    get_prepared(config("elsewhere"))
    came = carried("tokenized/abc")
    assert came is not None
    assert (came / "tokens.arrow").read_bytes() == b"ids"
