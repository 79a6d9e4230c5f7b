"""Rounds of review: what was drawn, who looks at what, what people said, and what was exported."""

import uuid
from typing import NamedTuple

import numpy as np
from django.db import models
from django.db.models import Q
from django.utils import timezone

from annotate.models import Annotation, AnnotationRun, Item, Label, Project, SpanAnswer, User
from criticize.models import Criticism, CriticismRun
from jobs.models import Job


class ReviewRound(models.Model):
    """A budget of reviews, spent by one rule on one run's criticisms; a blind calibration or audit round; or the items
    of a routed run that its router gave to people.

    `budget`, `parameters` and `draw_number` are those of its latest draw: raising the budget draws again among the
    items that nobody has reviewed yet. An audit round holds a simple random sample of `audited`'s unreviewed items.
    """

    class Kind(models.TextChoices):
        REVIEW = "review", "Review"
        CALIBRATION = "calibration", "Calibration"
        AUDIT = "audit", "Audit"
        ROUTED = "routed", "Routed to people"

    class Priority(models.TextChoices):
        CRITICISM = "criticism", "The criticizer alone"
        COMBINED = "combined", "Criticizer and annotator's confidence together"
        CDI = "cdi", "An error detector trained on the annotator's confidence (CDI)"

    class Display(models.TextChoices):
        CRITICISM = "criticism", "The machine's label and the criticism"
        LABEL = "label", "The machine's label alone"
        BLIND = "blind", "Neither"
        RANDOM = "random", "One of the three by chance for each item, to measure what it does"

    class State(models.TextChoices):
        OPEN = "open", "Open"
        CLOSED = "closed", "Closed"

    EXPORTED = (Kind.REVIEW, Kind.ROUTED)

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="review_rounds")
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.REVIEW)
    criticism_run = models.ForeignKey(
        CriticismRun, on_delete=models.CASCADE, null=True, related_name="review_rounds"
    )
    routed_run = models.OneToOneField(
        AnnotationRun,
        on_delete=models.CASCADE,
        null=True,
        related_name="routed_round",
        help_text="Whose items for people it holds.",
    )
    audited = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="audits")
    priority = models.CharField(
        max_length=16, choices=Priority, default=Priority.CRITICISM, help_text="What orders the items."
    )
    rule = models.CharField(max_length=16, blank=True)
    budget = models.PositiveIntegerField(help_text="Human reviews: Σδ never exceeds it.")
    parameters = models.JSONField(default=dict)
    seed = models.PositiveIntegerField(default=42)
    display = models.CharField(
        max_length=16, choices=Display, default=Display.CRITICISM, help_text="What its reviewers see."
    )
    overlap = models.PositiveSmallIntegerField(
        default=1, help_text="People who answer each item of the share that several answer."
    )
    overlap_share = models.FloatField(default=0.0, help_text="Of its items, the share that several answer.")
    gold_rate = models.FloatField(
        default=0.0, help_text="Of what a reviewer is handed, the share of items whose label is known."
    )
    gold_threshold = models.FloatField(
        null=True, help_text="A reviewer below this accuracy on known items is paused; empty: nobody is."
    )
    gold_minimum = models.PositiveSmallIntegerField(
        default=10, help_text="Known items that a reviewer answers before being paused."
    )
    population = models.PositiveIntegerField(default=0, help_text="Items that were drawn from.")
    draw_number = models.PositiveSmallIntegerField(
        default=0, help_text="Of the draw that counts; 0 is the first."
    )
    state = models.CharField(max_length=16, choices=State, default=State.OPEN)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["calibration", "routed"]) | Q(criticism_run__isnull=False),
                name="review_round_has_criticism",
            ),
            models.CheckConstraint(
                condition=Q(kind="routed", routed_run__isnull=False)
                | (~Q(kind="routed") & Q(routed_run__isnull=True)),
                name="routed_round_has_run",
            ),
            models.CheckConstraint(
                condition=Q(kind="audit", audited__isnull=False)
                | (~Q(kind="audit") & Q(audited__isnull=True)),
                name="audit_round_has_audited",
            ),
            models.CheckConstraint(
                condition=Q(overlap__gte=1, overlap__lte=9, overlap_share__gte=0, overlap_share__lte=1),
                name="overlap_in_range",
            ),
            models.CheckConstraint(
                condition=Q(gold_rate__gte=0, gold_rate__lte=0.5), name="gold_rate_at_most_half"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} round {self.pk}"

    @property
    def current_blocks(self) -> "models.QuerySet[DrawBlock]":
        """The blocks of the draw that counts, in order of item id."""
        return self.draw_blocks.filter(draw_number=self.draw_number)

    @property
    def counted_tasks(self) -> "models.QuerySet[ReviewTask]":
        """One task an item: the one whose answer is the item's."""
        return ReviewTask.counted.filter(round=self)

    @property
    def is_blind(self) -> bool:
        """Whether its reviewers see nothing of what models said."""
        return self.kind in (self.Kind.CALIBRATION, self.Kind.AUDIT)

    @property
    def annotation_run(self) -> AnnotationRun | None:
        """The run whose answers it is about; none of a calibration round."""
        return self.criticism_run.annotation_run if self.criticism_run else self.routed_run


class BudgetRaise(models.Model):
    """That a round's budget was raised: who, when, from what to what, and how much was reviewed by then."""

    round = models.ForeignKey(ReviewRound, on_delete=models.CASCADE, related_name="budget_raises")
    draw_number = models.PositiveSmallIntegerField()
    old_budget = models.PositiveIntegerField()
    new_budget = models.PositiveIntegerField()
    reviewed = models.PositiveIntegerField()
    parameters = models.JSONField(default=dict, help_text="The rule's parameters before.")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["round", "draw_number"], name="one_raise_a_draw")]
        ordering = ["draw_number"]

    def __str__(self) -> str:
        return f"{self.round}: {self.old_budget} to {self.new_budget}"


class DrawArrays(NamedTuple):
    """A block's arrays, each of shape (n,): item ids, ε̂ and priority with NaN where there is none, π, δ."""

    item_ids: np.ndarray  # int64
    error_probs: np.ndarray  # float64
    priorities: np.ndarray  # float64
    inclusion_probs: np.ndarray  # float64
    selected: np.ndarray  # bool


class DrawBlock(models.Model):
    """A draw of up to `SIZE` items as arrays, in order of item id: π and δ as they were when it was drawn.

    Never recomputed: a raised budget makes blocks of the next draw number. Arrays, not a row an item, so that a
    million items are drawn in seconds.
    """

    SIZE = 50_000

    round = models.ForeignKey(ReviewRound, on_delete=models.CASCADE, related_name="draw_blocks")
    draw_number = models.PositiveSmallIntegerField(default=0)
    number = models.PositiveIntegerField()
    item_ids = models.BinaryField()
    error_probs = models.BinaryField()
    priorities = models.BinaryField(default=b"")
    inclusion_probs = models.BinaryField()
    selected = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["round", "draw_number", "number"], name="draw_block_number")
        ]
        ordering = ["draw_number", "number"]

    def __str__(self) -> str:
        return f"block {self.number} of round {self.round_id}"

    def arrays(self) -> "DrawArrays":
        return DrawArrays(
            np.frombuffer(bytes(self.item_ids), dtype="<i8"),
            np.frombuffer(bytes(self.error_probs), dtype="<f8"),
            np.frombuffer(bytes(self.priorities), dtype="<f8"),
            np.frombuffer(bytes(self.inclusion_probs), dtype="<f8"),
            np.frombuffer(bytes(self.selected), dtype=np.bool_),
        )


class CountedTasks(models.Manager["ReviewTask"]):
    """One task an item: the one whose answer is the item's."""

    def get_queryset(self) -> "models.QuerySet[ReviewTask]":
        return super().get_queryset().filter(is_counted=True)


class ReviewTask(models.Model):
    """An item for one person to answer. Ordered by rank: 0 is the most suspicious.

    An item that several people answer has a task for each, told apart by `copy`. One of an item's tasks is counted:
    its answer is the item's. It is the first that is answered; where answers differ, the adjudication; never one of
    the known items that reviewers are measured by. Whoever asks about the items of a round asks `counted`.
    """

    class Purpose(models.TextChoices):
        REVIEW = "review", "Review"
        PICKED = "picked", "Picked by hand, outside the draw"
        ADJUDICATION = "adjudication", "Adjudication of answers that differ"
        GOLD = "gold", "Known item, to measure a reviewer"

    class Arm(models.TextChoices):
        CRITICISM = "criticism", "Label and criticism"
        LABEL = "label", "Label"
        BLIND = "blind", "Blind"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        LEASED = "leased", "Being looked at"
        ANSWERED = "answered", "Answered"
        SKIPPED = "skipped", "Skipped"

    # Other indexes begin with the round, and with the item. With one of the round alone SQLite reads all of a round to
    # find the turns of an item in order of their ids.
    round = models.ForeignKey(ReviewRound, on_delete=models.CASCADE, related_name="tasks", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="review_tasks", db_index=False)
    annotation = models.ForeignKey(
        Annotation, on_delete=models.CASCADE, null=True, related_name="review_tasks"
    )
    criticism = models.ForeignKey(Criticism, on_delete=models.SET_NULL, null=True, related_name="+")
    rank = models.PositiveIntegerField()
    purpose = models.CharField(max_length=16, choices=Purpose, default=Purpose.REVIEW)
    copy = models.PositiveSmallIntegerField(
        default=0, help_text="0 for the first of those who answer the item."
    )
    is_counted = models.BooleanField(default=True, help_text="Whether its answer is the item's.")
    arm = models.CharField(
        max_length=16, choices=Arm, default=Arm.CRITICISM, help_text="What whoever answers it sees."
    )
    assigned_to = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, related_name="+", help_text="Empty: whoever comes first."
    )
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    holder = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    lease_until = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=0, help_text="Grows with each answer and undo.")
    correction = models.ForeignKey(
        "Correction",
        on_delete=models.RESTRICT,
        null=True,
        related_name="+",
        help_text="The answer that counts now.",
    )

    objects = models.Manager["ReviewTask"]()
    counted = CountedTasks()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["round", "item"], name="one_counted_task_an_item", condition=Q(is_counted=True)
            ),
            models.UniqueConstraint(
                fields=["round", "item", "copy"],
                name="one_task_a_copy",
                condition=Q(purpose__in=["review", "picked"]),
            ),
            models.UniqueConstraint(
                fields=["round", "item"], name="one_adjudication_an_item", condition=Q(purpose="adjudication")
            ),
            models.UniqueConstraint(
                fields=["round", "item", "assigned_to"],
                name="known_item_once_a_reviewer",
                condition=Q(purpose="gold"),
            ),
            models.CheckConstraint(
                condition=~Q(purpose="gold") | Q(is_counted=False), name="gold_is_never_counted"
            ),
        ]
        indexes = [
            # What is free, in the order of the queue, for nobody in particular or for a person; and how many items are
            # in each state, without looking at a row.
            models.Index(
                fields=["round", "state", "assigned_to", "rank", "copy", "is_counted"], name="task_queue"
            ),
            # Whether somebody has another turn of an item.
            models.Index(fields=["item", "round", "holder"], name="task_of_person"),
            models.Index(fields=["round", "holder", "state"], name="task_holder"),
        ]
        ordering = ["rank", "copy"]

    def __str__(self) -> str:
        return f"{self.item} in {self.round}"


class Correction(SpanAnswer):
    """What a person did with a task. Append-only: an undo is a row of its own, nothing is overwritten.

    It goes with its project alone.
    """

    class Action(models.TextChoices):
        LABEL = "label", "Label"
        SKIP = "skip", "Skip"
        UNDO = "undo", "Undo"

    task = models.ForeignKey(ReviewTask, on_delete=models.CASCADE, related_name="corrections")
    action = models.CharField(max_length=8, choices=Action)
    label = models.ForeignKey(Label, on_delete=models.RESTRICT, null=True, related_name="+")
    answer = models.TextField(blank=True, help_text="Where the task's answers are written.")
    reason = models.CharField(max_length=200, blank=True, help_text="Why it was skipped.")
    author = models.ForeignKey(User, on_delete=models.PROTECT, related_name="corrections")
    seconds = models.FloatField(null=True, help_text="From showing the item to the answer.")
    shown = models.JSONField(
        default=dict,
        help_text="What the reviewer saw: machine label, error probability, reasoning, criticism.",
    )
    late = models.BooleanField(default=False, help_text="Sent after the lease had run out.")
    key = models.UUIDField(
        default=uuid.uuid4, unique=True, help_text="The same answer sent twice counts once."
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["author", "-id"], name="correction_by_author")]
        constraints = [
            models.CheckConstraint(
                condition=Q(action="label", label__isnull=False, answer="", start__isnull=True)
                | (
                    Q(action="label", label__isnull=True)
                    & (~Q(answer="") | Q(start__isnull=False, start=0, end=0))
                )
                | (~Q(action="label") & Q(label__isnull=True, answer="", start__isnull=True)),
                name="correction_answer_iff_label",
            ),
            models.CheckConstraint(
                condition=Q(start__isnull=True, end__isnull=True) | Q(start__lte=models.F("end")),
                name="correction_span_in_order",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.author} {self.action} {self.label or ''}"


class ReviewPause(models.Model):
    """That a reviewer is handed nothing more of a round: too many known items were wrong, or somebody says so."""

    round = models.ForeignKey(ReviewRound, on_delete=models.CASCADE, related_name="pauses")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    reason = models.CharField(max_length=300)
    gold_answered = models.PositiveIntegerField(default=0)
    gold_right = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    lifted_at = models.DateTimeField(null=True)
    lifted_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["round", "user"], name="one_pause_at_a_time", condition=Q(lifted_at=None)
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.round}"


class Export(models.Model):
    class Layout(models.TextChoices):
        WIDE = "wide", "One row an item"
        LONG = "long", "One row a non-zero weight"
        ANSWERS = "answers", "One row an answer"

    class Format(models.TextChoices):
        CSV = "csv", "CSV"
        JSONL = "jsonl", "JSON Lines"
        PARQUET = "parquet", "Parquet"
        IMAGE_FOLDER = "imagefolder", "Image folder"
        SQUAD = "squad", "SQuAD JSON"

    TABLES = (Format.CSV, Format.JSONL, Format.PARQUET)
    TO_TRAIN_ON = (Layout.WIDE, Layout.LONG)

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="exports")
    round = models.ForeignKey(ReviewRound, on_delete=models.RESTRICT, related_name="exports")
    layout = models.CharField(max_length=8, choices=Layout, default=Layout.WIDE)
    format = models.CharField(max_length=16, choices=Format, default=Format.CSV)
    lam = models.FloatField(default=1.0, help_text="λ of the ACT loss, between 0 and 1.")
    escape_formulas = models.BooleanField(
        default=True, help_text="In CSV, put ' before texts that a spreadsheet would run as a formula."
    )
    with_card = models.BooleanField(
        default=False, help_text="A zip archive of the file and its data card, instead of the file alone."
    )
    file = models.FileField(max_length=255, blank=True)
    card = models.JSONField(default=dict, help_text="Its data card, as it was when the file was written.")
    rows = models.PositiveIntegerField(default=0)
    size = models.PositiveBigIntegerField(default=0)
    written = models.JSONField(
        default=dict, help_text="How far an unfinished file is, for whoever goes on with it."
    )
    job = models.OneToOneField(Job, on_delete=models.PROTECT, related_name="export")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(lam__gte=0, lam__lte=1), name="export_lambda_in_0_1")
        ]

    def __str__(self) -> str:
        return f"{self.project} {self.layout} {self.format}"

    @property
    def is_archive(self) -> bool:
        """Whether it is a zip archive: of a table and its data card, or of a folder of images with both."""
        return self.with_card or self.format == self.Format.IMAGE_FOLDER

    @property
    def table_name(self) -> str:
        """The file of rows, by itself or in the archive. An image folder has it beside its images."""
        if self.format == self.Format.IMAGE_FOLDER:
            return "train/metadata.parquet"
        if self.format == self.Format.SQUAD:
            return f"{self._stem}.json"
        return f"{self._stem}.{self.format}"

    @property
    def filename(self) -> str:
        return f"{self._stem}.zip" if self.is_archive else self.table_name

    @property
    def _stem(self) -> str:
        start = f"overread-{self.project_id}-round-{self.round_id}"
        if self.format == self.Format.SQUAD:
            return f"{start}-squad"
        images = "-images" if self.format == self.Format.IMAGE_FOLDER else ""
        return f"{start}-{self.layout}{images}"
