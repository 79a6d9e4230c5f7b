"""One round of discussion: where annotators disagree, each is shown what all of them said, and answers again.

A discussing run has its sources in order in `parameters["sources"]`, the one that it answers for in
`parameters["source"]`, and shares `parameters["discussion"]` with the other runs of the discussion.
"""

from collections.abc import Iterable, Sequence

from django.db.models import Count

from annotate.examples import label_positions
from annotate.models import Annotation, AnnotationRun
from annotate.prompts import Opinion

# What a source said about an item: None where it said nothing, because it failed or never came to it.
Answers = list[Annotation | None]


def items_of(source_ids: Iterable[int]) -> list[int]:
    """Ids, in order, of the items about which any of the runs has a result, be it a failure."""
    rows = Annotation.objects.filter(run__in=list(source_ids))
    return list(rows.order_by("item_id").values_list("item_id", flat=True).distinct())


def disputed_items(source_ids: Sequence[int]) -> list[int]:
    """Ids, in order, of the items that not all sources gave the same label."""
    counted = (
        Annotation.objects.filter(run__in=source_ids)
        .order_by("item_id")
        .values("item_id")
        .annotate(different=Count("label", distinct=True), answers=Count("label"))
    )
    return list(counted.exclude(different=1, answers=len(source_ids)).values_list("item_id", flat=True))


def answers_about(source_ids: Sequence[int], item_ids: Sequence[int]) -> dict[int, Answers]:
    """What each source said about each item, in the order of the sources; every item has an entry."""
    answers: dict[int, Answers] = {item_id: [None] * len(source_ids) for item_id in item_ids}
    place = {source_id: place for place, source_id in enumerate(source_ids)}
    rows = Annotation.objects.filter(run__in=source_ids, item__in=item_ids, failure="").select_related(
        "label"
    )
    for row in rows:
        answers[row.item_id][place[row.run_id]] = row
    return answers


def agree(answers: Answers) -> bool:
    """Whether all sources gave the item the same label."""
    labels = {None if answer is None else answer.label_id for answer in answers}
    return len(labels) == 1 and None not in labels


def opinions_about(run: AnnotationRun, item_ids: Sequence[int]) -> dict[int, list[Opinion]]:
    """What a discussing run is shown about each item, in the order of its sources; empty for any other run."""
    if "discussion" not in run.parameters:
        return {}
    position = label_positions(run.project)
    return {
        item_id: [
            Opinion(None)
            if answer is None or answer.label_id is None
            else Opinion(position[answer.label_id], answer.reasoning)
            for answer in answers
        ]
        for item_id, answers in answers_about(run.parameters["sources"], item_ids).items()
    }
