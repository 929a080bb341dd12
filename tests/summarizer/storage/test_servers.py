"""Places on real servers: S3 and Google's protocol, and what a server that fails makes of them."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from summarizer.errors import OutputError
from summarizer.run import RUNNING, Run
from summarizer.storage import job
from summarizer.storage.job import stored
from summarizer.storage.place import Place, open_place
from summarizer.storage.restore import restore, stored_manifest
from summarizer.storage.upload import SMALL, Uploader, files_of
from tests.emulators.s3 import BUCKET, s3_server
from tests.summarizer.composition import composed

pytestmark = pytest.mark.slow


class Between:
    """A server between client and storage that passes requests on, or does what `fault` says with those of `method`."""

    def __init__(self, target: str) -> None:
        self.fault: str | None = None
        self.method, self.struck = "PUT", 0
        self.goes_on = threading.Event()
        """What `slow` waits for."""
        between = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if between.fault and self.command == between.method:
                    between.struck += 1
                    if between.fault == "slow":
                        between.goes_on.wait(60)
                    elif between.fault == "cut":
                        self.close_connection = True
                        self.connection.close()
                        return
                if between.fault in ("SlowDown", "AccessDenied") and self.command == between.method:
                    text = f"<Error><Code>{between.fault}</Code></Error>".encode()
                    self.send_response(403 if between.fault == "AccessDenied" else 503)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                    return
                onward = http.client.HTTPConnection(target.removeprefix("http://"))
                onward.request(self.command, self.path, body, dict(self.headers))
                answer = onward.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                self.wfile.write(content)
                onward.close()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

            def log_message(self, *arguments: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def between() -> Iterator[Between]:
    with s3_server() as variables, pytest.MonkeyPatch.context() as patch:
        running = Between(variables["AWS_ENDPOINT_URL"])
        for name, value in {**variables, "AWS_ENDPOINT_URL": running.url}.items():
            patch.setenv(name, value)
        yield running
        running.server.shutdown()


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place on an emulator of Google's storage."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="runs")
    server.start()
    port = server._api._httpd.server_port
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    yield open_place("gs://runs/job/0")
    server.stop()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "here")
    run.checkpoints.mkdir(parents=True)
    run.set_status(RUNNING)
    (run.checkpoints / "step-00000004.ckpt").write_bytes(b"four")
    (run.checkpoints / "step-00000008.ckpt").write_bytes(b"8" * (SMALL + 1))
    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in files_of(folder)}


def assert_stored(place: Place, run: Run, folder: Path) -> None:
    manifest = stored_manifest(place)
    assert manifest is not None
    assert restore(place, manifest, folder) == []
    assert contents(folder) == contents(run.folder)


def test_a_job_is_stored_and_restored_at_google(gcs: Place, run: Run, tmp_path: Path) -> None:
    uploader = Uploader(gcs, run, "a")
    uploader.upload()
    (run.checkpoints / "step-00000004.ckpt").unlink()
    uploader.upload()
    assert_stored(gcs, run, tmp_path / "there")
    assert not [name for name in gcs.names() if "step-00000004" in name]


@pytest.mark.parametrize("fault", ["cut", "SlowDown", "AccessDenied"])
def test_an_upload_that_fails_in_the_middle_leaves_what_was_there_and_succeeds_later(
    between: Between, run: Run, tmp_path: Path, fault: str
) -> None:
    place = open_place(f"s3://{BUCKET}/{fault}/0")
    uploader = Uploader(place, run, "a")
    uploader.upload()
    before = contents(run.folder)
    (run.checkpoints / "step-00000012.ckpt").write_bytes(b"12" * SMALL)
    between.fault, between.struck = fault, 0
    try:
        with pytest.raises(
            OutputError, match="forbidden to this key" if fault == "AccessDenied" else "does not answer"
        ):
            uploader.upload()
    finally:
        between.fault = None
    assert between.struck
    manifest = stored_manifest(place)
    assert manifest is not None
    assert restore(place, manifest, tmp_path / "between") == []
    assert contents(tmp_path / "between") == before
    uploader.upload()
    assert_stored(place, run, tmp_path / "after")


def test_training_does_not_wait_for_a_slow_storage_and_all_of_it_is_there_at_the_end(
    between: Between, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "LOOK_S", 0.01)
    address = f"s3://{BUCKET}/slow"
    with stored(run, composed(f"storage={address}"), 0):
        between.fault, between.struck = "slow", 0
        try:
            (run.checkpoints / "step-00000012.ckpt").write_bytes(b"12" * SMALL)
            while not between.struck:
                time.sleep(0.01)
            for step in (16, 20):  # while that upload hangs
                (run.checkpoints / f"step-{step:08}.ckpt").write_bytes(b"%d" % step)
            assert not between.goes_on.is_set()
        finally:
            between.fault = None
            between.goes_on.set()
    assert_stored(open_place(f"{address}/0"), run, tmp_path / "there")
