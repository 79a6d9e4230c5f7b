"""Run as a program on a data folder of its own: makes the database with a project, and starts an annotation run.

python -m tests.jobs.prepared_run BASE_URL ITEMS IN_FLIGHT
"""

import os
import sys


def main(base_url: str, items: int, in_flight: int) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django

    django.setup()
    from django.core.management import call_command

    from annotate.models import Item
    from annotate.services.runs import ModelChoice, annotation_run_create
    from tests.factories import make_connection, make_project, make_user

    call_command("migrate", verbosity=0)
    owner = make_user("owner")
    project = make_project(owner=owner)
    Item.objects.bulk_create(
        Item(project=project, external_id=str(number), text=f"<{number}>") for number in range(items)
    )
    connection = make_connection(owner, base_url=base_url, in_flight=in_flight)
    choice = ModelChoice(
        kind="prompted", connection=connection, model="mock", strategy="naive", answer_format="bracket"
    )
    annotation_run_create(project=project, user=owner, choice=choice)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
