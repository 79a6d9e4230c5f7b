"""How many reviews a project should buy: what the annotator's errors ask for, what it costs, what it would find."""

from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
from django.db.models import QuerySet, Sum

from annotate.errors import Refusal
from annotate.models import Annotation, AnnotationRun, ModelRun, Project
from annotate.rightness import Truth, scores_against
from annotate.selectors import Accuracy, machine_accuracy, made_of
from annotate.services.runs import items_to_annotate
from criticize.combination import rank_shares
from criticize.leaderboard import wilson_interval
from criticize.models import Criticism, CriticismRun
from jobs.models import Job
from review.advice import TooFew, isotonic
from review.drawing import Population, population
from review.priorities import candidates_like, known_of
from review.selectors import drawable_runs
from review.services.rounds import budget_of

BUFFER = 0.1
# Where the annotator's accuracy is not known.
USUAL_SHARE = 0.1
_POINTS = 100


@dataclass(frozen=True, slots=True)
class Measured:
    """An annotator's accuracy with its 95% interval, on calibration items (of a candidate run) or on gold labels."""

    run: AnnotationRun
    accuracy: Accuracy
    low: float
    high: float
    on_gold: bool

    @property
    def error_share(self) -> float:
        return 1 - self.accuracy.right / self.accuracy.judged


@dataclass(frozen=True, slots=True)
class Price:
    """What one part of the machine's work costs, US$. `amount` is None where no price is known; `is_estimate` where
    the run is still to be made or finished.
    """

    amount: Decimal | None
    is_estimate: bool = False


@dataclass(frozen=True)
class Finding:
    """What reviewing the most suspicious first should find: `points` are (share of items, share of errors).

    By error probabilities calibrated on `known` annotations that people judged; as the criticizer states them where
    `known` is 0.
    """

    points: list[tuple[float, float]]
    errors: float
    found: float
    known: int

    @property
    def share(self) -> float | None:
        return self.found / self.errors if self.errors else None


@dataclass(frozen=True)
class BudgetPlan:
    """A budget of reviews for `items` items, and what it comes to. Amounts are in US$.

    `ideal` is 1 − accuracy, with the interval that the accuracy's gives; `recommended` is ideal and buffer in reviews.
    They are None where no accuracy is known, and `finding` is None where nothing says what would be found.
    """

    items: int
    budget: int
    buffer: float
    annotation_run: AnnotationRun | None
    criticism_run: CriticismRun | None
    measured: Measured | None
    recommended: int | None
    review_price: Decimal
    annotation: Price
    criticism: Price
    finding: Finding | None
    why_no_finding: str = field(default="")

    @property
    def share(self) -> float:
        return self.budget / self.items

    @property
    def ideal(self) -> float | None:
        return None if self.measured is None else self.measured.error_share

    @property
    def ideal_low(self) -> float | None:
        return None if self.measured is None else 1 - self.measured.high

    @property
    def ideal_high(self) -> float | None:
        return None if self.measured is None else 1 - self.measured.low

    @property
    def models(self) -> Decimal:
        """What models cost as far as prices are known."""
        return (self.annotation.amount or Decimal(0)) + (self.criticism.amount or Decimal(0))

    @property
    def models_unpriced(self) -> bool:
        return self.annotation.amount is None or self.criticism.amount is None

    @property
    def reviews(self) -> Decimal:
        return self.budget * self.review_price

    @property
    def total(self) -> Decimal:
        return self.models + self.reviews

    @property
    def all_human(self) -> Decimal:
        return self.items * self.review_price

    @property
    def saved(self) -> float | None:
        """The share of the all-human price that is saved; negative where the plan costs more; None where it is 0."""
        return float(1 - self.total / self.all_human) if self.all_human else None


def budget_plan(
    project: Project,
    *,
    criticism_run: CriticismRun | None = None,
    count: int | None = None,
    share: float | None = None,
    buffer: float = BUFFER,
) -> BudgetPlan:
    """The plan for a criticism run, by default the project's latest; the recommended budget unless one is given.

    Raises Refusal where there are no items, and for a budget or a buffer that cannot be.
    """
    if not 0 <= buffer <= 1:
        raise Refusal("The buffer must be between 0 and 100 points.", field="buffer")
    criticism_run = criticism_run or drawable_runs(project).order_by("-created_at").first()
    annotation_run = criticism_run.annotation_run if criticism_run else _latest_run(project)
    items = annotation_run.annotations.count() if criticism_run and annotation_run else 0
    items = items or len(items_to_annotate(project))
    if not items:
        raise Refusal("There are no items to review yet. Upload some first.")
    measured = accuracy_of(project, annotation_run)
    recommended = None
    if measured is not None:
        recommended = budget_of(items, count=_reviews(measured.error_share + buffer, items))
    if count is None and share is None:
        count = recommended or _reviews(USUAL_SHARE, items)
    budget = budget_of(items, count=count, share=share)
    finding, why_not = _finding(criticism_run, budget)
    annotation, criticism = _prices(project, annotation_run, criticism_run, measured, items)
    return BudgetPlan(
        items=items,
        budget=budget,
        buffer=buffer,
        annotation_run=annotation_run,
        criticism_run=criticism_run,
        measured=measured,
        recommended=recommended,
        review_price=project.review_price,
        annotation=annotation,
        criticism=criticism,
        finding=finding,
        why_no_finding=why_not,
    )


def accuracy_of(project: Project, run: AnnotationRun | None) -> Measured | None:
    """How often the run's annotator is right: of its latest candidate run, else by the run's own gold labels.

    Without a run, of the candidate that is right most often, of those asked about at least half of the calibration
    items. None where nothing was measured.
    """
    if run is not None:
        candidates = candidates_like(run)
    else:
        candidates = list(
            project.annotation_runs.filter(scope=AnnotationRun.Scope.CALIBRATION)
            .exclude(job__state__in=Job.UNFINISHED)
            .select_related("job", "project")
            .order_by("-pk")
        )
    items = project.calibration_labels.count()
    found = [_on_calibration(candidate) for candidate in candidates]
    measured = [each for each in found if each is not None]
    if run is None:
        # The best of many may be one that was cancelled after a few lucky answers: no plan rests on it.
        measured = [each for each in measured if 2 * each.accuracy.judged >= items]
        return max(measured, key=lambda each: 1 - each.error_share, default=None)
    if measured:
        return measured[0]
    on_gold = machine_accuracy(run)
    return _measured(run, on_gold, on_gold=True) if on_gold.judged else None


def _latest_run(project: Project) -> AnnotationRun | None:
    runs = project.annotation_runs.filter(scope=AnnotationRun.Scope.PROJECT)
    return runs.select_related("job", "project").order_by("-created_at").first()


def _on_calibration(run: AnnotationRun) -> Measured | None:
    """Against the calibration labels as they are now. An item without a usable answer counts as wrong."""
    found = scores_against(run.annotations.all(), run.project.task, Truth.CALIBRATION)
    return _measured(run, Accuracy(found.right, found.judged), on_gold=False) if found.judged else None


def _measured(run: AnnotationRun, accuracy: Accuracy, *, on_gold: bool) -> Measured:
    low, high = wilson_interval(*accuracy)
    return Measured(run, accuracy, low, high, on_gold)


def _reviews(share: float, items: int) -> int:
    """At least one review and at most one an item; up, so that the recommended budget is not below the ideal one."""
    return min(items, max(1, int(np.ceil(round(share * items, 9)))))


# --- What it costs ---------------------------------------------------------------------------------------------------


def _prices(
    project: Project,
    annotation_run: AnnotationRun | None,
    criticism_run: CriticismRun | None,
    measured: Measured | None,
    items: int,
) -> tuple[Price, Price]:
    """Of the project's own runs, or, where there is none yet, what a candidate run says it would be."""
    candidate = measured.run if measured is not None and not measured.on_gold else None
    if annotation_run is not None:
        annotation = _price(annotation_run, annotation_run.job.total)
    else:
        annotation = _price(candidate, items) if candidate else Price(None)
    if criticism_run is not None:
        return annotation, _price(criticism_run, criticism_run.job.total)
    tried = CriticismRun.objects.filter(annotation_run=candidate).exclude(job__state__in=Job.UNFINISHED)
    latest = tried.select_related("job").order_by("-pk").first() if candidate else None
    return annotation, _price(latest, items) if latest else Price(None)


def _price(run: AnnotationRun | CriticismRun, subjects: int) -> Price:
    """What the run cost with all that it is made of, or what asking about so many subjects would."""
    if isinstance(run, CriticismRun):
        return _own_price(run, run.criticisms.all(), subjects)
    sources = AnnotationRun.objects.filter(pk__in=made_of([run])[run.pk]).select_related("job")
    parts = [_own_price(part, part.annotations.all(), subjects) for part in (run, *sources)]
    amounts = [part.amount for part in parts if part.amount is not None]
    if len(amounts) < len(parts):
        return Price(None)
    return Price(sum(amounts, Decimal(0)), is_estimate=any(part.is_estimate for part in parts))


def _own_price(run: ModelRun, calls: "QuerySet[Annotation] | QuerySet[Criticism]", subjects: int) -> Price:
    """The run's own: what was paid, or its price a subject so far, with what reused answers cost when they were new."""
    job = run.job
    counted = calls.aggregate(cost=Sum("cost"), tokens=Sum("input_tokens"))
    worth = max(job.cost, counted["cost"] or Decimal(0))
    if run.kind == ModelRun.Kind.PROMPTED and not worth and (job.input_tokens or counted["tokens"]):
        return Price(None)
    if job.is_finished and subjects <= job.total:
        return Price(job.cost)
    return Price(worth / job.done * subjects, is_estimate=True) if job.done else Price(None)


# --- What it would find ----------------------------------------------------------------------------------------------


def _finding(run: CriticismRun | None, budget: int) -> tuple[Finding | None, str]:
    """What reviewing the most suspicious first should find; None and a sentence where nothing says so."""
    if run is None:
        return (
            None,
            "Once a criticizer has read the labels, the errors that reviews would find are shown here.",
        )
    items = population(run)
    error_probs, known = _calibrated(run, items)
    if error_probs is None:
        return None, (
            "This criticizer only orders the items. How many errors reviews would find is shown here once people "
            "have reviewed some, or once it has read the calibration items."
        )
    order = np.argsort(-items.suspicion, kind="stable")
    found = np.concatenate([[0.0], np.cumsum(error_probs[order])])
    errors = float(found[-1])
    at = np.unique(np.linspace(0, len(items), _POINTS + 1).round().astype(int))
    points = [(float(b / len(items)), float(found[b] / errors) if errors else 0.0) for b in at]
    return Finding(points=points, errors=errors, found=float(found[budget]), known=known), ""


def _calibrated(run: CriticismRun, items: Population) -> tuple[np.ndarray | None, int]:
    """Error probabilities of all items, and how many judged annotations they are calibrated on.

    As the criticizer states them where too few are known, and None where it states none. An item without an answer
    counts as wrong.
    """
    known = known_of(run)
    missing = np.isnan(items.priorities)
    try:
        calibration = isotonic(known.doubts, known.is_error)
    except TooFew:
        return (items.suspicion if items.has_probabilities else None), 0
    scores = items.priorities[~missing]
    error_probs = np.ones(len(items))
    if len(scores):
        error_probs[~missing] = calibration.error_probs(rank_shares(scores) if items.ranks_only else scores)
    return error_probs, len(known.is_error)
