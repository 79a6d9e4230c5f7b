"""Starting and closing rounds."""

from dataclasses import replace
from decimal import Decimal

from django.db import transaction

from annotate.errors import Refusal
from annotate.label_sets import need_label_set
from annotate.models import AnnotationRun, Project, User
from annotate.services.calibration import calibration_draw
from criticize.cdi import MIN_KNOWN
from criticize.models import CriticismRun
from review.drawing import BETA, Turn, enqueue, select, store
from review.models import ReviewRound
from review.previews import Drawn, RoundPreview, preview_of
from review.priorities import TRAINING, prioritized
from review.round_history import record_change, record_created
from review.sampling import MOST_BETA, RULES, choose_budget
from review.services.deadlocks import again_after_deadlock
from review.setup import RoundSetup

MOST_SEED = 2**31 - 1
_USUAL = RoundSetup()


def budget_of(items: int, *, count: int | None = None, share: float | None = None) -> int:
    """The budget in reviews, from a count or a share of the items. Raises Refusal."""
    try:
        return choose_budget(items, count=count, share=share)
    except ValueError as error:
        raise Refusal(str(error), field="budget") from error


def round_preview(
    *,
    run: CriticismRun,
    count: int | None = None,
    share: float | None = None,
    rule: str = "threshold",
    beta: float = BETA,
    seed: int | None = None,
    priority: str = ReviewRound.Priority.CRITICISM,
    training_share: float | None = None,
) -> RoundPreview:
    """What `round_create` with the same arguments would select. Commits nothing. Raises Refusal as it does."""
    drawn = _draw(
        run,
        count=count,
        share=share,
        rule=rule,
        beta=beta,
        seed=seed,
        priority=priority,
        training_share=training_share,
    )
    return preview_of(run.annotation_run.project, drawn)


@again_after_deadlock
@transaction.atomic
def round_create(
    *,
    run: CriticismRun,
    user: User,
    count: int | None = None,
    share: float | None = None,
    rule: str = "threshold",
    beta: float = BETA,
    seed: int | None = None,
    priority: str = ReviewRound.Priority.CRITICISM,
    training_share: float | None = None,
    setup: RoundSetup = _USUAL,
) -> ReviewRound:
    """Draw a round within the budget and queue its items, most suspicious first.

    With the priority `cdi`, too little to learn from and a `training_share`, the round holds that part of the budget,
    drawn at random; raising it to the `planned_budget` of its parameters draws the rest by what was learned.
    """
    project = run.annotation_run.project
    setup = setup.checked(ReviewRound.Kind.REVIEW, is_written=not project.task.is_checkable)
    drawn = _draw(
        run,
        count=count,
        share=share,
        rule=rule,
        beta=beta,
        seed=seed,
        priority=priority,
        training_share=training_share,
    )
    round = ReviewRound.objects.create(
        project=project,
        criticism_run=run,
        priority=priority,
        rule=rule,
        budget=drawn.budget,
        parameters=drawn.selection.parameters,
        seed=drawn.seed,
        population=len(drawn.items),
        created_by=user,
        **setup.fields(),
    )
    record_created(round, user)
    store(round, drawn.items, drawn.selection)
    return round


def _draw(
    run: CriticismRun,
    *,
    count: int | None,
    share: float | None,
    rule: str,
    beta: float,
    seed: int | None,
    priority: str,
    training_share: float | None,
) -> Drawn:
    if not run.job.is_finished:
        raise Refusal(
            "The criticism run is not finished yet. Wait for it, or cancel it to draw from what is there."
        )
    if run.annotation_run.scope != AnnotationRun.Scope.PROJECT:
        raise Refusal(
            "These are criticisms of the calibration items, whose labels people gave already. Draw from a run over "
            "the project's items.",
            field="criticism_run",
        )
    seed = run.annotation_run.project.seed if seed is None else seed
    _check_rule(rule, beta, seed, training_share)
    items, learned = prioritized(run, priority, training_share=training_share)
    budget = planned = budget_of(len(items), count=count, share=share)
    if items.ranks_only and RULES[rule].needs_probabilities:
        raise Refusal(
            f"The rule “{RULES[rule].label.lower()}” needs error probabilities, and this criticizer only ranks "
            f"items. Choose “{RULES['threshold'].label.lower()}”.",
            field="rule",
        )
    is_training = learned.get("phase") == TRAINING
    if is_training:
        budget = _training_budget(planned, learned["training_share"])
        learned |= {"planned_budget": planned}
    # Among items that are all alike, chances in proportion are a simple random sample with π = n/N.
    drawn_by = "normalize" if is_training else rule
    try:
        selection = select(items, rule=drawn_by, budget=budget, seed=seed, beta=beta)
    except ValueError as error:
        raise Refusal(str(error), field="budget") from error
    parameters = {} if is_training else selection.parameters
    if rule == "exponential":
        parameters |= {"beta": beta}
    return Drawn(
        items=items,
        selection=replace(selection, parameters=parameters | learned),
        rule=rule,
        priority=priority,
        seed=seed,
        budget=budget,
        planned_budget=planned,
        is_training=is_training,
    )


def _check_rule(rule: str, beta: float, seed: int, training_share: float | None) -> None:
    if rule not in RULES:
        raise Refusal(f"The sampling rule is one of: {', '.join(RULES)}.", field="rule")
    if not 0 < beta <= MOST_BETA:
        raise Refusal(
            f"β, the sharpness of exponential weighting, must be a number above 0, at most {MOST_BETA:,.0f}.",
            field="beta",
        )
    if not 0 <= seed <= MOST_SEED:
        raise Refusal(f"The seed must be a whole number from 0 to {MOST_SEED}.", field="seed")
    if training_share is not None and not 0 < training_share < 1:
        raise Refusal(
            "The part of the budget to train on must be above 0 and below 1; 20% is 0.2.",
            field="training_share",
        )


def _training_budget(budget: int, share: float) -> int:
    reviews = int(Decimal(repr(share)) * budget)
    if reviews < MIN_KNOWN:
        raise Refusal(
            f"{share:.0%} of a budget of {budget} are {reviews} reviews; a detector needs at least {MIN_KNOWN} to "
            "learn from. Raise the budget or the part to train on.",
            field="training_share",
        )
    return reviews


@again_after_deadlock
@transaction.atomic
def calibration_round_create(
    *, project: Project, user: User, count: int, setup: RoundSetup = _USUAL
) -> ReviewRound:
    """Queue random items to be labelled blind; their labels become calibration labels. Raises Refusal."""
    setup = setup.checked(ReviewRound.Kind.CALIBRATION, is_written=not project.task.is_checkable)
    if not project.task.is_span:
        need_label_set(project, "there is nothing to calibrate with", field="count")
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
        **setup.fields(),
    )
    record_created(round, user)
    enqueue(round, [Turn(item_id) for item_id in chosen])
    return round


@again_after_deadlock
@transaction.atomic
def round_close(*, round: ReviewRound, user: User) -> None:
    """No more items are handed out. What is not answered counts as not reviewed."""
    _change_state(round, user, ReviewRound.State.CLOSED)


@again_after_deadlock
@transaction.atomic
def round_reopen(*, round: ReviewRound, user: User) -> None:
    _change_state(round, user, ReviewRound.State.OPEN)


def _change_state(round: ReviewRound, user: User, state: str) -> None:
    changed = ReviewRound.objects.filter(pk=round.pk).exclude(state=state).update(state=state)
    if changed:  # twice by two people is one change
        record_change(round, user, "closed" if state == ReviewRound.State.CLOSED else "reopened")
