"""Uploaded comparisons: receiving a file, saying what its columns hold, importing it, and training a router from it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction

from annotate.errors import Refusal
from annotate.full_disk import FullDisk, is_full_disk
from annotate.history import record
from annotate.locks import keep_project
from annotate.models import Project, User, VectorVersion
from annotate.services.uploads import FULL_DISK, PREVIEW_ROWS
from annotate.text_encoder import EncoderMissing, model_folder
from annotate.uploads.errors import UploadError
from annotate.uploads.limits import format_bytes
from annotate.uploads.rows import Row
from annotate.vectors import PLAIN, VectorChoice
from jobs.models import Job
from jobs.services import job_cancel, job_resume, stream_job_create
from route.comparison_import import (
    ReadComparison,
    open_comparisons,
    read_comparison,
    rejected_comparisons,
)
from route.comparison_rows import ComparisonMapping, suggest_columns, validate_columns
from route.meta import LEARNERS, SCALINGS
from route.meta_report import REGRESSORS
from route.models import ComparisonSet, Router, comparisons_path
from route.services.routers import router_create
from route.uploaded_comparisons import comparison_counts, prices_of

_FIRST_READ = 5


@dataclass(frozen=True, slots=True)
class ComparisonPreview:
    """The beginning of a file and how its columns could be used."""

    columns: list[str]
    rows: list[Row]
    notes: list[str]
    total_hint: int | None
    mapping: ComparisonMapping


@dataclass(frozen=True, slots=True)
class UploadedChoice:
    """How a router is to be trained from uploaded comparisons. `scaling` None leaves gold gains as they are."""

    learner: str = "dr"
    regressor: str = "forest"
    scaling: str | None = "variance"
    vectors: VectorChoice = PLAIN
    name: str = ""
    seed: int | None = None


def comparison_set_receive(
    *, project: Project, user: User, file: "File[bytes]", encoding: str = ""
) -> ComparisonSet:
    """Keep the file.

    Raises Refusal, and keeps nothing, when it cannot be read as a table; FullDisk when there is no room for it.
    """
    size = file.size or 0
    if size > settings.MAX_UPLOAD_BYTES:
        raise Refusal(
            f"The file has {format_bytes(size)}; at most {format_bytes(settings.MAX_UPLOAD_BYTES)} are accepted. "
            "Split it, and train on a part of it.",
            field="file",
        )
    comparisons = ComparisonSet(
        project=project,
        filename=(file.name or "comparisons")[-255:],
        size=size,
        encoding=encoding,
        created_by=user,
    )
    name = comparisons_path(comparisons, comparisons.filename)
    try:
        comparisons.file.name = default_storage.save(name, file)
        with open_comparisons(comparisons) as reader:
            if reader.kind == "images":
                raise UploadError(
                    "A zip of images holds no comparisons. Upload a table: CSV, JSON Lines, JSON or Parquet."
                )
        with transaction.atomic():
            keep_project(project.pk)
            comparisons.save()
    except BaseException as error:
        default_storage.delete(name)  # half of it too
        if isinstance(error, UploadError):
            raise Refusal(error.sentence, field="file") from error
        if is_full_disk(error):
            raise FullDisk(FULL_DISK, field="file") from error
        raise
    return comparisons


def comparison_set_preview(comparisons: ComparisonSet) -> ComparisonPreview:
    """The first rows and a suggested mapping. Raises Refusal."""
    try:
        with open_comparisons(comparisons) as reader:
            return ComparisonPreview(
                columns=reader.columns,
                rows=reader.preview(PREVIEW_ROWS),
                notes=reader.notes,
                total_hint=reader.total_hint,
                mapping=suggest_columns(reader.columns),
            )
    except (UploadError, FileNotFoundError) as error:
        raise Refusal(_sentence(error, comparisons), field="file") from error


def first_read(comparisons: ComparisonSet, mapping: ComparisonMapping) -> list[ReadComparison]:
    """How the first good rows would be read with this mapping. Raises Refusal where it does not fit the file."""
    try:
        with open_comparisons(comparisons) as reader:
            validate_columns(mapping, reader.columns)
            return [read_comparison(row, mapping) for row in reader.preview(_FIRST_READ)]
    except (UploadError, FileNotFoundError) as error:
        raise Refusal(_sentence(error, comparisons)) from error


@transaction.atomic
def comparison_set_import(
    *, comparisons: ComparisonSet, mapping: ComparisonMapping, user: User
) -> ComparisonSet:
    """Start the import. Raises Refusal for a mapping that does not fit the file."""
    keep_project(comparisons.project_id)
    comparisons = ComparisonSet.objects.select_for_update(of=("self",)).get(pk=comparisons.pk)
    if comparisons.job_id is not None:
        raise Refusal("These comparisons are already imported or being imported.")
    try:
        with open_comparisons(comparisons) as reader:
            validate_columns(mapping, reader.columns)
            total = reader.total_hint or 0
    except (UploadError, FileNotFoundError) as error:
        raise Refusal(_sentence(error, comparisons)) from error
    comparisons.mapping = mapping.as_dict()
    comparisons.job = stream_job_create(kind="comparison_import", total=total)
    comparisons.save()
    used = {part: value for part, value in comparisons.mapping.items() if value is not None}
    _record(comparisons, user, "import of comparisons started", new=used)
    return comparisons


@transaction.atomic
def comparison_set_resume(*, comparisons: ComparisonSet, user: User) -> None:
    """Go on with an import that stopped by itself, where it stopped."""
    if comparisons.job is None or comparisons.job.state != Job.State.PAUSED:
        raise Refusal("This import is not paused.")
    job_resume(comparisons.job)
    _record(comparisons, user, "import of comparisons resumed")


@transaction.atomic
def comparison_set_cancel(*, comparisons: ComparisonSet, user: User) -> None:
    """End an import. No router can be trained from what it had read; the file can be thrown away."""
    if comparisons.job is None or comparisons.job.is_finished:
        raise Refusal("This import is not running.")
    job_cancel(comparisons.job)
    _record(comparisons, user, "import of comparisons cancelled")


@transaction.atomic
def comparison_set_discard(*, comparisons: ComparisonSet, user: User) -> None:
    """Throw away the file and its comparisons.

    Raises Refusal while they are imported, and once a router learned from them.
    """
    row = ComparisonSet.objects.select_for_update(of=("self",)).filter(pk=comparisons.pk).first()
    if row is None:  # somebody else, or another tab, was faster
        return
    comparisons = row
    if comparisons.job is not None and not comparisons.job.is_finished:
        raise Refusal("The import is still running. Cancel it first.")
    if comparisons.routers.exists():
        raise Refusal("A router learned from these comparisons, so they are kept.")
    file = comparisons.file
    _record(comparisons, user, "comparisons thrown away")
    comparisons.delete()
    transaction.on_commit(lambda: file.delete(save=False))


@transaction.atomic
def uploaded_router_create(*, comparisons: ComparisonSet, user: User, choice: UploadedChoice) -> Router:
    """Start to train a router from uploaded comparisons. Raises Refusal."""
    seed = comparisons.project.seed if choice.seed is None else choice.seed
    for field, value, known in (
        ("learner", choice.learner, LEARNERS),
        ("regressor", choice.regressor, REGRESSORS),
        ("scaling", choice.scaling or "variance", SCALINGS),
    ):
        if value not in known:
            raise Refusal(f"The {field} is one of: {', '.join(known)}.", field=field)
    _check_vectors(choice.vectors)
    # Nobody throws them away from here on.
    kept = ComparisonSet.objects.select_for_update(of=("self",), no_key=True).filter(pk=comparisons.pk)
    if kept.first() is None:
        raise Refusal("These comparisons were thrown away just now.", field="comparison_set")
    if not comparisons.is_ready:
        raise Refusal("These comparisons are not imported yet. Wait until they are.", field="comparison_set")
    if problem := comparison_counts(comparisons).problem():
        raise Refusal(problem, field="comparison_set")
    cheap, premium = ComparisonMapping(**comparisons.mapping).names()
    cheap_price, premium_price = prices_of(comparisons)
    return router_create(
        project=comparisons.project,
        user=user,
        kind=Router.Kind.META,
        name=choice.name.strip() or "Premium or cheap",
        agents=[],
        parameters={
            "learner": choice.learner,
            "regressor": choice.regressor,
            "scaling": choice.scaling,
            "cheap": cheap,
            "premium": premium,
            "cheap_price": cheap_price,
            "premium_price": premium_price,
        },
        vectors=choice.vectors,
        seed=seed,
        comparison_set=comparisons,
    )


def rejected_table(comparisons: ComparisonSet) -> tuple[list[str], Iterator[list[Any]]]:
    """(column names, rows): the rejected rows of the import, each with why and its own columns. Raises Refusal."""
    if not comparisons.mapping:
        raise Refusal("These comparisons are not imported yet, so no row is rejected.")
    try:
        return rejected_comparisons(comparisons)
    except (UploadError, FileNotFoundError) as error:
        raise Refusal(_sentence(error, comparisons)) from error


def _check_vectors(choice: VectorChoice) -> None:
    if choice.kind == VectorVersion.Kind.EMBEDDINGS:
        raise Refusal(
            "A router of uploaded comparisons answers by itself, without a call to a provider for every query. Choose "
            "words, or the text encoder on this machine.",
            field="vectors",
        )
    if choice.kind == VectorVersion.Kind.LOCAL:
        try:
            model_folder()
        except EncoderMissing as missing:
            raise Refusal(str(missing), field="vectors") from missing
    elif choice.kind != VectorVersion.Kind.PLAIN:
        raise Refusal("Vectors are one of: plain, local.", field="vectors")


def _record(comparisons: ComparisonSet, user: User, action: str, new: Any = None) -> None:
    record(
        comparisons.project, user, action, subject=comparisons.filename, subject_id=comparisons.pk, new=new
    )


def _sentence(error: Exception, comparisons: ComparisonSet) -> str:
    if isinstance(error, UploadError):
        return error.sentence
    return f"The file of “{comparisons.filename}” is gone. Throw it away, and upload it again."
