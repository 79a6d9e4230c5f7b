"""Charts as SVG of our own: shapes stretched to their box, words beside them, the numbers in a table below.

Shapes have only attributes and classes, since the content security policy allows no inline style. All plots are drawn
in a box of 1000 × 100 units that the page stretches; strokes keep their width.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import template

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
def stacked(parts: Sequence[Mapping[str, Any]], label: str = "") -> dict[str, Any]:
    """One bar of parts {"label", "value", "tone"}; tones are those of components.css."""
    total = sum(part["value"] for part in parts)
    drawn, start = [], 0.0
    for part in parts:
        width = WIDTH * part["value"] / total if total else 0.0
        drawn.append({**part, "x": _units(start), "width": _units(width)})
        start += width
    return {"parts": drawn, "label": label, "total": total}


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
