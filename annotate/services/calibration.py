"""The calibration set: items with a label that a person gave without seeing a machine's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.db import transaction

from annotate.errors import Refusal
from annotate.history import record
from annotate.label_sets import need_label_set
from annotate.locks import lock_project
from annotate.models import CalibrationLabel, Item, Label, Project, User
from annotate.rightness import Truth, is_known


@transaction.atomic
def calibration_from_gold(*, project: Project, count: int, user: User | None = None) -> int:
    """Make calibration items of `count` random items with a gold label or gold answers, by the project's seed."""
    is_span = project.task.is_span
    if not is_span:
        need_label_set(project, "there is nothing to calibrate with", field="count")
    lock_project(project.pk)  # asked for twice at once, the second takes other items
    gold = dict(
        project.items.filter(is_known(project.task, Truth.GOLD, prefix=""), calibration_label=None)
        .order_by("id")
        .values_list("pk", "gold_answers" if is_span else "gold_id")
    )
    things = "gold answers" if is_span else "a gold label"
    if count < 1:
        raise Refusal("Choose at least one calibration item.", field="count")
    if not gold:
        raise Refusal(f"No item has {things} that is not in the calibration set already.", field="count")
    if count > len(gold):
        raise Refusal(f"Only {len(gold):,} items have {things} to take.", field="count")
    rng = np.random.default_rng([project.seed, project.calibration_labels.count()])
    chosen = sorted(int(pk) for pk in rng.choice(list(gold), size=count, replace=False))
    kept = "answers" if is_span else "label_id"
    rows = [CalibrationLabel(project=project, item_id=pk, **{kept: gold[pk]}) for pk in chosen]
    CalibrationLabel.objects.bulk_create(rows, batch_size=500)
    record(project, user, "calibration from gold", subject="calibration set", new={"items": len(rows)})
    return len(rows)


def calibration_draw(*, project: Project, count: int, round_seed: int) -> Sequence[int]:
    """Ids of `count` random items without a calibration label, for a person to label blind; in random order."""
    candidates = np.array(
        project.items.filter(calibration_label=None).order_by("id").values_list("pk", flat=True)
    )
    if not 1 <= count <= len(candidates):
        raise Refusal(f"Choose between 1 and {len(candidates):,} items to label.", field="count")
    rng = np.random.default_rng([project.seed, round_seed])
    return [int(pk) for pk in rng.permutation(candidates)[:count]]


def calibration_label_set(*, item: Item, label: Label, author: User) -> None:
    """Keep a person's blind label of an item."""
    _keep(item, author, label=label, answers=None)


def calibration_answer_set(*, item: Item, answer: str, start: int, author: User) -> None:
    """Keep a person's blind answer, a span of the item's text; the empty one says that it holds none."""
    answers = [{"text": answer, "start": start}] if answer else []
    _keep(item, author, label=None, answers=answers)


def _keep(item: Item, author: User, **known: Any) -> None:
    CalibrationLabel.objects.update_or_create(
        item=item, defaults={"project": item.project, "author": author, **known}
    )


def calibration_label_remove(*, item: Item) -> None:
    CalibrationLabel.objects.filter(item=item).delete()
