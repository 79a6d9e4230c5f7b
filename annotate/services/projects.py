"""Projects, their label sets and members."""

import shutil
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import Max, Q, QuerySet, RestrictedError

from annotate.errors import Refusal
from annotate.history import record
from annotate.label_sets import need_label_set
from annotate.locks import lock_project, lock_project_to_delete
from annotate.models import Label, Membership, Project, User
from annotate.services.guidelines import guideline_set, instructions_set
from annotate.task_types import get_task_type
from jobs.models import Job
from jobs.services import job_cancel

MAX_LABEL_NAME = 200
MOST_REVIEW_PRICE = 1000
_DEADLOCK = "40P01"


@transaction.atomic
def project_create(
    *,
    user: User,
    name: str,
    task_type: str,
    instructions: str = "",
    labels: Sequence[str] = (),
    sample: str = "",
    seed: int = 42,
) -> Project:
    """A project owned by `user`. Without `labels` the task type's own are used, if it has any."""
    name = name.strip()
    if not name:
        raise Refusal("Give the project a name.", field="name")
    try:
        task = get_task_type(task_type)
    except ValueError as error:
        raise Refusal(str(error), field="task_type") from error
    project = Project.objects.create(
        name=name, task_type=task.key, instructions=instructions, sample=sample, seed=seed, created_by=user
    )
    Membership.objects.create(project=project, user=user, role=Membership.Role.OWNER)
    if clean_label_names(labels):
        need_label_set(project, "leave the labels out", field="labels")
    for label in clean_label_names(labels or task.default_labels):
        _label_create(project, label)
    return project


@transaction.atomic
def project_update(
    *,
    project: Project,
    name: str,
    instructions: str | None = None,
    review_price: Decimal | None = None,
    user: User | None = None,
) -> None:
    """Change the project's name; and, where they are given, its guidelines and what a review costs in US$."""
    if not name.strip():
        raise Refusal("Give the project a name.", field="name")
    if review_price is not None and not 0 <= review_price <= MOST_REVIEW_PRICE:
        raise Refusal(
            f"The price of a review must be between $0 and ${MOST_REVIEW_PRICE:,}.", field="review_price"
        )
    if instructions is not None:
        instructions_set(project=project, user=user, text=instructions)
    old, project.name = project.name, name.strip()
    if project.name != old:
        record(
            project, user, "project renamed", subject=old, subject_id=project.pk, old=old, new=project.name
        )
    changed = ["name"]
    if review_price is not None and review_price != project.review_price:
        record(
            project,
            user,
            "price of a review changed",
            subject=project.name,
            subject_id=project.pk,
            old=f"${project.review_price.normalize():f}",
            new=f"${review_price.normalize():f}",
        )
        project.review_price = review_price
        changed.append("review_price")
    project.save(update_fields=changed)


def project_delete(*, project: Project, confirm_name: str) -> None:
    """Delete the project with everything in it. `confirm_name` must repeat its name.

    Raises Refusal, and Http404 where somebody else has deleted it.
    """
    if confirm_name.strip() != project.name:
        raise Refusal(f"To delete it, type the project's name: {project.name}", field="confirm_name")
    try:
        _delete(project)
    except IntegrityError as error:  # an answer, say, or what a cancelled job still had to write
        raise _StillWritten from error
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != _DEADLOCK:
            raise
        raise _StillWritten from error


@transaction.atomic
def _delete(project: Project) -> None:
    lock_project_to_delete(project.pk)
    if _active_jobs(project).exists():
        raise Refusal("A job of this project is still running. Cancel it first.")
    # Whatever room they are of, files lie in a folder of their kind and their project.
    folders = list(Path(settings.MEDIA_ROOT).glob(f"*/{project.pk}"))
    for job in Job.objects.filter(vector_version__project=project, state__in=Job.UNFINISHED):
        job_cancel(job)  # nobody waits for these vectors any more
    Project.objects.filter(pk=project.pk).delete()
    transaction.on_commit(partial(_remove, folders))


class _StillWritten(Refusal):
    is_conflict = True

    def __init__(self) -> None:
        super().__init__("Something was written in this project just now, so it is not deleted. Try again.")


def _remove(folders: Sequence[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _active_jobs(project: Project) -> QuerySet[Job]:
    return Job.objects.filter(
        Q(annotationrun__project=project)
        | Q(criticismrun__annotation_run__project=project)
        | Q(upload__project=project)
        | Q(export__project=project)
        | Q(judgerun__project=project)
        | Q(router__project=project)
        | Q(comparison_set__project=project),
        state__in=[Job.State.QUEUED, Job.State.RUNNING],
    )


def clean_label_names(names: Sequence[str]) -> list[str]:
    """The names without outer white space and blank ones, in order. Raises Refusal for a name given twice."""
    cleaned: list[str] = []
    for name in names:
        name = clean_label_name(name)
        if not name:
            continue
        if name in cleaned:
            raise Refusal(
                f"The label “{name}” is listed twice. Each label needs a name of its own.", field="labels"
            )
        cleaned.append(name)
    return cleaned


def clean_label_name(name: str) -> str:
    """One line in Unicode's composed form. Raises Refusal when it is too long or holds control characters."""
    name = unicodedata.normalize("NFC", " ".join(name.split()))
    if len(name) > MAX_LABEL_NAME:
        raise Refusal(f"The label “{name[:40]}…” is longer than {MAX_LABEL_NAME} characters.", field="labels")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise Refusal("A label's name holds a control character.", field="labels")
    return name


@transaction.atomic
def label_add(*, project: Project, name: str, description: str = "", user: User | None = None) -> Label:
    need_label_set(project, "this project takes no labels", field="name")
    name = clean_label_name(name)
    if not name:
        raise Refusal("Give the label a name.", field="name")
    lock_project(project.pk)
    if project.labels.filter(name=name).exists():
        raise Refusal(f"There is a label “{name}” already.", field="name")
    label = _label_create(project, name, description.strip())
    new = {"name": label.name, "description": label.description}
    record(project, user, "label added", subject=name, subject_id=label.pk, new=new)
    return label


def _label_create(project: Project, name: str, description: str = "") -> Label:
    last = project.labels.aggregate(last=Max("position"))["last"]
    return Label.objects.create(
        project=project, name=name, description=description, position=0 if last is None else last + 1
    )


@transaction.atomic
def label_update(
    *, label: Label, name: str, description: str, guideline: str | None = None, user: User | None = None
) -> None:
    """Change what a label is called and how models are told of it; and, where it is given, its guideline."""
    name = clean_label_name(name)
    if not name:
        raise Refusal("Give the label a name.", field="name")
    lock_project(label.project_id)
    if label.project.labels.filter(name=name).exclude(pk=label.pk).exists():
        raise Refusal(f"There is a label “{name}” already.", field="name")
    if guideline is not None:
        guideline_set(label=label, user=user, text=guideline)
    old = {"name": label.name, "description": label.description}
    label.name = name
    label.description = description.strip()
    label.save(update_fields=["name", "description"])
    new = {"name": label.name, "description": label.description}
    if new != old:
        record(
            label.project, user, "label changed", subject=old["name"], subject_id=label.pk, old=old, new=new
        )


@transaction.atomic
def label_delete(*, label: Label, user: User | None = None) -> None:
    """Remove a label that nothing uses yet; the positions of those after it close up."""
    project = label.project
    lock_project(project.pk)
    there = project.labels.filter(pk=label.pk).first()
    if there is None:  # somebody else, or another tab, was faster
        return
    label = there  # with its place as it is now
    in_use = Refusal(f"The label “{label.name}” is in use and cannot be deleted. You can rename it.")
    if project.annotation_runs.exists():
        raise in_use
    old = {"name": label.name, "description": label.description}
    record(project, user, "label deleted", subject=label.name, subject_id=label.pk, old=old)
    try:
        label.delete()
    except RestrictedError as error:
        raise in_use from error
    for position, later in enumerate(
        project.labels.filter(position__gt=label.position), start=label.position
    ):
        later.position = position
        later.save(update_fields=["position"])
