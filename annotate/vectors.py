"""Items as vectors: made once an item and version, kept, and read back as one array.

A version is a way of making vectors (`VectorChoice`) with whatever it learned from a project's items. Plain vectors and
those of a text encoder on this machine are made here; those of a provider's embeddings model by a job, which pays for
each item once. Where items have images, their colors and gradients are part of every vector.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from annotate.connections import price_of
from annotate.contents import BLOCK, items_in_order
from annotate.errors import Refusal
from annotate.locks import lock_project
from annotate.models import Connection, Item, ItemVector, Project, User, VectorVersion
from jobs.leases import Progress, leased_at
from jobs.models import Chunk, Job
from jobs.services import JobStateError, job_create, job_extend, job_resume
from mllm.errors import Failure
from mllm.registry import PROVIDERS

if TYPE_CHECKING:
    from annotate.vectors_plain import PlainVectors

Vectors = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
Kind = VectorVersion.Kind
# An item with the features of its image, or why that cannot be read; None where none is wanted.
Seen = tuple[Item, "FloatArray | str | None"]

COMPONENTS = 50
# Items that plain vectors are fitted on: more take longer and tell little more. Images take a few milliseconds each.
MOST_FITTED = 20_000
MOST_FITTED_WITH_IMAGES = 5_000
# Characters of an item that a model is given: what embeddings models take at most, in most scripts.
MOST_CHARACTERS = 20_000
# Vectors read with one query.
_READ = 900

FACTS = (
    "characters of the text",
    "words of the text",
    "characters of the question",
    "words of the question",
    "image width in pixels",
    "image height in pixels",
    "image width / height",
)


@dataclass(frozen=True, slots=True)
class VectorChoice:
    """How items become vectors.

    `kind` is one of `VectorVersion.Kind`; `connection` and `model` go with embeddings; `components` is how many numbers
    a part of an item has at most where it is reduced: all parts of plain vectors, else images. `spend_limit` is the
    most US$ that buying embeddings may cost; it changes nothing about the vectors.
    """

    kind: str = Kind.PLAIN
    connection: Connection | None = None
    model: str = ""
    components: int = COMPONENTS
    spend_limit: Decimal | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {"components": self.components} | (
            {} if self.kind == Kind.PLAIN else {"characters": MOST_CHARACTERS}
        )

    @property
    def digest(self) -> str:
        """The same for choices that give the same vectors, whoever's connection it is."""
        where = self.connection and [
            self.connection.provider,
            self.connection.base_url or PROVIDERS[self.connection.provider].default_base_url,
        ]
        return _digest(
            json.dumps([self.kind, where, self.model.strip(), self.parameters], sort_keys=True).encode()
        )


PLAIN = VectorChoice()


def check_vector_choice(project: Project, choice: VectorChoice) -> None:
    """Raise Refusal unless the project's items can become vectors in this way."""
    if choice.kind not in Kind.values:
        raise Refusal(f"Vectors are one of: {', '.join(Kind.values)}.", field="kind")
    if not 1 <= choice.components <= 1000:
        raise Refusal("A part of an item becomes between 1 and 1,000 numbers.", field="components")
    if choice.kind == Kind.PLAIN:
        return
    if not (project.task.needs_text or project.task.needs_question):
        raise Refusal(
            "This project's items have images and no texts; text models see nothing of them. Choose plain vectors.",
            field="kind",
        )
    if choice.kind == Kind.LOCAL:
        from annotate.text_encoder import EncoderMissing, model_folder

        try:
            model_folder()
        except EncoderMissing as missing:
            raise Refusal(str(missing), field="kind") from missing
        return
    if choice.connection is None:
        raise Refusal("Choose the connection whose model gives the embeddings.", field="connection")
    if not PROVIDERS[choice.connection.provider].capabilities.embeddings:
        label = PROVIDERS[choice.connection.provider].label
        raise Refusal(
            f"{label} offers no embeddings. Choose another connection, or plain vectors.", field="connection"
        )
    if not choice.model.strip():
        raise Refusal("Name the embeddings model.", field="model")
    if choice.spend_limit is not None:
        _check_limit(choice, choice.spend_limit)


def newest_version(project: Project, choice: VectorChoice) -> VectorVersion | None:
    """The version of the project that was made last in this way; None where there is none yet."""
    made = project.vector_versions.filter(choice=choice.digest)
    return made.defer("fitted").select_related("job").first()


@transaction.atomic
def ensure_vectors(
    project: Project,
    choice: VectorChoice = PLAIN,
    *,
    user: User,
    item_ids: Sequence[int] | None = None,
    spend_limit: Decimal | None = None,
    anew: bool = False,
) -> VectorVersion:
    """The version with vectors of the items (by default all of the project), its job on the way to make those missing.

    Ask again once the job (`version.job`) is done: items that came meanwhile are made then, and those that failed are
    tried again. A paused job goes on. `spend_limit` is US$ for what this call starts, by default the choice's. `anew`
    fits a new version, where the project has grown since; vectors of the older ones stay. Raises Refusal.
    """
    check_vector_choice(project, choice)
    # Those who ask at the same time get the same version.
    lock_project(project.pk)
    ids = _ids(project, item_ids)
    if spend_limit is None:
        spend_limit = choice.spend_limit
    else:
        _check_limit(choice, spend_limit)
    version = None if anew else newest_version(project, choice)
    if version is None:
        return _new_version(project, choice, user, ids, spend_limit)
    if not version.job.is_active:
        _connect(version, choice)
    if version.job.state == Job.State.PAUSED:
        try:
            _resume(version.job, spend_limit)
        except JobStateError as error:
            raise Refusal(str(error)) from error
    if not version.job.is_finished:
        return version
    todo = missing_items(version, ids)
    if todo:
        _forget_failures(version, todo)
        try:
            job_extend(version.job, todo, may_spend=spend_limit)
        except JobStateError as error:
            raise Refusal(str(error)) from error
    return version


def _resume(job: Job, spend_limit: Decimal | None) -> None:
    """Let a paused job go on; with a limit it may cost that much more, whatever limit it had."""
    limit = None if spend_limit is None else job.cost + spend_limit
    if limit is not None and job.failure != Failure.SPEND_LIMIT:
        # One process makes the calls that are left: only it can tell whether the next one fits into the limit.
        Job.objects.filter(pk=job.pk).update(spend_limit=limit, parallel=1)
    job_resume(job, spend_limit=limit)


def is_stopping(version: VectorVersion) -> bool:
    """Whether calls of its job are still under way although it has ended: it cannot go on before they are written."""
    open_chunks = version.job.chunks.exclude(state=Chunk.State.DONE)
    return version.job.is_finished and open_chunks.filter(leased_at(timezone.now())).exists()


def make_vectors(
    project: Project,
    item_ids: Sequence[int],
    choice: VectorChoice = PLAIN,
    *,
    user: User,
    between: Callable[[], object] = lambda: None,
) -> VectorVersion:
    """The version with vectors of these items, those missing made at once: for a worker that needs them now.

    `between` is called every few seconds, to renew a lease. Raises Refusal, also for embeddings that were not asked for
    yet: they cost money and are made by `ensure_vectors`.
    """
    check_vector_choice(project, choice)
    with transaction.atomic():
        lock_project(project.pk)
        version = newest_version(project, choice)
        if version is None and choice.kind != Kind.EMBEDDINGS:
            version = _new_version(project, choice, user, [], None)
    if version is None or choice.kind == Kind.EMBEDDINGS:
        if version is not None and not _without(item_ids, version, Q()):
            return version
        raise Refusal("The embeddings of these items are not complete. Start them, and wait until they are.")
    try:
        fitted = fit_version(version, between)
        todo = missing_items(version, item_ids)
        _forget_failures(version, todo)
        for start in range(0, len(todo), settings.WRITE_BATCH):
            seen = items_seen(version, todo[start : start + settings.WRITE_BATCH])
            rows = vector_rows(version, fitted, seen)
            with transaction.atomic():
                write_rows(version, rows)
            between()
    except ValueError as error:
        raise Refusal(str(error)) from error
    version.refresh_from_db(fields=["width", "digest"])
    return version


def vectors_of(
    project: Project,
    item_ids: Sequence[int],
    choice: VectorChoice | VectorVersion = PLAIN,
    *,
    zeros: bool = False,
) -> Vectors:
    """The items' vectors in the order of the ids, (n, width), all finite: of the newest version of a choice, or of one.

    Raises Refusal where an item has none, saying how many and why the first of them failed. With `zeros`, an item that
    cannot become a vector gets one of zeros, like a text without words, as long as another item has one.
    """
    version = choice if isinstance(choice, VectorVersion) else newest_version(project, choice)
    if version is None or version.project_id != project.pk:
        raise Refusal("There are no such vectors of this project's items yet. Start making them first.")
    found: dict[int, Any] = {}
    ids = list(item_ids)
    for start in range(0, len(ids), _READ):
        found.update(
            ItemVector.objects.filter(
                version=version, item_id__in=ids[start : start + _READ], failure=""
            ).values_list("item_id", "vector")
        )
    missing = [item_id for item_id in ids if item_id not in found]
    if missing and not (zeros and version.width and not _without(missing, version, Q())):
        raise Refusal(_why_missing(version, missing, len(ids)))
    width = version.width
    if any(len(vector) != 4 * width for vector in found.values()):
        raise Refusal("Kept vectors have different lengths. Make them anew.")
    nothing = bytes(4 * width)
    together = b"".join(found.get(item_id, nothing) for item_id in ids)
    vectors = np.frombuffer(together, dtype="<f4").reshape(len(ids), width).astype(np.float32)
    if not np.isfinite(vectors).all():
        place = int((~np.isfinite(vectors)).any(axis=1).argmax())
        name = Item.objects.values_list("external_id", flat=True).get(pk=ids[place])
        raise Refusal(f"The vector of the item “{name}” holds what is no number. Make the vectors anew.")
    return vectors


def item_facts(items: Sequence[Item]) -> FloatArray:
    """What is known of items without any model, (n, len(`FACTS`)): lengths and sizes, 0 where there is no such part.

    Items are read with their images (`select_related("image")`), or each is a query of its own.
    """
    from annotate.features import word_vectorizer

    words = word_vectorizer().build_tokenizer()
    facts = np.zeros((len(items), len(FACTS)))
    for row, item in enumerate(items):
        facts[row, :4] = len(item.text), len(words(item.text)), len(item.question), len(words(item.question))
        if item.image is not None:
            width, height = item.image.width, item.image.height
            facts[row, 4:] = width, height, width / max(1, height)
    return facts


# --- Versions ---------------------------------------------------------------------------------------------------------


def _new_version(
    project: Project, choice: VectorChoice, user: User, ids: Sequence[int], spend_limit: Decimal | None
) -> VectorVersion:
    """A version whose job makes vectors of these items; one without items is made for the job that asks."""
    connection = choice.connection
    if ids:
        job = job_create(
            kind="vectors",
            subjects=ids,
            in_flight=connection.in_flight if connection else 1,
            connection_key=connection.key_of_jobs if connection else "",
            spend_limit=spend_limit,
        )
    else:
        job = Job.objects.create(kind="vectors", state=Job.State.DONE)
    return VectorVersion.objects.create(
        project=project,
        kind=choice.kind,
        connection=connection,
        provider=connection.provider if connection else "",
        model=choice.model.strip(),
        parameters=choice.parameters,
        choice=choice.digest,
        seed=project.seed,
        job=job,
        created_by=user,
    )


def _connect(version: VectorVersion, choice: VectorChoice) -> None:
    """Let its job go on over the choice's connection: the one that it was started with may be gone."""
    if choice.connection is not None and version.connection_id != choice.connection.pk:
        VectorVersion.objects.filter(pk=version.pk).update(connection=choice.connection)
        Job.objects.filter(pk=version.job_id).update(connection_key=choice.connection.key_of_jobs)


def fit_version(
    version: VectorVersion, between: Callable[[], object] = lambda: None
) -> "PlainVectors | None":
    """What the version learned from its project's items, now where that was not done yet; None: nothing to learn.

    Fitted by two processes at once it is the same, and the first one's is kept. Raises ValueError.
    """
    digest = VectorVersion.objects.values_list("digest", flat=True).get(pk=version.pk)
    if not digest:
        fitted = _fit(version, between)
        content = b"" if fitted is None else fitted.to_bytes()
        digest = _digest(version.choice.encode() + content)
        width = fitted.width if fitted is not None and version.kind == Kind.PLAIN else 0
        VectorVersion.objects.filter(pk=version.pk, digest="").update(
            fitted=content, digest=digest, width=width
        )
        digest = VectorVersion.objects.values_list("digest", flat=True).get(pk=version.pk)
    version.digest = digest
    return _fitted(version.pk, digest)


@lru_cache(maxsize=4)
def _fitted(version_id: int, digest: str) -> "PlainVectors | None":
    """By digest as well as by id: an id may come again, in another database."""
    from annotate.vectors_plain import PlainVectors

    content = VectorVersion.objects.values_list("fitted", flat=True).get(pk=version_id)
    return PlainVectors.from_bytes(bytes(content)) if content else None


def _fit(version: VectorVersion, between: Callable[[], object]) -> "PlainVectors | None":
    from annotate.vectors_plain import PlainVectors

    names = _reduced_parts(version)
    if not names:
        return None
    ids = np.array(_ids(version.project, None))
    most = MOST_FITTED_WITH_IMAGES if "image" in names else MOST_FITTED
    if len(ids) > most:
        ids = np.sort(np.random.default_rng(version.seed).choice(ids, most, replace=False))
    texts, questions, images = [], [], []
    for item, image in _items_with_images(ids.tolist(), with_images="image" in names):
        if isinstance(image, str):  # it cannot be read, so nothing is learned from it
            continue
        texts.append(item.text)
        questions.append(item.question)
        images.append(image)
        if len(texts) % BLOCK == 0:
            between()
    # What follows takes some seconds.
    between()
    parts: dict[str, Any] = {"text": texts, "question": questions}
    if "image" in names:
        parts["image"] = np.array(images).reshape(len(images), -1)
    fitted = PlainVectors(version.parameters["components"], version.seed)
    return fitted.fit({name: parts[name] for name in names})


def _reduced_parts(version: VectorVersion) -> list[str]:
    """The parts of the project's items that are reduced to numbers here, and not by a text model."""
    task = version.project.task
    written = [("text", task.needs_text), ("question", task.needs_question)]
    return [
        name
        for name, is_there in [*(written if version.kind == Kind.PLAIN else []), ("image", task.needs_image)]
        if is_there
    ]


def _items_with_images(item_ids: Sequence[int], *, with_images: bool) -> Iterator[Seen]:
    from annotate.features import image_features
    from annotate.training import trained_items

    for item in items_in_order(item_ids):
        if not with_images:
            yield item, None
        elif item.image is None:
            yield item, "The item has no image."
        else:
            try:
                [seen] = trained_items([item])
                assert seen.image is not None  # noqa: S101 (the item has one)
                yield item, image_features([seen.image])[0]
            except (OSError, ValueError, SyntaxError):
                yield item, "The item's image cannot be read: its file is missing or damaged."


# --- Vectors ----------------------------------------------------------------------------------------------------------


def written_text(item: Item) -> str:
    """What a text model is given of an item: its question, if any, and its text."""
    parts = [part for part in (item.question.strip(), item.text.strip()) if part]
    return "\n\n".join(parts)[:MOST_CHARACTERS]


def items_seen(version: VectorVersion, item_ids: Sequence[int]) -> list[Seen]:
    """The items that are there, in order, each with the features of its image where the version has a use for it."""
    return list(_items_with_images(item_ids, with_images=version.project.task.needs_image))


def vector_rows(
    version: VectorVersion,
    fitted: "PlainVectors | None",
    seen: Sequence[Seen],
    embedded: "Sequence[npt.ArrayLike] | None" = None,
) -> list[ItemVector]:
    """Rows, not yet written, with the vectors of these items, or with why one has none.

    `embedded` are what a model made of the items' texts, in their order; the encoder on this machine is asked here.
    """
    if version.kind == Kind.LOCAL:
        from annotate.text_encoder import encode

        embedded = list(encode([written_text(item) for item, _ in seen]))
    good = [place for place, (_, image) in enumerate(seen) if not isinstance(image, str)]
    vectors = np.zeros((0, 0), dtype="<f4")
    if good:
        blocks: list[Any] = []
        if embedded is not None:
            blocks.append(np.array([embedded[place] for place in good], dtype=np.float32))
        if fitted is not None:
            parts: dict[str, Any] = {
                "text": [seen[place][0].text for place in good],
                "question": [seen[place][0].question for place in good],
                "image": np.array([seen[place][1] for place in good]),
            }
            blocks.append(fitted.transform(parts))
        vectors = np.hstack(blocks).astype("<f4")
    vector_at = dict(zip(good, vectors, strict=True))
    width = _agreed_width(version, vectors)
    rows = []
    for place, (item, image) in enumerate(seen):
        row = ItemVector(version=version, item=item)
        if isinstance(image, str):
            row.failure, row.message = Failure.BAD_REQUEST, image
        elif len(vector_at[place]) != width or not np.isfinite(vector_at[place]).all():
            row.failure = Failure.UNPARSEABLE
            row.message = f"The vector is not one of {width} numbers, like those of the other items."
        else:
            row.vector = vector_at[place].tobytes()
        rows.append(row)
    return rows


def _agreed_width(version: VectorVersion, vectors: Vectors) -> int:
    """The length that all vectors of the version have: of the first one that was made."""
    if not version.width:
        if len(vectors):
            VectorVersion.objects.filter(pk=version.pk, width=0).update(width=vectors.shape[1])
        version.refresh_from_db(fields=["width"])
    return version.width


def write_rows(version: VectorVersion, rows: Sequence[ItemVector]) -> Progress:
    """Write the rows in place of those that failed before; what that adds to the job's counters.

    Runs in the caller's transaction. None is written of an item that is gone or has other content by now.
    """
    ids = [row.item_id for row in rows]
    failed_before, _ = ItemVector.objects.filter(version=version, item__in=ids).exclude(failure="").delete()
    # Locked, so that nobody replaces one between this look and the vector.
    items = Item.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk")
    content = {pk: rest for pk, *rest in items.values_list("pk", "text", "question", "image_id")}
    there = {
        row.item_id
        for row in rows
        if content.get(row.item_id) == [row.item.text, row.item.question, row.item.image_id]
    }
    made = set(ItemVector.objects.filter(version=version, item__in=ids).values_list("item_id", flat=True))
    wanted = [row for row in rows if row.item_id in there - made]
    # Another process may make the same ones this moment: they are equal.
    ItemVector.objects.bulk_create(wanted, ignore_conflicts=True)
    failed = sum(bool(row.failure) for row in wanted)
    return Progress(done=len(rows) - failed_before, failed=failed - failed_before)


def missing_items(version: VectorVersion, item_ids: Sequence[int]) -> list[int]:
    """Those of the items that have no usable vector, in order."""
    return _without(item_ids, version, Q(failure=""))


def unsettled_items(version: VectorVersion, item_ids: Sequence[int], since: Any) -> list[int]:
    """Those that have no usable vector and did not fail since then, in order."""
    return _without(item_ids, version, Q(failure="") | Q(recorded_at__gte=since))


def _without(item_ids: Sequence[int], version: VectorVersion, settled: Q) -> list[int]:
    ids = list(item_ids)
    done: set[int] = set()
    for start in range(0, len(ids), _READ):
        block = ItemVector.objects.filter(settled, version=version, item_id__in=ids[start : start + _READ])
        done.update(block.values_list("item_id", flat=True))
    return [item_id for item_id in ids if item_id not in done]


def _forget_failures(version: VectorVersion, item_ids: Sequence[int]) -> None:
    """So that the job counts them when they are tried again, once."""
    gone = 0
    for start in range(0, len(item_ids), _READ):
        failed = ItemVector.objects.filter(version=version, item_id__in=item_ids[start : start + _READ])
        gone += failed.exclude(failure="").delete()[0]
    if gone and version.job.failed:
        counted = min(gone, version.job.failed)
        Job.objects.filter(pk=version.job_id).update(done=F("done") - counted, failed=F("failed") - counted)


def _why_missing(version: VectorVersion, missing: Sequence[int], n: int) -> str:
    failed = (
        ItemVector.objects.filter(version=version, item_id__in=missing[:_READ]).exclude(failure="").first()
    )
    why = f" The first of them failed: {failed.message}" if failed else " Make them first."
    return f"{len(missing):,} of {n:,} items have no vector yet.{why}"


def _ids(project: Project, item_ids: Sequence[int] | None) -> list[int]:
    """The items' ids; by default all of the project. Raises Refusal where there are none or others'."""
    ids = list(project.items.order_by("pk").values_list("pk", flat=True))
    if item_ids is not None:
        there = set(ids)
        if any(item_id not in there for item_id in item_ids):
            raise Refusal("Some of these items are not of this project.")
        ids = list(dict.fromkeys(item_ids))
    if not ids:
        raise Refusal("There are no items to make vectors of. Upload some first.")
    return ids


def _check_limit(choice: VectorChoice, spend_limit: Decimal) -> None:
    if spend_limit <= 0:
        raise Refusal("The spend limit must be more than US$ 0.", field="spend_limit")
    if choice.connection is not None and price_of(choice.connection.provider, choice.model.strip()) is None:
        raise Refusal(
            f"There is no price for {choice.model}, so no limit can be kept. Enter its price first.",
            field="spend_limit",
        )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
