"""Gold values of an upload as labels of its project."""

from collections.abc import Callable

from django.db.models import Max

from annotate.errors import Refusal
from annotate.locks import lock_project
from annotate.models import Label, Upload
from annotate.services.projects import clean_label_name
from annotate.uploads.errors import RowProblem

MAX_LABELS = 2000
_REMEMBERED = 10_000


class GoldLabels:
    """Names of labels by gold value; new labels are made where the upload may, or with `plan` only counted."""

    def __init__(self, upload: Upload, *, plan: bool = False) -> None:
        self._upload = upload
        self._make: Callable[[str], int] = (lambda name: 0) if plan else self._created
        self._cleaned: dict[str, str] = {}
        self._planned: dict[str, int] = {}
        self._ids: dict[str, int] = {}

    def refresh(self) -> None:
        """Read the label set, which people may change while an import runs."""
        self._ids = self._planned | dict(self._upload.project.labels.values_list("name", "pk"))

    def name_of(self, gold: str) -> str:
        """The label's name. Raises RowProblem when it cannot be one, or is none and none may be made."""
        name = self._clean(gold)
        if name in self._ids:
            return name
        if not self._upload.add_labels:
            raise RowProblem(f"The gold label “{name[:80]}” is not one of the project's labels.")
        if len(self._ids) >= MAX_LABELS:
            raise RowProblem(
                f"The gold column has more than {MAX_LABELS:,} different values; is it really the gold column?"
            )
        self._ids[name] = self._make(name)
        if not self._ids[name]:
            self._planned[name] = 0
        return name

    def id_of(self, name: str | None) -> int | None:
        return None if name is None else self._ids[name]

    def _clean(self, gold: str) -> str:
        name = self._cleaned.get(gold)
        if name is None:
            try:
                name = clean_label_name(gold)
            except Refusal as refusal:
                raise RowProblem(refusal.sentence) from refusal
            if len(self._cleaned) < _REMEMBERED:
                self._cleaned[gold] = name
        return name

    def _created(self, name: str) -> int:
        labels = self._upload.project.labels
        lock_project(self._upload.project_id)
        there = labels.filter(name=name).first()
        if there is not None:  # somebody else made it this moment
            return there.pk
        last = labels.aggregate(last=Max("position"))["last"]
        position = 0 if last is None else last + 1
        made = Label.objects.create(
            project=self._upload.project, position=position, name=name, upload=self._upload
        )
        return made.pk
