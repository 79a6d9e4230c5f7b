"""Routers, what they were learned from, and the plans by which they hand out items."""

import uuid
from typing import NamedTuple

import numpy as np
from django.db import models
from django.db.models import Q
from django.utils import timezone

from annotate.models import AnnotationRun, Item, ModelRun, Project, User
from jobs.models import Job, ModelCall


def comparisons_path(comparisons: "ComparisonSet", filename: str) -> str:
    return f"comparisons/{comparisons.project_id}/{uuid.uuid4().hex}"


def router_path(router: "Router", filename: str) -> str:
    return f"routers/{router.project_id}/{uuid.uuid4().hex}"


class ComparisonSet(models.Model):
    """An uploaded file of queries with two responses each, for those who only want a router.

    Without a job it waits to be told what its columns hold; its comparisons are complete when the job is done.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="comparison_sets")
    file = models.FileField(upload_to=comparisons_path, max_length=255)
    filename = models.CharField(max_length=255)
    size = models.PositiveBigIntegerField(default=0, help_text="Bytes.")
    encoding = models.CharField(max_length=20, blank=True, help_text="Empty: found out from the file.")
    mapping = models.JSONField(
        default=dict, help_text="Which column holds what, and which response is premium."
    )
    imported = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)
    problems = models.JSONField(default=list, help_text="The first rejected rows, each `{row, message}`.")
    job = models.OneToOneField(Job, on_delete=models.PROTECT, null=True, related_name="comparison_set")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.filename

    @property
    def is_ready(self) -> bool:
        """Whether all of its comparisons are there."""
        return self.job is not None and self.job.state == Job.State.DONE


class Comparison(models.Model):
    """A query with a cheap and a premium response. Gains are premium minus cheap, by people (gold) and by a judge.

    Without either it is a query of which the router says what it expects. Costs are US$, where the file states them.
    """

    comparison_set = models.ForeignKey(ComparisonSet, on_delete=models.CASCADE, related_name="comparisons")
    position = models.PositiveIntegerField()
    query = models.TextField()
    cheap_response = models.TextField(blank=True)
    premium_response = models.TextField(blank=True)
    gold_gain = models.FloatField(null=True)
    preference = models.FloatField(null=True)
    cheap_cost = models.FloatField(null=True)
    premium_cost = models.FloatField(null=True)

    class Meta:
        ordering = ["comparison_set", "position"]
        constraints = [
            models.UniqueConstraint(fields=["comparison_set", "position"], name="comparison_position")
        ]

    def __str__(self) -> str:
        return self.query[:80]


class Router(models.Model):
    """What was learned about who should answer an item.

    Its job gathers the data, makes the vectors of the items, trains, and measures; `metrics` holds the tables and
    curves of its page, `file` the router itself as `route.saving` writes it, `scores` what it says of each item that
    was there then.
    """

    class Kind(models.TextChoices):
        DEFERRAL = "deferral", "Learning to defer"
        META = "meta", "Premium or cheap"
        TRACE = "trace", "Trace-aware routing"

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="routers")
    kind = models.CharField(max_length=16, choices=Kind)
    name = models.CharField(max_length=120)
    vectors = models.JSONField(default=dict, help_text="Which vectors of the items it sees.")
    parameters = models.JSONField(default=dict, help_text="What was chosen when it was trained.")
    seed = models.PositiveIntegerField(default=42)
    comparison_set = models.ForeignKey(
        ComparisonSet, on_delete=models.RESTRICT, null=True, related_name="routers"
    )
    judge_runs: "models.ManyToManyField[JudgeRun, models.Model]" = models.ManyToManyField(
        "JudgeRun", related_name="routers"
    )
    job = models.OneToOneField(Job, on_delete=models.PROTECT, related_name="router")
    file = models.FileField(upload_to=router_path, max_length=255, blank=True)
    scores = models.FileField(upload_to=router_path, max_length=255, blank=True)
    data_digest = models.CharField(
        max_length=64, blank=True, help_text="SHA-256 of what it was learned from."
    )
    metrics = models.JSONField(default=dict)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_trained(self) -> bool:
        return bool(self.file)


class Agent(models.Model):
    """One of those among whom a router chooses. Position 0 is the default: the cheap annotator of two or more.

    `run` is an annotation run that says which annotator it is; none where the agent is people. `alpha` and `beta` are
    those of the cost α · 1{wrong} + β; `price` is US$ an item.
    """

    router = models.ForeignKey(Router, on_delete=models.CASCADE, related_name="agents")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=240)
    run = models.ForeignKey(AnnotationRun, on_delete=models.RESTRICT, null=True, related_name="+")
    alpha = models.FloatField(default=1.0)
    beta = models.FloatField(default=0.0)
    price = models.DecimalField(max_digits=12, decimal_places=8, null=True)

    class Meta:
        ordering = ["router", "position"]
        constraints = [
            models.UniqueConstraint(fields=["router", "position"], name="agent_position"),
            models.UniqueConstraint(
                fields=["router"], name="people_are_one_agent", condition=Q(run__isnull=True)
            ),
            models.CheckConstraint(condition=Q(alpha__gte=0, beta__gte=0), name="agent_costs_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_people(self) -> bool:
        return self.run_id is None


class Plan(models.Model):
    """Which agent answers each of the project's items that are left.

    Its `run` holds one annotation an item, once the agents answered; the items of people are in the run's review round.
    `expected` is the preview as it was when the plan was started.
    """

    router = models.ForeignKey(Router, on_delete=models.RESTRICT, related_name="plans")
    setting = models.JSONField(default=dict, help_text="Limits and weights as they were chosen.")
    expected = models.JSONField(default=dict)
    run = models.OneToOneField(AnnotationRun, on_delete=models.CASCADE, related_name="plan")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"Plan {self.pk} of {self.router}"


class Allotted(NamedTuple):
    """A block's arrays of shape (n,): item ids in order, and the position of each one's agent."""

    item_ids: np.ndarray  # int64
    agents: np.ndarray  # int16


class PlanBlock(models.Model):
    """A part of a plan as arrays, in order of item id, as the blocks of a draw."""

    SIZE = 50_000

    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="blocks")
    number = models.PositiveIntegerField()
    item_ids = models.BinaryField()
    agents = models.BinaryField()

    class Meta:
        ordering = ["plan", "number"]
        constraints = [models.UniqueConstraint(fields=["plan", "number"], name="plan_block_number")]

    def __str__(self) -> str:
        return f"block {self.number} of {self.plan}"

    def arrays(self) -> Allotted:
        return Allotted(
            np.frombuffer(bytes(self.item_ids), dtype="<i8"), np.frombuffer(bytes(self.agents), dtype="<i2")
        )


class JudgeRun(ModelRun):
    """A model that compares what two annotators said about the same items."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="judge_runs")
    cheap = models.ForeignKey(AnnotationRun, on_delete=models.CASCADE, related_name="+")
    premium = models.ForeignKey(AnnotationRun, on_delete=models.CASCADE, related_name="+")

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"Comparison {self.pk}: {self.who}"


class Preference(ModelCall):
    """What the judge said about one item: 1 for the premium annotator's answer, −1 for the cheap one's, 0 for neither.

    Empty where it failed. The order in which it saw the two was drawn by the run's seed.
    """

    run = models.ForeignKey(JudgeRun, on_delete=models.CASCADE, related_name="preferences")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="+")
    value = models.SmallIntegerField(null=True)
    premium_first = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "item"], name="one_preference_an_item"),
            models.CheckConstraint(
                condition=Q(failure="", value__isnull=False) | (~Q(failure="") & Q(value__isnull=True)),
                name="preference_or_failure",
            ),
            models.CheckConstraint(
                condition=Q(value__isnull=True) | Q(value__in=[-1, 0, 1]), name="preference_in_range"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.item}: {self.value if self.value is not None else self.failure}"


class TracedRun(models.Model):
    """A trace router at work in an annotation run: it reads each item's steps and stops at most `budget` of them.

    `taken` grows by conditional UPDATE before a stream is stopped, so that it never exceeds the budget.
    """

    run = models.OneToOneField(AnnotationRun, on_delete=models.CASCADE, related_name="traced")
    router = models.ForeignKey(Router, on_delete=models.RESTRICT, related_name="traced_runs")
    limit = models.FloatField(help_text="ρ: the most of the items that may go to people.")
    budget = models.PositiveIntegerField()
    taken = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(taken__lte=models.F("budget")), name="escalations_within_budget"
            ),
            models.CheckConstraint(condition=Q(limit__gte=0, limit__lte=1), name="escalation_limit_in_0_1"),
        ]

    def __str__(self) -> str:
        return f"{self.router} in {self.run}"


class RouterQuery(ModelCall):
    """What the router's model said about the first `step` steps of an item: in development, or in a traced run.

    `variant` is the place of its wording among those tried. Neither answer where it failed, which counts as going on.
    """

    router = models.ForeignKey(Router, on_delete=models.CASCADE, related_name="queries")
    traced_run = models.ForeignKey(TracedRun, on_delete=models.CASCADE, null=True, related_name="queries")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="+")
    variant = models.PositiveSmallIntegerField(default=0)
    step = models.PositiveSmallIntegerField()
    escalates = models.BooleanField(null=True)
    risk = models.FloatField(null=True, help_text="As the model states it, between 0 and 1.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["router", "item", "variant", "step"],
                name="one_query_a_prefix",
                condition=Q(traced_run__isnull=True),
            ),
            models.UniqueConstraint(
                fields=["traced_run", "item", "step"],
                name="one_query_a_traced_prefix",
                condition=Q(traced_run__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.item} after step {self.step}"

    @property
    def prefix(self) -> int:
        """Item, variant and step in one number, as `prefix_of` makes it: the subject of a job that asks."""
        return prefix_of(self.item_id, self.variant, self.step)


_STEP_BITS, _VARIANT_BITS = 16, 8


def prefix_of(item_id: int, variant: int, step: int) -> int:
    """One number for an item, a variant below 256 and a step below 65,536."""
    return (item_id << _VARIANT_BITS | variant) << _STEP_BITS | step


def parts_of_prefix(prefix: int) -> tuple[int, int, int]:
    """The item, variant and step of such a number."""
    rest, step = divmod(prefix, 1 << _STEP_BITS)
    item_id, variant = divmod(rest, 1 << _VARIANT_BITS)
    return item_id, variant, step
