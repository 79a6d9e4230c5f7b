"""The pages on which a rejector is trained and its plan is started."""

import errno
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from annotate.models import Project, User
from jobs.models import Job
from jobs.running import run_next_chunk
from route.models import Plan, Router
from route.saving import load
from tests.api.caller import content_of
from tests.route.test_deferral_plans import FRUIT, METAL, make_annotator, project, train, user

__all__ = ["project", "user"]  # fixtures

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def test_the_routing_page_says_what_comes_first(browser: Client, project: Project) -> None:
    page = browser.get(reverse("routing", args=[project.pk]))

    assert "nobody to choose among yet" in page.content.decode()


def test_a_router_is_trained_and_its_plan_started_from_the_pages(browser: Client, project: Project) -> None:
    for model, subject in (("fruit-model", FRUIT), ("metal-model", METAL)):
        make_annotator(project, model, right_about=subject, scope="project")
    runs = [
        make_annotator(project, "fruit-model", right_about=FRUIT),
        make_annotator(project, "metal-model", right_about=METAL),
    ]
    offered = browser.get(reverse("deferral_new", args=[project.pk])).content.decode()
    keys = [
        key for key in (str(run.pk) for run in project.annotation_runs.all()) if f'value="{key}"' in offered
    ]
    assert len(keys) == len(runs)

    form = {
        "agents": [*keys, "people"],
        "default": keys[0],
        "mistake": "0.4",
        "vectors": "plain",
        "beta_people": "0.9",
    }
    trained = browser.post(reverse("deferral_new", args=[project.pk]), form)
    router = Router.objects.get()
    assert trained.headers["Location"] == reverse("router", args=[project.pk, router.pk])
    assert "waits for a worker" in browser.get(trained.headers["Location"]).content.decode()

    run_next_chunk(router.job_id)
    page = browser.get(reverse("router", args=[project.pk, router.pk])).content.decode()
    assert "Rejector" in page
    assert "Start the plan" in page
    preview = browser.get(reverse("plan_preview", args=[project.pk, router.pk]), {"people": "2"})
    assert "Expected right" in preview.content.decode()

    started = browser.post(reverse("plan_new", args=[project.pk, router.pk]), {"people": "2"})
    plan = Plan.objects.get()
    assert started.headers["Location"] == reverse("plan", args=[project.pk, plan.pk])
    while run_next_chunk(plan.run.job_id):
        pass
    page = browser.get(started.headers["Location"]).content.decode()
    assert "Criticize" in page
    run_page = browser.get(reverse("annotation_run", args=[project.pk, plan.run_id])).content.decode()
    assert "outed to" in run_page


def test_the_file_can_be_downloaded_and_read(browser: Client, project: Project, tmp_path: Path) -> None:
    router = train(project)

    response = browser.get(reverse("router_download", args=[project.pk, router.pk]))
    path = tmp_path / "router.zip"
    path.write_bytes(content_of(response))
    fitted, about = load(path)

    assert about["data_digest"] == router.data_digest
    assert fitted.n_agents_ == 2


def test_what_is_wrong_with_the_form_is_said_beside_it(browser: Client, project: Project) -> None:
    runs = [
        make_annotator(project, "fruit-model", right_about=FRUIT),
        make_annotator(project, "metal-model", right_about=METAL),
    ]

    page = browser.post(
        reverse("deferral_new", args=[project.pk]),
        {"agents": [str(runs[0].pk)], "default": str(runs[1].pk), "mistake": "-1", "vectors": "plain"},
    ).content.decode()

    assert "must be one of those that are chosen" in page
    assert not Router.objects.exists()


def test_a_training_that_failed_says_why(browser: Client, project: Project) -> None:
    router = train(project)
    router.file.delete()
    Job.objects.filter(pk=router.job_id).update(state=Job.State.FAILED, reason="The texts hold no words.")

    page = browser.get(reverse("router", args=[project.pk, router.pk])).content.decode()

    assert "The texts hold no words." in page


def test_a_full_disk_pauses_the_training_which_goes_on_from_its_page(
    browser: Client, project: Project, monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = str(tmp_path)
    write = FileSystemStorage._save  # type: ignore[attr-defined]
    files = iter(range(10))

    def no_room_for_the_second(storage: FileSystemStorage, name: str, content: Any) -> str:
        if next(files) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return str(write(storage, name, content))

    with monkeypatch.context() as full:
        full.setattr(FileSystemStorage, "_save", no_room_for_the_second)
        router = train(project)
    assert (router.job.state, router.job.failure, router.is_trained) == ("paused", "disk_full", False)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    page = browser.get(reverse("router", args=[project.pk, router.pk])).content.decode()
    assert "Free some space there, then go on." in page
    resume = reverse("trace_training", args=[project.pk, router.pk, "resume"])
    assert f'action="{resume}"' in page

    browser.post(resume)
    run_next_chunk(router.job_id)

    assert Router.objects.get(pk=router.pk).is_trained
