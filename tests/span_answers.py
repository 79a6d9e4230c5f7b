"""Rows of projects whose answers are spans of a text, each made whole with one call; see also `tests.factories`."""

from collections.abc import Mapping, Sequence
from typing import Any

from annotate.models import Annotation, AnnotationRun, CalibrationLabel, Item, ModelRun, Project, User
from annotate.services.projects import project_create
from jobs.models import Job
from review.models import ReviewRound, ReviewTask
from review.services.queue import Answer
from tests.factories import make_criticism_run, make_item, make_job, make_membership, make_round, make_user

TEXT = "The river Aller rises near Seehausen and flows 260 km to the Weser. The Aller is 260 km long."
QUESTION = "Where does the Aller rise?"


def gold(*answers: str, text: str = TEXT) -> list[dict[str, Any]]:
    """Gold answers as items keep them, each at its first place in the text."""
    return [{"text": answer, "start": text.index(answer)} for answer in answers]


def make_span_project(*, owner: User | None = None, reviewers: Sequence[User] = ()) -> Project:
    project = project_create(user=owner or make_user(), name="Rivers", task_type="extractive_qa")
    for reviewer in reviewers:
        make_membership(project, reviewer)
    return project


def make_span_item(project: Project, *right: str, known: bool = True, **fields: Any) -> Item:
    """An item about the same text, with these gold answers; without any, its text holds no answer."""
    fields = {"text": TEXT, "question": QUESTION, **fields}
    answers = gold(*right, text=fields["text"]) if known else None
    return make_item(project, gold_answers=answers, **fields)


def make_span_items(project: Project, count: int) -> list[Item]:
    """Items whose answer is Seehausen."""
    return [make_span_item(project, "Seehausen") for _ in range(count)]


def span_of(text: str, answer: str | None) -> dict[str, Any]:
    """The fields of an answer at its first place in the text; "" is "no answer", None an answer that failed."""
    if answer is None:
        return {"answer": "", "failure": "unparseable", "message": "It does not stand in the text."}
    start = text.index(answer) if answer else 0
    return {"answer": answer, "start": start, "end": start + len(answer)}


def make_span_run(
    project: Project, answers: Mapping[Item, str | None] | None = None, **fields: Any
) -> AnnotationRun:
    """A run with an answer of each item, by default "Seehausen"; see `span_of`."""
    if answers is None:
        answers = dict.fromkeys(project.items.filter(calibration_label=None).order_by("id"), "Seehausen")
    failed = sum(answer is None for answer in answers.values())
    run = AnnotationRun.objects.create(
        project=project,
        job=make_job("span_annotation", Job.State.DONE, total=len(answers), done=len(answers), failed=failed),
        created_by=project.created_by,
        **{
            "kind": ModelRun.Kind.PROMPTED,
            "provider": "openai",
            "model": "small",
            "strategy": "cot",
            **fields,
        },
    )
    Annotation.objects.bulk_create(
        Annotation(run=run, item=item, reasoning="It says so.", **span_of(item.text, answer))
        for item, answer in answers.items()
    )
    return run


def make_calibration_answer(item: Item, *right: str, author: User | None = None) -> CalibrationLabel:
    return CalibrationLabel.objects.create(
        project=item.project, item=item, answers=gold(*right, text=item.text), author=author
    )


def make_span_round(
    answers: Sequence[str | None] = ("Seehausen", "the Weser", ""),
    budget: int = 2,
    *,
    owner: User | None = None,
    reviewers: Sequence[User] = (),
) -> ReviewRound:
    """Items whose answer is Seehausen, a run that gave these answers, and a round; the first is the most suspicious."""
    project = make_span_project(owner=owner, reviewers=reviewers)
    items = make_span_items(project, len(answers))
    return make_round(
        make_criticism_run(make_span_run(project, dict(zip(items, answers, strict=True)))), budget
    )


def span_answer(task: ReviewTask, answer: str, **fields: Any) -> Answer:
    """A person's answer at its first place in the item's text; "" is "no answer"."""
    span = span_of(task.item.text, answer)
    return Answer(action="label", text=answer, start=span["start"], end=span["end"], **fields)
