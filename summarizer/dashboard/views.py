"""The dashboard as objects of `wandb_workspaces`, and saving them: found by their title, so a second save updates the first.

The library has no public way to see what it would send. `specification` reads it from the objects, so that nothing is saved
where nothing changed; the package is pinned for that, and a test compares what a server gets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any

from summarizer import metric_names as names
from summarizer.dashboard.panels import COLUMNS, Kind, Panel, Section
from summarizer.dashboard.server import address, ask

# its types do not name what its modules give
wr: Any = import_module("wandb_workspaces.reports.v2")
ws: Any = import_module("wandb_workspaces.workspaces")

TITLE = "summarizer"
"""Of the workspace."""
VIEWS = """query ViewsOfDashboard($entity: String!, $project: String!, $type: String!) {
  project(name: $project, entityName: $entity) {
    allViews(viewType: $type) { edges { node { id name displayName spec } } }
  }
}"""
IDS = frozenset(("id", "__id__", "ref", "createdAt", "updatedAt"))
"""What the library draws by chance, or the server adds."""


class Change(StrEnum):
    created = "created"
    updated = "updated"
    unchanged = "unchanged"


@dataclass(frozen=True)
class Saved:
    """One view after saving."""

    title: str
    url: str
    change: Change


def panel(p: Panel) -> Any:
    """A panel as the library has it."""
    if p.kind is Kind.line:
        return wr.LinePlot(title=p.title, x=p.x, y=list(p.metrics))
    if p.kind is Kind.bar and p.by:
        return wr.BarPlot(
            title=p.title,
            metrics=list(p.metrics),
            groupby=wr.Config(p.by),
            groupby_aggfunc="sum",
            max_runs_to_show=1000,
        )
    if p.kind is Kind.bar:
        return wr.BarPlot(title=p.title, metrics=list(p.metrics), max_bars_to_show=20)
    if p.kind is Kind.scatter:
        return wr.ScatterPlot(
            title=p.title, x=wr.SummaryMetric(p.x), y=wr.SummaryMetric(p.metrics[0]), running_ymax=True
        )
    if p.kind is Kind.parallel:
        axes = [wr.Config(key) for key in p.settings] + [wr.SummaryMetric(metric) for metric in p.metrics]
        return wr.ParallelCoordinatesPlot(
            title=p.title, columns=[wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
        )
    if p.kind is Kind.importance:
        return wr.ParameterImportancePlot(with_respect_to=p.metrics[0])
    if p.kind is Kind.table:
        return wr.WeavePanelSummaryTable(table_name=p.metrics[0], layout=wr.Layout(w=24, h=10))
    return wr.RunComparer(diff_only="split", layout=wr.Layout(w=24, h=10))


def column(accessor: str) -> str:
    """`config:rental.gpu` as W&B stores it: the value of an entry stands beneath `value`."""
    section, _, key = accessor.partition(":")
    if section != "config":
        return accessor
    entry, _, rest = key.partition(".")
    return ":".join((section, ".".join(part for part in (entry, "value", rest) if part)))


def workspace(entity: str, project: str, sections: Iterable[Section], maximize: bool) -> Any:
    """The workspace of a project; building it asks no server."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[ws.Section(name=s.name, panels=[panel(p) for p in s.panels], is_open=True) for s in sections],
        settings=ws.WorkspaceSettings(x_axis=names.STEP, max_runs=20),
        runset_settings=ws.RunsetSettings(
            order=[ws.Ordering(ws.Summary(names.OBJECTIVE), ascending=not maximize)],
            pinned_columns=["run:displayName", *map(column, COLUMNS)],
        ),
    )


def report(
    entity: str, project: str, title: str, text: str, runs: Sequence[str], sections: Iterable[Section], maximize: bool
) -> Any:
    """The report of these runs (their ids): a text, then sections of panels over them alone."""
    named = ", ".join(f"'{run}'" for run in runs)

    def runset() -> Any:
        return wr.Runset(
            entity=entity,
            project=project,
            name=title,
            filters=f"Metric('ID') in [{named}]",
            order=[wr.OrderBy(wr.SummaryMetric(names.OBJECTIVE), ascending=maximize is False)],
            pinned_columns=["run:displayName", *map(column, COLUMNS)],
        )

    blocks: list[Any] = [wr.MarkdownBlock(text)]
    for section in sections:
        blocks += [wr.H2(section.name), wr.PanelGrid(runsets=[runset()], panels=placed(section.panels))]
    return wr.Report(
        entity=entity, project=project, title=title, description="By `python -m summarizer task=dashboard`.",
        blocks=blocks, width="fluid",
    )  # fmt: skip


def placed(panels: Sequence[Panel]) -> list[Any]:
    """Panels of a report, three in a row; a report leaves their places to whoever writes it."""
    made, x, y, height = [], 0, 0, 0
    for p in panels:
        drawn = panel(p)
        width = drawn.layout.w
        if x + width > 24:
            x, y, height = 0, y + height, 0
        drawn.layout = wr.Layout(x=x, y=y, w=width, h=drawn.layout.h)
        x, height = x + width, max(height, drawn.layout.h)
        made.append(drawn)
    return made


def save_workspace(wanted: Any) -> Saved:
    """Create the workspace, or update the one of its title."""
    found = existing(wanted.entity, wanted.project, "project-view", wanted.name)
    if found is None:
        wanted.save()
        return Saved(wanted.name, wanted.url, Change.created)
    slug = str(found["name"]).removeprefix("nw-").removesuffix("-v")
    kept = ws.Workspace.from_url(f"{address()}/{wanted.entity}/{wanted.project}?nw={slug}")
    if same(found["spec"], specification(wanted)):
        return Saved(wanted.name, kept.url, Change.unchanged)
    kept.sections, kept.settings, kept.runset_settings = wanted.sections, wanted.settings, wanted.runset_settings
    kept.save()
    return Saved(wanted.name, kept.url, Change.updated)


def save_report(wanted: Any) -> Saved:
    """Create the report, or update the one of its title."""
    found = existing(wanted.entity, wanted.project, "runs", wanted.title)
    if found is None:
        wanted.save()
        return Saved(wanted.title, wanted.url, Change.created)
    kept = wr.Report.from_url(f"{address()}/{wanted.entity}/{wanted.project}/reports/x--{found['id']}")
    if same(found["spec"], specification(wanted)):
        return Saved(wanted.title, kept.url, Change.unchanged)
    kept.blocks, kept.description, kept.width = wanted.blocks, wanted.description, wanted.width
    kept.save()
    return Saved(wanted.title, kept.url, Change.updated)


def existing(entity: str, project: str, kind: str, title: str) -> Mapping[str, Any] | None:
    """The stored view of this title; the first, where people have made several."""
    answer = ask(VIEWS, entity=entity, project=project, type=kind).get("project") or {}
    nodes = [edge["node"] for edge in (answer.get("allViews") or {}).get("edges", [])]
    return next((node for node in nodes if node["displayName"] == title), None)


def specification(view: Any) -> str:
    """What saving the view would send."""
    content: str = view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    return content


def same(stored: str, wanted: str) -> bool:
    """Whether two specifications show the same."""
    return without_ids(json.loads(stored)) == without_ids(json.loads(wanted))


def without_ids(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without_ids(value) for key, value in content.items() if key not in IDS}
    return [without_ids(item) for item in content] if isinstance(content, list) else content
