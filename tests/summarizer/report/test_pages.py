"""Pages as files: whole, self-contained, of bounded size, with every text of a run escaped."""

from __future__ import annotations

import json
import re
import webbrowser
from html.parser import HTMLParser
from pathlib import Path

import pytest

from summarizer.command_line import shape
from summarizer.composition import composed
from summarizer.errors import ConfigError
from summarizer.report import charts
from summarizer.report.axes import Scale, number, scale_for
from summarizer.report.build import compared, write_comparison, write_run_report
from summarizer.tasks.report import compare, report
from tests.summarizer.report.folders import HOSTILE, make_run

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Outline(HTMLParser):
    """Tags in order; fails on a tag that is closed wrongly."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(path: Path) -> Outline:
    found = Outline()
    found.feed(path.read_text())
    assert found.open == []
    return found


def sweep(folder: Path, jobs: int = 4, **settings: float) -> Path:
    for i in range(jobs):
        make_run(folder / str(i), lr=1e-3 * (i + 1), quality=0.25 + 0.05 * i, cost=0.1 * (i + 1), **settings)  # type: ignore[arg-type]
    return folder


def test_a_run_has_a_page_with_its_figures_and_commands(tmp_path: Path) -> None:
    path = write_run_report(make_run(tmp_path / "0", cost=0.25))
    assert path.name == "report.html"
    text = " ".join(outline(path).text)
    for part in (
        "ROUGE-L",
        "first sentence",
        "optim.lr=0.001",
        "rerun=",
        "novelword",
        "abc",
        "$0.25",
        "RTX 4090",
        "rouge_score",
    ):
        assert part in text, part
    assert path.stat().st_size < 2e6


def test_no_text_of_a_run_is_markup(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "0", text=HOSTILE, lr=2e-3, cost=0.1)
    (folder / "overrides.yaml").write_text(f"- 'name={HOSTILE.replace(chr(39), '')}'\n")
    make_run(tmp_path / "1", text=HOSTILE)
    pages = [write_run_report(folder)]
    pages.append(write_comparison(compared([str(tmp_path)], "validation/rougeL", True), tmp_path / "all.html", HOSTILE))
    for page in pages:
        found = outline(page)
        assert sum(tag == "script" for tag, _ in found.tags) == 1, "our own"
        assert not any(tag == "img" for tag, _ in found.tags)
        assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_a_page_names_no_address_outside(tmp_path: Path) -> None:
    path = write_run_report(make_run(tmp_path / "0"))
    addresses = {
        value
        for _, attributes in outline(path).tags
        for name, value in attributes.items()
        if name in ("src", "href", "action") and value
    }
    assert all(value.startswith("#") for value in addresses), addresses
    assert not re.search(r"@import|url\(", path.read_text())


def test_a_comparison_answers_the_question(tmp_path: Path) -> None:
    sweep(tmp_path / "sweep")
    page = write_comparison(
        compared([str(tmp_path / "sweep")], "validation/rougeL", True), tmp_path / "r.html", "a sweep"
    )
    text = " ".join(" ".join(outline(page).text).split())
    assert "Best by validation/rougeL: 3: lr=0.004 with 40" in text
    assert re.search(
        r"3: lr=0.004 costs 1\.3x as much as 2: lr=0.003 and is better by \d\.\d+ ROUGE-L \(p < 0\.001, ", text
    )
    assert "training dollars" in text
    header = [a for tag, a in outline(page).tags if tag == "th"]
    assert header


def test_runs_of_two_versions_stand_side_by_side_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(tmp_path / "sweep", jobs=3)
    one_version = compared([str(tmp_path / "sweep")], "validation/rougeL", True)
    assert "different versions" not in write_comparison(one_version, tmp_path / "a.html", "t").read_text()
    (tmp_path / "sweep" / "2" / "provenance.json").write_text(
        json.dumps({"commit": "def", "dirty": True, "versions": {"torch": "2.14.0"}})
    )
    both = compared([str(tmp_path / "sweep")], "validation/rougeL", True)
    text = " ".join(outline(write_comparison(both, tmp_path / "b.html", "t")).text)
    assert "different versions" in text
    assert "code: abc (2), def with changes (1); torch: 2.13.0 (2), 2.14.0 (1)" in text
    compare(composed(["task=compare", f"runs={tmp_path / 'sweep'}"]))
    assert "different versions of torch: 2.13.0 (2), 2.14.0 (1)" in caplog.text
    assert "3 runs" in capsys.readouterr().out


@pytest.mark.parametrize("desktop", [True, False])
def test_open_shows_the_page_or_says_that_there_is_no_desktop(
    desktop: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or desktop)
    arguments = shape(["task=report", f"runs={make_run(tmp_path / '0')}", f"output={tmp_path / 'all.html'}", "--open"])
    report(composed(arguments))
    assert opened == [(tmp_path / "all.html").as_uri()]
    assert ("no browser could be started" in caplog.text) is not desktop


def test_the_best_stands_first_and_a_loss_is_minimized(tmp_path: Path) -> None:
    sweep(tmp_path / "sweep")
    by_rouge = compared([str(tmp_path / "sweep")], "validation/rougeL", True)
    by_loss = compared([str(tmp_path / "sweep")], "validation/loss", False)
    assert [run.folder.name for run in by_rouge.runs] == ["3", "2", "1", "0"]
    assert [run.folder.name for run in by_loss.runs] == ["3", "2", "1", "0"]
    assert by_rouge.keys == ["optim.lr"]


def test_a_metric_that_no_run_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    sweep(tmp_path / "sweep", jobs=1)
    with pytest.raises(ConfigError, match=r"no run has the metric validation/rougel; there are .*validation/rougeL"):
        compared([str(tmp_path)], "validation/rougel", True)


def test_a_run_without_the_metric_is_left_out_by_name(tmp_path: Path) -> None:
    sweep(tmp_path / "sweep", jobs=2)
    old = make_run(tmp_path / "old")
    (old / "metrics.json").write_text('{"test/rougeL": 30.0}')
    c = compared([str(tmp_path)], "validation/rougeL", True)
    assert len(c.runs) == 2
    assert c.left_out == [(str(old), "it has no validation/rougeL")]
    assert str(old) in write_comparison(c, tmp_path / "r.html", "t").read_text()


def test_a_hundred_runs_stay_below_5_megabytes(tmp_path: Path) -> None:
    sweep(tmp_path / "sweep", jobs=100)
    page = write_comparison(
        compared([str(tmp_path / "sweep")], "validation/rougeL", True), tmp_path / "r.html", "100 runs"
    )
    assert page.stat().st_size < 5e6
    assert "Importance" in page.read_text()


def test_a_run_of_many_rows_and_steps_stays_below_2_megabytes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "0", rows=3000, text="a long document " * 2000, steps=100_000)
    assert write_run_report(folder).stat().st_size < 2e6


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-3.0, 8.0], [1e-9, 2e-9], [1e-5, 1.0], [1e9, 1e9 + 1]])
@pytest.mark.parametrize("zero", [False, True])
def test_any_values_get_a_scale_with_ticks_inside(values: list[float], zero: bool) -> None:
    for log in (False, True):
        scale = scale_for(values, 0, 100, zero=zero, log=log)
        assert all(-1e-6 <= scale(v) <= 100 + 1e-6 for v in values)
        ticks = scale.labeled
        assert 2 <= len(ticks) <= 12
        assert all(-1e-6 <= scale(t) <= 100 + 1e-6 for t, _ in ticks)


def test_tick_labels_tell_neighbors_apart() -> None:
    labels = [label for _, label in Scale(20.14, 20.27, 0, 100).labeled]
    assert len(set(labels)) == len(labels)
    assert number(1234567) == "1,234,567"


def test_parallel_coordinates_color_the_best_runs_of_a_loss_too() -> None:
    rows = [(f"run {i}", [float(i), 1.0 + i]) for i in range(5)]  # best first, as a comparison has them
    drawn = str(charts.parallel("", ["optim.lr", "validation/loss"], rows))
    assert re.findall(r'class="line c0 best"[^>]*><title>([^<]*)', drawn) == ["run 0"]


def test_a_logarithmic_scale_of_one_decade_has_ticks_inside() -> None:
    scale = scale_for([5.1e-4, 5.6e-3], 0, 100, log=True)
    assert [label for _, label in scale.labeled] == ["1.0e-3", "2.0e-3", "5.0e-3"]
    assert scale_for([1e-5, 1e-1], 0, 100, log=True).ticks == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
