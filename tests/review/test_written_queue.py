"""Reviewing written answers: accepting, editing, skipping, taking back, and an audit that shows no criticism."""

import json

import pytest

from annotate.errors import Refusal
from annotate.models import User
from review.answers import is_changed
from review.certification import certification_now
from review.models import Correction, ReviewRound, ReviewTask
from review.selectors import round_progress
from review.services.audits import audit_round_create
from review.services.queue import (
    MOST_CHARACTERS,
    Answer,
    Conflict,
    answer_undo,
    task_submit,
    tasks_claim,
)
from tests.api.caller import call
from tests.factories import label_named, make_items, make_project, make_reviewable_round, make_round
from tests.written_answers import (
    answer_of,
    make_checks,
    make_written_project,
    make_written_round,
    make_written_run,
)

pytestmark = pytest.mark.django_db

TEXT = "😀 It rained. It was Monday."


@pytest.fixture
def checked():
    """A round of one answer, of which one fact is in doubt."""
    project = make_written_project("written_facts")
    run = make_written_run(project, {make_items(project, 1)[0]: TEXT})
    return make_round(make_checks(run, [[("😀 It rained.", 0.02), ("It was Monday.", 0.874)]]), budget=1)


def owner_of(round: ReviewRound) -> User:
    return round.project.created_by


def submit(task, user, action="label", **fields):
    return task_submit(task=task, user=user, answer=Answer(action=action, **fields))


def test_what_is_accepted_is_kept_as_an_answer_that_changes_nothing():
    round = make_written_round()
    task = tasks_claim(round=round, user=owner_of(round))[0]
    correction = submit(task, owner_of(round), text=f"{answer_of(task)}\n")

    assert correction.answer == answer_of(task)
    assert not is_changed(task.annotation, correction)
    progress = round_progress(round)
    assert (progress.answered, progress.corrected) == (1, 0)


def test_an_edit_is_kept_with_its_own_line_ends_and_counts_as_corrected():
    round = make_written_round()
    task = tasks_claim(round=round, user=owner_of(round))[0]
    correction = submit(task, owner_of(round), text=" Another\r\ntext. ")

    assert correction.answer == "Another\ntext."
    assert is_changed(task.annotation, correction)
    assert round_progress(round).corrected == 1


def test_an_undone_edit_is_offered_again():
    round = make_written_round()
    user = owner_of(round)
    task = tasks_claim(round=round, user=user)[0]
    address = f"review-tasks/{task.pk}/"
    reply = call(user, "post", f"{address}submit/", {"action": "label", "answer": "Mine."})
    assert reply["correction"]["answer"] == "Mine."

    undone = call(user, "post", f"review-rounds/{round.pk}/undo/")
    assert undone["answer"] == "Mine."
    assert undone["task"]["machine"]["answer"] == answer_of(task)
    assert round_progress(round).answered == 0
    assert [row["answer"] for row in call(user, "get", address)["history"]] == ["Mine.", ""]

    call(user, "post", f"{address}submit/", {"action": "skip"})
    assert call(user, "post", f"review-rounds/{round.pk}/undo/")["answer"] == ""


def test_a_late_answer_counts_and_one_from_another_tab_does_not():
    round = make_written_round()
    user = owner_of(round)
    task = tasks_claim(round=round, user=user)[0]
    ReviewTask.objects.filter(pk=task.pk).update(lease_until=task.round.created_at)
    first = submit(task, user, text="Mine.", version=task.version)
    assert first.late
    task.refresh_from_db()
    assert (task.state, task.correction_id) == (ReviewTask.State.ANSWERED, first.pk)

    with pytest.raises(Conflict):
        submit(task, user, text="Another.", version=task.version - 1)
    answer_undo(round=round, user=user)
    assert Correction.objects.filter(task=task).count() == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"text": ""}, "answer"),
        ({"text": " \n"}, "answer"),
        ({"text": "x" * (MOST_CHARACTERS + 1)}, "answer"),
        ({"action": "skip", "text": "x"}, "action"),
        ({"action": "undo"}, "action"),
        ({"text": "x", "seconds": -1.0}, "seconds"),
    ],
)
def test_what_is_no_answer_is_refused(fields, field):
    round = make_written_round()
    task = tasks_claim(round=round, user=owner_of(round))[0]

    with pytest.raises(Refusal) as refusal:
        submit(task, owner_of(round), **fields)
    assert refusal.value.field == field
    assert not Correction.objects.exists()


def test_labels_and_texts_do_not_mix():
    written = make_written_round()
    labelled = make_reviewable_round()
    label = label_named(labelled.project, "positive")
    task = tasks_claim(round=written, user=owner_of(written))[0]
    with pytest.raises(Refusal, match="it has no labels"):
        submit(task, owner_of(written), label=label)

    task = tasks_claim(round=labelled, user=owner_of(labelled))[0]
    with pytest.raises(Refusal, match="are labels"):
        submit(task, owner_of(labelled), text="A text.")
    with pytest.raises(Refusal, match="are labels"):
        submit(task, owner_of(labelled), label=label, text="A text.")


class TestWhatIsShown:
    def test_a_rated_answer_comes_with_its_quality_and_without_an_error_probability(self):
        round = make_written_round()
        task = call(owner_of(round), "post", f"review-rounds/{round.pk}/next/")["tasks"][0]

        assert task["machine"]["answer"].startswith("Item item-")
        assert (task["machine"]["label_id"], task["machine"]["label"]) == (None, "")
        assert task["criticism"]["error_prob"] is None
        assert task["criticism"]["quality"] == pytest.approx(0.1)
        assert task["criticism"]["facts"] == []

    def test_facts_come_with_their_places_in_characters(self, checked):
        task = call(owner_of(checked), "post", f"review-rounds/{checked.pk}/next/")["tasks"][0]
        facts = task["criticism"]["facts"]

        assert [(TEXT[fact["start"] : fact["end"]], fact["error_prob"]) for fact in facts] == [
            ("😀 It rained.", 0.02),
            ("It was Monday.", 0.874),
        ]
        assert (task["criticism"]["error_prob"], task["criticism"]["quality"]) == (0.874, None)

    def test_what_was_shown_is_kept_with_the_answer(self, checked):
        task = tasks_claim(round=checked, user=owner_of(checked))[0]

        assert submit(task, owner_of(checked), text=TEXT).shown == {
            "arm": "criticism",
            "machine_label": None,
            "machine_answer": True,
            "error_prob": 0.874,
            "priority": 0.874,
            "facts": 2,
            "reasoning": False,
            "criticism": True,
        }

    def test_a_failed_answer_is_written_by_a_person(self):
        project = make_written_project("written_facts")
        run = make_written_run(project, {make_items(project, 1)[0]: ""})
        round = make_round(make_checks(run, []), budget=1)
        task = call(owner_of(round), "post", f"review-rounds/{round.pk}/next/")["tasks"][0]
        assert (task["machine"], task["criticism"]) == (None, None)
        assert task["failure"]["message"] == "The model declined to answer."

        call(
            owner_of(round),
            "post",
            f"review-tasks/{task['id']}/submit/",
            {"action": "label", "answer": "Mine."},
        )
        assert round_progress(round).corrected == 1


class TestAudits:
    @pytest.fixture
    def audit(self):
        round = make_written_round(items=4, budget=1)
        user = owner_of(round)
        task = tasks_claim(round=round, user=user)[0]
        submit(task, user, text=answer_of(task))
        return audit_round_create(round=round, user=user, count=3)

    def test_the_answer_is_shown_and_nothing_of_its_criticism(self, audit):
        reply = call(owner_of(audit), "post", f"review-rounds/{audit.pk}/next/")
        task = reply["tasks"][0]

        assert task["blind"]
        assert task["machine"] == {
            "label_id": None,
            "label": "",
            "answer": answer_of(ReviewTask.objects.get(pk=task["id"])),
            "reasoning": "",
            "confidence": None,
            "who": "",
            "start": None,
            "end": None,
            "occurrences": [],
        }
        assert task["criticism"] is None
        assert "reads well enough" not in json.dumps(reply)

    def test_an_accepted_answer_is_right_and_an_edited_one_wrong(self, audit):
        user = owner_of(audit)
        for place, task in enumerate(tasks_claim(round=audit, user=user, count=3)):
            text = answer_of(task) if place else "Something else."
            correction = submit(task, user, text=text)
            assert correction.shown == {
                "arm": "blind",
                "machine_label": None,
                "machine_answer": True,
                "error_prob": None,
            }

        certificate = certification_now(audit.audited).certificate
        assert certificate is not None
        assert (certificate.audited, certificate.wrong, certificate.corrected) == (3, 1, 0)
        assert certificate.after.share == pytest.approx(3 / 4)


def test_label_rounds_are_shown_as_before():
    round = make_reviewable_round()
    task = call(owner_of(round), "post", f"review-rounds/{round.pk}/next/")["tasks"][0]

    assert (task["machine"]["label"], task["machine"]["answer"]) == ("negative", "")
    assert (task["criticism"]["quality"], task["criticism"]["facts"]) == (None, [])
    assert make_project().task.is_written is False
