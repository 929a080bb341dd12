"""What many small files and one endless line of log cost, over a real sshd on loopback.

    PYTHONPATH=. python benchmarks/download.py [--files 4000] [--log-mb 16] [--runs 5]

- small files: `launchers.transport.sync.pull_all` (each file verified, then flushed to disk) of so many files of 4 bytes, against
  `rsync -a` over ssh of the same folder; connections are made anew for both.
- log: a log of one line, against the same number of bytes with line ends, from the question until all of it is in `remote.log`
  and on a console that goes to a file.

Both sides of a pair take turns. Prints one JSON line with the medians in seconds and the ratios (target: at most 2 each).
Needs root, `sshd`, `unshare` and `rsync`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launchers.job import Address, JobSpec
from launchers.transport import sync
from launchers.transport.host import SshHost
from launchers.transport.keys import KeyPair, launch_keys
from launchers.transport.logs import LogMirror
from launchers.transport.ssh import Connection
from tests.emulators.cage import PRIVATE, Cage

LINE = b"x" * 99 + b"\n"
DONE = json.dumps({"state": "ended", "pid": 1, "birth": "1", "exit_code": 0, "ended": 1.0})


class Bench:
    """One machine, with jobs that have ended."""

    def __init__(self, folder: Path, cage: Cage, keys: KeyPair) -> None:
        self.folder, self.cage, self.keys = folder, cage, keys
        self.count = 0

    def host(self) -> SshHost:
        address = Address("127.0.0.1", self.cage.port, "root")
        connection = Connection((address,), self.keys, None, lambda key: None)
        return SshHost(connection, PRIVATE, 60.0)

    def there(self, name: str) -> Path:
        """A job's folder on the machine."""
        folder = self.cage.folder / "private" / "jobs" / name
        (folder / "output").mkdir(parents=True)
        (folder / "status.json").write_text(DONE)
        (folder / "log").touch()
        return folder

    def job(self, name: str) -> JobSpec:
        return JobSpec(
            name, 0, str(self.fresh(name)), "app", (), "", {"remote_root": PRIVATE, "max_log_mb": 200.0}, {}, 1.0
        )

    def fresh(self, name: str) -> Path:
        """A folder of its own for each run: ext4 looks for a free inode among those that were deleted in the last seconds."""
        self.count += 1
        return self.folder / "here" / f"{name}-{self.count}"

    def ours(self, name: str, files: int) -> float:
        job, host = self.job(name), self.host()
        for cache in ("digests.json", "held"):  # as at the first download
            path = self.cage.folder / "private" / "jobs" / name / cache
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
        started = time.perf_counter()
        found = sync.pull_all(host, job)
        took = time.perf_counter() - started
        host.close()
        assert found.files == files, found
        return took

    def rsync(self, name: str, files: int) -> float:
        target = self.fresh("rsync")
        target.parent.mkdir(exist_ok=True)
        options = (
            f"-i {self.keys.private} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -q -p {self.cage.port}"
        )
        source = f"root@127.0.0.1:{PRIVATE}/jobs/{name}/output/"
        started = time.perf_counter()
        subprocess.run(["rsync", "-a", "-e", f"ssh {options}", source, f"{target}/"], check=True)
        took = time.perf_counter() - started
        assert sum(path.is_file() for path in target.rglob("*")) == files
        return took

    def log(self, name: str, size: int) -> float:
        job, host = self.job(name), self.host()
        job.home.mkdir(parents=True)
        host.job_status(job)  # the connection is there when a log is followed
        with (self.folder / "console").open("w") as console:
            mirror = LogMirror(job, 0, console=console)
            started = time.perf_counter()
            for chunk in host.follow(job, 0):
                mirror.feed(chunk)
            mirror.close()
            took = time.perf_counter() - started
        host.close()
        assert mirror.offset == size
        return took


def by_turns(runs: int, first: Callable[[], float], second: Callable[[], float]) -> tuple[float, float]:
    """Medians, after one run of each that only warms up."""
    pairs = [(first(), second()) for _ in range(runs + 1)][1:]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--log-mb", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="download-") as name:
        folder = Path(name)
        keys = launch_keys(folder / "home", "client", "launch")
        cage = Cage(folder / "machine")
        cage.prepare()
        cage.authorize(keys.public)
        cage.start()
        try:
            bench = Bench(folder, cage, keys)
            output = bench.there("files") / "output"
            for number in range(options.files):
                (output / f"part-{number // 100}").mkdir(exist_ok=True)
                (output / f"part-{number // 100}" / f"{number}.txt").write_text(f"{number:04d}"[-4:])
            size = options.log_mb * 1_000_000
            (bench.there("line") / "log").write_bytes(b"x" * size)
            (bench.there("lines") / "log").write_bytes(LINE * (size // len(LINE)))
            ours, rsync = by_turns(
                options.runs, lambda: bench.ours("files", options.files), lambda: bench.rsync("files", options.files)
            )
            line, lines = by_turns(options.runs, lambda: bench.log("line", size), lambda: bench.log("lines", size))
        finally:
            cage.kill()
    row = {
        "files": options.files, "files_s": round(ours, 2), "rsync_s": round(rsync, 2), "files_ratio": round(ours / rsync, 2),
        "log_mb": options.log_mb, "one_line_s": round(line, 2), "lines_s": round(lines, 2), "line_ratio": round(line / lines, 2),
    }  # fmt: skip
    print(json.dumps(row))


if __name__ == "__main__":
    main()
