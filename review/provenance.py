"""How an item's final label came about, in a sentence; and where its link leads."""

from urllib.parse import urlencode

from django.db.models import Q
from django.urls import reverse
from django.utils.text import Truncator

from annotate.models import Annotation, CalibrationLabel, Item
from review.models import Correction, ReviewRound, ReviewTask


def permalink(item: Item) -> str:
    """The path that leads to the item by its own id, so that it survives a fresh import of the same data.

    In the path, where browsers and proxies leave the id as it is; else in the query.
    """
    parts = item.external_id.split("/")
    if all(part and part.strip(".") for part in parts):
        return reverse("item_permalink", args=[item.project_id, item.external_id])
    address = reverse("item_permalink_by_query", args=[item.project_id])
    return f"{address}?{urlencode({'external_id': item.external_id})}"


def deciding_round(item: Item) -> ReviewRound | None:
    """The latest review round that selected the item; else the latest whose draw it was in; else none."""
    rounds = ReviewRound.objects.filter(project=item.project_id, kind__in=ReviewRound.EXPORTED)
    rounds = rounds.select_related("criticism_run__annotation_run", "routed_run")
    selected = rounds.filter(tasks__item=item, tasks__is_counted=True).order_by("-pk").first()
    drawn = rounds.filter(
        Q(criticism_run__annotation_run__annotations__item=item) | Q(routed_run__annotations__item=item)
    )
    return selected or drawn.order_by("-pk").first()


def how_final(item: Item, round: ReviewRound | None) -> str:
    """What the item's final label or answer is as far as `round` decides it, and why: one sentence."""
    calibration = CalibrationLabel.objects.filter(item=item).select_related("label", "author").first()
    if calibration is not None:
        whence = (
            f"{calibration.author.get_username()} gave it without seeing a machine's {item.project.task.answer_noun}"
            if calibration.author
            else "taken from the gold column"
        )
        return f"{_known(calibration)}: a calibration item; {whence}."
    if round is None:
        machine = item.annotations.select_related("label").order_by("-run_id").first()
        return f"{_machines(machine)}: no round of review was drawn yet."
    task = (
        ReviewTask.counted.filter(round=round, item=item)
        .select_related("annotation__label", "correction__label", "correction__author")
        .first()
    )
    audited = (
        ReviewTask.counted.filter(round__audited=round, item=item, state=ReviewTask.State.ANSWERED)
        .select_related("correction__label", "correction__author", "round")
        .order_by("-pk")
        .first()
    )
    if task is not None and task.state == ReviewTask.State.ANSWERED:
        return _answered(task)
    if audited is not None and audited.correction is not None:
        return (
            f"{_said(audited.correction)}: found by {_author(audited.correction)} in {_name(audited.round)}."
        )
    machine = task.annotation if task else _annotation_of(item, round)
    if task is None:
        return f"{_machines(machine)}: {_name(round)} did not select it for review."
    return f"{_machines(machine)}{_left(task)}"


def _answered(task: ReviewTask) -> str:
    answer = task.correction
    assert answer is not None  # noqa: S101 (what is answered has an answer)
    said, author = _said(answer), _author(answer)
    if task.purpose == ReviewTask.Purpose.ADJUDICATION:
        return f"{said}: people answered differently, and {author} adjudicated."
    others = task.round.tasks.filter(
        item=task.item_id,
        state=ReviewTask.State.ANSWERED,
        purpose__in=[ReviewTask.Purpose.REVIEW, ReviewTask.Purpose.PICKED],
    ).exclude(pk=task.pk)
    agreeing = f"; {others.count() + 1} people agree" if others.exists() else ""
    picked = ", who was given it by hand" if task.purpose == ReviewTask.Purpose.PICKED else ""
    machine = task.annotation
    if machine is None or machine.failure:
        return f"{said}: given by {author}{picked}; the machine gave none{agreeing}."
    if (machine.label_id, machine.answer) == (answer.label_id, answer.answer):
        return f"{said}: the machine's, accepted by {author}{picked}{agreeing}."
    if machine.label is None:
        return f"{said}: the machine's answer, edited by {author}{picked}{agreeing}."
    return f"{said}: given by {author}{picked} in place of the machine's “{machine.label.name}”{agreeing}."


def _left(task: ReviewTask) -> str:
    """Why the machine's stands although the item was selected."""
    if task.purpose == ReviewTask.Purpose.ADJUDICATION:
        return " until people's different answers are adjudicated."
    if task.state == ReviewTask.State.SKIPPED and task.correction is not None:
        reason = f" ({task.correction.reason})" if task.correction.reason else ""
        return f": {_author(task.correction)} skipped it{reason}."
    if task.round.state == ReviewRound.State.CLOSED:
        return f": {_name(task.round)} was closed before anybody answered it."
    return f" for now: it waits to be answered in {_name(task.round)}."


def _annotation_of(item: Item, round: ReviewRound) -> Annotation | None:
    if round.annotation_run is None:
        return None
    return item.annotations.filter(run=round.annotation_run).select_related("label").first()


def _known(calibration: CalibrationLabel) -> str:
    if calibration.label is not None:
        return f"“{calibration.label.name}”"
    return f"“{calibration.answers[0]['text']}”" if calibration.answers else "No answer"


def _machines(annotation: Annotation | None) -> str:
    if annotation is None or annotation.failure:
        return "None"
    if annotation.start is not None:
        return f"The machine's {_span(annotation.answer)}"
    return f"The machine's “{annotation.label.name}”" if annotation.label else "The machine's answer"


def _said(answer: Correction) -> str:
    if answer.start is not None:
        return _span(answer.answer)
    return f"“{answer.label.name}”" if answer.label else "A person's answer"


def _span(words: str) -> str:
    return f"“{Truncator(words).chars(80)}”" if words else "“no answer”"


def _author(answer: Correction) -> str:
    return answer.author.get_username()


def _name(round: ReviewRound) -> str:
    name = str(round)
    return name[0].lower() + name[1:]
