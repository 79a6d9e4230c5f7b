"""Trying candidates: annotators on the calibration items, and criticizers on what candidate annotators said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from django.db import transaction

from annotate.discussion import items_of
from annotate.errors import Refusal
from annotate.locks import lock_project
from annotate.models import AnnotationRun, ModelRun, Project, User
from annotate.services.combining import choice_of_run
from annotate.services.runs import (
    Estimate,
    ModelChoice,
    annotation_estimate,
    annotation_run_create,
    candidate_parameters,
    check_limit,
    items_to_annotate,
    training_parameters,
)
from criticize.candidates import (
    candidates_of,
    name_of_choice,
    name_of_run,
    newest_of_each,
    pair_of_choice,
    pair_of_run,
)
from criticize.leaderboard import in_words
from criticize.models import CriticismRun
from criticize.services import annotations_to_criticize, criticism_estimate, criticism_run_create
from jobs.services import JobStateError, job_extend

MOST_AT_ONCE = 60


@dataclass(frozen=True, slots=True)
class Planned:
    """One model and strategy that somebody wants tried, and what that takes.

    `existing` is its run so far. `subjects` are what is still to be asked; none where it was tried already. `problem`
    is the sentence why it cannot be tried; there is no estimate then.
    """

    name: str
    choice: ModelChoice
    annotation_run: AnnotationRun | None = None
    existing: ModelRun | None = None
    subjects: tuple[int, ...] = ()
    estimate: Estimate | None = None
    problem: str = ""

    @property
    def is_tried(self) -> bool:
        return not self.problem and not self.subjects

    @property
    def cost(self) -> Decimal | None:
        return None if self.estimate is None else self.estimate.cost


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be asked. `cost` is US$, None where a model has no price; `seconds` as if one run followed another."""

    planned: list[Planned]

    @property
    def to_ask(self) -> list[Planned]:
        return [each for each in self.planned if each.subjects]

    @property
    def tried(self) -> list[Planned]:
        return [each for each in self.planned if each.is_tried]

    @property
    def refused(self) -> list[Planned]:
        return [each for each in self.planned if each.problem]

    @property
    def calls(self) -> int:
        return sum(len(each.subjects) for each in self.to_ask if not each.choice.is_trained)

    @property
    def cost(self) -> Decimal | None:
        costs = [each.cost for each in self.to_ask]
        known = [cost for cost in costs if cost is not None]
        return None if len(known) < len(costs) else sum(known, Decimal(0))

    @property
    def seconds(self) -> float:
        return sum(each.estimate.seconds for each in self.to_ask if each.estimate is not None)

    @property
    def unpriced(self) -> list[str]:
        return sorted({each.choice.model for each in self.to_ask if each.cost is None})


@dataclass(frozen=True, slots=True)
class Started:
    """What came of a wish to try: new runs, runs that go on with what they were never asked, and the rest."""

    created: list[ModelRun]
    extended: list[ModelRun]
    tried: list[Planned]
    refused: list[Planned]

    @property
    def sentence(self) -> str:
        """What happened, in words."""
        parts = []
        if self.created:
            parts.append(f"{_runs(len(self.created))} started.")
        if self.extended:
            parts.append(f"{_runs(len(self.extended))} went on with what was not asked yet.")
        if self.tried:
            names = in_words([each.name for each in self.tried])
            parts.append(f"Not asked again, since nothing is new: {names}.")
        parts += [f"{each.name} was left out: {each.problem}" for each in self.refused]
        return " ".join(parts)


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


# --- Annotators ------------------------------------------------------------------------------------------------------


def candidates_plan(*, project: Project, choices: Sequence[ModelChoice]) -> Plan:
    """What trying these annotators on the calibration items takes; those tried before are asked what is new alone.

    Raises Refusal where there is nothing to try, or nothing to try it on.
    """
    items = _calibration_items(project)
    _check_number(len(choices))
    before = {pair_of_run(run): run for run in candidates_of(project)}
    return Plan(
        [_planned_annotator(project, choice, before.get(pair_of_choice(choice)), items) for choice in choices]
    )


def _calibration_items(project: Project) -> list[int]:
    items = items_to_annotate(project, AnnotationRun.Scope.CALIBRATION)
    if not items:
        raise Refusal("There are no calibration items to try anybody on. Make a calibration set first.")
    return items


def _check_number(count: int) -> None:
    if not count:
        raise Refusal("Choose at least one model with one strategy, or the trained classifier.")
    if count > MOST_AT_ONCE:
        raise Refusal(f"These are {count:,} runs; start at most {MOST_AT_ONCE} at once.")


def _planned_annotator(
    project: Project, choice: ModelChoice, run: AnnotationRun | None, items: Sequence[int]
) -> Planned:
    planned = Planned(name_of_choice(choice), choice)
    answered = set() if run is None else set(run.annotations.values_list("item_id", flat=True))
    left = _left(run, items, answered)
    run = run if left.goes_on else None
    if not left.subjects:
        return replace(planned, existing=run)
    try:
        if choice.is_trained:
            candidate_parameters(project)
        estimate = annotation_estimate(project=project, choice=choice, scope=AnnotationRun.Scope.CALIBRATION)
    except Refusal as refusal:
        return replace(planned, problem=refusal.sentence)
    return replace(
        planned, existing=run, subjects=left.subjects, estimate=_for_calls(estimate, len(left.subjects))
    )


@dataclass(frozen=True, slots=True)
class _Left:
    subjects: tuple[int, ...]
    goes_on: bool


def _left(run: ModelRun | None, subjects: Sequence[int], answered: set[int]) -> _Left:
    """What is still to be asked, and whether the run goes on with it or a new one takes its place."""
    if run is None or (run.job.is_finished and not answered):
        return _Left(tuple(subjects), goes_on=False)
    missing = tuple(pk for pk in subjects if pk not in answered)
    if not run.job.is_finished or not missing:
        return _Left((), goes_on=True)
    if (
        run.kind == ModelRun.Kind.TRAINED
    ):  # with more to learn from it is another classifier, and costs nothing
        return _Left(tuple(subjects), goes_on=False)
    return _Left(missing, goes_on=True)


def _for_calls(estimate: Estimate, calls: int) -> Estimate:
    """The estimate of some of its calls."""
    share = calls / max(1, estimate.calls)
    return replace(
        estimate,
        calls=calls,
        input_tokens=round(estimate.input_tokens * share),
        output_tokens=round(estimate.output_tokens * share),
        cost=None if estimate.cost is None else estimate.cost_per_call * calls,
        seconds=estimate.seconds * share,
    )


@transaction.atomic
def candidates_start(
    *, project: Project, user: User, choices: Sequence[ModelChoice], spend_limit: Decimal | None = None
) -> Started:
    """Start trying these annotators, each with the spend limit. Raises Refusal where none of them can be tried."""
    lock_project(project.pk)  # a form that is sent twice pays once
    plan = candidates_plan(project=project, choices=choices)

    def create(planned: Planned) -> ModelRun:
        return annotation_run_create(
            project=project,
            user=user,
            choice=planned.choice,
            scope=AnnotationRun.Scope.CALIBRATION,
            spend_limit=spend_limit,
        )

    return _start(plan, create, spend_limit)


def candidate_go_on(*, run: AnnotationRun, spend_limit: Decimal | None = None) -> int:
    """Ask a candidate about the calibration items that it was never asked about. Returns how many. Raises Refusal."""
    items = _calibration_items(run.project)
    if run.kind == ModelRun.Kind.VOTED:
        raise Refusal("A vote counts what its annotators said. Let those go on, and vote anew.")
    if run.kind == ModelRun.Kind.TRAINED:
        raise Refusal("The trained classifier learns anew when the set has grown. Start it again.")
    check_limit(choice_of_run(run), spend_limit)
    if sources := run.parameters.get("sources"):
        # Of an item that its annotators never saw there is nothing to discuss.
        seen = set(items_of(sources))
        items = [pk for pk in items if pk in seen]
    answered = set(run.annotations.values_list("item_id", flat=True))
    missing = [pk for pk in items if pk not in answered]
    _extend(run, missing, spend_limit)
    return len(missing)


# --- The grid --------------------------------------------------------------------------------------------------------


def grid_plan(*, annotation_runs: Sequence[AnnotationRun], choices: Sequence[ModelChoice]) -> Plan:
    """What letting each of these criticizers judge each of these candidate annotators takes. Raises Refusal."""
    if not annotation_runs:
        raise Refusal("Choose at least one finished annotator to criticize.", field="annotators")
    _check_number(len(annotation_runs) * len(choices))
    criticizers = [replace(choice, confidence=False, examples=0) for choice in choices]
    planned = []
    for annotation_run in annotation_runs:
        subjects = annotations_to_criticize(annotation_run)
        runs = annotation_run.criticism_runs.select_related("job").order_by("-pk")
        before = {pair_of_run(run): run for run in newest_of_each(runs)}
        for choice in criticizers:
            run = before.get(pair_of_choice(choice))
            planned.append(_planned_criticizer(annotation_run, choice, run, subjects))
    return Plan(planned)


def _planned_criticizer(
    annotation_run: AnnotationRun, choice: ModelChoice, run: CriticismRun | None, subjects: Sequence[int]
) -> Planned:
    planned = Planned(
        f"{name_of_choice(choice)} on {name_of_run(annotation_run)}", choice, annotation_run=annotation_run
    )
    answered = set() if run is None else set(run.criticisms.values_list("annotation_id", flat=True))
    left = _left(run, subjects, answered)
    run = run if left.goes_on else None
    if run is not None and not left.subjects:
        return replace(planned, existing=run)
    if not annotation_run.job.is_finished:
        return replace(planned, problem="The annotator is not finished yet.")
    if not subjects:
        return replace(planned, problem="The annotator gave no labels that could be criticized.")
    try:
        if choice.is_trained:
            training_parameters(annotation_run.project)
        estimate = criticism_estimate(annotation_run=annotation_run, choice=choice)
    except Refusal as refusal:
        return replace(planned, problem=refusal.sentence)
    return replace(
        planned, existing=run, subjects=left.subjects, estimate=_for_calls(estimate, len(left.subjects))
    )


@transaction.atomic
def grid_start(
    *,
    annotation_runs: Sequence[AnnotationRun],
    user: User,
    choices: Sequence[ModelChoice],
    spend_limit: Decimal | None = None,
) -> Started:
    """Start the criticism of every cell, each with the spend limit. Raises Refusal where no cell can be measured."""
    for project in {run.project_id: run.project for run in annotation_runs}.values():
        lock_project(project.pk)  # a form that is sent twice pays once
    plan = grid_plan(annotation_runs=annotation_runs, choices=choices)

    def create(planned: Planned) -> ModelRun:
        assert planned.annotation_run is not None  # noqa: S101 (cells of a grid have one)
        return criticism_run_create(
            annotation_run=planned.annotation_run, user=user, choice=planned.choice, spend_limit=spend_limit
        )

    return _start(plan, create, spend_limit)


# --- Starting --------------------------------------------------------------------------------------------------------


def _start(plan: Plan, create: Callable[[Planned], ModelRun], spend_limit: Decimal | None) -> Started:
    """Start what can be started. What is refused is told; where it is everything, nothing happened."""
    created: list[ModelRun] = []
    extended: list[ModelRun] = []
    refused = plan.refused
    for planned in plan.to_ask:
        try:
            if planned.existing is None:
                created.append(create(planned))
            else:
                check_limit(planned.choice, spend_limit)
                _extend(planned.existing, planned.subjects, spend_limit)
                extended.append(planned.existing)
        except Refusal as refusal:
            refused.append(replace(planned, problem=refusal.sentence))
    if refused and not created and not extended:
        raise Refusal(" ".join(dict.fromkeys(each.problem for each in refused)))
    return Started(created, extended, plan.tried, refused)


def _extend(run: ModelRun, subjects: Sequence[int], may_spend: Decimal | None) -> None:
    try:
        job_extend(run.job, subjects, may_spend=may_spend)
    except JobStateError as error:
        raise Refusal(str(error)) from error
