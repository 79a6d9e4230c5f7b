"""The first pass of an import that is all or nothing: every row is looked at, and nothing but its problems written."""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from annotate.gold_labels import GoldLabels
from annotate.import_rows import ReadRow
from annotate.import_writing import Outcome, already, external_id_of
from annotate.item_rows import NewItem, stored_items
from annotate.models import Upload
from annotate.row_content import KnownContents
from annotate.uploads.duplicates import id_digest
from annotate.uploads.errors import RowProblem
from jobs.leases import Progress


class RowChecker:
    """Finds the rows that would be rejected. Of each row it remembers 24 bytes, to find ids that a file has twice."""

    def __init__(self, upload: Upload, known: KnownContents | None) -> None:
        self._upload = upload
        self._known = known
        self._labels = GoldLabels(upload, plan=True)
        self._has_ids = bool(upload.mapping.get("id"))
        self._numbers, self._ids, self._contents = array("q"), array("q"), array("q")

    def check(self, batch: Sequence[ReadRow]) -> Progress:
        """Write down the batch's problems. To be called once for each batch, in a transaction. Raises Stopped."""
        outcome = Outcome()
        items: dict[int, NewItem] = {}
        self._labels.refresh()
        for row in batch:
            try:
                items[row.number] = self._item(row)
            except RowProblem as problem:
                outcome.problems[row.number] = problem.sentence
        if self._has_ids:
            self._look_up(items, outcome)
        outcome.add_to(self._upload)
        return Progress(done=len(batch), failed=len(outcome.problems))

    def _look_up(self, items: dict[int, NewItem], outcome: Outcome) -> None:
        wanted = {item.external_id for item in items.values()}
        stored = stored_items(wanted, project_id=self._upload.project_id)
        for number, item in items.items():
            digest = item.digest
            there = stored.get(item.external_id)
            if there is not None and there.digest != digest:
                outcome.differing += 1
                outcome.problems[number] = already(item.external_id)
            elif there is None:
                self._numbers.append(number)
                self._ids.append(id_digest(item.external_id))
                self._contents.append(digest)

    def _item(self, row: ReadRow) -> NewItem:
        record = row.record
        if record is None:
            raise RowProblem(row.problem)
        gold = None if record.gold is None else self._labels.name_of(record.gold)
        image = row.image.sha256 if row.image else None
        return NewItem(
            external_id=external_id_of(row, self._upload),
            text=record.text,
            question=record.question,
            image_id=None,
            image=image,
            file_name="",
            columns=record.columns,
            gold_id=None,
            gold=gold,
            gold_answers=record.gold_answers,
        )

    def twice(self) -> Iterator[tuple[int, str]]:
        """(row, why it is rejected) of rows that have the id of an earlier row and other content."""
        numbers = np.frombuffer(self._numbers, dtype=np.int64)
        ids = np.frombuffer(self._ids, dtype=np.int64)
        contents = np.frombuffer(self._contents, dtype=np.int64)
        order = np.argsort(ids, kind="stable")
        starts = np.flatnonzero(np.diff(ids[order], prepend=ids[order[:1]] - 1 if len(order) else 0))
        sizes = np.diff(starts, append=len(order))
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            first, *later = order[start : start + size].tolist()
            for place in later:
                if contents[place] != contents[first]:
                    yield (
                        int(numbers[place]),
                        f"Row {numbers[first]:,} has the same id, with other content.",
                    )
