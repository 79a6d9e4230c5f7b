"""Many items written with few statements: COPY on PostgreSQL, one prepared INSERT on SQLite. Ids are never doubled."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, models
from django.db.models import Q
from django.utils import timezone

from annotate.models import Item, ItemVector
from annotate.references import referred_to
from annotate.row_content import CONTENT, content_digest
from jobs.models import Chunk

_INCOMING = "incoming_items"


@dataclass(frozen=True, slots=True)
class NewItem:
    """What of an item comes from a row; `gold` is the name of `gold_id`, `image` the SHA-256 of `image_id`'s bytes."""

    external_id: str
    text: str
    question: str
    image_id: int | None
    image: str | None
    file_name: str
    columns: dict[str, Any]
    gold_id: int | None
    gold: str | None
    gold_answers: list[dict[str, Any]] | None = None

    @property
    def digest(self) -> int:
        return content_digest(
            self.text, self.question, self.image, self.columns, self.gold, self.gold_answers
        )

    def content_values(self) -> tuple[Any, ...]:
        """As the columns of `_CONTENT_FIELDS` hold them."""
        answers = None if self.gold_answers is None else json.dumps(self.gold_answers)
        columns = json.dumps(self.columns)
        return (self.text, self.question, self.image_id, self.file_name, columns, self.gold_id, answers)


_CONTENT_FIELDS = ("text", "question", "image_id", "file_name", "columns", "gold_id", "gold_answers")


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item that has an id which a row wants: what it consists of as a digest."""

    pk: int
    upload_id: int | None
    digest: int


def insert_items(items: Sequence[NewItem], *, project_id: int, upload_id: int) -> set[str]:
    """Write items whose ids all differ; returns the ids that the project has already, whose items stay as they are.

    Runs in the caller's transaction.
    """
    if not items:
        return set()
    fields = [field for field in Item._meta.concrete_fields if not field.primary_key]
    varying = ("external_id", *_CONTENT_FIELDS)
    fixed = {"project_id": project_id, "upload_id": upload_id}
    others = [field for field in fields if field.attname not in varying]
    names = [*varying, *(str(field.column) for field in others)]
    constant = tuple(fixed.get(field.attname, _default(field)) for field in others)
    values = [(item.external_id, *item.content_values(), *constant) for item in items]
    if connection.vendor == "postgresql":
        return _copy(names, values)
    return _insert(names, values, project_id)


def _default(field: "models.Field[Any, Any]") -> Any:
    return field.get_db_prep_save(field.get_default(), connection)


def _insert(names: Sequence[str], values: Sequence[tuple[Any, ...]], project_id: int) -> set[str]:
    table = Item._meta.db_table
    marks, wanted = (", ".join(["%s"] * count) for count in (len(names), len(values)))
    with connection.cursor() as cursor:
        # Nobody else writes between this look and the INSERT: SQLite has one writer at a time.
        cursor.execute(
            f"SELECT external_id FROM {table} WHERE project_id = %s AND external_id IN ({wanted})",  # noqa: S608
            [project_id, *(row[0] for row in values)],
        )
        taken = {row[0] for row in cursor.fetchall()}
        new = [row for row in values if row[0] not in taken] if taken else values
        cursor.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", new)  # noqa: S608
    return taken


def _copy(names: Sequence[str], values: Sequence[tuple[Any, ...]]) -> set[str]:
    table, listed = Item._meta.db_table, ", ".join(names)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE {_INCOMING} ON COMMIT DROP AS "  # noqa: S608 (our own names)
            f"SELECT 0 AS place, {listed} FROM {table} WITH NO DATA"
        )
        with cursor.copy(f"COPY {_INCOMING} (place, {listed}) FROM STDIN") as copy:
            for place, row in enumerate(values):
                copy.write_row((place, *row))
        cursor.execute(
            f"INSERT INTO {table} ({listed}) SELECT {listed} FROM {_INCOMING} ORDER BY place "  # noqa: S608
            "ON CONFLICT (project_id, external_id) DO NOTHING RETURNING external_id"
        )
        written = {row[0] for row in cursor.fetchall()}
        cursor.execute(f"DROP TABLE {_INCOMING}")
    return set() if len(written) == len(values) else {row[0] for row in values} - written


def stored_items(
    external_ids: Collection[str], *, project_id: int, to_replace: bool = False
) -> dict[str, StoredItem]:
    """The project's items with these ids. With `to_replace` nobody else refers to them until the transaction ends."""
    if not external_ids:
        return {}
    items = Item.objects.filter(project=project_id, external_id__in=external_ids).order_by()
    if to_replace:
        # All imports in one order, so that none wait for each other.
        list(items.order_by("pk").select_for_update().values_list("pk"))
    rows = items.values_list("external_id", "pk", "upload_id", *CONTENT)
    return {row[0]: StoredItem(row[1], row[2], content_digest(*row[3:])) for row in rows}


def items_in_use(pks: Collection[int]) -> set[int]:
    """Those of these items that something was done with: an annotation, a label, a comment, a turn of a review, …

    A vector does not count: it is made again from other content. What an annotator is asked about this moment does.
    """
    return referred_to(Item, pks, by_any_but=[ItemVector]) | (set(pks) & _asked_about(pks))


def _asked_about(pks: Collection[int]) -> set[int]:
    """What the chunks at work on annotations of these items' projects are about."""
    if not pks:
        return set()
    projects = Item.objects.filter(pk__in=pks).order_by().values("project").distinct()
    chunks = Chunk.objects.filter(job__annotationrun__project__in=projects).filter(
        Q(state=Chunk.State.RUNNING) | (Q(job__by_batch=True) & ~Q(state=Chunk.State.DONE))
    )
    return {int(subject) for subjects in chunks.values_list("subjects", flat=True) for subject in subjects}


def replace_items(items: Iterable[tuple[int, NewItem]]) -> None:
    """Give items, by primary key, the content of rows. Their ids and uploads stay; their vectors, of what was, go."""
    new = dict(items)
    marks = ", ".join(f"{name} = %s" for name in _CONTENT_FIELDS)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {Item._meta.db_table} SET {marks} WHERE id = %s",  # noqa: S608 (our own names)
            [(*item.content_values(), pk) for pk, item in new.items()],
        )
    Item.objects.filter(pk__in=new).update(replaced_at=timezone.now())
    ItemVector.objects.filter(item__in=list(new)).delete()
