from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from annotate.errors import Refusal
from annotate.models import Membership, Project
from annotate.services.guidelines import instructions_set
from annotate.services.projects import (
    label_add,
    label_delete,
    label_update,
    project_create,
    project_delete,
    project_update,
)
from annotate.vectors import ensure_vectors
from jobs.models import Job
from review.models import Correction
from review.services.queue import Answer, answer_undo, task_submit, tasks_claim
from tests.factories import (
    label_named,
    make_annotation_run,
    make_calibration_round,
    make_export,
    make_item,
    make_items,
    make_project,
    make_reviewable_round,
    make_user,
)
from tests.route.two_annotators import make_judge_run, make_metal_project, make_two

pytestmark = pytest.mark.django_db


class TestCreating:
    def test_its_maker_owns_it_and_its_labels_have_their_order(self):
        user = make_user()

        project = project_create(
            user=user,
            name=" Tweets ",
            task_type="text_classification",
            labels=["b", " a  z ", "", "<i>c</i>"],
        )

        assert project.name == "Tweets"
        assert project.memberships.get().role == Membership.Role.OWNER
        assert list(project.labels.values_list("position", "name")) == [(0, "b"), (1, "a z"), (2, "<i>c</i>")]

    def test_a_task_brings_its_own_labels(self):
        project = project_create(user=make_user(), name="VQA", task_type="closed_vqa")

        assert list(project.labels.values_list("name", flat=True)) == ["no", "yes"]

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"name": " "}, "Give the project a name"),
            ({"task_type": "haiku"}, "Unknown task type"),
            ({"labels": ["a", "b", "a "]}, "“a” is listed twice"),
            ({"labels": ["cafe\u0301", "café"]}, "is listed twice"),
            ({"labels": ["a" * 201]}, "longer than 200"),
            ({"labels": ["a\x07"]}, "control character"),
        ],
    )
    def test_what_cannot_be_is_refused_and_leaves_nothing(self, fields, sentence):
        with pytest.raises(Refusal, match=sentence):
            project_create(
                user=make_user(),
                **{"name": "x", "task_type": "text_classification", "labels": ["a"], **fields},
            )

        assert not Project.objects.exists()

    def test_a_project_keeps_a_name(self):
        project = make_project()

        with pytest.raises(Refusal):
            project_update(project=project, name=" ", instructions="")
        project_update(project=project, name="New", instructions="Be kind.")

        assert Project.objects.get().instructions == "Be kind."

    def test_a_price_alone_leaves_guidelines_as_somebody_wrote_them_meanwhile(self):
        project = make_project()
        read_before = Project.objects.get()
        instructions_set(project=project, user=None, text="Be kind.")

        project_update(project=read_before, name=project.name, review_price=Decimal("0.5"))

        now = Project.objects.get()
        assert (now.instructions, now.review_price) == ("Be kind.", Decimal("0.5"))


class TestLabels:
    def test_a_name_is_there_once(self):
        project = make_project(labels=["a", "b"])

        with pytest.raises(Refusal, match="a label “a” already"):
            label_add(project=project, name=" a")
        with pytest.raises(Refusal, match="a label “b” already"):
            label_update(label=label_named(project, "a"), name="b", description="")
        label_update(label=label_named(project, "a"), name="a", description=" first ")

        assert label_named(project, "a").description == "first"

    def test_the_gap_of_a_deleted_label_closes(self):
        project = make_project(labels=["a", "b", "c", "d"])

        label_delete(label=label_named(project, "b"))

        assert list(project.labels.values_list("position", "name")) == [(0, "a"), (1, "c"), (2, "d")]

    def test_a_label_in_use_stays(self):
        project = make_project(labels=["a", "b", "c"])
        make_item(project, gold="a")
        with pytest.raises(Refusal, match="in use"):
            label_delete(label=label_named(project, "a"))

        make_annotation_run(project)
        with pytest.raises(Refusal, match="in use"):
            label_delete(label=label_named(project, "c"))

    def test_a_label_that_somebody_gave_and_took_back_stays(self):
        project = make_project(labels=["a", "b", "c"])
        make_items(project, 2)
        round = make_calibration_round(project, 1)
        (task,) = tasks_claim(round=round, user=project.created_by)
        task_submit(task=task, user=project.created_by, answer=Answer("label", label_named(project, "c")))
        answer_undo(round=round, user=project.created_by)

        with pytest.raises(Refusal, match="in use"):
            label_delete(label=label_named(project, "c"))

        assert project.labels.count() == 3


class TestDeleting:
    def test_its_name_must_be_repeated(self):
        project = make_project(name="Tweets")

        with pytest.raises(Refusal, match="type the project's name"):
            project_delete(project=project, confirm_name="tweets")

    @pytest.mark.parametrize("state", [Job.State.QUEUED, Job.State.RUNNING])
    def test_not_while_it_is_worked_on(self, state):
        project = make_project()
        make_items(project, 2)
        run = make_annotation_run(project)
        Job.objects.filter(pk=run.job_id).update(state=state)

        with pytest.raises(Refusal, match="still running"):
            project_delete(project=project, confirm_name=project.name)

    @pytest.mark.parametrize("state", Job.UNFINISHED)
    def test_vectors_that_are_being_made_are_cancelled(self, state):
        project = make_project()
        make_items(project, 2)
        version = ensure_vectors(project, user=project.created_by)
        Job.objects.filter(pk=version.job_id).update(state=state)

        project_delete(project=project, confirm_name=project.name)

        assert not Project.objects.exists()
        assert Job.objects.get(pk=version.job_id).state == Job.State.CANCELLED

    def test_not_while_a_model_compares_answers(self):
        project = make_metal_project()
        run = make_judge_run(project, *make_two(project))
        Job.objects.filter(pk=run.job_id).update(state=Job.State.RUNNING)

        with pytest.raises(Refusal, match="still running"):
            project_delete(project=project, confirm_name=project.name)

    def test_not_while_an_export_is_written(self):
        export = make_export(make_reviewable_round(), state=Job.State.RUNNING)

        with pytest.raises(Refusal, match="still running"):
            project_delete(project=export.project, confirm_name=export.project.name)

    def test_everything_in_it_goes_corrections_and_files_too(self, django_capture_on_commit_callbacks):
        round = make_reviewable_round()
        project, user = round.project, round.created_by
        for task in tasks_claim(round=round, user=user, count=2):
            task_submit(task=task, user=user, answer=Answer("label", project.labels.all()[0]))
        answer_undo(round=round, user=user)
        make_export(round, state=Job.State.DONE)
        folder = Path(django_settings.MEDIA_ROOT) / "exports" / str(project.pk)
        folder.mkdir(parents=True, exist_ok=True)
        other = make_reviewable_round()

        with django_capture_on_commit_callbacks(execute=True):
            project_delete(project=project, confirm_name=project.name)

        assert list(Project.objects.all()) == [other.project]
        assert not Correction.objects.exists()
        assert other.tasks.count() == 2
        assert not folder.exists()
