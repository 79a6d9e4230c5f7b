"""Starting and closing rounds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import transaction

from annotate.errors import Refusal
from annotate.models import Project, User
from annotate.services.calibration import calibration_draw
from criticize.models import CriticismRun
from review.drawing import Population, Selection, population, select, store
from review.models import ReviewRound, ReviewTask
from review.sampling import choose_budget

HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class RoundPreview:
    """What a budget would select, before anything is committed."""

    items: int
    budget: int
    selected: int
    unanswered: int
    parameters: dict[str, Any]
    expected_errors: float
    expected_found: float
    counts: list[int]
    selected_counts: list[int]


def budget_of(items: int, *, count: int | None = None, share: float | None = None) -> int:
    """The budget in reviews, from a count or a share of the items. Raises Refusal."""
    try:
        return choose_budget(items, count=count, share=share)
    except ValueError as error:
        raise Refusal(str(error), field="budget") from error


def round_preview(
    *, run: CriticismRun, count: int | None = None, share: float | None = None, rule: str = "threshold"
) -> RoundPreview:
    """What drawing from the run's criticisms would select, with the histogram of ε̂ and the cut."""
    items, selection = _draw(run, count=count, share=share, rule=rule)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    known = ~np.isnan(items.priorities)
    chosen = selection.selected & known
    return RoundPreview(
        items=len(items),
        budget=budget_of(len(items), count=count, share=share),
        selected=int(selection.selected.sum()),
        unanswered=int((~known).sum()),
        parameters=selection.parameters,
        expected_errors=float(items.suspicion.sum()),
        expected_found=float(items.suspicion[selection.selected].sum()),
        counts=np.histogram(items.error_probs[known], edges)[0].tolist(),
        selected_counts=np.histogram(items.error_probs[chosen], edges)[0].tolist(),
    )


@transaction.atomic
def round_create(
    *,
    run: CriticismRun,
    user: User,
    count: int | None = None,
    share: float | None = None,
    rule: str = "threshold",
    seed: int | None = None,
) -> ReviewRound:
    """Draw a round within the budget and queue its items, most suspicious first."""
    project = run.annotation_run.project
    seed = project.seed if seed is None else seed
    items, selection = _draw(run, count=count, share=share, rule=rule, seed=seed)
    round = ReviewRound.objects.create(
        project=project,
        criticism_run=run,
        rule=rule,
        budget=budget_of(len(items), count=count, share=share),
        parameters=selection.parameters,
        seed=seed,
        population=len(items),
        created_by=user,
    )
    store(round, items, selection)
    return round


def _draw(
    run: CriticismRun, *, count: int | None, share: float | None, rule: str, seed: int | None = None
) -> tuple[Population, Selection]:
    if not run.job.is_finished:
        raise Refusal(
            "The criticism run is not finished yet. Wait for it, or cancel it to draw from what is there."
        )
    items = population(run)
    budget = budget_of(len(items), count=count, share=share)
    try:
        seed = run.annotation_run.project.seed if seed is None else seed
        return items, select(items, rule=rule, budget=budget, seed=seed)
    except ValueError as error:
        raise Refusal(str(error), field="budget") from error


@transaction.atomic
def calibration_round_create(*, project: Project, user: User, count: int) -> ReviewRound:
    """Queue random items to be labelled blind; their labels become calibration labels."""
    if project.labels.count() < 2:
        raise Refusal("The project needs at least two labels first.")
    number = project.review_rounds.filter(kind=ReviewRound.Kind.CALIBRATION).count()
    chosen = calibration_draw(project=project, count=count, round_seed=number)
    round = ReviewRound.objects.create(
        project=project,
        kind=ReviewRound.Kind.CALIBRATION,
        budget=count,
        seed=project.seed,
        population=len(chosen),
        created_by=user,
    )
    ReviewTask.objects.bulk_create(
        [ReviewTask(round=round, item_id=item_id, rank=rank) for rank, item_id in enumerate(chosen)],
        batch_size=500,
    )
    return round


def round_close(*, round: ReviewRound) -> None:
    """No more items are handed out. What is not answered counts as not reviewed."""
    ReviewRound.objects.filter(pk=round.pk).update(state=ReviewRound.State.CLOSED)


def round_reopen(*, round: ReviewRound) -> None:
    ReviewRound.objects.filter(pk=round.pk).update(state=ReviewRound.State.OPEN)
