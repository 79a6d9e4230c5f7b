"""Reviews for tests, made in one go."""

from annotate.models import Label
from criticize.models import CriticismRun
from review.models import Correction, ReviewRound, ReviewTask
from review.services.rounds import round_create


def answer_all(run: CriticismRun, count: int, *, wrong: int) -> ReviewRound:
    """A round of the `count` most suspicious items, all answered; every so many-th of them corrected, `wrong` in all.

    The corrections are spread evenly, so that the order of suspicion says nothing.
    """
    round = round_create(run=run, user=run.created_by, count=count)
    labels: list[Label] = list(round.project.labels.all())
    tasks = list(round.tasks.select_related("annotation__label").order_by("rank"))
    step = count / wrong if wrong else 0
    corrected = {int(number * step) for number in range(wrong)}
    for number, task in enumerate(tasks):
        assert task.annotation is not None
        machine = task.annotation.label or labels[0]
        other = next(label for label in labels if label != machine)
        answer_task(task, other if number in corrected else machine)
    return round


def answer_task(task: ReviewTask, label: Label) -> None:
    task.correction = Correction.objects.create(
        task=task, action=Correction.Action.LABEL, label=label, author=task.round.created_by, seconds=4.0
    )
    task.state = ReviewTask.State.ANSWERED
    task.save(update_fields=["correction", "state"])
