import itertools

import pytest

from annotate.models import Annotation
from review.answers import AGREED, is_changed
from review.models import Correction, ReviewTask
from review.selectors import counts_by_reviewer, round_progress
from tests.factories import (
    label_named,
    make_annotation_run,
    make_criticism_run,
    make_items,
    make_project,
    make_round,
)
from tests.written_answers import make_ratings, make_written_project, make_written_run

pytestmark = pytest.mark.django_db


def give(task, **fields):
    """The task's answer, as it would be kept."""
    task.correction = Correction.objects.create(task=task, author=task.round.created_by, **fields)
    skipped = fields["action"] == Correction.Action.SKIP
    task.state = ReviewTask.State.SKIPPED if skipped else ReviewTask.State.ANSWERED
    task.save()
    return task


def label_tasks():
    """Items that the machine labels negative, one of which failed, answered in every way."""
    project = make_project()
    items = make_items(project, 4)
    run = make_annotation_run(project, dict(zip(items, ["negative"] * 3 + [""], strict=True)))
    round = make_round(make_criticism_run(run), budget=4)
    tasks = {task.item: task for task in round.tasks.select_related("annotation", "item", "round")}
    yield False, give(tasks[items[0]], action="label", label=label_named(project, "negative"))
    yield True, give(tasks[items[1]], action="label", label=label_named(project, "positive"))
    yield False, give(tasks[items[2]], action="skip")
    yield True, give(tasks[items[3]], action="label", label=label_named(project, "negative"))


def written_tasks():
    project = make_written_project()
    items = make_items(project, 5)
    answers = ["It rains.", "It rains.", "It rains.", "", ""]
    run = make_written_run(project, dict(zip(items, answers, strict=True)))
    round = make_round(make_ratings(run, [0.5, 0.5, 0.5]), budget=5)
    tasks = {task.item: task for task in round.tasks.select_related("annotation", "item", "round")}
    yield False, give(tasks[items[0]], action="label", answer="It rains.")
    yield True, give(tasks[items[1]], action="label", answer="it rains.")
    yield False, give(tasks[items[2]], action="skip")
    yield True, give(tasks[items[3]], action="label", answer="It rains.")
    yield False, give(tasks[items[4]], action="skip")  # the machine gave no text, and neither did the person


@pytest.mark.parametrize("tasks", [label_tasks, written_tasks])
def test_python_and_the_database_tell_changed_answers_alike(tasks):
    answered = 0
    for changed, task in tasks():
        assert is_changed(task.annotation, task.correction) is changed
        if task.state == ReviewTask.State.ANSWERED:
            answered += 1
            assert ReviewTask.objects.filter(AGREED, pk=task.pk).exists() is not changed
        else:
            assert not ReviewTask.objects.filter(AGREED, pk=task.pk).exists()
    round = task.round

    assert round_progress(round).answered == answered
    assert round_progress(round).corrected == 2
    assert [(row.answered, row.corrected) for row in counts_by_reviewer(round)] == [(answered, 2)]


def test_white_space_around_a_text_is_no_change():
    correction = Correction(action="label", answer="It rains.\n")

    assert not is_changed(Annotation(answer=" It rains."), correction)
    assert is_changed(Annotation(answer="It  rains."), correction)


def test_every_answer_where_the_machine_gave_none_is_a_change():
    annotations = [None, Annotation(failure="refused")]
    corrections = [Correction(action="label", answer="It rains."), Correction(action="label", label_id=1)]

    for annotation, correction in itertools.product(annotations, corrections):
        assert is_changed(annotation, correction)


@pytest.mark.parametrize("action", [Correction.Action.SKIP, Correction.Action.UNDO])
def test_what_is_no_answer_changes_nothing(action):
    assert not is_changed(Annotation(label_id=1), Correction(action=action))
    assert not is_changed(None, Correction(action=action))
