"""The page of one run: what was run, how it trained, how good it is against baselines, where time and money went."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import yaml

from summarizer.evaluation.report import RULES, TITLES
from summarizer.metric_names import UTILIZATION, utilization_in
from summarizer.report import charts
from summarizer.report.axes import number
from summarizer.report.marking import marked
from summarizer.report.page import Block, Cell, Code, Facts, Figure, Page, Sample, Samples, Section, Table, Text
from summarizer.report.records import RunRecord

SHOWN_SAMPLES = 5
DOCUMENT_LETTERS = 4000
STAGE_NAMES = ("start", "tokenizing", "compiling", "training", "validation", "test", "export")


def run_page(run: RunRecord) -> Page:
    """The page of one run."""
    model, data = run.config["model"].get("name", "?"), run.config["data"].get("name", "?")
    started = str(run.provenance.get("started", ""))[:16].replace("T", " ")
    sections = [
        Section("Result", result(run)),
        Section("Training", training(run)),
        Section("Summaries", summaries(run)),
        Section("Time and money", time_and_money(run)),
        Section("What was run", what_was_run(run)),
    ]
    return Page(
        f"{run.config.get('name', 'run')}: {model} on {data}",
        f"{run.label}, {run.state}{', started ' + started if started else ''}",
        [section for section in sections if section.blocks],
    )


def result(run: RunRecord) -> list[Block]:
    """ROUGE with intervals against the baselines, for every evaluated split."""
    blocks: list[Block] = []
    m = run.metrics
    facts = []
    for split in run.splits[:1]:
        facts.append((f"{split} ROUGE-L", f"{m[f'{split}/rougeL']:.2f}"))
        if f"{split}/rougeL_low" in m:
            facts.append(("95 % interval", f"{m[f'{split}/rougeL_low']:.2f} to {m[f'{split}/rougeL_high']:.2f}"))
        facts.append(("rows", f"{m[f'{split}/rows']:,.0f}"))
    if "train/seconds" in m:
        facts.append(("training", f"{m['train/seconds'] / 60:.1f} min"))
    if "train/tokens_per_second" in m:
        facts.append(("speed", f"{m['train/tokens_per_second']:,.0f} tokens/s"))
    if UTILIZATION in m:
        facts.append(("GPU utilization", f"{m[UTILIZATION]:.0f} %"))
    if run.dollars is not None:
        facts.append(("cost", f"${run.dollars:.2f}"))
    if facts:
        blocks.append(Facts(facts))
    for split in run.splits:
        if f"{split}/rougeL" not in m:
            continue
        rows = [
            charts.Bar(
                "this model",
                m[f"{split}/rougeL"],
                m.get(f"{split}/rougeL_low"),
                m.get(f"{split}/rougeL_high"),
                strong=True,
            )
        ]
        table = [[Cell("this model", strong=True), *(rouge_cell(m.get(f"{split}/{key}")) for key in TITLES)]]
        for rule, title in RULES.items():
            if f"{split}/{rule}/rougeL" in m:
                rows.append(charts.Bar(title, m[f"{split}/{rule}/rougeL"]))
                table.append([Cell(title), *(rouge_cell(m.get(f"{split}/{rule}/{key}")) for key in TITLES)])
        tokenizer = run.texts.get(f"{split}/rouge_tokenizer")
        caption = (
            f"ROUGE-L (F1 x 100) on {split}, {m[f'{split}/rows']:,.0f} rows; the oracle reads the reference: an upper bound "
            "for extraction"
        )
        blocks.append(
            Figure(
                charts.bars(f"ROUGE-L on {split}", rows, "ROUGE-L"), caption + (f". Tokenizer: {tokenizer}." if tokenizer else "."),
                data=Table(["system", *TITLES.values()], table),
            )
        )  # fmt: skip
        gain = [m.get(f"{split}/is_a/rougeL_gain_{side}") for side in ("low", "high")]
        if gain[0] is not None and gain[1] is not None:
            blocks.append(
                Text(
                    'Difference in ROUGE-L to the "X is a" heuristic on the same rows (paired 95 % interval): '
                    f"{gain[0]:+.2f} to {gain[1]:+.2f}."
                )
            )
    return blocks


def rouge_cell(value: float | None) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:.2f}", value)


def percent_cell(value: float | None) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:.0f}", value)


def training(run: RunRecord) -> list[Block]:
    """Curves: losses, quality by step with baselines as lines, learning rate, gradient norm, speed."""
    blocks: list[Block] = []
    curves = run.curves
    losses = [charts.Series(name, curves[name]) for name in ("train/loss", "validation/loss") if curves.get(name)]
    if losses:
        blocks.append(curve_figure("Loss", losses, "loss"))
    rouge = [
        charts.Series(name, curves[name])
        for name in ("validation/rougeL", "validation/rouge1", "validation/rouge2")
        if curves.get(name)
    ]
    if rouge:
        levels = {
            f"{RULES[rule]} (test)": run.metrics[f"test/{rule}/rougeL"]
            for rule in ("lead1", "is_a")
            if f"test/{rule}/rougeL" in run.metrics
        }
        blocks.append(curve_figure("Validation ROUGE", rouge, "ROUGE", levels))
    for name, title in (
        ("train/lr", "Learning rate"), ("train/gradient_norm", "Gradient norm"), ("train/tokens_per_second", "Tokens per second"),
        ("train/memory_gib", "Memory (GiB)"), ("train/mfu", "Share of the card's peak"),
    ):  # fmt: skip
        if len(curves.get(name, [])) > 1:
            blocks.append(curve_figure(title, [charts.Series(name, curves[name])], title.lower()))
    return blocks


def curve_figure(
    title: str, series: Sequence[charts.Series], unit: str, levels: dict[str, float] | None = None
) -> Figure:
    rows = [
        [Cell(s.name), Cell(f"{x:,.0f}", x), Cell(number(y), y)]
        for s in series
        for x, y in charts.thinned(s.points)[:200]
    ]
    legend = [s.name for s in series] if len(series) > 1 else []
    return Figure(
        charts.line_chart(title, series, "optimizer step", unit, levels), f"{title} by optimizer step.", legend,
        Table(["series", "step", "value"], rows),
    )  # fmt: skip


def summaries(run: RunRecord) -> list[Block]:
    """Distribution of scores, lengths, and the best and worst summaries."""
    rows = run.predictions
    if rows is None or not rows.ids:
        return []
    scores = [100 * score for score in rows.rouge_l]
    written, wanted = [len(s.split()) for s in rows.summaries], [len(s.split()) for s in rows.references]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    m, novel = run.metrics, ""
    if "test/novel_2gram" in m:
        novel = (
            f"; {m['test/novel_1gram']:.1f} % of the words and {m['test/novel_2gram']:.1f} % of the bigrams are not in the "
            "document"
        )
    blocks: list[Block] = [
        Figure(
            charts.histogram("ROUGE-L per document", scores, "ROUGE-L of a document"),
            "How the score is spread over the documents.",
        ),
        Text(
            f"Words per summary: {sum(written) / len(written):.1f} on average, references {sum(wanted) / len(wanted):.1f}"
            f"{novel}. New words are underlined below."
        ),
    ]
    for title, chosen in (("Best", order[:SHOWN_SAMPLES]), ("Worst", order[::-1][:SHOWN_SAMPLES])):
        blocks.append(Samples([sample(run, i) for i in chosen], f"{title} by ROUGE-L"))
    return blocks


def sample(run: RunRecord, i: int) -> Sample:
    rows = run.predictions
    assert rows is not None
    pieces = list(marked(rows.summaries[i], rows.documents[i]))
    return Sample(
        rows.ids[i],
        cut(rows.documents[i]),
        rows.references[i],
        [("summary", f"ROUGE-L {100 * rows.rouge_l[i]:.1f}", pieces)],
    )


def cut(document: str) -> str:
    """A document short enough for a page."""
    return document if len(document) <= DOCUMENT_LETTERS else f"{document[:DOCUMENT_LETTERS]} [...]"


def time_and_money(run: RunRecord) -> list[Block]:
    """Seconds per stage, machines and their bill."""
    blocks: list[Block] = []
    stages = run.provenance.get("stages")
    if isinstance(stages, dict) and stages:
        spans, at = [], 0.0
        for name, seconds in stages.items():
            if isinstance(seconds, int | float) and seconds > 0:
                spans.append(charts.Span("this job", str(name), at, at + seconds))
                at += seconds
        if spans:
            busy = {stage: run.metrics.get(utilization_in(stage)) for stage in stages}
            rows = [
                [Cell(s.label), Cell(f"{s.end - s.start:.1f}", s.end - s.start), percent_cell(busy[s.label])]
                for s in spans
            ]
            blocks.append(
                Figure(
                    charts.timeline("Seconds per stage", spans),
                    "Stages of the job, one after another.",
                    data=Table(["stage", "seconds", "GPU utilization, %"], rows),
                )
            )
    elif run.minutes is not None:
        blocks.append(Text(f"The whole job took {run.minutes:.1f} minutes."))
    machines = run.rental.get("machines")
    if isinstance(machines, list) and machines:
        start = min(float(machine.get("created", 0)) for machine in machines)
        spans = [
            charts.Span(
                f"{machine.get('provider', '?')} {machine.get('gpu') or 'CPU'}",
                "rented",
                float(machine["created"]) - start,
                float(machine["ended"]) - start,
            )
            for machine in machines
            if isinstance(machine.get("created"), int | float) and isinstance(machine.get("ended"), int | float)
        ]
        rows = [
            [
                Cell(str(machine.get("provider", "?"))),
                Cell(str(machine.get("gpu") or "-")),
                Cell("spot" if machine.get("spot") else "on demand"),
                money(machine.get("price"), 3),
                money(machine.get("cost"), 2),
            ]
            for machine in machines
        ]
        table = Table(["provider", "GPU", "kind", "$/h", "$"], rows, "Machines")
        blocks.append(
            Figure(charts.timeline("Machines", spans), "Machines of this job and when they were billed.", data=table)
            if spans
            else table
        )
    elif str(run.config.get("provider", {}).get("name", "local")) == "local":
        blocks.append(Text("It ran on this user's own machine: nothing was billed."))
    return blocks


def money(value: object, digits: int) -> Cell:
    return Cell(f"${value:.{digits}f}", float(value)) if isinstance(value, int | float) else Cell("-")


def what_was_run(run: RunRecord) -> list[Block]:
    """The command to run it again, where the code came from, versions, and the whole config."""
    command = shlex.join(["python", "-m", "summarizer", *run.overrides])
    p = run.provenance
    machine = p.get("machine", {}) if isinstance(p.get("machine"), dict) else {}
    facts = [
        (
            "commit",
            f"{p.get('commit') or 'unknown'}{' with uncommitted changes (changes.diff)' if p.get('dirty') else ''}",
        ),
        ("seed", str(p.get("seed", run.config.get("seed")))),
        ("machine", f"{machine.get('device', '?')}, {machine.get('cores', '?')} cores, {machine.get('platform', '?')}"),
    ]
    versions = p.get("versions", {})
    rows = [[Cell(name), Cell(value)] for name, value in facts]
    if isinstance(versions, dict):
        rows += [[Cell(str(name)), Cell(str(version))] for name, version in versions.items()]
    return [
        Text("The same settings again:"),
        Code(command),
        Text("The same code, data and settings, compared with these figures:"),
        Code(shlex.join(["python", "-m", "summarizer", f"rerun={run.folder}"])),
        Table(["fact", "value"], rows),
        Code(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True), "The resolved config"),
    ]
