"""A round's answers and draw as columns: several parts of a dashboard count them, and read them once."""

from typing import Any

import numpy as np
from django.db.models import Case, Exists, OuterRef, QuerySet, Value, When
from django.db.models.functions import Coalesce

from annotate.models import Annotation, CalibrationLabel
from criticize.models import Criticism
from review.answers import AGREED
from review.dashboard_scope import Scope
from review.models import DrawArrays, ReviewRound, ReviewTask

NOTHING = 0  # no label has this id
# How far an item had come when a person got it, in the order of their numbers in a row.
ORIGINS = ("criticized", "annotated", "failed", "calibration", "unlabeled")
_COLUMNS = [
    ("item", np.int64),
    ("machine", np.int64),
    ("person", np.int64),
    ("is_agreed", np.bool_),
    ("origin", np.int8),
    ("is_adjudicated", np.bool_),
]
_ROWS_AT_ONCE = 10_000


def answers_of(scope: Scope, round: ReviewRound) -> np.ndarray:
    """Of the round's items with an answer that counts, a row each: the item's id, the ids of the machine's label and
    the person's (`NOTHING` for none), whether their answers are the same, the origin, and whether it was adjudicated.
    """
    if "answers" not in scope.read:
        rows = (
            with_origin(answered_tasks(round), scope)
            .annotate(
                # Numbers, not booleans: some databases have none, and each would be converted by itself.
                is_agreed=Case(When(AGREED, then=Value(1)), default=Value(0)),
                is_adjudicated=Case(
                    When(purpose=ReviewTask.Purpose.ADJUDICATION, then=Value(1)), default=Value(0)
                ),
            )
            .values_list(
                "item_id",
                Coalesce("annotation__label_id", Value(NOTHING)),
                Coalesce("correction__label_id", Value(NOTHING)),
                "is_agreed",
                "origin",
                "is_adjudicated",
            )
        )
        scope.read["answers"] = np.fromiter(rows.iterator(_ROWS_AT_ONCE), dtype=_COLUMNS)
    answers: np.ndarray = scope.read["answers"]
    return answers


def answered_tasks(round: ReviewRound) -> "QuerySet[ReviewTask]":
    """The round's items with an answer that counts, one task each, in no order."""
    return round.counted_tasks.filter(state=ReviewTask.State.ANSWERED).order_by()


def with_origin(tasks: "QuerySet[ReviewTask]", scope: Scope) -> "QuerySet[Any]":
    """The tasks with `origin`: a number of `ORIGINS`, as the rows are now.

    A task picked by hand may be of an item that the annotator was never asked about.
    """
    failed = Annotation.objects.filter(pk=OuterRef("annotation")).exclude(failure="")
    criticisms = Criticism.objects.filter(
        run=scope.criticism, annotation=OuterRef("annotation"), priority__isnull=False
    )
    calibrated = CalibrationLabel.objects.filter(item=OuterRef("item"))
    origin = {name: Value(number) for number, name in enumerate(ORIGINS)}
    return tasks.annotate(
        # In this order, and without a join, a database looks up as little as possible: nearly every task has its
        # criticism.
        origin=Case(
            When(criticism__isnull=False, then=origin["criticized"]),
            When(Exists(calibrated), annotation=None, then=origin["calibration"]),
            When(annotation=None, then=origin["unlabeled"]),
            When(Exists(failed), then=origin["failed"]),
            When(Exists(criticisms), then=origin["criticized"]),
            default=origin["annotated"],
        )
    )


def draw_of(scope: Scope, round: ReviewRound) -> DrawArrays:
    """Every item of the round's draw that counts, in order of item id."""
    if "draw" not in scope.read:
        parts = [block.arrays() for block in round.current_blocks.order_by("number")]
        nothing = np.array([])
        scope.read["draw"] = (
            DrawArrays(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
            if parts
            else DrawArrays(nothing.astype(np.int64), nothing, nothing, nothing, nothing.astype(bool))
        )
    draw: DrawArrays = scope.read["draw"]
    return draw
