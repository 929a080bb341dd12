"""What renting costs in time over doing it by hand: to the first line of the job's log, and from its end to the last bill.

    PYTHONPATH=.:launchers python benchmarks/launch.py [--runs 5] [--loading 1.0]

Both ways run the same job (the example app of `tests/launchers`) on machines of one emulated market, by turns:

- ours: `python -m descent provider=vast`, from the command to the first line that the job prints; and from the job's last act
  to the moment at which the provider's own list no longer holds the machine.
- by hand: `rsync` of what git sees, then `ssh HOST python -m descent`, to the first line; and from the job's last act over
  `rsync` of its results to the answer of the requests that destroy and list.

What the market itself takes, from the request to rent until the machine's ssh answers, is subtracted from ours; by hand the machine
is there already and its choice and rental cost nothing, so that the comparison is strict. The market has no rate limit: its
status is asked for every 0.1 s, where the real one adds what `hydra.launcher.timing.poll` says. All other intervals are the
shipped ones. Prints one JSON line with the medians in seconds and both ratios (target: at most 1.5).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

from launchers.ledger import Ledger
from launchers.settings import Timing
from tests.emulators.cage import PRIVATE
from tests.emulators.vast import Delays, Instance, Vast

ROOT = Path(__file__).resolve().parents[1]
FIRST_LINE = "starts at step"
FOLDER = f"{PRIVATE}/by-hand"


class Bench:
    """A project, a market and a ledger in one folder."""

    def __init__(self, folder: Path, market: Vast) -> None:
        self.folder, self.market, self.project = folder, market, folder / "project"
        shutil.copytree(
            ROOT / "tests" / "launchers" / "example", self.project, ignore=shutil.ignore_patterns("__pycache__")
        )
        (self.project / ".gitignore").write_text("outputs/\n__pycache__/\n")
        subprocess.run(["git", "init", "--quiet", str(self.project)], check=True)
        clean = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_TOKEN"))}
        self.environment = clean | {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'launchers'}", "VAST_API_KEY": market.key, "LAUNCHERS_HOME": str(folder / "home"),
        }  # fmt: skip

    # --- ours

    def launch(self, number: int) -> tuple[float, float]:
        """Seconds to the first line and from the job's end to confirmed gone."""
        results = self.project / "outputs" / f"ours-{number}"
        timing = ",".join(f"{name}:{value}" for name, value in (asdict(Timing()) | {"poll": 0.1}).items())
        command = [
            sys.executable, "-m", "descent", "provider=vast", f"provider.api_url={self.market.url}",
            f"provider.python={sys.executable}", f"hydra.launcher.timing={{{timing}}}", "provider.sync_every_s=60",
            f"hydra.sweep.dir={results}",
        ]  # fmt: skip
        started = time.time()
        process = subprocess.Popen(
            command, cwd=self.project, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        first = time_of_first_line(process.stdout)
        assert process.wait() == 0
        instance = self.market.history[-1]
        ledger = Ledger(self.folder / "home" / "ledger.sqlite")
        gone = ledger.machines()[-1].ended
        ledger.close()
        assert gone is not None
        return first - started - emulated_delay(instance), gone - end_of_job(instance)

    # --- by hand

    def by_hand(self, number: int) -> tuple[float, float]:
        """The same two, with the tools of everyone."""
        instance = self.lease()
        address = f"root@127.0.0.1:{FOLDER}"
        options = ["-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-q"]
        ssh = ["ssh", *options, "-p", str(instance.cage.port)]
        rsync = ["rsync", "-az", "-e", " ".join(ssh)]
        started = time.time()
        files = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(files, cwd=self.project, check=True, capture_output=True).stdout
        subprocess.run([*rsync, "--files-from=-", "./", f"{address}/"], cwd=self.project, input=listed, check=True)
        job = f"cd {FOLDER} && PYTHONPATH={ROOT}:{ROOT / 'launchers'} {sys.executable} -u -m descent"
        process = subprocess.Popen(
            [*ssh, "root@127.0.0.1", job], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        first = time_of_first_line(process.stdout)
        assert process.wait() == 0
        results = self.project / "outputs" / f"by-hand-{number}"
        results.mkdir(parents=True)
        subprocess.run([*rsync, f"{address}/outputs/", f"{results}/"], check=True)
        self.request("DELETE", f"/api/v0/instances/{instance.id}/")
        self.request("GET", "/api/v1/instances/")
        return first - started, time.time() - end_of_job(instance)

    @functools.cached_property
    def key(self) -> Path:
        """A key pair as everyone has one."""
        path = self.folder / "by-hand"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path

    def lease(self) -> Instance:
        offer = next(row for row in self.market.offers if not row["rented"])
        instance = self.market.create(offer, {"label": "by hand"})
        instance.cage.authorize(self.key.with_suffix(".pub").read_text())
        while instance.answers is None:
            time.sleep(0.01)
        return instance

    def request(self, method: str, path: str) -> None:
        headers = {"Authorization": f"Bearer {self.market.key}"}
        with urllib.request.urlopen(urllib.request.Request(self.market.url + path, method=method, headers=headers)):
            pass


def time_of_first_line(output: IO[str]) -> float:
    """When the job's first line came; reads to the end."""
    stamps: list[float] = []
    said: list[str] = []
    for line in output:
        said.append(line)
        if FIRST_LINE in line:
            stamps.append(time.time())
    assert stamps, "".join(said)
    return stamps[0]


def emulated_delay(instance: Instance) -> float:
    """From the request to rent until ssh answers: what the market takes, whoever asks."""
    assert instance.answers is not None
    return instance.answers - instance.asked


def end_of_job(instance: Instance) -> float:
    """When the job wrote its result, its last act."""
    (metrics,) = instance.cage.folder.glob("private/**/metrics.json")
    return metrics.stat().st_mtime


def alternating(bench: Bench, runs: int) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    bench.launch(-1)  # makes the key pair, and fills the file cache
    bench.by_hand(-1)
    for number in range(runs):
        yield bench.launch(number), bench.by_hand(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loading", type=float, default=1.0, help="seconds an emulated machine loads")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="launch-") as name:
        folder = Path(name)
        with Vast(folder / "market", delays=Delays(loading=options.loading, sshd=0.5)) as market:
            pairs = list(alternating(Bench(folder, market), options.runs))
    ours, hand = ([statistics.median(pair[side][part] for pair in pairs) for part in (0, 1)] for side in (0, 1))
    row = {
        "runs": options.runs,
        "first_line_s": round(ours[0], 2), "first_line_by_hand_s": round(hand[0], 2),
        "first_line_ratio": round(ours[0] / hand[0], 2),
        "end_to_gone_s": round(ours[1], 2), "end_to_gone_by_hand_s": round(hand[1], 2),
        "end_to_gone_ratio": round(ours[1] / hand[1], 2),
    }  # fmt: skip
    print(json.dumps(row))


if __name__ == "__main__":
    main()
