"""What orders the items of a round: the criticism as it is, or what is learned from reviewed and calibration items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from django.db.models import QuerySet

from annotate.errors import Refusal
from annotate.label_sets import need_label_set
from annotate.models import Annotation, AnnotationRun, ModelRun, Project
from annotate.spans import gold_texts
from criticize.models import CriticismRun
from jobs.models import Job
from review.answers import answer_key
from review.drawing import Population, population
from review.models import ReviewRound, ReviewTask

TRAINING = "training"
TRAINING_SHARE = 0.2

Answer = tuple[int | None, str]  # as `review.answers.answer_key` gives it


@dataclass(frozen=True)
class Judged:
    """A run's annotations that succeeded, as arrays of length N in order of item id, and which of them are wrong.

    `confidences` and `doubts` are NaN where there is none; `doubts` lie in [0, 1]: ε̂, or places in the order where
    the criticizer only ranks. `is_known`: whether a person said what is right; `is_error` counts only there.
    """

    item_ids: np.ndarray
    labels: np.ndarray  # by position; all 0 where answers are written
    confidences: np.ndarray
    doubts: np.ndarray
    is_known: np.ndarray
    is_error: np.ndarray


@dataclass(frozen=True)
class Known:
    """Annotations of which it is known whether they are wrong, arrays of length n, and where that is known from."""

    labels: np.ndarray
    confidences: np.ndarray
    doubts: np.ndarray
    is_error: np.ndarray
    from_reviews: int
    from_calibration: int

    def record(self) -> dict[str, int]:
        """As a round's parameters keep it."""
        return {
            "known": len(self.is_error),
            "errors": int(self.is_error.sum()),
            "from_reviews": self.from_reviews,
            "from_calibration": self.from_calibration,
        }


def prioritized(
    run: CriticismRun, priority: str, *, training_share: float | None = None
) -> tuple[Population, dict[str, Any]]:
    """What a round with this priority draws from, and what its parameters say of how that came about.

    - `criticism`: the run's criticisms, and no parameters.
    - `combined`, `cdi`: error probabilities learned from annotations of the same annotator that people judged.
      Parameters: `learned`, with how many and from where, and the coefficients or importances.
    - `cdi` with too little known and a `training_share`: every item alike, so that a first part of the budget can be
      drawn at random to learn from. Parameters: `phase` "training" and the share.

    Raises Refusal where there is nothing, or too little, to learn from.
    """
    if priority not in ReviewRound.Priority.values:
        raise Refusal(f"The priority is one of: {', '.join(ReviewRound.Priority.values)}.", field="priority")
    items = population(run)
    if priority == ReviewRound.Priority.CRITICISM:
        return items, {}
    need_label_set(
        run.annotation_run.project,
        "annotators state no confidence in them: let the criticizer alone order the items",
        field="priority",
    )
    judged = _judged(run.annotation_run, run, _as_truth(corrections_of(run.annotation_run.project)))
    if np.all(np.isnan(judged.confidences)):
        raise Refusal(
            "The annotator said of no item how sure it is. Annotate again and ask for its confidence, or let the "
            "criticizer alone order the items.",
            field="priority",
        )
    if priority == ReviewRound.Priority.COMBINED:
        return _combined(run, items, judged)
    try:
        return _by_detector(run, items, judged)
    except Refusal:
        if training_share is None:
            raise
        return _all_alike(items), {"phase": TRAINING, "training_share": training_share}


def is_training(round: ReviewRound) -> bool:
    """Whether the round's draw is the random part of its budget that a detector will learn from."""
    return bool(round.parameters.get("phase") == TRAINING)


def _combined(run: CriticismRun, items: Population, judged: Judged) -> tuple[Population, dict[str, Any]]:
    known = _known(judged, _judged_candidate(run, with_criticism=True), with_criticism=True)
    # scikit-learn takes a second to import: only a process that needs it pays.
    from criticize.combination import Combination

    try:
        fitted = Combination().fit(known.doubts, known.confidences, known.is_error)
    except ValueError as error:
        raise Refusal(
            f"{error} Review some items first, or annotate the calibration items with the same annotator and let "
            "the same criticizer read that.",
            field="priority",
        ) from error
    usable = ~np.isnan(judged.doubts)
    probabilities = np.full(len(usable), np.nan)
    probabilities[usable] = fitted.combine(judged.doubts[usable], judged.confidences[usable])
    return (
        _with_probabilities(items, judged.item_ids, probabilities),
        {"learned": known.record() | {"coefficients": fitted.coefficients}},
    )


def _by_detector(run: CriticismRun, items: Population, judged: Judged) -> tuple[Population, dict[str, Any]]:
    project = run.annotation_run.project
    known = _known(judged, _judged_candidate(run, with_criticism=False), with_criticism=False)
    # scikit-learn takes a second to import: only a process that needs it pays.
    from criticize.cdi import CdiDetector

    try:
        fitted = CdiDetector(project.seed).fit(
            known.confidences, known.labels, known.is_error, n_labels=max(1, project.labels.count())
        )
    except ValueError as error:
        raise Refusal(
            f"{error} Review some items first, annotate the calibration items with the same annotator, or spend a "
            "part of the budget on training.",
            field="priority",
        ) from error
    probabilities = fitted.error_probabilities(judged.confidences, judged.labels)
    return (
        _with_probabilities(items, judged.item_ids, probabilities),
        {"learned": known.record() | {"importances": fitted.importances, "seed": project.seed}},
    )


def _all_alike(items: Population) -> Population:
    return replace(items, priorities=np.ones(len(items)), ranks_only=False)


def _with_probabilities(items: Population, item_ids: np.ndarray, probabilities: np.ndarray) -> Population:
    """The population with these error probabilities; NaN where there is none, as for failed annotations."""
    error_probs = np.full(len(items), np.nan)
    error_probs[np.searchsorted(items.item_ids, item_ids)] = probabilities
    return replace(items, error_probs=error_probs, priorities=error_probs, ranks_only=False)


# --- What is known ---------------------------------------------------------------------------------------------------


def corrections_of(project: Project) -> dict[int, Answer]:
    """By item id: what people answered in the project's rounds but calibration, the last where there are several."""
    answered = ReviewTask.counted.filter(
        round__project=project,
        round__kind__in=[ReviewRound.Kind.REVIEW, ReviewRound.Kind.AUDIT, ReviewRound.Kind.ROUTED],
        state=ReviewTask.State.ANSWERED,
    ).order_by("correction_id")
    fields = ("item_id", "correction__label_id", "correction__answer", "correction__start")
    return {item_id: answer_key(*answer) for item_id, *answer in answered.values_list(*fields)}


def known_of(run: CriticismRun) -> Known:
    """The annotations with a criticism that people judged: reviewed ones, and calibration items where there is a
    candidate of the same annotator and criticizer. `doubts` of runs that only rank are places in the order.
    """
    judged = _judged(run.annotation_run, run, _as_truth(corrections_of(run.annotation_run.project)))
    return _known(judged, _judged_candidate(run, with_criticism=True), with_criticism=True)


def candidates_like(run: AnnotationRun) -> list[AnnotationRun]:
    """Finished runs over the calibration items by the run's annotator, newest first.

    That is the same model with the same strategy, asked for its confidence and shown examples or not in both. Votes
    and discussions have none: what they rest on are runs of their own.
    """
    if run.kind == ModelRun.Kind.VOTED or run.parameters.get("sources"):
        return []
    runs = run.project.annotation_runs.filter(
        **_who(run), scope=AnnotationRun.Scope.CALIBRATION, job__state__in=_FINISHED
    ).select_related("job", "project")
    asked = _how_asked(run)
    return [candidate for candidate in runs.order_by("-pk") if _how_asked(candidate) == asked]


def criticisms_like(run: CriticismRun) -> QuerySet[CriticismRun]:
    """Finished runs of the run's criticizer over the calibration items as the run's annotator labelled them."""
    return (
        CriticismRun.objects.filter(
            **_who(run),
            annotation_run__in=candidates_like(run.annotation_run),
            job__state__in=_FINISHED,
        )
        .select_related("annotation_run__project", "job")
        .order_by("-pk")
    )


def _how_asked(run: AnnotationRun) -> tuple[bool, int, bool]:
    asked = run.parameters
    return bool(asked.get("confidence")), int(asked.get("examples") or 0), bool(asked.get("sources"))


_FINISHED = [state for state in Job.State.values if state not in Job.UNFINISHED]


def _who(run: ModelRun) -> dict[str, Any]:
    return {
        "kind": run.kind,
        "provider": run.provider,
        "model": run.model,
        "strategy": run.strategy,
    }


def _judged_candidate(run: CriticismRun, *, with_criticism: bool) -> Judged | None:
    """The calibration items as the same annotator (and criticizer) judged them, where such a run exists."""
    project = run.annotation_run.project
    labels = project.calibration_labels.values_list("item_id", "label_id", "answers")
    truth = {
        item_id: [(label_id, "")]
        if answers is None
        else [answer_key(None, text, 0) for text in gold_texts(answers)]
        for item_id, label_id, answers in labels
    }
    if with_criticism:
        criticism = criticisms_like(run).first()
        return None if criticism is None else _judged(criticism.annotation_run, criticism, truth)
    candidates = candidates_like(run.annotation_run)
    return _judged(candidates[0], None, truth) if candidates else None


def _as_truth(answers: Mapping[int, Answer]) -> dict[int, list[Answer]]:
    return {item_id: [answer] for item_id, answer in answers.items()}


def _judged(
    run: AnnotationRun, criticism_run: CriticismRun | None, truth: Mapping[int, Sequence[Answer]]
) -> Judged:
    """`truth` by item id: the answers that are right."""
    position = {pk: index for index, pk in enumerate(run.project.labels.values_list("pk", flat=True))}
    rows = list(
        Annotation.objects.filter(run=run, failure="")
        .order_by("item_id")
        .values_list("item_id", "pk", "label_id", "answer", "confidence", "start")
    )
    right = [truth.get(row[0]) for row in rows]
    return Judged(
        item_ids=np.array([row[0] for row in rows], dtype=np.int64),
        labels=np.array([position.get(row[2], 0) for row in rows], dtype=np.int64),
        confidences=np.array([np.nan if row[4] is None else row[4] for row in rows], dtype=np.float64),
        doubts=_doubts(criticism_run, [row[1] for row in rows]),
        is_known=np.array([answer is not None for answer in right], dtype=np.bool_),
        is_error=np.array(
            [
                answers is not None and answer_key(row[2], row[3], row[5]) not in answers
                for answers, row in zip(right, rows, strict=True)
            ],
            dtype=np.bool_,
        ),
    )


def _doubts(run: CriticismRun | None, annotation_ids: Sequence[int]) -> np.ndarray:
    doubts = np.full(len(annotation_ids), np.nan)
    if run is None:
        return doubts
    given = dict(run.criticisms.filter(failure="").values_list("annotation_id", "priority"))
    doubts = np.array([given.get(pk, np.nan) for pk in annotation_ids], dtype=np.float64)
    if run.ranks_only:
        there = ~np.isnan(doubts)
        # scikit-learn takes a second to import: only a process that needs it pays.
        from criticize.combination import rank_shares

        doubts[there] = rank_shares(doubts[there])
    return doubts


def _known(judged: Judged, candidate: Judged | None, *, with_criticism: bool) -> Known:
    """Annotations of both that people judged; `with_criticism`, those alone that the criticizer answered."""
    parts = [judged] if candidate is None else [judged, candidate]
    chosen = [part.is_known & ~np.isnan(part.doubts) if with_criticism else part.is_known for part in parts]

    def rows(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name)[mask] for part, mask in zip(parts, chosen, strict=True)])

    return Known(
        labels=rows("labels"),
        confidences=rows("confidences"),
        doubts=rows("doubts"),
        is_error=rows("is_error"),
        from_reviews=int(chosen[0].sum()),
        from_calibration=int(chosen[1].sum()) if candidate is not None else 0,
    )
