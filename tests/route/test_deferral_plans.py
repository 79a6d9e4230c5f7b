"""Learning to defer in the product: from known items to a plan at work."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from annotate.errors import Refusal
from annotate.item_rows import NewItem, replace_items
from annotate.models import Annotation, AnnotationRun, ModelRun, Project, User
from annotate.services.runs import TRAINED
from criticize.services import criticism_run_create
from jobs.models import Job
from jobs.running import run_next_chunk
from review.models import ReviewRound
from route.evidence import evidence_of, open_items
from route.models import Plan, Router
from route.routing import NO_ANSWER
from route.services.deferral_plans import deferral_plan_start, deferral_preview
from route.services.plans import plan_act
from route.services.routers import AgentChoice, DeferralChoice, deferral_create
from route.training import kept_scores
from tests.factories import make_calibration_label, make_item, make_job, make_project, make_user
from tests.review.judging import answer_task

pytestmark = pytest.mark.django_db

KNOWN, LEFT = 40, 20
FRUIT = "ripe sweet banana apple pear"
METAL = "copper iron zinc tin bronze"


@pytest.fixture
def user() -> User:
    return make_user("ann")


@pytest.fixture
def project(user: User) -> Project:
    """Texts about fruit, which the first annotator gets right, and about metal, which the second does."""
    project = make_project(owner=user)
    for number in range(KNOWN + LEFT):
        item = make_item(project, text=f"{FRUIT if number % 2 else METAL} number {number}")
        if number < KNOWN:
            make_calibration_label(item, "positive")
    return project


def make_annotator(
    project: Project, model: str, *, right_about: str, scope: str = "calibration"
) -> AnnotationRun:
    """A finished run of a model that is right about one of the two subjects."""
    run = AnnotationRun.objects.create(
        project=project,
        kind=ModelRun.Kind.PROMPTED,
        provider="scripted",
        model=model,
        strategy="naive",
        scope=scope,
        job=make_job(total=KNOWN, done=KNOWN),
        created_by=project.created_by,
    )
    is_calibration = scope == AnnotationRun.Scope.CALIBRATION
    labels = {label.name: label for label in project.labels.all()}
    Annotation.objects.bulk_create(
        Annotation(
            run=run,
            item=item,
            label=labels["positive" if right_about in item.text else "negative"],
            confidence=0.5,
            cost=Decimal("0.001"),
        )
        for item in project.items.filter(calibration_label__isnull=not is_calibration)
    )
    return run


def train(project: Project, *, people: bool = False, beta: float = 0.2) -> Router:
    runs = [
        make_annotator(project, "fruit-model", right_about=FRUIT),
        make_annotator(project, "metal-model", right_about=METAL),
    ]
    agents = [AgentChoice(run) for run in runs] + ([AgentChoice(None, beta=beta)] if people else [])
    router = deferral_create(
        project=project, user=project.created_by, choice=DeferralChoice(agents, mistake=Decimal("0.5"))
    )
    run_next_chunk(router.job_id)
    router.refresh_from_db()
    return router


def finish(plan: Plan) -> None:
    for run in plan.run.sources.all():
        while run_next_chunk(run.job_id):
            pass
    while run_next_chunk(plan.run.job_id):
        pass


def test_the_evidence_says_who_is_right_where(project: Project) -> None:
    runs = [
        make_annotator(project, "fruit-model", right_about=FRUIT),
        make_annotator(project, "metal-model", right_about=METAL),
    ]

    evidence = evidence_of(project, runs)

    assert len(evidence) == KNOWN
    assert (evidence.is_wrong[:, 0] != evidence.is_wrong[:, 1]).all()
    assert evidence.is_wrong.mean() == 0.5
    assert evidence.from_calibration == KNOWN
    assert len(open_items(project)) == LEFT


def test_a_rejector_learns_who_is_right(project: Project) -> None:
    router = train(project)

    assert router.job.state == Job.State.DONE, router.job.reason
    assert router.is_trained
    rows = {row["kind"]: row for row in router.metrics["table"][:1]}
    assert rows["rejector"]["accuracy"] > 0.9
    assert {row["name"] for row in router.metrics["table"]} > {"Rejector", "Random, same shares"}
    assert router.metrics["sweep"][0]["factor"] == 0


def test_the_preview_gives_each_item_to_the_agent_that_is_right(project: Project) -> None:
    for model, subject in (("fruit-model", FRUIT), ("metal-model", METAL)):
        make_annotator(project, model, right_about=subject, scope="project")
    router = train(project)

    preview = deferral_preview(router=router, user=project.created_by)

    assert preview.items == LEFT
    assert [share.items for share in preview.shares] == [LEFT // 2, LEFT // 2]
    assert [share.answered for share in preview.shares] == [LEFT // 2, LEFT // 2]
    assert preview.cost == 0
    assert preview.accuracy > 0.9 > preview.default_accuracy


def test_a_plan_gathers_the_answers_of_its_agents(project: Project) -> None:
    for model, subject in (("fruit-model", FRUIT), ("metal-model", METAL)):
        make_annotator(project, model, right_about=subject, scope="project")
    router = train(project)

    plan = deferral_plan_start(router=router, user=project.created_by)
    finish(plan)

    plan.run.job.refresh_from_db()
    assert plan.run.job.state == Job.State.DONE
    labels = plan.run.annotations.values_list("label__name", flat=True)
    assert list(labels) == ["positive"] * LEFT
    assert not ReviewRound.objects.filter(routed_run=plan.run).exists()


def test_people_get_no_more_than_they_can_do(project: Project) -> None:
    for model, subject in (("fruit-model", FRUIT), ("metal-model", METAL)):
        make_annotator(project, model, right_about=subject, scope="project")
    router = train(project, people=True, beta=0.0)

    preview = deferral_preview(router=router, user=project.created_by, people=3)
    plan = deferral_plan_start(router=router, user=project.created_by, people=3)
    finish(plan)

    assert preview.shares[-1].items == 3
    round = ReviewRound.objects.get(routed_run=plan.run)
    assert round.budget == round.counted_tasks.count() == 3
    assert plan.run.annotations.filter(failure=Annotation.TO_PERSON).count() == 3
    assert plan.run.annotations.count() == LEFT
    assert round.draw_blocks.count() == 1
    label = project.labels.get(name="positive")
    answer_task(round.counted_tasks.order_by("rank")[0], label)
    assert len(open_items(project)) == LEFT - 1


def test_items_that_an_agent_was_never_asked_about_end_with_a_reason(project: Project) -> None:
    for model, subject in (("fruit-model", FRUIT), ("metal-model", METAL)):
        make_annotator(project, model, right_about=subject, scope="project")
    router = train(project)
    plan = deferral_plan_start(router=router, user=project.created_by)
    run = AnnotationRun.objects.get(model="metal-model", scope="project")
    Annotation.objects.filter(run=run).update(label=None, failure="refused", message="It declined.")

    finish(plan)

    failed = plan.run.annotations.filter(failure=NO_ANSWER)
    assert failed.count() == LEFT // 2
    assert "It declined." in failed[0].message


def test_a_plan_can_be_cancelled(project: Project) -> None:
    for model, subject in (("fruit-model", FRUIT), ("metal-model", METAL)):
        make_annotator(project, model, right_about=subject, scope="project")
    plan = deferral_plan_start(router=train(project), user=project.created_by)

    plan_act(plan=plan, user=project.created_by, action="cancel")

    plan.run.job.refresh_from_db()
    assert plan.run.job.state == Job.State.CANCELLED
    assert project.changes.filter(action="plan cancelled").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mistake": Decimal(0)}, "more than US"),
        ({"nu": -1.0}, "ν"),
        ({"hidden": (0,)}, "hidden"),
        ({}, "two or more"),
    ],
)
def test_what_cannot_be_trained_is_refused(project: Project, change: dict[str, Any], said: str) -> None:
    runs = [
        make_annotator(project, "fruit-model", right_about=FRUIT),
        make_annotator(project, "metal-model", right_about=METAL),
    ]
    agents = [AgentChoice(run) for run in runs][: 2 if change else 1]

    with pytest.raises(Refusal, match=said):
        deferral_create(
            project=project,
            user=project.created_by,
            choice=replace(DeferralChoice(agents, mistake=Decimal("0.5")), **change),
        )


def test_too_little_that_is_known_is_refused_before_anything_is_paid(project: Project) -> None:
    runs = [
        make_annotator(project, "fruit-model", right_about=FRUIT),
        make_annotator(project, "metal-model", right_about=METAL),
    ]
    project.calibration_labels.filter(pk__gt=project.calibration_labels.order_by("pk")[5].pk).delete()

    with pytest.raises(Refusal, match="at least 20"):
        deferral_create(
            project=project,
            user=project.created_by,
            choice=DeferralChoice([AgentChoice(run) for run in runs], mistake=Decimal("0.5")),
        )


def test_training_again_gives_the_same_router(project: Project) -> None:
    first = train(project)
    again = deferral_create(
        project=project,
        user=project.created_by,
        choice=DeferralChoice(
            [AgentChoice(agent.run) for agent in first.agents.all()], mistake=Decimal("0.5"), name=first.name
        ),
    )
    run_next_chunk(again.job_id)
    again.refresh_from_db()

    assert again.data_digest == first.data_digest
    assert first.file.read() == again.file.read()
    assert np.isclose(again.metrics["table"][0]["loss"], first.metrics["table"][0]["loss"])


def test_a_part_of_a_plan_is_not_criticized_by_itself(project: Project) -> None:
    run = make_annotator(project, "fruit-model", right_about=FRUIT, scope=AnnotationRun.Scope.PART)

    with pytest.raises(Refusal, match="the plan's own run"):
        criticism_run_create(annotation_run=run, user=project.created_by, choice=TRAINED)


def test_the_score_of_an_item_with_other_content_is_forgotten(project: Project) -> None:
    for model, subject in (("fruit-model", FRUIT), ("metal-model", METAL)):
        make_annotator(project, model, right_about=subject, scope="project")
    router = train(project)
    replaced, *others = open_items(project)
    new = NewItem("x", FRUIT, "", None, None, "", {}, None, None)

    replace_items([(replaced, new)])

    assert kept_scores(router)[0].tolist() == others
    preview = deferral_preview(router=router, user=project.created_by)
    assert (preview.added, sum(share.items for share in preview.shares)) == (1, LEFT - 1)
