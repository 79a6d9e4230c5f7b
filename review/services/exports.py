"""Starting exports."""

from django.db import transaction

from annotate.errors import Refusal
from annotate.history import record
from annotate.locks import keep_project
from annotate.models import User
from jobs.models import Job
from jobs.services import job_cancel, job_resume, stream_job_create
from review.export_parts import forget_parts
from review.models import Export, ReviewRound


@transaction.atomic
def export_create(
    *,
    round: ReviewRound,
    user: User,
    layout: str = Export.Layout.WIDE,
    format: str = Export.Format.CSV,
    lam: float = 1.0,
    escape_formulas: bool = True,
    with_card: bool = False,
) -> Export:
    """Start writing an export of the round's project. Raises Refusal.

    `with_card` makes it a zip archive of the file and its data card; an image folder always is one.
    """
    keep_project(round.project_id)
    if round.kind == ReviewRound.Kind.AUDIT:
        raise Refusal("An audit is exported with the round that it audits: choose that.", field="round")
    if round.kind not in ReviewRound.EXPORTED:
        raise Refusal("A calibration round cannot be exported: draw a review round first.", field="round")
    if round.routed_run is not None and not round.routed_run.job.is_finished:
        raise Refusal(
            "The router still hands out items. Export its round once the run is done, or cancelled.",
            field="round",
        )
    if layout not in Export.Layout.values:
        raise Refusal(f"The layout is one of: {', '.join(Export.Layout.values)}.", field="layout")
    if format not in Export.Format.values:
        raise Refusal(f"The format is one of: {', '.join(Export.Format.values)}.", field="format")
    if format == Export.Format.IMAGE_FOLDER and not round.project.task.needs_image:
        raise Refusal(
            "Only a project with images can be exported as an image folder: choose CSV, JSON Lines or Parquet.",
            field="format",
        )
    if format == Export.Format.IMAGE_FOLDER and layout == Export.Layout.ANSWERS:
        raise Refusal(
            "An image folder holds items, not answers: choose CSV, JSON Lines or Parquet.", field="format"
        )
    if format == Export.Format.SQUAD:
        _require_squad(round, layout)
    if not 0 <= lam <= 1:
        raise Refusal("λ must be between 0 and 1.", field="lam")
    export = Export.objects.create(
        project=round.project,
        round=round,
        layout=layout,
        format=format,
        lam=lam,
        escape_formulas=escape_formulas,
        with_card=with_card or format == Export.Format.IMAGE_FOLDER,
        job=stream_job_create(kind="export", total=round.project.items.count()),
        created_by=user,
    )
    record(
        round.project,
        user,
        "export made",
        subject=f"export {export.pk} of round {round.pk}",
        subject_id=export.pk,
        new={"format": str(export.get_format_display()), "layout": layout, "λ": lam},
    )
    return export


def _require_squad(round: ReviewRound, layout: str) -> None:
    if not round.project.task.is_span:
        raise Refusal(
            "Only answers that are spans of a text can be exported in SQuAD's JSON: choose CSV, JSON Lines or "
            "Parquet.",
            field="format",
        )
    if layout != Export.Layout.WIDE:
        raise Refusal(
            "SQuAD's JSON holds each item once, with its final answer: choose the wide layout.",
            field="layout",
        )


@transaction.atomic
def export_resume(*, export: Export, user: User) -> None:
    """Go on with an export that stopped by itself, after what is written already. Raises Refusal."""
    if export.job.state != Job.State.PAUSED:
        raise Refusal("This export is not paused.")
    job_resume(export.job)
    _record(export, user, "export resumed")


@transaction.atomic
def export_cancel(*, export: Export, user: User) -> None:
    """End an export that is not written yet; what there is of it goes. Raises Refusal."""
    if export.job.is_finished:
        raise Refusal("This export is not being written.")
    # The export first, and then its job, as the worker does who writes a part of it.
    Export.objects.filter(pk=export.pk).update(written={})
    job_cancel(export.job)
    _record(export, user, "export cancelled")
    transaction.on_commit(lambda: forget_parts(export))


def _record(export: Export, user: User, action: str) -> None:
    record(export.project, user, action, subject=f"export {export.pk}", subject_id=export.pk)
