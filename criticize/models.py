"""What criticizers said about annotations."""

from django.db import models
from django.db.models import Q

from annotate.models import Annotation, AnnotationRun, ModelRun
from criticize.strategies import RANK, get_strategy
from jobs.models import ModelCall


class CriticismRun(ModelRun):
    annotation_run = models.ForeignKey(AnnotationRun, on_delete=models.CASCADE, related_name="criticism_runs")

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"Criticism {self.pk}: {self.who}"

    @property
    def ranks_only(self) -> bool:
        """Whether its priorities are an order and no more, which only the threshold rule can use."""
        return self.kind == self.Kind.PROMPTED and get_strategy(self.strategy).scale == RANK

    @property
    def is_self_criticism(self) -> bool:
        """Whether the annotator's own model criticizes it."""
        annotator = self.annotation_run
        return self.kind == self.Kind.PROMPTED and (self.provider, self.model) == (
            annotator.provider,
            annotator.model,
        )


class Criticism(ModelCall):
    """What the criticizer said about one annotation. Nothing where it failed.

    `priority` orders annotations by suspicion, whatever the strategy: the error probability where the strategy gives
    one, 1 − quality for a quality score, a rank otherwise. `facts` are the statements of a written answer, each
    `{"start", "end", "error_prob"}` with its place in the answer.
    """

    run = models.ForeignKey(CriticismRun, on_delete=models.CASCADE, related_name="criticisms")
    annotation = models.ForeignKey(Annotation, on_delete=models.CASCADE, related_name="criticisms")
    error_prob = models.FloatField(
        null=True, help_text="P(the annotation is wrong), between 0 and 1, where the strategy gives one."
    )
    priority = models.FloatField(null=True, help_text="Higher is more suspicious.")
    facts = models.JSONField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "annotation"], name="one_criticism_an_annotation"),
            models.CheckConstraint(
                condition=Q(failure="", priority__isnull=False)
                | (~Q(failure="") & Q(priority__isnull=True, error_prob__isnull=True)),
                name="criticism_priority_or_failure",
            ),
            models.CheckConstraint(
                condition=Q(error_prob__isnull=True) | Q(error_prob__gte=0, error_prob__lte=1),
                name="criticism_probability_in_0_1",
            ),
        ]
        indexes = [
            models.Index(fields=["run", "failure"], name="criticism_failed", condition=~Q(failure="")),
            models.Index(fields=["run", "priority", "annotation"], name="criticism_by_priority"),
        ]

    def __str__(self) -> str:
        return f"{self.annotation}: {self.priority if self.priority is not None else self.failure}"
