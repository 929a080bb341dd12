"""task=compare of runs with several seeds: groups by what else differs, and a paired test between the best two."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from summarizer.composition import composed
from summarizer.tasks.report import compare
from tests.summarizer.report.folders import make_run


def seeded(folder: Path, seed: int, lr: float, quality: float) -> None:
    """A run of another seed over the same documents."""
    make_run(folder, lr=lr, quality=quality)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"seed": seed}))


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        seeded(tmp_path / f"a{seed}", seed, 1e-3, 0.30 + 0.01 * seed)
        seeded(tmp_path / f"b{seed}", seed, 2e-3, 0.40 + 0.01 * seed)
    compare(composed(["task=compare", f"runs={tmp_path}"]))
    printed = capsys.readouterr().out
    table = printed[printed.index("Mean validation/rougeL of runs that differ in their seed alone") :]
    rows = [line.split() for line in table.splitlines() if line.strip().startswith("0.00")]
    assert [row[0] for row in rows] == ["0.002", "0.001"]
    assert [float(row[1]) for row in rows] == pytest.approx([41, 31])
    assert [(float(row[2]), row[3]) for row in rows] == [(1.0, "3"), (1.0, "3")]
    assert "on the same 40 test rows the first group differs from the second: +" in printed


def test_groups_that_have_no_rows_in_common_are_not_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        seeded(tmp_path / f"a{seed}", seed, 1e-3, 0.3)
        seeded(tmp_path / f"b{seed}", seed, 2e-3, 0.4)
        (tmp_path / f"b{seed}" / "predictions.parquet").unlink()
    compare(composed(["task=compare", f"runs={tmp_path}"]))
    assert "no paired test: the best two groups" in capsys.readouterr().out


def test_runs_without_several_seeds_are_no_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "a", lr=1e-3)
    make_run(tmp_path / "b", lr=2e-3, quality=0.4)
    compare(composed(["task=compare", f"runs={tmp_path}"]))
    printed = capsys.readouterr().out
    assert "Mean validation" not in printed
    assert "the first run differs from the second" in printed
