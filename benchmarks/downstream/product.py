"""One data set through the product: upload, calibrate, annotate, criticize, and rounds reviewed and exported.

Everything goes through the services that `manage.py pipeline` calls; nothing that a user could not do. Django has to be
set up before this module is imported.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from annotate.models import AnnotationRun, Project
from annotate.selectors import calibration_accuracy
from annotate.services.calibration import calibration_from_gold
from annotate.services.local_admin import local_admin
from annotate.services.projects import project_create
from annotate.services.runs import TRAINED, annotation_run_create
from benchmarks.downstream.data import DataSet
from criticize.models import CriticismRun
from jobs.models import Job
from review.management.commands.pipeline import wait
from review.models import Export
from review.pipeline import Pipeline
from review.services.exports import export_create
from review.services.rounds import round_create


@dataclass(frozen=True)
class Judged:
    """A project whose items are annotated and criticized, and what its owner knows before any review."""

    pipeline: Pipeline
    project: Project
    annotations: AnnotationRun
    criticisms: CriticismRun
    calibration_accuracy: float

    @property
    def items(self) -> int:
        """How many items rounds draw from: all but the calibration items."""
        return self.annotations.job.total

    def budget(self, extra: float) -> int:
        """Reviews for the ideal budget, 1 − accuracy as it was measured on the calibration items, plus `extra`."""
        return min(self.items, max(1, int((1 - self.calibration_accuracy + extra) * self.items)))

    def confidences(self) -> dict[int, float]:
        """Item id → how sure the annotator said it was. Exports do not hold it, so it is read where pages do."""
        rows = self.annotations.annotations.values_list("item_id", "confidence")
        return {item_id: confidence for item_id, confidence in rows if confidence is not None}

    def export(self, *, rule: str, budget: int, path: Path) -> Path:
        """Draw a round, answer it from gold, and write the wide export with λ = 1 as Parquet."""
        round = round_create(
            run=self.criticisms, user=self.pipeline.user, count=budget, rule=rule, seed=self.project.seed
        )
        self.pipeline.review_from_gold(round)
        export = export_create(
            round=round,
            user=self.pipeline.user,
            layout=Export.Layout.WIDE,
            format=Export.Format.PARQUET,
            lam=1.0,
        )
        _finish(export.job)
        export.refresh_from_db()
        shutil.copyfile(export.file.path, path)
        return path


def judge(data: DataSet, upload: Path, *, calibration: int, seed: int) -> Judged:
    """Upload the file into a new project and let the trained pair annotate and criticize its items.

    A candidate run first labels the calibration items, each by a classifier that did not learn from it.
    """
    user, _ = local_admin()
    pipeline = Pipeline(user=user, wait=wait, say=lambda sentence: None)
    project = project_create(
        user=user,
        name=f"{data.key} {seed}",
        task_type=data.task_type,
        labels=data.labels,
        seed=seed,
    )
    pipeline.upload(project, upload, gold="gold")
    calibration_from_gold(project=project, count=calibration)
    candidate = annotation_run_create(
        project=project, user=user, choice=TRAINED, scope=AnnotationRun.Scope.CALIBRATION
    )
    _finish(candidate.job)
    accuracy = calibration_accuracy(candidate)
    assert accuracy is not None
    annotations = pipeline.annotate(project, TRAINED, None)
    criticisms = pipeline.criticize(annotations, TRAINED, None)
    annotations.job.refresh_from_db()
    return Judged(pipeline, project, annotations, criticisms, accuracy)


def _finish(job: Job) -> None:
    wait(job)
    job.refresh_from_db()
    if job.state != Job.State.DONE:
        raise SystemExit(job.reason or f"The {job.kind} job ended as {job.state}.")
