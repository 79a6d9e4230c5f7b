"""Where projects stand: what is there, what runs, and the one thing to do next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.urls import reverse

from annotate.models import AnnotationRun, CalibrationLabel, Item, Label, Project, Upload
from criticize.models import CriticismRun
from jobs.models import Job
from review import keeping
from review.keeping import counted
from review.models import Export, ReviewRound, ReviewTask
from review.services.settling import OPEN

DONE, NOW, BUSY, LATER, TROUBLE = "done", "now", "busy", "later", "trouble"
_FEW_LEFT = 100
_STOPPED = (Job.State.PAUSED, Job.State.FAILED)


@dataclass(frozen=True, slots=True)
class RoundCounts:
    selected: int = 0
    answered: int = 0
    skipped: int = 0

    @property
    def reviewed(self) -> int:
        return self.answered + self.skipped

    @property
    def left(self) -> int:
        return self.selected - self.reviewed


@dataclass(slots=True)
class Standing:
    """A project at a moment. Runs, round and export are the latest of one chain, each made from the one before."""

    project: Project
    items: int = 0
    labels: int = 0
    calibration: int = 0
    upload: Upload | None = None
    annotation: AnnotationRun | None = None
    criticism: CriticismRun | None = None
    round: ReviewRound | None = None
    round_counts: RoundCounts = field(default_factory=RoundCounts)
    conflicts: int = 0
    calibration_round: ReviewRound | None = None
    calibration_counts: RoundCounts = field(default_factory=RoundCounts)
    export: Export | None = None

    @property
    def is_live(self) -> bool:
        """Whether something goes on that changes these numbers by itself."""
        jobs = [
            row.job for row in (self.upload, self.annotation, self.criticism, self.export) if row is not None
        ]
        return any(job is not None and job.is_active for job in jobs)

    @property
    def waiting_upload(self) -> Upload | None:
        """The latest upload, where its columns are not matched yet. Once there are items, it holds nothing up."""
        upload = self.upload
        return upload if upload is not None and upload.state == Upload.State.RECEIVED else None

    @property
    def answers(self) -> str:
        """What annotators give, as pages call it."""
        return "answers" if self.project.task.is_written else "labels"

    @property
    def steps(self) -> "list[Step]":
        return steps_of(self)

    @property
    def next(self) -> "NextAction":
        return next_action(self)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the pipeline. `value` of `most` is its progress bar, where it has one."""

    key: str
    title: str
    url: str
    state: str
    lines: tuple[str, ...]
    value: int = 0
    most: int = 0
    tone: str = ""


@dataclass(frozen=True, slots=True)
class NextAction:
    """What to do next: a short title, why, and the button (without `button` there is nothing to press)."""

    title: str
    why: str
    button: str = ""
    url: str = ""
    tone: str = "accent"


def standings(projects: Sequence[Project]) -> list[Standing]:
    """The standing of each project, in order, with as many queries for a hundred as for one."""
    found = {project.pk: Standing(project) for project in projects}
    ids = list(found)
    for name, rows in (
        ("items", Item.objects),
        ("labels", Label.objects),
        ("calibration", CalibrationLabel.objects),
    ):
        # Each by itself: grouping a million rows takes twice as long as counting them.
        own = rows.filter(project=OuterRef("pk")).order_by().values("project").annotate(rows=Count("*"))
        for project_id, count in Project.objects.filter(pk__in=ids).values_list(
            "pk", Subquery(own.values("rows"))
        ):
            setattr(found[project_id], name, count or 0)
    for upload in _latest(Upload.objects.filter(project__in=ids).select_related("job"), "project"):
        found[upload.project_id].upload = upload
    runs = AnnotationRun.objects.filter(project__in=ids, scope=AnnotationRun.Scope.PROJECT).exclude(
        job__state=Job.State.CANCELLED
    )
    for run in _latest(runs.select_related("job"), "project"):
        found[run.project_id].annotation = run
    _add_criticisms(found)
    _add_rounds(found)
    return list(found.values())


def standing_of(project: Project) -> Standing:
    return standings([project])[0]


def _latest(rows: QuerySet, by: str) -> Iterable:  # type: ignore[type-arg]
    """The newest row of each `by`."""
    newest = (
        rows.model.objects.filter(pk__in=rows.values("pk"), **{by: OuterRef(by)})
        .order_by("-pk")
        .values("pk")[:1]
    )
    return rows.filter(pk=Subquery(newest)).order_by()


def _add_criticisms(found: dict[int, Standing]) -> None:
    by_run = {standing.annotation.pk: standing for standing in found.values() if standing.annotation}
    rows = CriticismRun.objects.filter(annotation_run__in=list(by_run)).exclude(
        job__state=Job.State.CANCELLED
    )
    for run in _latest(rows.select_related("job"), "annotation_run"):
        by_run[run.annotation_run_id].criticism = run


def _add_rounds(found: dict[int, Standing]) -> None:
    by_run = {standing.criticism.pk: standing for standing in found.values() if standing.criticism}
    rounds = ReviewRound.objects.filter(criticism_run__in=list(by_run), kind=ReviewRound.Kind.REVIEW)
    for round in _latest(rounds, "criticism_run"):
        by_run[round.criticism_run_id].round = round
    blind = ReviewRound.objects.filter(
        project__in=list(found), kind=ReviewRound.Kind.CALIBRATION, state=ReviewRound.State.OPEN
    )
    for round in _latest(blind, "project"):
        found[round.project_id].calibration_round = round
    shown = [r for s in found.values() for r in (s.round, s.calibration_round) if r is not None]
    counts = counts_of_rounds(shown)
    for standing in found.values():
        if standing.round:
            standing.round_counts = counts[standing.round.pk]
        if standing.calibration_round:
            standing.calibration_counts = counts[standing.calibration_round.pk]
    by_round = {standing.round.pk: standing for standing in found.values() if standing.round}
    undecided = ReviewTask.counted.filter(
        round__in=list(by_round), purpose=ReviewTask.Purpose.ADJUDICATION, state__in=OPEN
    )
    for round_id, count in undecided.order_by().values_list("round").annotate(Count("pk")):
        by_round[round_id].conflicts = count
    for export in _latest(Export.objects.filter(round__in=list(by_round)).select_related("job"), "round"):
        by_round[export.round_id].export = export


def counts_of_rounds(rounds: Sequence[ReviewRound]) -> dict[int, RoundCounts]:
    """By round id: how many items it selected, how many are done; of large rounds a moment ago, until few are left."""
    large = [round for round in rounds if round.budget >= keeping.LARGE]
    counts = _counted_now([round.pk for round in rounds if round.budget < keeping.LARGE])
    for round in large:
        key = f"round-counts-{round.pk}-{round.draw_number}"
        kept: RoundCounts = counted(key, partial(_counts_of, round.pk))
        counts[round.pk] = kept if kept.left > _FEW_LEFT else _counts_of(round.pk)
    return {round.pk: counts.get(round.pk, RoundCounts()) for round in rounds}


def _counts_of(round_id: int) -> RoundCounts:
    return _counted_now([round_id]).get(round_id, RoundCounts())


def _counted_now(round_ids: Sequence[int]) -> dict[int, RoundCounts]:
    """By round id, of those that have items. In the order of an index, which has all that is counted."""
    state = ReviewTask.State
    if not round_ids:
        return {}
    by_state: dict[int, dict[str, int]] = {}
    rows = ReviewTask.counted.filter(round__in=round_ids).order_by().values_list("round", "state")
    for round_id, each, count in rows.annotate(Count("pk")):
        by_state.setdefault(round_id, {})[each] = count
    return {
        round_id: RoundCounts(sum(found.values()), found.get(state.ANSWERED, 0), found.get(state.SKIPPED, 0))
        for round_id, found in by_state.items()
    }


# --- The pipeline's steps --------------------------------------------------------------------------------------------


def steps_of(standing: Standing) -> list[Step]:
    """Upload → Calibrate → Annotate → Criticize → Review → Export."""
    return [
        _upload_step(standing),
        *([_calibrate_step(standing)] if standing.project.task.is_checkable else []),
        _run_step(standing, "annotate", "Annotate", standing.annotation, "annotation_run", "items"),
        _run_step(standing, "criticize", "Criticize", standing.criticism, "criticism_run", standing.answers),
        _review_step(standing),
        _export_step(standing),
    ]


def _page(standing: Standing, name: str, *args: int) -> str:
    return reverse(name, args=[standing.project.pk, *args])


def _upload_step(standing: Standing) -> Step:
    upload = standing.upload
    lines: tuple[str, ...] = (f"{standing.items:,} items",)
    url = _page(standing, "uploads")
    if upload is not None and upload.state == Upload.State.IMPORTING and upload.job is not None:
        total = upload.job.total
        state = TROUBLE if upload.job.state in _STOPPED else BUSY
        return Step(
            "upload", "Upload", url, state, (*lines, "Importing"), upload.job.done if total else 0, total
        )
    waiting = ("A file waits for its columns",) if standing.waiting_upload is not None else ()
    if standing.items:
        if not standing.project.task.is_written:
            lines = (*lines, f"{standing.labels:,} labels")
        return Step("upload", "Upload", url, DONE, (*lines, *waiting))
    if waiting:
        return Step("upload", "Upload", url, NOW, (*lines, *waiting))
    failed = upload is not None and upload.state == Upload.State.FAILED
    return Step(
        "upload",
        "Upload",
        url,
        TROUBLE if failed else NOW,
        ("The file failed",) if failed else ("No items yet",),
    )


def _calibrate_step(standing: Standing) -> Step:
    url = _page(standing, "calibration")
    counts = standing.calibration_counts
    known = f"{standing.calibration:,}" if standing.calibration else "No"
    things = "calibration items" if standing.project.task.is_span else "calibration labels"
    lines: tuple[str, ...] = (f"{known} {things}",)
    if standing.calibration_round is not None and counts.left:
        done = "answered" if standing.project.task.is_span else "labeled"
        lines = (*lines, f"{counts.left:,} wait to be {done}")
        return Step("calibrate", "Calibrate", url, NOW, lines, counts.reviewed, counts.selected, "human")
    if standing.calibration:
        return Step("calibrate", "Calibrate", url, DONE, lines)
    is_next = standing.items > 0 and standing.annotation is None
    return Step("calibrate", "Calibrate", url, NOW if is_next else LATER, lines)


def _run_step(
    standing: Standing,
    key: str,
    title: str,
    run: AnnotationRun | CriticismRun | None,
    page: str,
    things: str,
) -> Step:
    if run is None:
        is_ready = standing.calibration or not standing.project.task.is_checkable
        before = is_ready and standing.items if key == "annotate" else _is_done(standing.annotation)
        return Step(key, title, _page(standing, f"{page}s"), NOW if before else LATER, ("Not yet",))
    job = run.job
    url = _page(standing, page, run.pk)
    lines: tuple[str, ...] = (f"{job.succeeded:,} of {job.total:,} {things}",)
    if job.failed:
        lines = (*lines, f"{job.failed:,} failed")
    if job.state in _STOPPED:
        return Step(
            key, title, url, TROUBLE, (*lines, str(job.get_state_display())), job.done, job.total, "quiet"
        )
    if job.is_active:
        return Step(key, title, url, BUSY, lines, job.done, job.total)
    return Step(key, title, url, DONE, (*lines, run.who))


def _is_done(run: AnnotationRun | CriticismRun | None) -> bool:
    return run is not None and run.job.state == Job.State.DONE


def _review_step(standing: Standing) -> Step:
    counts = standing.round_counts
    if standing.round is None:
        state = NOW if _is_done(standing.criticism) else LATER
        return Step("review", "Review", _page(standing, "review_rounds"), state, ("No round drawn",))
    url = _page(standing, "review_round", standing.round.pk)
    lines = (f"{counts.reviewed:,} of {counts.selected:,} reviewed",)
    closed = standing.round.state == ReviewRound.State.CLOSED
    if counts.left and not closed:
        return Step("review", "Review", url, NOW, lines, counts.reviewed, counts.selected, "human")
    return Step("review", "Review", url, DONE, (*lines, "Closed") if closed else lines)


def _export_step(standing: Standing) -> Step:
    url = _page(standing, "exports")
    export = standing.export
    if export is None:
        reviewed = standing.round is not None and not standing.round_counts.left
        return Step("export", "Export", url, NOW if reviewed else LATER, ("Not yet",))
    if export.job.is_active:
        return Step("export", "Export", url, BUSY, ("Being written",))
    if export.job.state in _STOPPED:
        return Step("export", "Export", url, TROUBLE, ("The export failed",))
    return Step("export", "Export", url, DONE, (f"{export.rows:,} rows", str(export.get_format_display())))


# --- What to do next -------------------------------------------------------------------------------------------------


def next_action(standing: Standing) -> NextAction:
    """The one thing that an owner does next."""
    return (
        _next_for_data(standing)
        or _next_for_labels(standing)
        or _next_for_runs(standing)
        or _next_for_review(standing)
    )


def _next_for_data(standing: Standing) -> NextAction | None:
    upload = standing.upload
    if standing.waiting_upload is not None and not standing.items:
        upload = standing.waiting_upload
        return NextAction(
            "Say what the columns are",
            f"“{upload.filename}” is here. Nothing is imported until you have matched its columns.",
            "Match the columns",
            _page(standing, "upload", upload.pk),
        )
    if upload is not None and upload.state == Upload.State.IMPORTING:
        return NextAction(
            "Importing", f"“{upload.filename}” is being read.", "Watch", _page(standing, "upload", upload.pk)
        )
    if not standing.items:
        return NextAction(
            "Upload your data",
            "A table of texts (CSV, TSV, JSON, JSON Lines, Parquet) or a zip of images.",
            "Upload a file",
            _page(standing, "uploads"),
        )
    if standing.labels < 2 and not standing.project.task.is_written:
        return NextAction(
            "Name the labels",
            "An annotator chooses among labels: it needs at least two.",
            "Add labels",
            _page(standing, "project_settings"),
        )
    return None


def _next_for_labels(standing: Standing) -> NextAction | None:
    is_span = standing.project.task.is_span
    if standing.calibration_round is not None and standing.calibration_counts.left:
        return NextAction(
            f"{'Answer' if is_span else 'Label'} {standing.calibration_counts.left:,} items blind",
            "Your own answers show which models are good enough."
            if is_span
            else "Your own labels show which models are good enough, and train the classifier that needs no model.",
            "Start answering" if is_span else "Start labeling",
            _page(standing, "review", standing.calibration_round.pk),
        )
    if standing.calibration or standing.annotation or not standing.project.task.is_checkable:
        return None
    return NextAction(
        "Make a calibration set",
        f"A hundred {standing.answers} of your own show how good each annotator is, before anything is spent.",
        "Calibrate",
        _page(standing, "calibration"),
    )


def _next_for_runs(standing: Standing) -> NextAction | None:
    for run, page, verb in (
        (standing.annotation, "annotation_run", "Annotating"),
        (standing.criticism, "criticism_run", "Criticizing"),
    ):
        if run is None:
            break
        if run.job.state in _STOPPED:
            reason = run.job.reason or "It can go on where it stopped."
            url = _page(standing, page, run.pk)
            return NextAction(f"{verb} has stopped", reason, "Look at the run", url, "bad")
        if run.job.is_active:
            why = f"{run.job.done:,} of {run.job.total:,} are done."
            return NextAction(verb, why, "Watch", _page(standing, page, run.pk))
    if standing.annotation is None:
        return NextAction(
            "Annotate the items",
            "Choose the model that finds the answers."
            if standing.project.task.is_span
            else "Choose the model that writes the answers."
            if standing.project.task.is_written
            else "Choose who labels them: a model, or the classifier trained on your labels.",
            "Choose an annotator",
            _page(standing, "annotation_runs"),
        )
    if standing.criticism is None:
        return NextAction(
            "Let a second reader doubt",
            _what_criticizers_do(standing),
            "Choose a criticizer",
            _page(standing, "criticism_runs"),
        )
    return None


def _what_criticizers_do(standing: Standing) -> str:
    task = standing.project.task
    if task.is_rated:
        return "A criticizer rates the quality of each answer."
    if task.checks_facts:
        return "A criticizer gives each fact of an answer the probability that it is wrong."
    thing = "answer" if task.is_span else "label"
    return f"A criticizer gives each {thing} the probability that it is wrong."


def _next_for_review(standing: Standing) -> NextAction:
    round, counts, export = standing.round, standing.round_counts, standing.export
    if round is None:
        return NextAction(
            "Decide how much to review",
            f"Set a budget of reviews: the most suspicious {standing.answers} are drawn for people.",
            "Draw a round",
            _page(standing, "review_rounds"),
        )
    is_open = round.state == ReviewRound.State.OPEN
    if is_open and 0 < counts.left <= standing.conflicts:
        return NextAction(
            f"Decide {'1 item' if counts.left == 1 else f'{counts.left:,} items'}",
            "Reviewers gave different answers. All others of the round are done.",
            "Decide",
            _page(standing, "adjudication"),
        )
    if is_open and counts.left:
        return NextAction(
            f"Review {counts.left:,} items",
            "The most suspicious answers come first. Enter accepts."
            if standing.project.task.is_span
            else "The most suspicious answers come first. Enter accepts, E edits."
            if standing.project.task.is_written
            else "The most suspicious labels come first. Digits choose, Enter agrees.",
            "Continue reviewing" if counts.reviewed else "Start reviewing",
            _page(standing, "review", round.pk),
        )
    if export is None:
        return NextAction(
            f"Export the {standing.answers}",
            f"Final {standing.answers} with the weights that make training on them fair.",
            "Export",
            _page(standing, "exports"),
        )
    if export.job.is_active:
        return NextAction(
            "Writing the export", "It can be downloaded in a moment.", "Watch", _page(standing, "exports")
        )
    if export.job.state != Job.State.DONE:
        why = export.job.reason or "Start it again."
        return NextAction("The export failed", why, "Look at the exports", _page(standing, "exports"), "bad")
    return NextAction(
        f"Take the {standing.answers} with you",
        f"{export.rows:,} rows are ready, and were written after the last review."
        if not counts.left
        else f"{export.rows:,} rows are ready.",
        "Download",
        _page(standing, "export_download", export.pk),
        "ok",
    )
