"""What a list of items says about each: the machine's answer, how doubtful it is, the person's, and where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, F

from annotate.models import Annotation, CalibrationLabel, Comment, Item, Label, Project
from criticize.models import Criticism
from review.answers import is_changed
from review.blindness import open_tasks
from review.browsing import Chain
from review.models import ReviewRound, ReviewTask

State, Purpose = ReviewTask.State, ReviewTask.Purpose

# By status of an item: what it is called, and its tone.
WORDS = {
    "conflict": ("In conflict", "bad"),
    "adjudicated": ("Adjudicated", "human"),
    "corrected": ("Corrected", "human"),
    "accepted": ("Accepted", "ok"),
    "skipped": ("Skipped", "warn"),
    "leased": ("Being looked at", "accent"),
    "waiting": ("Waits for review", "accent"),
    "blind": ("Waits to be answered blind", "quiet"),
    "audited": ("Audited", "human"),
    "calibration": ("Calibration item", "quiet"),
    "failed": ("Failed", "bad"),
    "machine": ("Machine’s", "machine"),
    "unlabeled": ("Nothing yet", "quiet"),
}


@dataclass(frozen=True)
class ItemRow:
    """An item as a list shows it. `suspicion` is the error probability where the criticizer gives one.

    While somebody is still to label the item blind, nothing of the machine's is here.
    """

    item: Item
    status: str
    annotation: Annotation | None = None
    suspicion: float | None = None
    error_prob: float | None = None
    task: ReviewTask | None = None
    calibration: CalibrationLabel | None = None
    comments: int = 0

    @property
    def word(self) -> str:
        return WORDS[self.status][0]

    @property
    def tone(self) -> str:
        return WORDS[self.status][1]

    @property
    def machine_label(self) -> Label | None:
        return self.annotation.label if self.annotation else None

    @property
    def has_answer(self) -> bool:
        return self.task is not None and self.task.state == State.ANSWERED

    @property
    def human_label(self) -> Label | None:
        """A person's: in the round, in an audit of it, or for calibration."""
        if self.has_answer and self.task is not None and self.task.correction is not None:
            return self.task.correction.label
        return self.calibration.label if self.calibration else None

    @property
    def human_answer(self) -> str:
        """A person's answer in words, also for calibration; "" where there is none, and where it says "no answer"."""
        correction = self.task.correction if self.task is not None and self.has_answer else None
        if correction is not None:
            return correction.answer
        known = self.calibration.answers if self.calibration else None
        return str(known[0]["text"]) if known else ""

    @property
    def human_start(self) -> int | None:
        """Where a person's answer begins in the item's text, 0 of "no answer"; None where answers are no spans."""
        correction = self.task.correction if self.task is not None and self.has_answer else None
        if correction is not None:
            return correction.start
        known = self.calibration.answers if self.calibration else None
        return None if known is None else int(known[0]["start"]) if known else 0

    @property
    def reviewer(self) -> str:
        """Whose answer or skip it is."""
        correction = self.task.correction if self.task is not None else None
        if correction is not None:
            return correction.author.get_username()
        author = self.calibration.author if self.calibration else None
        return author.get_username() if author else ""

    @property
    def meter(self) -> float | None:
        """The error probability on a scale from 0 to 1, for a small bar; None where there is only an order."""
        value = self.suspicion
        return value if value is not None and 0 <= value <= 1 else None


def rows_of(project: Project, chain: Chain, ids: Sequence[int]) -> list[ItemRow]:
    """The items with these ids, in this order, with as many queries for a hundred as for one."""
    found = Item.objects.filter(project=project, pk__in=ids)
    parts = ("image", "gold", "calibration_label__label", "calibration_label__author")
    items = {item.pk: item for item in found.select_related(*parts)}
    blind = set(
        open_tasks()
        .filter(item__in=ids, round__kind__in=[ReviewRound.Kind.CALIBRATION, ReviewRound.Kind.AUDIT])
        .values_list("item_id", flat=True)
    )
    annotations: dict[int, Annotation] = {}
    if chain.annotation is not None:
        given = Annotation.objects.filter(run=chain.annotation, item__in=ids).select_related("label")
        annotations = {each.item_id: each for each in given.defer("raw_text", "logprobs", "earlier")}
    criticisms: dict[int, tuple[float | None, float | None]] = {}
    if chain.criticism is not None:
        said = Criticism.objects.filter(
            run=chain.criticism, annotation__in=[each.pk for each in annotations.values()], failure=""
        )
        criticisms = {
            pk: (priority, error_prob)
            for pk, priority, error_prob in said.values_list("annotation_id", "priority", "error_prob")
        }
    tasks = _tasks(chain, ids)
    comments = dict(
        Comment.objects.filter(item__in=ids).order_by().values_list("item").annotate(count=Count("pk"))
    )
    rows = []
    for pk in ids:
        if pk not in items:
            continue
        calibration: CalibrationLabel | None = getattr(items[pk], "calibration_label", None)
        annotation = None if pk in blind else annotations.get(pk)
        priority, error_prob = criticisms.get(annotation.pk, (None, None)) if annotation else (None, None)
        task = tasks.get(pk)
        rows.append(
            ItemRow(
                item=items[pk],
                status=_status(chain, annotation, task, pk in blind, calibration is not None),
                annotation=annotation,
                suspicion=priority,
                error_prob=error_prob,
                task=task,
                calibration=calibration,
                comments=comments.get(pk, 0),
            )
        )
    return rows


def _tasks(chain: Chain, ids: Sequence[int]) -> dict[int, ReviewTask]:
    """By item: its counted task in the round; else its answer in an audit."""
    if chain.round is None:
        return {}
    tasks = (
        ReviewTask.counted.filter(item__in=ids)
        .filter(round__in=chain.rounds)
        .select_related("correction__label", "correction__author", "holder")
        .order_by(F("round").desc())
    )
    found: dict[int, ReviewTask] = {}
    for task in tasks:
        if task.round_id == chain.round.pk or task.state == State.ANSWERED:
            found[task.item_id] = task
    # What the round says goes before an audit: its rows come last, since audits are made after it.
    return found


def _status(
    chain: Chain,
    annotation: Annotation | None,
    task: ReviewTask | None,
    is_blind: bool,
    is_calibration: bool,
) -> str:
    if is_blind:
        return "blind"
    if task is not None and chain.round is not None and task.round_id == chain.round.pk:
        return _status_in_round(annotation, task)
    if task is not None:
        return "audited"
    if is_calibration:
        return "calibration"
    if annotation is None:
        return "unlabeled"
    return "failed" if annotation.failure else "machine"


def _status_in_round(annotation: Annotation | None, task: ReviewTask) -> str:
    if task.purpose == Purpose.ADJUDICATION:
        return "adjudicated" if task.state == State.ANSWERED else "conflict"
    if task.state == State.ANSWERED and task.correction is not None:
        return "corrected" if is_changed(annotation, task.correction) else "accepted"
    return str(task.state)
