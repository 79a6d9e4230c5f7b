"""What pages and the API say about a project's calibration set and about annotation runs."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from django.core.cache import cache
from django.db.models import Avg, Count, Max, Min, Q, QuerySet
from django.db.models.functions import Length

from annotate.models import Annotation, AnnotationRun, Project
from annotate.rightness import Truth, gold_scores, is_known, scores_against
from jobs.models import Job

LATEST = 50
_COUNT_KEPT = 30  # seconds


def item_count(project: Project) -> int:
    """How many items the project has; up to half a minute old, since pages ask often and imports add fast."""
    key = f"item-count-{project.pk}"
    count: int | None = cache.get(key)
    if count is None:
        count = project.items.count()
        cache.set(key, count, _COUNT_KEPT)
    return count


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How many items of a run got a label."""

    label: str
    count: int


class Accuracy(NamedTuple):
    """Labels, or answers, that match gold among the items that have gold. An item without one counts as wrong."""

    right: int
    judged: int

    @property
    def share(self) -> float | None:
        """Between 0 and 1; None where no item has gold."""
        return self.right / self.judged if self.judged else None


def label_counts(run: AnnotationRun) -> list[LabelCount]:
    """How often the run gave each label of its project, in the order of the labels, those never given included."""
    given = dict(
        run.annotations.filter(failure="").values_list("label").annotate(count=Count("pk")).order_by()
    )
    labels = run.project.labels.order_by("position").values_list("pk", "name")
    return [LabelCount(name, given.get(pk, 0)) for pk, name in labels]


@dataclass(frozen=True, slots=True)
class WrittenLengths:
    """How many answers a run wrote, and how long they are in characters; None without any."""

    count: int
    shortest: int | None
    mean: float | None
    longest: int | None


def written_lengths(run: AnnotationRun) -> WrittenLengths:
    given = run.annotations.filter(failure="").annotate(length=Length("answer"))
    return WrittenLengths(
        **given.aggregate(
            count=Count("pk"), shortest=Min("length"), mean=Avg("length"), longest=Max("length")
        )
    )


@dataclass(frozen=True, slots=True)
class SpanCounts:
    """How many answers a run quoted from its texts, and for how many items it says that there is none."""

    quoted: int
    without: int


def span_counts(run: AnnotationRun) -> SpanCounts:
    given = run.annotations.filter(failure="")
    return SpanCounts(
        **given.aggregate(quoted=Count("pk", filter=~Q(answer="")), without=Count("pk", filter=Q(answer="")))
    )


def machine_accuracy(run: AnnotationRun) -> Accuracy:
    found = gold_scores(run)
    return Accuracy(right=found.right, judged=found.judged)


def machine_f1(run: AnnotationRun) -> float | None:
    """Mean token F1 over the items that have gold, in [0, 1]; None where answers are no spans, and without gold."""
    return gold_scores(run).f1


def calibration_accuracy(run: AnnotationRun) -> float | None:
    """The share of calibration items that the run's annotator labels as the person did, in [0, 1].

    Measured on the run itself if it is a candidate, else on the last finished candidate with the same model and
    strategy, preferably of the same prompt version. None where there is none. A failure counts as wrong.
    """
    candidate = run if run.scope == AnnotationRun.Scope.CALIBRATION else _candidate_like(run)
    if candidate is None:
        return None
    found = scores_against(candidate.annotations.all(), candidate.project.task, Truth.CALIBRATION)
    return Accuracy(right=found.right, judged=found.judged).share


def _candidate_like(run: AnnotationRun) -> AnnotationRun | None:
    if run.kind == AnnotationRun.Kind.VOTED:
        return None
    candidates = AnnotationRun.objects.filter(
        project=run.project_id,
        scope=AnnotationRun.Scope.CALIBRATION,
        kind=run.kind,
        provider=run.provider,
        model=run.model,
        strategy=run.strategy,
        job__state=Job.State.DONE,
    ).order_by("-pk")
    return candidates.filter(prompt_version=run.prompt_version).first() or candidates.first()


def made_of(runs: Collection[AnnotationRun]) -> dict[int, set[int]]:
    """By run: the ids of all runs that its answers come from, its sources and theirs; none for most runs."""
    sources = {run.pk: [int(pk) for pk in run.parameters.get("sources", [])] for run in runs}
    wanted = {pk for of_one in sources.values() for pk in of_one} - sources.keys()
    while wanted:
        found = dict(AnnotationRun.objects.filter(pk__in=wanted).values_list("pk", "parameters"))
        sources |= {pk: found.get(pk, {}).get("sources", []) for pk in wanted}
        wanted = {pk for of_one in sources.values() for pk in of_one} - sources.keys()

    def of(run_id: int) -> set[int]:
        direct = sources[run_id]
        return set(direct).union(*(of(pk) for pk in direct))

    return {run.pk: of(run.pk) for run in runs}


def discussion_runs(project: Project, discussion: str) -> list[AnnotationRun]:
    """The runs of a discussion, in order of their start: those that discuss, and their vote where there is one."""
    runs = project.annotation_runs.filter(parameters__discussion=discussion)
    return list(runs.select_related("job", "created_by").order_by("pk"))


def latest_annotations(run: AnnotationRun) -> QuerySet[Annotation]:
    """The last results that were written, newest first."""
    return run.annotations.select_related("item__gold", "label").order_by("-pk")[:LATEST]


def failed_annotations(run: AnnotationRun, failure: str = "") -> QuerySet[Annotation]:
    """Results that are failures, in order; with `failure`, those of that name."""
    failed = run.annotations.exclude(failure="").select_related("item").order_by("pk")
    return failed.filter(failure=failure) if failure else failed


@dataclass(frozen=True, slots=True)
class CalibrationState:
    """The calibration set at a moment. `gold_left` items have a gold label and could join it."""

    items: int
    from_gold: int
    by_people: int
    gold_left: int
    labels: list[LabelCount]


def calibration_state(project: Project) -> CalibrationState:
    """How many calibration labels there are, whose, and how they spread over the labels, never given ones included."""
    counts = project.calibration_labels.aggregate(
        items=Count("pk"), from_gold=Count("pk", filter=Q(author=None))
    )
    given = dict(project.calibration_labels.values_list("label").annotate(count=Count("pk")).order_by())
    labels = project.labels.order_by("position").values_list("pk", "name")
    return CalibrationState(
        items=counts["items"],
        from_gold=counts["from_gold"],
        by_people=counts["items"] - counts["from_gold"],
        gold_left=project.items.filter(
            is_known(project.task, Truth.GOLD, prefix=""), calibration_label=None
        ).count(),
        labels=[LabelCount(name, given.get(pk, 0)) for pk, name in labels],
    )
