"""What the machine of the chaos test holds before anything is killed. Called in processes of the machine."""

from typing import Any

REVIEWERS = 3


def prepare(base_url: str, items: int, in_flight: int, reviewed: int) -> dict[str, Any]:
    """The database with two projects: one to annotate, and one whose criticized items people review."""
    from django.core.management import call_command
    from knox.models import AuthToken

    from annotate.models import Item
    from tests.factories import (
        make_annotation_run,
        make_connection,
        make_criticism_run,
        make_items,
        make_project,
        make_user,
    )

    call_command("migrate", verbosity=0)
    owner = make_user("owner")
    people = [make_user(f"reviewer-{number}") for number in range(REVIEWERS)]
    project = make_project(owner=owner)
    Item.objects.bulk_create(
        Item(project=project, external_id=str(number), text=f"<{number}>") for number in range(items)
    )
    connection = make_connection(owner, base_url=base_url, in_flight=in_flight)
    review = make_project(owner=owner, reviewers=people, name="Reviewed")
    make_items(review, reviewed)
    run = make_criticism_run(make_annotation_run(review))
    imported = make_project(owner=owner, name="Imported")
    tokens = {user.username: AuthToken.objects.create(user=user)[1] for user in (owner, *people)}
    return {
        "project": project.pk,
        "connection": connection.pk,
        "review_project": review.pk,
        "criticism_run": run.pk,
        "labels": list(review.labels.values_list("pk", flat=True)),
        "import_project": imported.pk,
        "tokens": tokens,
    }


def annotate(project: int, connection: int) -> dict[str, Any]:
    """Start the job."""
    from annotate.models import Connection, Project
    from annotate.services.runs import ModelChoice, annotation_run_create

    found = Project.objects.get(pk=project)
    choice = ModelChoice(
        kind="prompted",
        connection=Connection.objects.get(pk=connection),
        model="mock",
        strategy="naive",
        answer_format="bracket",
    )
    run = annotation_run_create(project=found, user=found.created_by, choice=choice)
    return {"run": run.pk, "job": run.job_id}
