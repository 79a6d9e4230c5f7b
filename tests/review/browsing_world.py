"""A small project with a bit of everything that a list of items can be narrowed to, drawn from a seed."""

import uuid
from dataclasses import dataclass, field

import numpy as np

from annotate.models import Annotation, AnnotationRun, Comment, Item, Label, Project, Upload, User
from criticize.models import Criticism, CriticismRun
from review.models import Correction, ReviewRound, ReviewTask
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_criticism_run,
    make_item,
    make_project,
    make_user,
)

State, Purpose = ReviewTask.State, ReviewTask.Purpose
LABELS = ("negative", "positive", "mixed")
# Few values, so that there are ties in every order.
VALUES = (0.1, 0.25, 0.25, 0.8, 0.9)


@dataclass
class BrowsingWorld:
    project: Project
    run: AnnotationRun
    criticism: CriticismRun
    round: ReviewRound
    audit: ReviewRound
    people: list[User]
    uploads: list[Upload]
    labels: list[Label]
    items: list[Item] = field(default_factory=list)


def make_browsing_world(seed: int, count: int = 60) -> BrowsingWorld:
    rng = np.random.default_rng(seed)
    people = [make_user() for _ in range(3)]
    project = make_project(labels=LABELS, reviewers=people[1:])
    labels = list(project.labels.order_by("position"))
    uploads = [
        Upload.objects.create(project=project, filename=name, size=1, created_by=project.created_by)
        for name in ("first.csv", "second.csv")
    ]
    items = [_item(project, uploads, rng) for _ in range(count)]
    for item in items:
        if rng.random() < 0.1:
            make_calibration_label(item, str(rng.choice(LABELS)))
    annotated = [item for item in items if not hasattr(item, "calibration_label") and rng.random() < 0.9]
    answers = {item: "" if rng.random() < 0.15 else str(rng.choice(LABELS)) for item in annotated}
    run = make_annotation_run(project, answers)
    for annotation in run.annotations.all():
        annotation.confidence = None if rng.random() < 0.2 else float(rng.choice(VALUES))
        annotation.save()
    criticized = run.annotations.filter(failure="").count()
    error_probs = [None if rng.random() < 0.15 else float(rng.choice(VALUES)) for _ in range(criticized)]
    criticism = make_criticism_run(run, error_probs)
    round = ReviewRound.objects.create(
        project=project, criticism_run=criticism, rule="threshold", budget=10, created_by=project.created_by
    )
    audit = ReviewRound.objects.create(
        project=project,
        criticism_run=criticism,
        kind=ReviewRound.Kind.AUDIT,
        audited=round,
        budget=5,
        created_by=project.created_by,
    )
    world = BrowsingWorld(project, run, criticism, round, audit, people, uploads, labels, items)
    for annotation in run.annotations.order_by("?" if seed < 0 else "pk"):
        _review(world, annotation, rng)
    for item in items:
        if rng.random() < 0.1:
            Comment.objects.create(item=item, author=project.created_by, text="Look at this.")
    return world


def _item(project: Project, uploads: list[Upload], rng: np.random.Generator) -> Item:
    return make_item(
        project,
        gold="" if rng.random() < 0.3 else str(rng.choice(LABELS)),
        text=f"{rng.choice(['Fine', 'foul', '100% ok'])} weather",
        upload=uploads[int(rng.integers(2))],
        columns={"source": str(rng.choice(["web", "mail"])), "a b": int(rng.integers(3))},
    )


def _review(world: BrowsingWorld, annotation: Annotation, rng: np.random.Generator) -> None:
    kind = rng.choice(["none", "waiting", "leased", "answered", "skipped", "two", "audit"])
    if kind == "none":
        return
    purpose = Purpose.PICKED if rng.random() < 0.3 else Purpose.REVIEW
    if kind == "audit":
        _task(world, annotation, rng, round=world.audit, state=State.ANSWERED)
    elif kind == "two":
        turns = [
            _task(world, annotation, rng, state=State.ANSWERED, copy=copy, is_counted=copy == 0, holder=copy)
            for copy in (0, 1)
        ]
        first, second = (turn.correction for turn in turns)
        assert first is not None
        assert second is not None
        if first.label_id != second.label_id:
            ReviewTask.objects.filter(pk=turns[0].pk).update(is_counted=False)
            state = State.ANSWERED if rng.random() < 0.5 else State.WAITING
            _task(world, annotation, rng, state=state, purpose=Purpose.ADJUDICATION)
    else:
        _task(world, annotation, rng, state=State(str(kind)), purpose=purpose)
    if rng.random() < 0.2:  # a known item answered by somebody, which is no answer to the item
        _task(
            world,
            annotation,
            rng,
            state=State.ANSWERED,
            purpose=Purpose.GOLD,
            is_counted=False,
            assigned_to=world.people[0],
        )


def _task(
    world: BrowsingWorld,
    annotation: Annotation,
    rng: np.random.Generator,
    *,
    state: ReviewTask.State,
    round: ReviewRound | None = None,
    holder: int | None = None,
    **fields: object,
) -> ReviewTask:
    person = world.people[int(rng.integers(3)) if holder is None else holder]
    task = ReviewTask.objects.create(
        round=round or world.round,
        item_id=annotation.item_id,
        annotation=annotation,
        criticism=Criticism.objects.filter(run=world.criticism, annotation=annotation, failure="").first(),
        rank=annotation.pk,
        state=state,
        holder=None if state == State.WAITING else person,
        **fields,
    )
    if state in (State.ANSWERED, State.SKIPPED):
        is_answer = state == State.ANSWERED
        task.correction = Correction.objects.create(
            task=task,
            action="label" if is_answer else "skip",
            label=world.labels[int(rng.integers(3))] if is_answer else None,
            author=person,
            key=uuid.UUID(int=int(rng.integers(2**62))),
        )
        task.save()
    return task
