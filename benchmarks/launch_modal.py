"""What the launcher adds at Modal: its first line and its end against `modal run` of a plain script on the same emulator.

    python benchmarks/launch_modal.py [REPEATS]

Both run the same job with the same client, container code and Volume; the plain script does what a person would write: one
Function, a Volume, a commit, and a download of the results with `modal volume get`. Printed are medians in seconds: from the command to
the job's first line here, from the job's last line to the end of the command, and the whole.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "launchers")]

from tests.emulators.modal.containers import why_not  # noqa: E402
from tests.emulators.modal.server import Modal  # noqa: E402

EXAMPLE = ROOT / "tests/launchers/example"
JOB = ["steps=5", "seconds_per_step=0.1"]
PLAIN = """
import os, subprocess, sys, time
from pathlib import Path
import modal

volume = modal.Volume.from_name("plain", create_if_missing=True, version=2)
image = modal.Image.debian_slim(python_version="@version").add_local_dir("descent", "/root/descent", ignore=["**/__pycache__"])
app = modal.App("plain")


@app.function(image=image, gpu="A100", volumes={"/mnt/outputs": volume}, timeout=3600)
def train(arguments, name):
    top = Path(__file__).parent
    command = [sys.executable, "-u", "-m", "descent", *arguments, "hydra.mode=RUN", f"hydra.run.dir=/mnt/outputs/{name}"]
    code = subprocess.call(command, cwd=top, env=os.environ | {"PYTHONPATH": "@path"})
    volume.commit()
    return code


@app.local_entrypoint()
def main():
    name = f"run-{time.time_ns()}"
    assert train.remote(@job, name) == 0
    subprocess.run([sys.executable, "-m", "modal", "volume", "get", "--force", "plain", name, "."], check=True)
"""


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float, float]:
    """Seconds to the first line of the job, from its last line, and altogether."""
    began = time.perf_counter()
    first = last = 0.0
    lines = []
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "starts at step" in line:
                first = time.perf_counter() - began
            if "step 5 weight" in line:
                last = time.perf_counter()
    ended = time.perf_counter()
    assert process.returncode == 0, "".join(lines[-400:])
    return first, ended - last, ended - began


def main() -> None:
    reason = why_not()
    if reason:
        sys.exit(f"The emulator can't run containers here: {reason}.")
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rows: dict[str, list[tuple[float, float, float]]] = {"modal run": [], "launcher": []}
    with tempfile.TemporaryDirectory() as scratch, Modal(Path(scratch) / "modal") as modal:
        project = Path(scratch) / "project"
        shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["git", "init", "--quiet", str(project)], check=True)
        (project / ".gitignore").write_text("outputs/\nrun-*/\n__pycache__/\n")
        path = f"{ROOT}{os.pathsep}{ROOT / 'launchers'}"
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        (project / "plain.py").write_text(
            PLAIN.replace("@path", path).replace("@version", version).replace("@job", repr(JOB))
        )
        environment = os.environ | modal.variables | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
        environment["LAUNCHERS_HOME"] = str(Path(scratch) / "home")
        ours = [sys.executable, "-m", "descent", "provider=modal", f"provider.python={sys.executable}", *JOB]
        commands = {"modal run": [sys.executable, "-m", "modal", "run", "plain.py"], "launcher": ours}
        for repeat in range(repeats + 1):
            for name, command in commands.items():
                row = timed(command, project, environment)
                if repeat:  # the first one builds the image
                    rows[name].append(row)
    medians = {name: [statistics.median(part) for part in zip(*found, strict=True)] for name, found in rows.items()}
    print(f"{'':10}  first line  after the end  whole")
    for name, found in medians.items():
        print(f"{name:10}  {found[0]:10.2f}  {found[1]:13.2f}  {found[2]:5.2f}")
    print(f"{'ratio':10}  {medians['launcher'][0] / medians['modal run'][0]:10.2f}  "
          f"{medians['launcher'][1] / medians['modal run'][1]:13.2f}  {medians['launcher'][2] / medians['modal run'][2]:5.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
