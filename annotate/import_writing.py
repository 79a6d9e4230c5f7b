"""One batch of an import's rows, written as items and rejected rows in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import F

from annotate.gold_labels import GoldLabels
from annotate.import_rows import ReadRow
from annotate.item_rows import NewItem, insert_items, items_in_use, replace_items, stored_items
from annotate.models import RejectedRow, StoredImage, Upload
from annotate.row_content import KnownContents
from annotate.uploads.errors import RowProblem
from jobs.leases import Progress


class NotAll(Exception):
    """All or nothing was asked for, and a row of the batch would be rejected; the sentence says which and why."""


class Stopped(Exception):
    """Somebody ended the import meanwhile."""


@dataclass(slots=True)
class Outcome:
    """What became of a batch's rows: counts, and why some are rejected, by row number."""

    imported: int = 0
    repeated: int = 0
    differing: int = 0
    replaced: int = 0
    problems: dict[int, str] = field(default_factory=dict)

    def add_to(self, upload: Upload) -> None:
        """Write it down. Raises Stopped when the import is over."""
        RejectedRow.objects.bulk_create(
            RejectedRow(upload=upload, row=row, message=message) for row, message in self.problems.items()
        )
        going_on = Upload.objects.filter(pk=upload.pk, state=Upload.State.IMPORTING)
        updated = going_on.exclude(step=Upload.Step.UNDOING).update(
            imported=F("imported") + self.imported,
            repeated=F("repeated") + self.repeated,
            differing=F("differing") + self.differing,
            replaced=F("replaced") + self.replaced,
            rejected=F("rejected") + len(self.problems),
        )
        if not updated:
            raise Stopped


def external_id_of(row: ReadRow, upload: Upload) -> str:
    """The item's id; row numbers alone would clash between uploads."""
    assert row.record is not None  # noqa: S101 (the caller checked)
    return row.record.external_id if upload.mapping.get("id") else f"{upload.pk}-{row.number}"


class BatchWriter:
    """Writes one batch; `known` are the contents that are there already, where rows have no ids of their own."""

    def __init__(
        self, upload: Upload, batch: Sequence[ReadRow], labels: GoldLabels, known: KnownContents | None
    ) -> None:
        self._upload = upload
        self._batch = batch
        self._labels = labels
        self._known = known

    def write(self) -> Progress:
        """Raises NotAll and Stopped; the transaction around it then writes nothing."""
        outcome = Outcome()
        fresh: dict[str, tuple[int, NewItem]] = {}
        again: list[tuple[int, NewItem]] = []
        self._labels.refresh()
        images = self._images()
        for row in self._batch:
            try:
                item = self._item(row, images)
            except RowProblem as problem:
                outcome.problems[row.number] = problem.sentence
                continue
            if self._known is not None and self._known.has(item.digest):
                outcome.repeated += 1
            elif fresh.setdefault(item.external_id, (row.number, item))[0] != row.number:
                again.append((row.number, item))
        upload = self._upload
        items = [item for _, item in fresh.values()]
        taken = insert_items(items, project_id=upload.project_id, upload_id=upload.pk)
        outcome.imported = len(items) - len(taken)
        self._settle([*(fresh[external_id] for external_id in taken), *again], outcome)
        if upload.all_or_nothing and outcome.problems:
            number = min(outcome.problems)
            raise NotAll(f"Row {number:,}: {outcome.problems[number]}")
        outcome.add_to(upload)
        return Progress(done=len(self._batch), failed=len(outcome.problems))

    def _settle(self, rows: Sequence[tuple[int, NewItem]], outcome: Outcome) -> None:
        """Say of rows whose ids are taken whether they repeat what is there, differ from it, or replace it."""
        if not rows:
            return
        replaces = self._upload.if_different == Upload.IfDifferent.REPLACE
        stored = stored_items(
            {item.external_id for _, item in rows},
            project_id=self._upload.project_id,
            to_replace=replaces,
        )
        differing = []
        for number, item in sorted(rows, key=lambda row: row[0]):
            if stored[item.external_id].digest == item.digest:
                outcome.repeated += 1
            else:
                differing.append((number, item))
        outcome.differing = len(differing)
        used = items_in_use([stored[item.external_id].pk for _, item in differing]) if replaces else set()
        replaced: dict[int, NewItem] = {}
        for number, item in differing:
            there = stored[item.external_id]
            if there.upload_id == self._upload.pk or there.pk in replaced:
                outcome.problems[number] = twice(item.external_id)
            elif not replaces:
                outcome.problems[number] = already(item.external_id)
            elif there.pk in used:
                outcome.problems[number] = (
                    f"The id “{item.external_id}” is already in this project with other content, and something was "
                    "done with its item, so it stays as it is."
                )
            else:
                replaced[there.pk] = item
        if replaced:
            replace_items(replaced.items())
        outcome.replaced = len(replaced)

    def _item(self, row: ReadRow, images: dict[str, int]) -> NewItem:
        """Raises RowProblem."""
        record = row.record
        if record is None:
            raise RowProblem(row.problem)
        gold = None if record.gold is None else self._labels.name_of(record.gold)
        sha256 = row.image.sha256 if row.image else None
        return NewItem(
            external_id=external_id_of(row, self._upload),
            text=record.text,
            question=record.question,
            image_id=None if sha256 is None else images[sha256],
            image=sha256,
            file_name=(record.image_name or "")[:500],
            columns=record.columns,
            gold_id=self._labels.id_of(gold),
            gold=gold,
            gold_answers=record.gold_answers,
        )

    def _images(self) -> dict[str, int]:
        """Ids of the batch's images by content hash, those that the project does not have yet made."""
        images = {row.image.sha256: row.image for row in self._batch if row.image is not None}
        if not images:
            return {}
        project = self._upload.project
        stored = StoredImage.objects.filter(project=project, sha256__in=list(images))
        known = dict(stored.values_list("sha256", "pk"))
        new = [
            StoredImage(
                project=project,
                sha256=sha256,
                file=image.name,
                media_type=image.media_type,
                width=image.width,
                height=image.height,
            )
            for sha256, image in images.items()
            if sha256 not in known
        ]
        if not new:
            return known
        # Another import may bring the same ones this moment: whoever comes first makes them. In one order for all, so
        # that two of them do not wait for one another.
        StoredImage.objects.bulk_create(sorted(new, key=lambda image: image.sha256), ignore_conflicts=True)
        return dict(stored.values_list("sha256", "pk"))


def already(external_id: str) -> str:
    return f"The id “{external_id}” is already in this project, with other content."


def twice(external_id: str) -> str:
    return f"The id “{external_id}” is in this file twice, with other content."
