"""Rows for tests, each made whole with one call; what a test does not name gets a plain default."""

import hashlib
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image as PillowImage

from annotate.connections import store_key
from annotate.models import (
    Annotation,
    AnnotationRun,
    CalibrationLabel,
    Connection,
    Item,
    Label,
    Membership,
    ModelRun,
    Project,
    StoredImage,
    User,
)
from annotate.services.projects import project_create
from criticize.models import Criticism, CriticismRun
from jobs.models import Job
from review.models import Export, ReviewRound
from review.services.audits import audit_round_create
from review.services.rounds import calibration_round_create, round_close, round_create

_number = itertools.count(1)


def make_user(username: str = "", *, password: str | None = None) -> User:
    """An account; without a password it can only be signed in by force."""
    return User.objects.create_user(username or f"person-{next(_number)}", password=password)


def make_project(
    task_type: str = "text_classification",
    labels: Sequence[str] = ("negative", "positive"),
    *,
    owner: User | None = None,
    reviewers: Sequence[User] = (),
    name: str = "Tweets",
    **fields: Any,
) -> Project:
    project = project_create(
        user=owner or make_user(), name=name, task_type=task_type, labels=labels, **fields
    )
    for reviewer in reviewers:
        make_membership(project, reviewer)
    return project


def make_membership(project: Project, user: User, role: str = Membership.Role.REVIEWER) -> Membership:
    return Membership.objects.create(project=project, user=user, role=role)


def label_named(project: Project, name: str) -> Label:
    return project.labels.get(name=name)


def png_bytes(color: str = "teal", size: tuple[int, int] = (8, 6)) -> bytes:
    stream = io.BytesIO()
    PillowImage.new("RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


def make_image(project: Project, data: bytes | None = None) -> StoredImage:
    data = png_bytes() if data is None else data
    digest = hashlib.sha256(data).hexdigest()
    stored = project.images.filter(sha256=digest).first()
    if stored is not None:
        return stored
    name = default_storage.save(f"images/{project.pk}/{digest[:2]}/{digest}.png", ContentFile(data))
    width, height = PillowImage.open(io.BytesIO(data)).size
    return StoredImage.objects.create(
        project=project, sha256=digest, file=name, media_type="image/png", width=width, height=height
    )


def make_item(project: Project, *, gold: str = "", external_id: str = "", **fields: Any) -> Item:
    """An item with the parts that its project's task needs. `gold` is the name of a label."""
    number = next(_number)
    task = project.task
    if task.needs_text:
        fields.setdefault("text", f"What a fine day, number {number}")
    if task.needs_question:
        fields.setdefault("question", f"Is there anything in picture {number}?")
    if task.needs_image and "image" not in fields:
        fields["image"] = make_image(project)
    return Item.objects.create(
        project=project,
        external_id=external_id or f"item-{number}",
        gold=label_named(project, gold) if gold else None,
        **fields,
    )


def make_items(project: Project, count: int, **fields: Any) -> list[Item]:
    return [make_item(project, **fields) for _ in range(count)]


def make_calibration_label(item: Item, label: str, author: User | None = None) -> CalibrationLabel:
    return CalibrationLabel.objects.create(
        project=item.project, item=item, label=label_named(item.project, label), author=author
    )


def make_connection(owner: User, *, key: str = "", **fields: Any) -> Connection:
    connection = Connection(
        owner=owner,
        **{"name": f"connection-{next(_number)}", "provider": "openai", **fields},
    )
    store_key(connection, key)
    connection.save()
    return connection


def make_job(kind: str = "annotation", state: str = Job.State.DONE, **fields: Any) -> Job:
    """A job without chunks: nothing runs it."""
    finished = timezone.now() if state in (Job.State.DONE, Job.State.FAILED, Job.State.CANCELLED) else None
    return Job.objects.create(kind=kind, state=state, finished_at=finished, **fields)


def make_annotation_run(
    project: Project,
    answers: Mapping[Item, str] | None = None,
    *,
    state: str = Job.State.DONE,
    **fields: Any,
) -> AnnotationRun:
    """A run with an annotation of each item: by default the project's first label; "" is a refusal."""
    if answers is None:
        first = project.labels.order_by("position").values_list("name", flat=True)[0]
        items = project.items.filter(calibration_label=None).order_by("id")
        answers = dict.fromkeys(items, first)
    failed = sum(not label for label in answers.values())
    run = AnnotationRun.objects.create(
        project=project,
        job=make_job("annotation", state, total=len(answers), done=len(answers), failed=failed),
        created_by=project.created_by,
        **{
            "kind": ModelRun.Kind.PROMPTED,
            "provider": "openai",
            "model": "small",
            "strategy": "cot",
            **fields,
        },
    )
    labels = {label.name: label for label in project.labels.all()}
    Annotation.objects.bulk_create(
        Annotation(
            run=run,
            item=item,
            label=labels[name] if name else None,
            failure="" if name else "refused",
            message="" if name else "The model declined to answer.",
            reasoning="It reads like one." if name else "",
        )
        for item, name in answers.items()
    )
    return run


def make_criticism_run(
    annotation_run: AnnotationRun,
    error_probs: Sequence[float | None] | None = None,
    *,
    state: str = Job.State.DONE,
    **fields: Any,
) -> CriticismRun:
    """A run with a criticism of each labelled annotation, in order of item; by default falling from 0.9 to 0.1.

    None is a call that timed out.
    """
    annotations = list(annotation_run.annotations.filter(failure="").order_by("item_id"))
    if error_probs is None:
        step = 0.8 / max(1, len(annotations) - 1)
        error_probs = [0.9 - step * position for position in range(len(annotations))]
    run = CriticismRun.objects.create(
        annotation_run=annotation_run,
        job=make_job(
            "criticism",
            state,
            total=len(annotations),
            done=len(annotations),
            failed=sum(error_prob is None for error_prob in error_probs),
        ),
        created_by=annotation_run.created_by,
        **{
            "kind": ModelRun.Kind.PROMPTED,
            "provider": "openai",
            "model": "other",
            "strategy": "cot",
            **fields,
        },
    )
    Criticism.objects.bulk_create(
        Criticism(
            run=run,
            annotation=annotation,
            error_prob=error_prob,
            priority=error_prob,
            failure="timed_out" if error_prob is None else "",
            reasoning="" if error_prob is None else "It could be meant otherwise.",
        )
        for annotation, error_prob in zip(annotations, error_probs, strict=True)
    )
    return run


def make_round(criticism_run: CriticismRun, budget: int = 2) -> ReviewRound:
    """An open round of the `budget` most suspicious items."""
    return round_create(run=criticism_run, user=criticism_run.created_by, count=budget)


def make_calibration_round(project: Project, count: int = 2) -> ReviewRound:
    return calibration_round_create(project=project, user=project.created_by, count=count)


def make_audit_round(round: ReviewRound, count: int = 1, **options: Any) -> ReviewRound:
    """An audit of a round, which is closed for it."""
    round_close(round=round, user=round.created_by)
    return audit_round_create(round=round, user=round.created_by, count=count, **options)


def make_reviewable_round(
    items: int = 4, budget: int = 2, *, owner: User | None = None, reviewers: Sequence[User] = ()
) -> ReviewRound:
    """A project with items, a run that annotated them, one that criticized it, and a round ready to review."""
    project = make_project(owner=owner, reviewers=reviewers)
    make_items(project, items, gold="positive")
    return make_round(make_criticism_run(make_annotation_run(project)), budget)


def make_export(round: ReviewRound, *, state: str = Job.State.QUEUED, **fields: Any) -> Export:
    """An export whose file is not written."""
    return Export.objects.create(
        project=round.project,
        round=round,
        job=make_job("export", state),
        created_by=round.created_by,
        **fields,
    )
