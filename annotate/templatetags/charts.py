"""Charts as SVG of our own: shapes stretched to their box, words beside them, the numbers in a table below.

Shapes have only attributes and classes, since the content security policy allows no inline style. All plots are drawn
in a box of 1000 × 100 units that the page stretches; strokes keep their width.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django import template
from django.contrib.humanize.templatetags.humanize import intcomma

register = template.Library()

WIDTH = 1000.0
HEIGHT = 100.0
# Lines of one chart differ in color and in dashes; after so many the styles begin again.
CURVE_STYLES = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin: where it is drawn, and what it says. `low` and `high` bound ε̂."""

    x: str
    width: str
    y: str
    height: str
    selected_y: str
    selected_height: str
    low: str
    high: str
    count: int
    selected: int


def _units(value: float) -> str:
    """A coordinate for an attribute: never in a locale's own notation."""
    return f"{value:.2f}"


@register.inclusion_tag("charts/histogram.html")
def histogram(
    counts: Sequence[int],
    selected_counts: Sequence[int] | None = None,
    cut: float | None = None,
    label: str = "Error probability",
    chances: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """Counts in equal bins over [0, 1], those selected in front, and a line at `cut`.

    `chances` draws a curve over it: the inclusion probability at each place, from 0 to 1 over the chart's height.
    """
    selected = list(selected_counts) if selected_counts is not None else [0] * len(counts)
    most = max([*counts, 1])
    top = _round_up(most)
    step = WIDTH / max(1, len(counts))
    bars = []
    for number, (count, chosen) in enumerate(zip(counts, selected, strict=True)):
        height, chosen_height = HEIGHT * count / top, HEIGHT * chosen / top
        bars.append(
            Bar(
                x=_units(number * step + step * 0.06),
                width=_units(step * 0.88),
                y=_units(HEIGHT - height),
                height=_units(height),
                selected_y=_units(HEIGHT - chosen_height),
                selected_height=_units(chosen_height),
                low=f"{number / len(counts):.2f}",
                high=f"{(number + 1) / len(counts):.2f}",
                count=count,
                selected=chosen,
            )
        )
    return {
        "bars": bars,
        "label": label,
        "total": sum(counts),
        "has_selected": selected_counts is not None,
        "selected_total": sum(selected),
        "cut": cut,
        "cut_x": None if cut is None else _units(WIDTH * min(1.0, max(0.0, cut))),
        "chances": " ".join(f"{_units(WIDTH * x)},{_units(HEIGHT * (1 - y))}" for x, y in chances),
        "chance_rows": [(f"{chances[i][0]:.2f}", f"{chances[i][1]:.3f}") for i in _spread(len(chances), 11)],
        "top": top,
        "middle": top // 2 if top % 2 == 0 else top / 2,
    }


def _round_up(count: int) -> int:
    """The next number that reads well at the top of an axis: 1, 2, 4, 5, 6, 8 times a power of ten."""
    power = 1
    while power * 10 < count:
        power *= 10
    return next(power * factor for factor in (1, 2, 4, 5, 6, 8, 10) if power * factor >= count)


@register.inclusion_tag("charts/curve.html")
def curve(
    points: Sequence[tuple[float, float]],
    mark: float | None = None,
    x_label: str = "Share of items reviewed",
    y_label: str = "Share of errors found (AQG)",
) -> dict[str, Any]:
    """A line through points (x, y), both in [0, 1], beside the diagonal that a random order gives.

    `mark` draws an upright line there: the budget.
    """
    ordered = sorted(points)
    path = " ".join(f"{_units(WIDTH * x)},{_units(HEIGHT * (1 - y))}" for x, y in ordered)
    rows = [ordered[i] for i in _spread(len(ordered), 11)]
    return {
        "points": path,
        "rows": [(f"{100 * x:.0f}%", f"{100 * y:.1f}%") for x, y in rows],
        "mark": mark,
        "mark_percent": None if mark is None else f"{100 * mark:.0f}%",
        "mark_x": None if mark is None else _units(WIDTH * min(1.0, max(0.0, mark))),
        "x_label": x_label,
        "y_label": y_label,
    }


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` positions over range(count), first and last among them."""
    if count <= wanted:
        return list(range(count))
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


@register.inclusion_tag("charts/stacked.html")
def stacked(parts: Sequence[Mapping[str, Any]], label: str = "", legend: bool = True) -> dict[str, Any]:
    """One bar of parts {"label", "value", "tone"}; tones are those of components.css. A legend may do for many."""
    total = sum(part["value"] for part in parts)
    drawn, start = [], 0.0
    for part in parts:
        width = WIDTH * part["value"] / total if total else 0.0
        drawn.append({**part, "x": _units(start), "width": _units(width)})
        start += width
    return {"parts": drawn, "label": label, "total": total, "legend": legend}


@register.inclusion_tag("charts/sparkline.html")
def sparkline(values: Sequence[float], label: str = "Trend") -> dict[str, Any]:
    """A small line without axes, from the smallest value to the largest."""
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    span = (high - low) or 1.0
    step = WIDTH / max(1, len(values) - 1)
    points = " ".join(
        f"{_units(number * step)},{_units(HEIGHT - HEIGHT * (value - low) / span)}"
        for number, value in enumerate(values)
    )
    return {
        "points": points,
        "label": label,
        "first": values[0] if values else None,
        "last": values[-1] if values else None,
    }


@register.inclusion_tag("charts/interval.html")
def interval(
    low: float, value: float, high: float, start: float = 0.0, end: float = 1.0, label: str = ""
) -> dict[str, Any]:
    """A dot at `value` on a whisker from `low` to `high`, on an axis from `start` to `end`."""
    span = (end - start) or 1.0

    def across(number: float) -> str:
        return _units(WIDTH * min(1.0, max(0.0, (number - start) / span)))

    words = f"{100 * value:.1f}%, interval {100 * low:.1f}% to {100 * high:.1f}%"
    return {"low": across(low), "value": across(value), "high": across(high), "words": words, "label": label}


@register.inclusion_tag("charts/curves.html")
def curves(
    series: Sequence[Any],
    x_label: str = "Share of items reviewed",
    y_label: str = "Share of errors found (AQG)",
) -> dict[str, Any]:
    """Several lines beside the diagonal that a random order gives, and the ideal order of each.

    Each of `series` has a `name`, `points` in [0, 1]² by rising x, and `error_share`: where the ideal order has found
    everything.
    """
    lines = [
        {
            "name": each.name,
            "number": number % CURVE_STYLES,
            "path": " ".join(f"{_units(WIDTH * x)},{_units(HEIGHT * (1 - y))}" for x, y in each.points),
        }
        for number, each in enumerate(series)
    ]
    ideals = [
        f"0.00,{_units(HEIGHT)} {_units(WIDTH * share)},0.00 {_units(WIDTH)},0.00"
        for share in sorted({each.error_share for each in series})
    ]
    rows = [
        (f"{10 * tenth}%", [f"{100 * _at(each.points, tenth / 10):.1f}%" for each in series])
        for tenth in range(11)
    ]
    return {"lines": lines, "ideals": ideals, "rows": rows, "x_label": x_label, "y_label": y_label}


_GAINS_DRAWN = 4


@register.inclusion_tag("charts/lines.html")
def gain_curves(
    lines: Sequence[Mapping[str, Any]],
    x_label: str = "Share of items that the premium annotator answers",
    y_label: str = "Gain in right answers an item",
) -> dict[str, Any]:
    """Efficiency gains, of any sign and size, over the share in [0, 1] that `x_label` says, with a line at 0.

    Each of `lines` has a `name`, a `kind` and `points`. The router, the oracle and the first others are drawn; all are
    in the table.
    """
    order = {"router": 0, "oracle": 1}
    shown = sorted(lines, key=lambda line: order.get(line["kind"], 2))[:_GAINS_DRAWN]
    return _lines(
        [(line["name"], line["points"]) for line in shown],
        x_label=x_label,
        y_label=y_label,
        ticks=["0%", "25%", "50%", "75%", "100%"],
        names=[line["name"] for line in lines],
        rows=[
            (f"{10 * tenth}%", [f"{_at(line['points'], tenth / 10):.3f}" for line in lines])
            for tenth in range(11)
        ],
    )


_LOSSES = (
    ("Router", "loss"),
    ("Best agent alone", "best_agent_loss"),
    ("Random, same shares", "random_loss"),
)


@register.inclusion_tag("charts/lines.html")
def loss_curves(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A rejector's deferral loss as β grows, and the two losses that it has to stay below.

    Each of `points` has a `factor` and three losses; the points are as far apart as each other.
    """
    ticks = [f"{point['factor']:g}" for point in points]
    last = max(1, len(points) - 1)
    return _lines(
        [(name, [(place / last, point[key]) for place, point in enumerate(points)]) for name, key in _LOSSES],
        x_label="β times",
        y_label="Deferral loss",
        ticks=ticks,
        names=[name for name, _ in _LOSSES],
        rows=[
            (tick, [f"{point[key]:.3f}" for _, key in _LOSSES])
            for tick, point in zip(ticks, points, strict=True)
        ],
    )


def _lines(
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], *, y_label: str, **words: Any
) -> dict[str, Any]:
    """Lines of any height over x in [0, 1], with the line of 0; `words` are those of axes and table."""
    values = [y for _, points in lines for _, y in points]
    high, low = max([*values, 0.0]), min([*values, 0.0])
    if high == low:
        high = 1.0

    def down(y: float) -> str:
        return _units(HEIGHT * (high - y) / (high - low))

    return {
        "lines": [
            {
                "name": name,
                "number": number,
                "path": " ".join(f"{_units(WIDTH * x)},{down(y)}" for x, y in points),
            }
            for number, (name, points) in enumerate(lines)
        ],
        "zero": down(0.0),
        "top": f"{high:.2g}",
        "middle": f"{(high + low) / 2:.2g}",
        "bottom": f"{low:.2g}",
        "y_label": y_label,
        **words,
    }


def _at(points: Sequence[tuple[float, float]], x: float) -> float:
    """The line through the points at x."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * ((x - x0) / (x1 - x0) if x1 > x0 else 0.0)
    return points[-1][1] if points else 0.0


@register.inclusion_tag("charts/bars.html")
def bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Bars of US$ one below the other on one scale: rows {"name", "parts", "total"} with parts as of `stacked`."""
    most = max([sum(part["value"] for part in row["parts"]) for row in rows] + [0])
    drawn = []
    for row in rows:
        parts, start = [], 0.0
        for part in row["parts"]:
            width = WIDTH * part["value"] / most if most else 0.0
            parts.append({**part, "x": _units(start), "width": _units(width)})
            start += width
        drawn.append({**row, "parts": parts})
    legend = dict.fromkeys((part["label"], part["tone"]) for row in rows for part in row["parts"])
    return {"rows": drawn, "legend": list(legend)}


@register.inclusion_tag("charts/error_groups.html")
def error_groups(groups: Sequence[Any], size: int) -> dict[str, Any]:
    """Errors found in each `size` reviews, in the order of review, as bars; a last group with fewer is marked.

    Each of `groups` has `first` and `last`, counted from 1, `errors` and `is_whole`.
    """
    top = _round_up(max([group.errors for group in groups] + [1]))
    step = WIDTH / max(1, len(groups))
    bars = [
        {
            "x": _units(number * step + step * 0.06),
            "width": _units(step * 0.88),
            "y": _units(HEIGHT * (1 - group.errors / top)),
            "height": _units(HEIGHT * group.errors / top),
            "group": group,
        }
        for number, group in enumerate(groups)
    ]
    return {
        "bars": bars,
        "size": size,
        "top": top,
        "middle": top // 2 if top % 2 == 0 else top / 2,
        "reviews": groups[-1].last if groups else 0,
        "errors": sum(group.errors for group in groups),
        "has_part": any(not group.is_whole for group in groups),
    }


@register.inclusion_tag("charts/reliability.html")
def reliability_plot(
    bins: Sequence[Any], steps: Sequence[Any], x_label: str, has_diagonal: bool
) -> dict[str, Any]:
    """How often a score in [0, 1] is right: a dot a bin at its mean score and share wrong, with its interval.

    Each of `bins` has `low`, `high`, `mean`, `reviewed`, `errors`, `share`, `share_low` and `share_high`; each of
    `steps`, the line of the calibration, `low`, `high` and `error_prob`. The diagonal means something for
    probabilities alone.
    """

    def across(score: float) -> str:
        return _units(WIDTH * min(1.0, max(0.0, score)))

    dots = [
        {
            "x": across(each.mean),
            "y": _units(HEIGHT * (1 - each.share)),
            "low_y": _units(HEIGHT * (1 - each.share_low)),
            "high_y": _units(HEIGHT * (1 - each.share_high)),
            "bin": each,
        }
        for each in bins
    ]
    ends = [(score, step.error_prob) for step in steps for score in (step.low, step.high)]
    return {
        "dots": dots,
        "line": " ".join(f"{across(score)},{_units(HEIGHT * (1 - prob))}" for score, prob in ends),
        "x_label": x_label,
        "has_diagonal": has_diagonal,
        "reviewed": sum(each.reviewed for each in bins),
    }


_MOST_ROWS = 200


@register.inclusion_tag("charts/numbers.html")
def chart_numbers(table: Any, name: str, csv_url: str) -> dict[str, Any]:
    """A chart's numbers: its `columns` and `rows`, folded away, with a link to the same as CSV.

    `name` tells it from the others of the page, so that it stays open when the chart is replaced. Of very many rows the
    page has the first; the file has all.
    """
    is_number = [
        all(row[at] is None or isinstance(row[at], int | float) for row in table.rows)
        for at in range(len(table.columns))
    ]
    return {
        "headings": [
            (column.replace("_", " ").capitalize(), number)
            for column, number in zip(table.columns, is_number, strict=True)
        ],
        "rows": [
            [(as_number(value), number) for value, number in zip(row, is_number, strict=True)]
            for row in table.rows[:_MOST_ROWS]
        ],
        "shown": min(_MOST_ROWS, len(table.rows)),
        "total": len(table.rows),
        "name": name,
        "csv_url": csv_url,
    }


@register.filter
def as_number(value: Any) -> Any:
    """Numbers as pages write them, texts as they are, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    return intcomma(int(value)) if isinstance(value, int | float) else value


# --- Flows between stages --------------------------------------------------------------------------------------------

_SLOT = 34.0  # of a stage with its two lines of words, in pixels
_GAP = 8.0
_BANDS = 150.0  # that bands have beside the words of the fullest column
_THINNEST = 2.0


@dataclass(slots=True)
class _Node:
    """A stage, or, without one, where a flow passes a column that it has no stage in."""

    key: str
    column: int
    order: tuple[int, int]
    count: int
    stage: Any = None
    top: float = 0.0
    height: float = 0.0
    left_used: float = 0.0
    right_used: float = 0.0

    def slot(self, scale: float) -> float:
        return max(_SLOT if self.stage is not None else _THINNEST, scale * self.count)


@dataclass(slots=True)
class _Band:
    source: _Node
    target: _Node
    count: int
    tone: str
    title: str
    url: str = ""
    path: str = field(default="")


@register.inclusion_tag("charts/sankey.html")
def sankey(
    stages: Sequence[Any], flows: Sequence[Any], urls: Mapping[str, str], label: str = ""
) -> dict[str, Any]:
    """Flows between stages as bands whose widths are their counts; on a narrow page, bars below each other.

    Each of `stages` has `key`, `title`, `column`, `tone` and `count`, each of `flows` `source` and `target`, keys of
    stages in a lower and a higher column, and `count`. `urls` links stages, by key, and the bands that lead to them or,
    where those have no link, come from them.
    Stages of a column lie in the order given.
    """
    columns = sorted({stage.column for stage in stages})
    nodes, bands = _laid_out(stages, flows, columns, urls)
    scale, height = _scale(nodes, len(columns))
    _place(nodes, bands, scale, height, len(columns))
    _draw(bands, scale, len(columns))
    most = max((stage.count for stage in stages), default=0)
    return {
        "label": label,
        "height": f"{height:.0f}",
        "bands": [band for band in bands if band.path],
        "nodes": [
            {
                "stage": node.stage,
                "x": f"{100 * node.column / len(columns):.3f}%",
                "y": _units(node.top),
                "height": _units(max(_THINNEST, node.height)),
                "text_y": _units(node.top + 13),
                "title_y": _units(node.top + 28),
                "url": urls.get(node.key, ""),
            }
            for node in nodes
            if node.stage is not None
        ],
        "groups": [
            [
                {
                    "stage": stage,
                    "url": urls.get(stage.key, ""),
                    "width": _units(WIDTH * stage.count / most if most else 0.0),
                }
                for stage in stages
                if stage.column == column
            ]
            for column in columns
        ],
    }


def _laid_out(
    stages: Sequence[Any], flows: Sequence[Any], columns: Sequence[int], urls: Mapping[str, str]
) -> tuple[list[_Node], list[_Band]]:
    """A node a stage and a node where a flow passes a column, and the bands between neighboring columns."""
    at = {column: number for number, column in enumerate(columns)}
    place = {stage.key: number for number, stage in enumerate(stages)}
    by_key = {
        stage.key: _Node(stage.key, at[stage.column], (1, place[stage.key]), stage.count, stage)
        for stage in stages
    }
    nodes = list(by_key.values())
    bands = []
    for flow in sorted(flows, key=lambda each: (place[each.source], place[each.target])):
        source, target = by_key[flow.source], by_key[flow.target]
        title = f"{source.stage.title} → {target.stage.title}: {intcomma(flow.count)}"
        # What begins above everything else stays above.
        is_first = source.order[1] == min(
            node.order[1] for node in nodes if node.column == source.column and node.stage is not None
        )
        passed = [
            _Node(flow.source, column, (0 if is_first else 2, place[flow.source]), flow.count)
            for column in range(source.column + 1, target.column)
        ]
        nodes += passed
        for before, after in itertools.pairwise([source, *passed, target]):
            url = urls.get(flow.target) or urls.get(flow.source, "")
            bands.append(_Band(before, after, flow.count, target.stage.tone, title, url))
    return nodes, bands


def _in_columns(nodes: Sequence[_Node], columns: int) -> list[list[_Node]]:
    found: list[list[_Node]] = [[] for _ in range(columns)]
    for node in sorted(nodes, key=lambda node: node.order):
        found[node.column].append(node)
    return found


def _scale(nodes: Sequence[_Node], columns: int) -> tuple[float, float]:
    """(pixels an item, height in pixels) with which every column fits, each stage with its words."""
    stacked = _in_columns(nodes, columns)

    def needed(scale: float) -> float:
        return max(
            (sum(node.slot(scale) for node in column) + _GAP * (len(column) - 1) for column in stacked),
            default=0.0,
        )

    height = needed(0.0) + _BANDS
    low, high = 0.0, height / max([node.count for node in nodes] + [1])
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if needed(middle) <= height else (low, middle)
    return low, needed(low)


def _place(nodes: Sequence[_Node], bands: Sequence[_Band], scale: float, height: float, columns: int) -> None:
    """Each node beside the middle of what leads to it, as far as those above and below leave room."""
    leading: dict[int, list[_Band]] = defaultdict(list)
    for band in bands:
        leading[id(band.target)].append(band)
    for column in _in_columns(nodes, columns):
        top = 0.0
        for node in column:
            node.height = scale * node.count
            sources = leading[id(node)]
            items = sum(band.count for band in sources)
            middle = sum(band.count * (band.source.top + band.source.height / 2) for band in sources)
            node.top = max(top, middle / items - node.height / 2) if items else top
            top = node.top + node.slot(scale) + _GAP
        bottom = height
        for node in reversed(column):
            node.top = min(node.top, bottom - node.slot(scale))
            bottom = node.top - _GAP


def _draw(bands: Sequence[_Band], scale: float, columns: int) -> None:
    """The path of each band. On both sides bands lie in the order of what they come from or lead to."""
    leaving, arriving = defaultdict(list), defaultdict(list)
    for band in bands:
        leaving[id(band.source)].append(band)
        arriving[id(band.target)].append(band)
    starts, ends = {}, {}
    for group in leaving.values():
        for band in sorted(group, key=lambda band: band.target.top):
            starts[id(band)] = band.source.top + band.source.right_used
            band.source.right_used += scale * band.count
    for group in arriving.values():
        for band in sorted(group, key=lambda band: band.source.top):
            ends[id(band)] = band.target.top + band.target.left_used
            band.target.left_used += scale * band.count
    for band in bands:
        x0, x1 = WIDTH * band.source.column / columns, WIDTH * band.target.column / columns
        y0, y1, thick = starts[id(band)], ends[id(band)], max(1.0, scale * band.count)
        middle = (x0 + x1) / 2
        xs = [_units(x) for x in (x0, middle, x1)]
        ys = [_units(y) for y in (y0, y1, y1 + thick, y0 + thick)]
        band.path = (
            f"M{xs[0]} {ys[0]}C{xs[1]} {ys[0]} {xs[1]} {ys[1]} {xs[2]} {ys[1]}"
            f"V{ys[2]}C{xs[1]} {ys[2]} {xs[1]} {ys[3]} {xs[0]} {ys[3]}Z"
        )


# --- Counts in bins --------------------------------------------------------------------------------------------------


@register.inclusion_tag("charts/doubts.html")
def doubt_bins(
    bins: Sequence[Any],
    cut: float | None,
    cut_name: str,
    label: str,
    urls: Sequence[str] = (),
) -> dict[str, Any]:
    """Items in equal bins over [0, 1]: in front those `reviewed`, and in front of these the `errors` found there.

    `urls` link each bin. The axis is a square root, so that a bin of ten is seen beside one of ten thousand.
    """
    top = _round_up(max([each.items for each in bins] + [1]))
    step = WIDTH / max(1, len(bins))

    def tall(count: int) -> float:
        return HEIGHT * math.sqrt(count / top)

    drawn = [
        {
            "bin": each,
            "url": urls[number] if urls and each.items else "",
            "x": _units(number * step + step * 0.06),
            "width": _units(step * 0.88),
            "low": f"{each.low:.2f}",
            "high": f"{each.high:.2f}",
            "bars": [
                (name, _units(HEIGHT - tall(count)), _units(tall(count)))
                for name, count in (("all", each.items), ("reviewed", each.reviewed), ("errors", each.errors))
                if count
            ],
        }
        for number, each in enumerate(bins)
    ]
    totals = [sum(getattr(each, name) for each in bins) for name in ("items", "reviewed", "errors")]
    return {
        "bars": drawn,
        "linked": any(bar["url"] for bar in drawn),
        "label": label,
        "items": totals[0],
        "reviewed": totals[1],
        "errors": totals[2],
        "cut": None if cut is None else f"{cut:.3f}",
        "cut_name": cut_name,
        "cut_x": None if cut is None else _units(WIDTH * min(1.0, max(0.0, cut))),
        "top": top,
        "quarter": as_number(top / 4),
    }


@register.inclusion_tag("charts/columns.html")
def columns_over_time(spans: Sequence[Any], form: str, label: str, every: int = 1) -> dict[str, Any]:
    """A column for each span of time {`start`, `reviews`}; `form` writes its start, and every so many are written."""
    top = _round_up(max([span.reviews for span in spans] + [1]))
    step = WIDTH / max(1, len(spans))
    return {
        "bars": [
            {
                "x": _units(number * step + step * 0.1),
                "width": _units(step * 0.8),
                "y": _units(HEIGHT * (1 - span.reviews / top)),
                "height": _units(HEIGHT * span.reviews / top),
                "name": span.start.strftime(form),
                "count": span.reviews,
            }
            for number, span in enumerate(spans)
        ],
        "ticks": [span.start.strftime(form) for span in spans][::every],
        "label": label,
        "total": sum(span.reviews for span in spans),
        "top": top,
        "middle": as_number(top / 2),
    }


@register.inclusion_tag("charts/found.html")
def found_curve(
    points: Sequence[tuple[float, float]],
    budget: float | None = None,
    at_budget: float | None = None,
    reviewed: float | None = None,
    found: float | None = None,
    error_share: float | None = None,
) -> dict[str, Any]:
    """The share of errors that the first items hold, beside a random and the ideal order; all shares in [0, 1].

    `budget` is marked where it lies, and a dot shows how much was `found` of the errors after so much `reviewed`.
    """

    def across(share: float) -> str:
        return _units(WIDTH * min(1.0, max(0.0, share)))

    def down(share: float) -> str:
        return _units(HEIGHT * (1 - min(1.0, max(0.0, share))))

    line = [f"{across(x)},{down(y)}" for x, y in points]
    within = [f"{across(x)},{down(y)}" for x, y in points if budget is not None and x <= budget]
    area = ""
    if within and budget is not None and at_budget is not None:
        edge = across(budget)
        area = " ".join(
            [*within, f"{edge},{down(at_budget)}", f"{edge},{_units(HEIGHT)}", f"0.00,{_units(HEIGHT)}"]
        )
    return {
        "points": " ".join(line),
        "area": area,
        "ideal": ""
        if error_share is None
        else f"0.00,{_units(HEIGHT)} {across(error_share)},0.00 {_units(WIDTH)},0.00",
        "budget": budget,
        "budget_x": None if budget is None else across(budget),
        "at_budget": at_budget,
        "dot": None if reviewed is None or found is None else (across(reviewed), down(found)),
        "reviewed": reviewed,
        "found": found,
    }


# --- A matrix of counts ----------------------------------------------------------------------------------------------

_HEATS = 6


def _is_single(cell: Any) -> bool:
    """Whether a cell is about one label and one label."""
    return None not in (getattr(cell, "machine_id", 0), getattr(cell, "human_id", 0))


@register.inclusion_tag("charts/matrix.html")
def heat_matrix(
    columns: Sequence[str],
    rows: Sequence[Any],
    urls: Mapping[tuple[str, str], str],
    row_title: str,
    column_title: str,
) -> dict[str, Any]:
    """Counts as a table whose cells are the warmer the more they hold; those on the diagonal in a color of their own.

    Each of `rows` has a `name`, `total` and `cells` with `machine`, `human` and `count`; where these may stand for
    several labels or for none, their ids say so by None: such cells are as warm as can be, and no measure for the
    others. `urls` links cells by the two names.
    """
    single = [cell for row in rows for cell in row.cells if _is_single(cell)]
    apart = max([cell.count for cell in single if cell.machine != cell.human] + [1])
    same = max([cell.count for cell in single if cell.machine == cell.human] + [1])

    def heat(cell: Any) -> int:
        most = same if cell.machine == cell.human else apart
        return min(_HEATS, math.ceil(_HEATS * math.sqrt(cell.count / most)))

    return {
        "columns": columns,
        "rows": [
            {
                "row": row,
                "cells": [
                    {
                        "cell": cell,
                        "heat": heat(cell),
                        "same": cell.machine == cell.human,
                        "url": urls.get((cell.machine, cell.human), "") if cell.count else "",
                    }
                    for cell in row.cells
                ],
            }
            for row in rows
        ],
        "row_title": row_title,
        "column_title": column_title,
    }
