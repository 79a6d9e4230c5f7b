"""Figures of agreement as whiskers on one axis, also below 0, and those without an interval as a point."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from django import template

from annotate.models import Item, Project
from review.acceptance import ArmFigures
from review.agreeing import Apart
from review.agreement import Figure, PairAgreement
from review.agreement_report import AgreementReport, Matrix, matrix

register = template.Library()

_WIDTH = 1000.0
_MOST_ROWS = 24  # more are in the table
_STEP = 0.2


@register.inclusion_tag("review/agreement_whiskers.html")
def overall_whiskers(report: AgreementReport) -> dict[str, Any]:
    """Percent agreement, κ and α, one above the other; of spans the token F1 in their place."""
    overall = report.shared.overall
    if report.are_spans:
        return _drawn(
            [("Same answer", overall.percent, "human", True), ("Token F1", overall.f1, "accent", True)]
        )
    rows = [
        ("Same answer", overall.percent, "human", True),
        ("Fleiss' κ", overall.kappa, "accent", False),
        ("Krippendorff's α", overall.alpha, "accent", False),
    ]
    return _drawn([row for row in rows if row[1].value is not None or not report.shared.is_written])


@register.inclusion_tag("review/agreement_whiskers.html")
def label_whiskers(report: AgreementReport) -> dict[str, Any]:
    """α of each label against all others, those that people agree on least first."""
    defined = [each for each in report.shared.by_label if each.alpha.value is not None]
    ordered = sorted(defined, key=lambda each: each.alpha.value or 0.0)
    return _drawn([(report.label_name(each.label), each.alpha, "human", False) for each in ordered])


@register.inclusion_tag("review/agreement_whiskers.html")
def pair_whiskers(report: AgreementReport) -> dict[str, Any]:
    """Cohen's κ of every two reviewers; of spans their token F1, of composed answers how often they are equal."""
    return _drawn([(report.pair_name(pair), *_best(pair, report)) for pair in report.shared.pairs])


@register.inclusion_tag("review/agreement_whiskers.html")
def machine_whiskers(report: AgreementReport) -> dict[str, Any]:
    """How often each reviewer gave the machine's label; of spans the token F1."""
    return _drawn(
        [
            (
                each.reviewer.name if each.reviewer else "All reviewers",
                each.agreement.f1 if report.are_spans else each.agreement.percent,
                "machine",
                True,
            )
            for each in report.machine
        ]
    )


@register.inclusion_tag("review/agreement_whiskers.html")
def arm_whiskers(rows: Sequence[tuple[str, ArmFigures]]) -> dict[str, Any]:
    """How often a wrong machine label was given again, by what people saw."""
    return _drawn(
        [
            (name, Figure(arm.accepted.value, arm.accepted.low, arm.accepted.high), "human", True)
            for name, arm in rows
        ]
    )


@register.simple_tag
def matrix_of(counts: Any, report: AgreementReport) -> Matrix:
    """A confusion matrix of the report's labels, cut to what can be read."""
    return matrix(counts, report.shared.labels)


def _best(pair: PairAgreement, report: AgreementReport) -> tuple[Figure, str, bool]:
    if report.are_spans:
        return pair.f1, "human", True
    return (pair.percent, "human", True) if report.shared.is_written else (pair.kappa, "human", False)


def _drawn(rows: Sequence[tuple[str, Figure, str, bool]]) -> dict[str, Any]:
    """Rows (name, figure, tone, whether it is a percentage); those without a value are said, not drawn."""
    shown = rows[:_MOST_ROWS]
    lowest = min(
        (low for _, figure, _, _ in shown for low in (figure.low, figure.value) if low is not None), default=0
    )
    start = max(-1.0, min(0.0, math.floor(lowest / _STEP) * _STEP))
    ticks = [start + _STEP * number for number in range(round((1.0 - start) / _STEP) + 1)]
    only_percents = all(is_percent for *_, is_percent in shown)

    def x(value: float) -> str:
        return f"{_WIDTH * (value - start) / (1.0 - start):.2f}"

    return {
        "rows": [
            {
                "name": name,
                "tone": tone,
                "value": None if figure.value is None else x(figure.value),
                "low": None if figure.low is None else x(figure.low),
                "high": None if figure.high is None else x(figure.high),
                "said": _said(figure.value, is_percent),
                "low_said": _said(figure.low, is_percent),
                "high_said": _said(figure.high, is_percent),
            }
            for name, figure, tone, is_percent in shown
        ],
        "grid": [x(tick) for tick in ticks],
        "ticks": [_tick(tick, only_percents) for tick in ticks],
        "left_out": len(rows) - len(shown),
    }


def _said(value: float | None, is_percent: bool) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f}%" if is_percent else f"{value:.3f}"


def _tick(value: float, is_percent: bool) -> str:
    return f"{100 * value:.0f}%" if is_percent else f"{value:.1f}".replace("-0.0", "0.0")


@register.inclusion_tag("review/spans_apart.html")
def span_pairs_apart(project: Project, items: Mapping[int, Item], apart: Sequence[Apart]) -> dict[str, Any]:
    """Answers that differ most, each in an excerpt of its item's text."""
    return {
        "project": project,
        "rows": [(items[each.item_id], each) for each in apart if each.item_id in items],
    }
