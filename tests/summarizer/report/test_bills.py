"""The bill of a rented job comes after its page was written: the page is written again at home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from summarizer.report.build import write_run_report
from summarizer.sweeps import add_bills
from tests.summarizer.report.folders import make_run


def test_a_bill_that_came_after_the_page_is_put_into_it(tmp_path: Path) -> None:
    rented, here = make_run(tmp_path / "0"), make_run(tmp_path / "1")
    pages = [write_run_report(folder) for folder in (rented, here)]
    before = [page.read_text() for page in pages]
    assert "$1.25" not in before[0]
    billed = make_run(tmp_path / "other" / "0", cost=1.25)
    (rented / "rental.json").write_bytes((billed / "rental.json").read_bytes())
    os.utime(rented / "rental.json", (2e9, 2e9))
    add_bills(tmp_path)
    assert "$1.25" in pages[0].read_text()
    assert "RTX 4090" in pages[0].read_text()
    assert pages[1].read_text() == before[1]


def test_a_bill_beside_a_broken_job_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_run(tmp_path / "0", cost=1.0)
    (folder / "metrics.json").unlink()
    add_bills(tmp_path)
    assert "has no bill in it" in caplog.text
