"""One project with something of everything in it, seen by a person of each role and by a stranger."""

from dataclasses import dataclass
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from knox.models import AuthToken

from annotate.models import (
    AnnotationRun,
    Comment,
    LabelExample,
    Membership,
    ModelPrice,
    ModelRun,
    Project,
    RejectedRow,
    SavedView,
    Upload,
    User,
)
from annotate.services.invitations import invitation_create
from annotate.services.uploads import upload_receive
from jobs.models import Job
from review.models import ReviewRound, ReviewTask
from review.services.pauses import pause
from route.models import Agent, JudgeRun, Plan, Preference, Router, TracedRun
from route.services.comparison_sets import comparison_set_receive
from tests.factories import (
    make_annotation_run,
    make_calibration_label,
    make_connection,
    make_criticism_run,
    make_export,
    make_image,
    make_item,
    make_items,
    make_job,
    make_membership,
    make_project,
    make_round,
    make_user,
)

CSV = b"id,tweet,label\n1,so good,positive\n2,so bad,negative\n"
COMPARISONS = b"query,response_a,response_b,gold,preference\nwhy,so,thus,b,\nhow,so,thus,,a\n"
KEY = "sk-nobody-may-ever-read-this-0123456789"


@dataclass
class World:
    owner: User
    manager: User
    viewer: User
    reviewer: User
    stranger: User
    ids: dict[str, Any]
    """Values of the addresses' parts, by name."""

    upload: Upload

    def person(self, role: str) -> User | None:
        """Nobody for `anonymous`."""
        people = {
            "stranger": self.stranger,
            "reviewer": self.reviewer,
            "viewer": self.viewer,
            "manager": self.manager,
            "owner": self.owner,
        }
        return people.get(role)

    def ids_for(self, role: str) -> dict[str, Any]:
        """What bodies name: a connection is always the sender's own, if they have one."""
        person = self.person(role)
        own = person.connections.first() if person is not None else None
        return self.ids if own is None else self.ids | {"connection_id": own.pk}


def make_world() -> World:
    owner, reviewer, stranger = make_user("olga"), make_user("rita"), make_user("sam")
    manager, viewer = make_user("mona"), make_user("vera")
    owner.is_staff = True  # who may change the prices, too
    owner.save()
    make_project(owner=stranger)
    project = make_project(owner=owner, reviewers=[reviewer], labels=("negative", "positive", "unused"))
    make_membership(project, manager, Membership.Role.MANAGER)
    make_membership(project, viewer, Membership.Role.VIEWER)
    make_connection(manager, key=KEY)
    item = make_item(project, external_id="tweet/1", image=make_image(project), gold="positive")
    make_items(project, 3, gold="negative")
    calibrated = make_item(project, gold="positive")
    make_calibration_label(calibrated, "positive")
    upload = upload_receive(project=project, user=owner, file=SimpleUploadedFile("tweets.csv", CSV))
    RejectedRow.objects.create(upload=upload, row=3, message="Row 3 has no text.")
    premium = make_annotation_run(project, {item: "positive"}, model="large")
    annotations = make_annotation_run(project)
    criticisms = make_criticism_run(annotations)
    candidate = make_annotation_run(project, {calibrated: "negative"}, scope=AnnotationRun.Scope.CALIBRATION)
    round = make_round(criticisms)
    ReviewTask.objects.create(round=round, item=calibrated, rank=9, purpose=ReviewTask.Purpose.ADJUDICATION)
    price = ModelPrice.objects.create(provider="openai", model="small", input=1, output=2, updated_by=owner)
    first = annotations.annotations.earliest("pk")
    ids = {
        "project_id": project.pk,
        "label_id": project.labels.get(name="unused").pk,
        "example_id": LabelExample.objects.create(
            label=project.labels.get(name="positive"), item=calibrated, created_by=owner
        ).pk,
        "member_id": project.memberships.get(user=reviewer).pk,
        "invitation_id": invitation_create(project=project, user=owner, role="viewer").pk,
        "upload_id": upload.pk,
        "item_id": item.pk,
        "external_id": item.external_id,
        "comment_id": Comment.objects.create(item=item, author=owner, text="Look twice.").pk,
        "change_id": 10**9,
        "view_id": SavedView.objects.create(project=project, name="Mine", created_by=owner).pk,
        "annotation_run_id": annotations.pk,
        "annotation_id": first.pk,
        "candidate_run_id": candidate.pk,
        "premium_run_id": premium.pk,
        "criticism_run_id": criticisms.pk,
        "criticism_id": criticisms.criticisms.earliest("pk").pk,
        "round_id": round.pk,
        "pause_id": pause(round=round, user=viewer, by=manager).pk,
        "task_id": round.tasks.earliest("rank").pk,
        "export_id": make_export(round, state=Job.State.FAILED).pk,
        **_routing(project, owner, candidate),
        "comparison_set_id": comparison_set_receive(
            project=project, user=owner, file=SimpleUploadedFile("answers.csv", COMPARISONS)
        ).pk,
        "judge_run_id": _judge_run(project, annotations, candidate).pk,
        "connection_id": make_connection(owner, key=KEY).pk,
        "price_id": price.pk,
        "key": AuthToken.objects.create(user=owner)[0].token_key,
    }
    return World(owner, manager, viewer, reviewer, stranger, ids, upload)


def _routing(project: Project, owner: User, candidate: AnnotationRun) -> dict[str, Any]:
    """A router whose training failed, and a cancelled plan of it."""
    router = Router.objects.create(
        project=project,
        kind=Router.Kind.DEFERRAL,
        name="Who answers what",
        job=make_job(kind="router_training", state=Job.State.FAILED),
        created_by=owner,
    )
    Agent.objects.create(router=router, position=0, name="small", run=candidate)
    Agent.objects.create(router=router, position=1, name="People")
    run = AnnotationRun.objects.create(
        project=project,
        kind=ModelRun.Kind.ROUTED,
        parameters={"agents": ["small", "People"]},
        job=make_job(kind="routing", state=Job.State.CANCELLED),
        created_by=owner,
    )
    shares = [{"agent": "small", "items": 1, "answered": 0, "cost": "0.1"}]
    expected = {"items": 1, "accuracy": 0.9, "default_accuracy": 0.8, "cost": "0.1", "shares": shares}
    plan = Plan.objects.create(router=router, expected=expected, run=run, created_by=owner)
    traced = TracedRun.objects.create(
        run=AnnotationRun.objects.create(
            project=project,
            kind=ModelRun.Kind.PROMPTED,
            strategy="steps",
            job=make_job(kind="traced_annotation", state=Job.State.CANCELLED),
            created_by=owner,
        ),
        router=router,
        limit=0.3,
        budget=1,
    )
    return {"router_id": router.pk, "plan_id": plan.pk, "traced_id": traced.pk}


def _judge_run(project: Project, cheap: AnnotationRun, premium: AnnotationRun) -> JudgeRun:
    """A finished comparison with one preference."""
    run = JudgeRun.objects.create(
        project=project,
        cheap=cheap,
        premium=premium,
        kind=ModelRun.Kind.PROMPTED,
        provider="openai",
        model="judge",
        strategy="cot",
        job=make_job(kind="comparison", total=1, done=1),
        created_by=project.created_by,
    )
    Preference.objects.create(run=run, item=project.items.earliest("pk"), value=1)
    return run


def more_of_everything(world: World) -> None:
    """The same again, so that lists grow."""
    project = world.upload.project
    make_project(owner=world.owner, reviewers=[world.reviewer])
    make_membership(project, make_user())
    project.labels.create(position=3, name="further")
    for role in ("reviewer", "manager"):
        invitation_create(project=project, user=world.owner, role=role)
    for item in make_items(project, 3, gold="positive", image=make_image(project)):
        LabelExample.objects.create(label_id=world.ids["label_id"], item=item, created_by=world.owner)
    for text in ("First.", "Second."):
        Comment.objects.create(item_id=world.ids["item_id"], author=world.reviewer, text=text)
    make_calibration_label(make_item(project), "negative")
    upload_receive(project=project, user=world.owner, file=SimpleUploadedFile("more.csv", CSV))
    SavedView.objects.create(project=project, name="Others", created_by=world.owner)
    comparison_set_receive(
        project=project, user=world.owner, file=SimpleUploadedFile("more.csv", COMPARISONS)
    )
    RejectedRow.objects.create(upload=world.upload, row=4, message="Row 4 has no text.")
    runs = [make_annotation_run(project) for _ in range(2)]
    criticisms = [make_criticism_run(run) for run in runs]
    rounds = [make_round(run, budget=3) for run in criticisms]
    for round in rounds:
        make_export(round)
        ReviewTask.objects.create(
            round=round, item=make_item(project), rank=9, purpose=ReviewTask.Purpose.ADJUDICATION
        )
    audited = ReviewRound.objects.get(pk=world.ids["round_id"])
    pause(round=audited, user=world.stranger, by=world.owner)
    for _ in range(2):
        ReviewRound.objects.create(
            project=project,
            kind=ReviewRound.Kind.AUDIT,
            audited=audited,
            criticism_run=audited.criticism_run,
            budget=1,
            created_by=world.owner,
        )
    make_connection(world.owner, key=KEY)
    ModelPrice.objects.create(provider="openai", model="other", input=1, output=2, updated_by=world.stranger)
    AuthToken.objects.create(user=world.owner)
