"""What pages list of criticism runs."""

from django.db.models import QuerySet

from annotate.models import Project
from annotate.run_results import LATEST
from criticize.models import Criticism, CriticismRun


def criticism_runs_of(project: Project) -> QuerySet[CriticismRun]:
    return CriticismRun.objects.filter(annotation_run__project=project).select_related(
        "job", "created_by", "annotation_run__project"
    )


def latest_criticisms(run: CriticismRun) -> QuerySet[Criticism]:
    """The last results that were written, newest first."""
    return run.criticisms.select_related("annotation__item__gold", "annotation__label").order_by("-pk")[
        :LATEST
    ]


def failed_criticisms(run: CriticismRun, failure: str = "") -> QuerySet[Criticism]:
    """Results that are failures, in order; with `failure`, those of that name."""
    failed = run.criticisms.exclude(failure="").select_related("annotation__item", "annotation__label")
    failed = failed.order_by("pk")
    return failed.filter(failure=failure) if failure else failed
