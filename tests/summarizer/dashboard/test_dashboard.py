"""task=dashboard against a W&B server on loopback: what it creates, what a second time changes, how it refuses."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from summarizer.composition import composed
from summarizer.dashboard.panels import sections
from summarizer.errors import ConfigError, HubError
from summarizer.tasks import dashboard as task
from tests.emulators.wandb_server import ENTITY, KEY, StoredRun, WandbServer
from tests.summarizer.dashboard.specification import columns, panels_of
from tests.summarizer.report.folders import HOSTILE, make_run

pytest.importorskip("wandb_workspaces")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    for name in ("WANDB_MODE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with WandbServer() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        running.runs["logged"] = StoredRun("logged", project="summarizer")
        yield running
    wandb.teardown()


def made(*overrides: str) -> list[Any]:
    return task.dashboard(composed(["task=dashboard", *overrides]))


def runs_of(tmp_path: Path, text: str = "a parser") -> str:
    for number in range(3):
        folder = make_run(
            tmp_path / "sweep" / str(number), lr=1e-3 * (number + 1), quality=0.2 + 0.1 * number, text=text
        )
        if number:
            (folder / "logs" / "wandb-id").write_text(f"id{number}\n")
    return f"runs={tmp_path / 'sweep'}"


def test_a_workspace_is_created_once_and_left_alone_where_nothing_changed(server: WandbServer) -> None:
    [first] = made()
    [stored] = server.views.values()
    before = stored.spec
    [second] = made()
    assert (first.change, second.change) == ("created", "unchanged")
    assert first.url == second.url
    assert list(server.views.values()) == [stored]
    assert (stored.saves, stored.spec) == (1, before)
    assert stored.type == "project-view"
    named = [section["name"] for section in json.loads(before)["section"]["panelBankConfig"]["sections"]]
    assert named == ["Training", "Quality", "Sweeps", "Money"]
    assert len(panels_of(before)) == sum(len(section.panels) for section in sections())


def test_a_workspace_of_an_earlier_version_is_updated_in_its_place(server: WandbServer) -> None:
    made()
    [stored] = server.views.values()
    wanted = stored.spec
    stored.spec = wanted.replace('"train/loss"', '"train/old_name"')
    [again] = made()
    assert again.change == "updated"
    assert len(server.views) == 1
    assert stored.saves == 2
    assert "train/old_name" not in stored.spec
    assert made()[0].change == "unchanged"


@pytest.mark.slow
def test_a_report_shows_the_named_runs_alone_with_text_table_and_panels(server: WandbServer, tmp_path: Path) -> None:
    runs = runs_of(tmp_path)
    first = made(runs)
    assert [view.change for view in first] == ["created", "created"]
    second = made(runs)
    assert [(view.change, view.url) for view in second] == [("unchanged", view.url) for view in first]
    report = server.views[next(identity for identity, view in server.views.items() if view.type == "runs")]
    assert report.title == "Runs of sweep"
    assert report.saves == 1
    for part in (
        "id1",
        "id2",
        "3 runs by validation/rougeL, highest first",
        "sweep/2",
        "optim.lr",
        "python -m summarizer",
    ):
        assert part in report.spec, part
    assert "logged" not in report.spec, "a run of the project that was not named"
    assert set(columns(report.spec)) >= {"summary:objective", "config:rental.value.gpu"}
    (tmp_path / "sweep" / "1" / "metrics.json").write_text(json.dumps({"validation/rougeL": 99.0}))
    assert made(runs)[1].change == "updated"
    assert report.saves == 2


def test_no_text_of_a_run_is_markdown_in_a_report(tmp_path: Path) -> None:
    assert task.code("a | b `c`\n# d") == "`a / b 'c' # d`"
    assert task.code(HOSTILE).count("`") == 2


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        ("no key", HubError, "WANDB_API_KEY is not set"),
        ("wrong key", HubError, "refuses the key"),
        ("port closed", HubError, "does not answer"),
        ("error 500", HubError, "answers 500"),
        ("silent", HubError, "does not answer"),
        ("foreign entity", ConfigError, "logger.entity=stranger.*its own entities are someone"),
        ("no project", ConfigError, "no project someone/elsewhere.*logger=wandb"),
        ("read-only key", HubError, "permission denied.*may write"),
        ("no package", ConfigError, r"pip install 'summarizer\[dashboards\]'"),
        ("runs without W&B", ConfigError, "none of the 1 runs logged to W&B"),
    ],
)
def test_what_cannot_be_made_is_one_sentence_without_the_key(
    trouble: str,
    error: type[Exception],
    words: str,
    server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides: list[str] = []
    match trouble:
        case "no key":
            monkeypatch.delenv("WANDB_API_KEY")
        case "wrong key":
            monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
        case "port closed":
            monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        case "error 500":
            server.status = 500
        case "silent":
            server.delay = 30
            monkeypatch.setattr("summarizer.dashboard.server.PROBE_SECONDS", 0.3)
        case "foreign entity":
            overrides = ["logger.entity=stranger"]
        case "no project":
            overrides = ["logger.project=elsewhere", f"logger.entity={ENTITY}"]
        case "read-only key":
            server.read_only = True
        case "no package":
            real = builtins.__import__

            def without(name: str, *rest: Any, **more: Any) -> Any:
                if name.startswith("wandb_workspaces"):
                    raise ModuleNotFoundError(name)
                return real(name, *rest, **more)

            monkeypatch.setattr(builtins, "__import__", without)
        case "runs without W&B":
            overrides = [f"runs={make_run(tmp_path / 'run')}"]
    with pytest.raises(error, match=words) as caught:
        made(*overrides)
    text = str(caught.value)
    assert KEY not in text
    assert "f" * 40 not in text
    assert "\n" not in text


def test_a_server_that_falls_silent_while_saving_holds_nobody_up(
    server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "SECONDS", 0.5)
    monkeypatch.setattr(task, "destination", lambda config: ENTITY)
    server.delay = 20
    with pytest.raises(HubError, match=r"no answer within 0\.5 s|does not answer"):
        made()
