"""A project that is deleted while something is started in it: whoever is second is told so, and nothing breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction
from django.http import Http404

from annotate.errors import Refusal
from annotate.models import AnnotationRun, Project, Upload
from annotate.services import projects
from annotate.services.combining import vote_create
from annotate.services.projects import label_add, project_delete
from annotate.services.runs import annotation_run_create
from annotate.services.uploads import upload_import, upload_receive
from annotate.uploads.mapping import ColumnMapping
from criticize.services import criticism_run_create
from jobs.models import Job
from review.models import ReviewRound
from review.services.exports import export_create
from route.models import Agent, Router
from route.services.judge_runs import judge_run_create
from route.services.plans import Allocation, plan_start
from route.services.routers import AgentChoice, DeferralChoice, deferral_create
from tests.factories import make_criticism_run, make_job, make_round
from tests.route.two_annotators import judge_choice, make_metal_project, make_two
from tests.waiting import Meanwhile, needs_row_locks


@dataclass(frozen=True)
class Ready:
    """A project in which all can be started, as somebody holds it who is about to start something."""

    project: Project
    runs: tuple[AnnotationRun, AnnotationRun]
    round: ReviewRound
    router: Router
    upload: Upload


@pytest.fixture
def ready() -> Ready:
    project = make_metal_project()
    user = project.created_by
    runs = make_two(project)
    router = Router.objects.create(
        project=project, kind=Router.Kind.DEFERRAL, job=make_job("router_training"), created_by=user
    )
    Agent.objects.create(router=router, position=0, name="cheap", run=runs[0])
    upload = upload_receive(project=project, user=user, file=SimpleUploadedFile("a.csv", b"text\nso good\n"))
    return Ready(project, runs, make_round(make_criticism_run(runs[0])), router, upload)


def annotate(ready: Ready) -> object:
    choice = judge_choice(ready.project)
    return annotation_run_create(project=ready.project, user=ready.project.created_by, choice=choice)


def vote(ready: Ready) -> object:
    return vote_create(project=ready.project, user=ready.project.created_by, sources=ready.runs)


def criticize(ready: Ready) -> object:
    return criticism_run_create(
        annotation_run=ready.runs[1], user=ready.project.created_by, choice=judge_choice(ready.project)
    )


def compare(ready: Ready) -> object:
    cheap, premium = ready.runs
    user, choice = ready.project.created_by, judge_choice(ready.project)
    return judge_run_create(project=ready.project, user=user, cheap=cheap, premium=premium, choice=choice)


def train(ready: Ready) -> object:
    choice = DeferralChoice([AgentChoice(run) for run in ready.runs], mistake=Decimal("0.5"))
    return deferral_create(project=ready.project, user=ready.project.created_by, choice=choice)


def route(ready: Ready) -> object:
    items = np.array(sorted(ready.runs[0].annotations.values_list("item_id", flat=True)))
    allocation = Allocation(items, np.zeros(len(items), dtype=np.int64))
    return plan_start(
        router=ready.router, user=ready.project.created_by, allocation=allocation, setting={}, expected={}
    )


def export(ready: Ready) -> object:
    return export_create(round=ready.round, user=ready.project.created_by)


def bring_in(ready: Ready) -> object:
    return upload_import(upload=ready.upload, mapping=ColumnMapping(text="text"))


STARTS = (annotate, vote, criticize, compare, train, route, export, bring_in)
every_start = pytest.mark.parametrize("start", STARTS)


def delete(project: Project) -> None:
    project_delete(project=Project.objects.get(pk=project.pk), confirm_name=project.name)


@pytest.mark.django_db
def test_what_is_started_in_a_deleted_project_does_not_exist(ready: Ready) -> None:
    file = SimpleUploadedFile("b.csv", b"text\nso bad\n")
    delete(ready.project)

    for start in (*STARTS, lambda ready: label_add(project=ready.project, name="c")):
        with pytest.raises(
            (Http404, Refusal)
        ):  # a refusal where it is asked first what there is to learn from
            start(ready)
    with pytest.raises(Http404, match="has been deleted"):
        upload_receive(project=ready.project, user=ready.project.created_by, file=file)
    with pytest.raises(Http404, match="has been deleted"):
        project_delete(project=ready.project, confirm_name=ready.project.name)
    assert not Job.objects.filter(state=Job.State.QUEUED).exists()


@needs_row_locks
@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    @every_start
    def test_while_it_is_deleted_nothing_can_be_started(
        self, ready: Ready, start: Callable[[Ready], object]
    ) -> None:
        with transaction.atomic():
            delete(ready.project)
            other = Meanwhile(lambda: start(ready))

        with pytest.raises(Http404, match="has been deleted"):
            other.end()
        assert not Job.objects.filter(state=Job.State.QUEUED).exists()

    @every_start
    def test_while_something_is_started_it_is_not_deleted(
        self, ready: Ready, start: Callable[[Ready], object]
    ) -> None:
        with transaction.atomic():
            start(ready)
            other = Meanwhile(lambda: delete(ready.project))

        with pytest.raises(Refusal, match="still running"):
            other.end()
        assert Project.objects.exists()

    def test_deleted_twice_it_is_gone(self, ready: Ready) -> None:
        again = Project.objects.get(pk=ready.project.pk)

        with transaction.atomic():
            delete(ready.project)
            other = Meanwhile(lambda: project_delete(project=again, confirm_name=again.name))

        with pytest.raises(Http404, match="has been deleted"):
            other.end()


@pytest.mark.django_db
def test_what_somebody_writes_into_it_at_the_end_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_metal_project()

    def somebody_was_faster(project: Project) -> None:
        raise IntegrityError

    monkeypatch.setattr(projects, "_delete", somebody_was_faster)
    with pytest.raises(Refusal, match="Try again") as refused:
        delete(project)
    assert refused.value.is_conflict
