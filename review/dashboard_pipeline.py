"""How the items of a project flow from their upload to their final labels, in counts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from django.db.models import Case, Count, Exists, OuterRef, Q, Value, When

from annotate.models import Annotation
from criticize.models import Criticism
from review.dashboard_answers import ORIGINS, answers_of, with_origin
from review.dashboard_scope import Scope, Table
from review.models import ReviewRound, ReviewTask

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """A state that items pass: `column` is how far along it lies, `tone` who decided it."""

    key: str
    column: int
    title: str
    tone: str
    status: str = ""  # by which the list of items finds those in it, where it can


# In the order in which they lie above each other.
STAGES = (
    Stage("uploaded", 0, "Uploaded", "quiet"),
    Stage("calibration", 1, "Calibration", "human", "calibration"),
    Stage("annotated", 1, "Annotated", "machine"),
    Stage("failed", 1, "Failed", "bad", "failed"),
    Stage("unlabeled", 1, "Not annotated", "quiet", "unlabeled"),
    Stage("criticized", 2, "Criticized", "machine"),
    Stage("not_criticized", 2, "Not criticized", "quiet"),
    Stage("drawn", 3, "To review", "accent"),
    Stage("not_drawn", 3, "Not drawn", "quiet"),
    Stage("corrected", 4, "Corrected", "human", "corrected"),
    Stage("accepted", 4, "Accepted", "ok", "accepted"),
    Stage("conflict", 4, "In conflict", "bad", "conflict"),
    Stage("skipped", 4, "Skipped", "warn", "skipped"),
    Stage("waiting", 4, "Waiting", "quiet", "waiting"),
    Stage("audited", 4, "Audited", "human", "audited"),
    Stage("person", 5, "By a person", "human"),
    Stage("adjudicated", 5, "Adjudicated", "human", "adjudicated"),
    Stage("machine", 5, "By the machine", "machine", "machine"),
    Stage("none", 5, "Nothing yet", "bad"),
)
STAGE = {stage.key: stage for stage in STAGES}


@dataclass(frozen=True, slots=True)
class StageCount:
    key: str
    title: str
    column: int
    tone: str
    count: int
    status: str


@dataclass(frozen=True, slots=True)
class Flow:
    """How many items went from one stage to a later one."""

    source: str
    target: str
    count: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages with items, in the order of `STAGES`, and the flows between them. Every item is in one stage a column at
    most, and ends in the last.

    `picked` of those to review were picked by hand, outside the draw. On top of an item's first reading come
    `further_readings`, `adjudications` and `known_items`: turns, answered or not.
    """

    items: int
    stages: list[StageCount]
    flows: list[Flow]
    picked: int
    further_readings: int
    adjudications: int
    known_items: int

    @property
    def table(self) -> Table:
        return Table(
            ("from", "to", "items"),
            [(STAGE[flow.source].title, STAGE[flow.target].title, flow.count) for flow in self.flows],
        )

    def count(self, key: str) -> int:
        """How many items are in a stage."""
        return next((stage.count for stage in self.stages if stage.key == key), 0)


def pipeline(scope: Scope) -> Pipeline:
    """Where the project's items are, as far as its latest runs or the scope's round have brought them."""
    paths = _paths(scope)
    passed: Counter[str] = Counter()
    flows: Counter[tuple[str, str]] = Counter()
    for path, count in paths.items():
        for key in path:
            passed[key] += count
        for pair in pairwise(path):
            flows[pair] += count
    place = {stage.key: number for number, stage in enumerate(STAGES)}
    return Pipeline(
        items=passed["uploaded"],
        stages=[
            StageCount(stage.key, stage.title, stage.column, stage.tone, passed[stage.key], stage.status)
            for stage in STAGES
            if passed[stage.key]
        ],
        flows=[
            Flow(source, target, flows[source, target])
            for source, target in sorted(flows, key=lambda pair: (place[pair[0]], place[pair[1]]))
        ],
        **_turns(scope.round),
    )


def _paths(scope: Scope) -> Counter[Path]:
    """How many items took each way through the stages."""
    counts: Counter[Path] = Counter()
    items = scope.project.items.count()
    calibrated = scope.project.calibration_labels.all()
    origins: Counter[Path] = Counter()
    if scope.annotation is not None:
        annotations = Annotation.objects.filter(run=scope.annotation)
        calibrated = calibrated.filter(~Exists(annotations.filter(item=OuterRef("item"))))
        asked = annotations.count()
        failed = annotations.exclude(failure="").count()
        criticized = (
            0
            if scope.criticism is None
            else Criticism.objects.filter(run=scope.criticism, priority__isnull=False).count()
        )
        origins[_origin(scope, "criticized")] += criticized
        origins[_origin(scope, "annotated")] += asked - failed - criticized
        origins[_origin(scope, "failed")] += failed
    known = calibrated.count()
    origins[_origin(scope, "calibration")] = known
    origins[_origin(scope, "unlabeled")] = (
        items
        - known
        - sum(count for origin, count in origins.items() if origin[1] not in ("calibration", "unlabeled"))
    )
    if scope.round is not None:
        for group in _reviewed(scope, scope.round):
            counts[group.path] += group.count
            origins[group.origin] -= group.count
        for group in _audited(scope, scope.round):
            counts[group.path] += group.count
            origins[group.origin] -= group.count
    for origin, count in origins.items():
        drawn_from = scope.round is not None and origin[1] in ("annotated", "failed")
        counts[(*origin, *(["not_drawn"] if drawn_from else []), _label_without_review(origin))] += count
    return Counter({path: count for path, count in counts.items() if count > 0})


def _origin(scope: Scope, key: str) -> Path:
    """The beginning of an item's way, up to its criticism. `annotated`: but not criticized."""
    annotated = ("uploaded", "failed" if key == "failed" else "annotated")
    if key in ("calibration", "unlabeled"):
        return ("uploaded", key)
    if scope.criticism is None:
        return annotated
    return (*annotated, "criticized" if key == "criticized" else "not_criticized")


def _label_without_review(origin: Path) -> str:
    return {"calibration": "person", "annotated": "machine"}.get(origin[1], "none")


@dataclass(frozen=True, slots=True)
class _Group:
    origin: Path
    path: Path
    count: int


def _reviewed(scope: Scope, round: ReviewRound) -> Iterable[_Group]:
    """The items of the round, one task each."""
    names = ("origin", "is_agreed", "is_adjudicated")
    answers = answers_of(scope, round)
    # A set of answers is one number, which is counted without sorting rows.
    kinds, counts = np.unique(
        np.ravel_multi_index([answers[name] for name in names], (len(ORIGINS), 2, 2)), return_counts=True
    )
    for *kind, count in zip(*np.unravel_index(kinds, (len(ORIGINS), 2, 2)), counts.tolist(), strict=True):
        number, is_agreed, is_adjudicated = kind
        outcome = "accepted" if is_agreed else "corrected"
        final = "adjudicated" if is_adjudicated else "person"
        origin = _origin(scope, ORIGINS[number])
        yield _Group(origin, (*origin, "drawn", outcome, final), count)
    yield from _unanswered(scope, round)


def _unanswered(scope: Scope, round: ReviewRound) -> Iterable[_Group]:
    state = ReviewTask.State
    audited = ReviewTask.counted.filter(round__audited=round, state=state.ANSWERED, item=OuterRef("item"))
    has_audits = round.audits.exists()
    others = [each for each in state if each != state.ANSWERED]
    rows = with_origin(round.counted_tasks.filter(state__in=others), scope).annotate(
        outcome=Case(
            When(state=state.SKIPPED, then=Value("skipped")),
            When(purpose=ReviewTask.Purpose.ADJUDICATION, then=Value("conflict")),
            default=Value("waiting"),
        ),
        is_audited=Case(*([When(Exists(audited), then=Value(1))] if has_audits else []), default=Value(0)),
    )
    grouped = rows.order_by().values_list("origin", "outcome", "is_audited").annotate(Count("pk"))
    for number, outcome, is_audited, count in grouped:
        origin = _origin(scope, ORIGINS[number])
        final = "person" if is_audited else _label_without_review(origin)
        yield _Group(origin, (*origin, "drawn", outcome, final), count)


def _audited(scope: Scope, round: ReviewRound) -> Iterable[_Group]:
    """Items that an audit of the round answered, and that the round itself did not draw."""
    own = round.counted_tasks.filter(item=OuterRef("item"))
    tasks = ReviewTask.counted.filter(round__audited=round, state=ReviewTask.State.ANSWERED)
    grouped = (
        with_origin(tasks.filter(~Exists(own)), scope)
        .order_by()
        .values_list("origin")
        .annotate(items=Count("item", distinct=True))
    )
    for number, count in grouped:
        origin = _origin(scope, ORIGINS[number])
        yield _Group(origin, (*origin, "not_drawn", "audited", "person"), count)


def _turns(round: ReviewRound | None) -> dict[str, int]:
    """How many turns there are besides one an item, and how many items were picked by hand."""
    names = {"picked": 0, "further_readings": 0, "adjudications": 0, "known_items": 0}
    if round is None:
        return names
    purpose = ReviewTask.Purpose
    counted: dict[str, int] = round.tasks.aggregate(
        picked=Count("item", filter=Q(purpose=purpose.PICKED), distinct=True),
        further_readings=Count("pk", filter=Q(purpose__in=[purpose.REVIEW, purpose.PICKED], copy__gt=0)),
        adjudications=Count("pk", filter=Q(purpose=purpose.ADJUDICATION)),
        known_items=Count("pk", filter=Q(purpose=purpose.GOLD)),
    )
    return counted
