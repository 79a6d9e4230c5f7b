"""What criticizers said about annotations."""

from django.db import models
from django.db.models import Q

from annotate.models import Annotation, AnnotationRun, ModelRun
from jobs.models import ModelCall


class CriticismRun(ModelRun):
    annotation_run = models.ForeignKey(AnnotationRun, on_delete=models.CASCADE, related_name="criticism_runs")

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"Criticism {self.pk}: {self.who}"

    @property
    def is_self_criticism(self) -> bool:
        """Whether the annotator's own model criticizes it."""
        annotator = self.annotation_run
        return self.kind == self.Kind.PROMPTED and (self.provider, self.model) == (
            annotator.provider,
            annotator.model,
        )


class Criticism(ModelCall):
    """The criticizer's error probability for one annotation. None where it failed."""

    run = models.ForeignKey(CriticismRun, on_delete=models.CASCADE, related_name="criticisms")
    annotation = models.ForeignKey(Annotation, on_delete=models.CASCADE, related_name="criticisms")
    error_prob = models.FloatField(null=True, help_text="P(the annotation is wrong), between 0 and 1.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "annotation"], name="one_criticism_an_annotation"),
            models.CheckConstraint(
                condition=Q(failure="", error_prob__gte=0, error_prob__lte=1)
                | (~Q(failure="") & Q(error_prob__isnull=True)),
                name="criticism_probability_or_failure",
            ),
        ]
        indexes = [models.Index(fields=["run", "failure"], name="criticism_failed", condition=~Q(failure=""))]

    def __str__(self) -> str:
        return f"{self.annotation}: {self.error_prob if self.error_prob is not None else self.failure}"
