"""Output into a pipe: one summary per row, and a quiet end when the reader leaves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.summarizer.jobs import environment, made_up_pairs

PRINTING = """
import sys
from summarizer.standard_output import outlive_reader, reader_is_gone
outlive_reader()
print("first", flush=True)
print("first", file=sys.stderr)
sys.stdin.readline()  # until the reader is gone
for number in range(20_000):
    print("line", number)
    print("line", number, file=sys.stderr)
sys.stdout.flush()
assert reader_is_gone()
import subprocess
subprocess.run(["echo", "of a child"], check=True)
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.parametrize("both", [False, True], ids=["output", "output and error"])
def test_a_program_outlives_the_reader_of_its_output(both, tmp_path):
    arguments = [sys.executable, "-c", PRINTING, str(tmp_path / "end")]
    error = subprocess.STDOUT if both else (tmp_path / "error").open("w")
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=error)
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert process.wait(60) == 0
    assert (tmp_path / "end").read_text() == "done"


@pytest.mark.slow
@pytest.mark.turns(4)
def test_predict_prints_one_summary_per_row_and_ends_quietly_after_head(tmp_path):
    rows = made_up_pairs(600, seed=1)
    (tmp_path / "few.csv").write_text("id,document\n" + "".join(f"{r['id']},{r['document']}\n" for r in rows[:7]))
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    environ = environment(tmp_path / "cache")
    command = [sys.executable, "-m", "summarizer", "task=predict", "generation=fast", "hardware=cpu"]
    folders = [f"hydra.sweep.dir={tmp_path}/{name}" for name in ("a", "b", "c")]
    options = {"cwd": tmp_path, "env": environ, "text": True, "capture_output": True}
    few = subprocess.run([*command, folders[0], "input=few.csv"], **options)
    assert few.returncode == 0, few.stderr
    assert len(few.stdout.splitlines()) == 7
    answers = subprocess.run([*command, folders[1], "input=few.csv", "predict.output_format=jsonl"], **options)
    found = [json.loads(line) for line in answers.stdout.splitlines()]
    assert [row["id"] for row in found] == [row["id"] for row in rows[:7]]
    assert [row["summary"] for row in found] == few.stdout.splitlines()
    pipeline = " ".join([*command, folders[2], "input=many.jsonl"]) + " | head -1; exit ${PIPESTATUS[0]}"
    piped = subprocess.run(["bash", "-c", pipeline], **options)
    assert piped.returncode == 0, piped.stderr
    assert len(piped.stdout.splitlines()) == 1
    assert "Traceback" not in piped.stderr
    assert "BrokenPipe" not in piped.stderr
    assert not any(Path(tmp_path, name).exists() for name in "abc"), "it leaves no folder"
