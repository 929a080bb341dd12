"""SVG charts: lines, points, bars, histograms, parallel coordinates and timelines.

Drawn here and not by a library, measured for 20 runs of 100 points: plotly embeds 4.9 MB a page, Vega-Lite 1.0 MB,
bokeh 1.3 MB on a canvas that screen readers can't read, and matplotlib's SVG can't follow the reader's light or dark
theme. These take some kB, take their colors from the page's CSS, and carry their data as text.

Colors are classes `c0` to `c7` (Okabe and Ito's palette, safe for color-blind eyes), each with a dash pattern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from summarizer.report.axes import Scale, number, scale_for, spans_decades

WIDTH, HEIGHT = 640.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 76.0, 14.0, 12.0, 42.0
COLORS = 8
POINTS = 400
"""Points of a line beyond which it is thinned: more than pixels to show them."""
LABEL_LETTERS = 28


@dataclass(frozen=True)
class Series:
    """A named line of (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Dot:
    """A labeled point with an optional interval of y; `marked` ones are joined by a line (a front)."""

    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    marked: bool = False


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    low: float | None = None
    high: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Span:
    """A piece of a timeline, in seconds from its start; `row` names the line it stands on."""

    row: str
    label: str
    start: float
    end: float


@dataclass
class Canvas:
    """Elements of one SVG; every text goes through `escape`."""

    title: str
    description: str
    width: float = WIDTH
    height: float = HEIGHT
    parts: list[Markup] = field(default_factory=list)

    def add(self, template: str, **values: object) -> None:
        """One element; values are escaped, numbers rounded to a tenth of a pixel."""
        shown = {k: f"{v:.1f}" if isinstance(v, float) else escape(v) for k, v in values.items()}
        self.parts.append(Markup(template.format(**shown)))

    def text(self, x: float, y: float, text: str, anchor: str = "middle", kind: str = "tick") -> None:
        self.add(
            '<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>',
            x=x,
            y=y,
            text=text,
            anchor=anchor,
            kind=kind,
        )

    def render(self) -> Markup:
        head = Markup(
            '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" class="chart"><title>{}</title><desc>{}</desc>'
        ).format(f"{self.width:.0f}", f"{self.height:.0f}", self.title, self.title, self.description)
        return head + Markup("").join(self.parts) + Markup("</svg>")


def frame(canvas: Canvas, x: Scale, y: Scale, x_label: str, y_label: str) -> None:
    """Grid, ticks and axis titles."""
    bottom = canvas.height - BOTTOM
    for tick, label in y.labeled:
        canvas.add(
            '<line class="grid" x1="{a}" x2="{b}" y1="{y}" y2="{y}"/>', a=LEFT, b=canvas.width - RIGHT, y=y(tick)
        )
        canvas.text(LEFT - 6, y(tick) + 4, label, "end")
    for tick, label in x.labeled:
        canvas.add('<line class="grid" x1="{x}" x2="{x}" y1="{a}" y2="{b}"/>', x=x(tick), a=TOP, b=bottom)
        canvas.text(x(tick), bottom + 16, label)
    canvas.text((LEFT + canvas.width - RIGHT) / 2, canvas.height - 8, x_label, kind="axis")
    canvas.add(
        '<text class="axis" transform="translate(14 {y}) rotate(-90)" text-anchor="middle">{text}</text>',
        y=(TOP + bottom) / 2, text=y_label,
    )  # fmt: skip


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `POINTS` points: bucket means, first and last kept."""
    if len(points) <= POINTS:
        return list(points)
    size = len(points) / POINTS
    kept = [points[0]]
    for i in range(1, POINTS - 1):
        bucket = points[int(i * size) : max(int(i * size) + 1, int((i + 1) * size))]
        kept.append((sum(p[0] for p in bucket) / len(bucket), sum(p[1] for p in bucket) / len(bucket)))
    return [*kept, points[-1]]


def line_chart(
    title: str, series: Sequence[Series], x_label: str, y_label: str, levels: Mapping[str, float] | None = None
) -> Markup:
    """Lines over a shared x; `levels` are named horizontal lines, such as baselines."""
    levels = levels or {}
    lines = [Series(s.name, thinned(s.points)) for s in series if s.points]
    every = [p for s in lines for p in s.points]
    log = spans_decades([y for _, y in every]) and not levels
    x = scale_for([p[0] for p in every], LEFT, WIDTH - RIGHT)
    y = scale_for([p[1] for p in every] + list(levels.values()), HEIGHT - BOTTOM, TOP, log=log)
    ends = "; ".join(f"{s.name}: {number(s.points[0][1])} to {number(s.points[-1][1])}" for s in lines[:6])
    canvas = Canvas(title, f"{y_label} by {x_label}. {ends}")
    frame(canvas, x, y, x_label, y_label)
    for name, level in levels.items():
        canvas.add('<line class="level" x1="{a}" x2="{b}" y1="{y}" y2="{y}"/>', a=LEFT, b=WIDTH - RIGHT, y=y(level))
        canvas.text(WIDTH - RIGHT - 4, y(level) - 4, name, "end", "note")
    for i, line in enumerate(lines):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line.points)
        canvas.add(
            '<polyline class="line c{c}" points="{path}"><title>{name}</title></polyline>',
            c=i % COLORS,
            path=path,
            name=line.name,
        )
        if len(line.points) <= 30:
            for a, b in line.points:
                tip = f"{line.name}: {number(b)} at {number(a)}"
                canvas.add(
                    '<circle class="dot c{c}" cx="{x}" cy="{y}" r="2.5"><title>{tip}</title></circle>',
                    c=i % COLORS,
                    x=x(a),
                    y=y(b),
                    tip=tip,
                )
    return canvas.render()


def scatter(title: str, dots: Sequence[Dot], x_label: str, y_label: str) -> Markup:
    """Points with intervals; marked ones are joined in the order of x."""
    log = spans_decades([d.x for d in dots])
    x = scale_for([d.x for d in dots], LEFT, WIDTH - RIGHT, log=log)
    y = scale_for([v for d in dots for v in (d.y, d.low, d.high) if v is not None], HEIGHT - BOTTOM, TOP)
    canvas = Canvas(title, f"{y_label} against {x_label} of {len(dots)} runs")
    frame(canvas, x, y, x_label, y_label)
    marked = sorted((d for d in dots if d.marked), key=lambda d: d.x)
    if len(marked) > 1:
        canvas.add('<polyline class="front" points="{p}"/>', p=" ".join(f"{x(d.x):.1f},{y(d.y):.1f}" for d in marked))
    for d in dots:
        if d.low is not None and d.high is not None:
            canvas.add(
                '<line class="interval" x1="{x}" x2="{x}" y1="{a}" y2="{b}"/>', x=x(d.x), a=y(d.low), b=y(d.high)
            )
        tip = f"{d.label}: {y_label} {number(d.y)}, {x_label} {number(d.x)}"
        canvas.add(
            '<circle class="dot {kind}" cx="{x}" cy="{y}" r="4"><title>{tip}</title></circle>',
            kind="c0" if d.marked else "c7", x=x(d.x), y=y(d.y), tip=tip,
        )  # fmt: skip
    for d in marked[:12]:
        flip = x(d.x) > WIDTH * 0.75
        canvas.text(x(d.x) + (-8 if flip else 8), y(d.y) - 6, shortened(d.label), "end" if flip else "start", "note")
    return canvas.render()


def bars(title: str, rows: Sequence[Bar], x_label: str) -> Markup:
    """Horizontal bars with intervals, in the order given."""
    left, step = 190.0, 24.0
    height = TOP + step * len(rows) + BOTTOM
    x = scale_for([v for r in rows for v in (r.value, r.low, r.high) if v is not None], left, WIDTH - 52, zero=True)
    listed = ", ".join(f"{r.label} {number(r.value)}" for r in rows)
    canvas = Canvas(title, f"{x_label}: {listed}", height=height)
    for i, row in enumerate(rows):
        y = TOP + step * i
        canvas.text(left - 8, y + 15, shortened(row.label), "end", "tick strong" if row.strong else "tick")
        a, b = sorted((x(0.0) if x.low <= 0 else left, x(row.value)))
        canvas.add(
            '<rect class="bar {c}" x="{x}" y="{y}" width="{w}" height="16"><title>{tip}</title></rect>',
            c="c0" if row.strong else "c7", x=a, y=y + 3, w=max(1.0, b - a), tip=f"{row.label}: {number(row.value)}",
        )  # fmt: skip
        end = x(row.value)
        if row.low is not None and row.high is not None:
            canvas.add(
                '<line class="interval" x1="{a}" x2="{b}" y1="{y}" y2="{y}"/>', a=x(row.low), b=x(row.high), y=y + 11
            )
            end = max(end, x(row.high))
        canvas.text(end + 6, y + 15, f"{row.value:.2f}", "start")
    canvas.text((left + WIDTH - 52) / 2, height - 14, x_label, kind="axis")
    return canvas.render()


def histogram(title: str, values: Sequence[float], x_label: str, bins: int = 20) -> Markup:
    """Counts of values in equal bins."""
    low, high = min(values), max(values)
    if high == low:
        low, high = low - 0.5, high + 0.5
    width = (high - low) / bins
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    x = Scale(low, high, LEFT, WIDTH - RIGHT)
    y = scale_for([float(c) for c in counts], HEIGHT - BOTTOM, TOP, zero=True)
    middle = sorted(values)[len(values) // 2]
    canvas = Canvas(title, f"Distribution of {x_label} over {len(values):,} rows; median {number(middle)}")
    frame(canvas, x, y, x_label, "rows")
    for i, count in enumerate(counts):
        a, b = x(low + i * width), x(low + (i + 1) * width)
        tip = f"{number(low + i * width)} to {number(low + (i + 1) * width)}: {count:,} rows"
        canvas.add(
            '<rect class="bar c0" x="{x}" y="{y}" width="{w}" height="{h}"><title>{tip}</title></rect>',
            x=a + 0.5, y=y(count), w=max(1.0, b - a - 1), h=y(0.0) - y(count), tip=tip,
        )  # fmt: skip
    canvas.add('<line class="level" x1="{x}" x2="{x}" y1="{a}" y2="{b}"/>', x=x(middle), a=TOP, b=HEIGHT - BOTTOM)
    canvas.text(x(middle) + 5, TOP + 10, f"median {number(middle)}", "start", "note")
    return canvas.render()


def parallel(title: str, axes: Sequence[str], rows: Sequence[tuple[str, Sequence[object]]]) -> Markup:
    """Parallel coordinates: one line per row, best first, the last axis is the objective; the best fifth of the rows is marked."""
    gap = (WIDTH - 90) / max(1, len(axes) - 1)
    xs = [45 + gap * i for i in range(len(axes))]
    canvas = Canvas(title, f"{len(rows)} runs over {', '.join(axes)}")
    placed: list[list[float]] = []
    for i, name in enumerate(axes):
        column = [values[i] for _, values in rows]
        positions, ticks = axis_positions(column)
        placed.append(positions)
        canvas.add(
            '<line class="axisline" x1="{x}" x2="{x}" y1="{a}" y2="{b}"/>', x=xs[i], a=TOP + 16, b=HEIGHT - BOTTOM
        )
        # the outer names grow inwards, or the edge would cut them
        anchor, x = (
            ("start", xs[i] - 40) if i == 0 else ("end", xs[i] + 40) if i == len(axes) - 1 else ("middle", xs[i])
        )
        canvas.text(x, TOP + 6, shortened(name), anchor, "axis")
        for y, label in ticks:
            canvas.text(xs[i], y + 4, shortened(label), kind="note halo")
    best = range(max(1, len(rows) // 5))
    for i in sorted(range(len(rows)), key=lambda i: i in best):
        points = " ".join(f"{x:.1f},{placed[axis][i]:.1f}" for axis, x in enumerate(xs))
        canvas.add(
            '<polyline class="line {kind}" points="{p}"><title>{tip}</title></polyline>',
            kind="c0 best" if i in best else "c7 rest", p=points, tip=rows[i][0],
        )  # fmt: skip
    return canvas.render()


def axis_positions(column: Sequence[object]) -> tuple[list[float], list[tuple[float, str]]]:
    """y of each value on one parallel axis, and (y, label) of its ticks; numbers by size, anything else by name."""
    top, bottom = TOP + 22, HEIGHT - BOTTOM - 6
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in column):
        values = [float(v) for v in column]  # type: ignore[arg-type]
        scale = scale_for(values, bottom, top, log=spans_decades(values))
        ends = sorted({min(values), max(values)})
        return [scale(v) for v in values], [(scale(v), number(v)) for v in ends]
    names = sorted({str(v) for v in column})
    gap = (bottom - top) / max(1, len(names) - 1)
    at = {name: bottom - gap * i if len(names) > 1 else (top + bottom) / 2 for i, name in enumerate(names)}
    return [at[str(v)] for v in column], [(y, name) for name, y in at.items()]


def timeline(title: str, spans: Sequence[Span]) -> Markup:
    """Rows of labeled spans over minutes."""
    rows = list(dict.fromkeys(span.row for span in spans))
    left, step = 150.0, 30.0
    height = TOP + step * len(rows) + BOTTOM
    x = Scale(0.0, max(max(span.end for span in spans) / 60, 1e-3), left, WIDTH - RIGHT)
    canvas = Canvas(
        title, ", ".join(f"{s.row} {s.label} {(s.end - s.start) / 60:.1f} min" for s in spans), height=height
    )
    for tick, label in x.labeled:
        canvas.add('<line class="grid" x1="{x}" x2="{x}" y1="{a}" y2="{b}"/>', x=x(tick), a=TOP, b=height - BOTTOM)
        canvas.text(x(tick), height - BOTTOM + 16, label)
    canvas.text((left + WIDTH - RIGHT) / 2, height - 8, "minutes", kind="axis")
    labels = list(dict.fromkeys(span.label for span in spans))
    for span in spans:
        y = TOP + step * rows.index(span.row)
        a, b = x(span.start / 60), x(span.end / 60)
        tip = f"{span.row}, {span.label}: {(span.end - span.start) / 60:.1f} min"
        canvas.add(
            '<rect class="bar c{c}" x="{x}" y="{y}" width="{w}" height="20"><title>{tip}</title></rect>',
            c=labels.index(span.label) % COLORS, x=a, y=y + 2, w=max(1.0, b - a), tip=tip,
        )  # fmt: skip
        if b - a > 7 * len(span.label):
            canvas.text((a + b) / 2, y + 16, span.label, kind="note onbar")
    for i, row in enumerate(rows):
        canvas.text(left - 8, TOP + step * i + 16, shortened(row), "end")
    return canvas.render()


def shortened(text: str) -> str:
    return text if len(text) <= LABEL_LETTERS else text[: LABEL_LETTERS - 1] + "…"
