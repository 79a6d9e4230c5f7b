"""Named ways to look at a project's items."""

from django.db import transaction

from annotate.errors import Refusal
from annotate.history import record
from annotate.models import Project, SavedView, User

LONGEST_NAME = 80
LONGEST_QUERY = 2000


@transaction.atomic
def saved_view_save(*, project: Project, user: User, name: str, query: str) -> SavedView:
    """Keep a list's address under a name; a name there is gets the new address. Raises Refusal."""
    name = " ".join(name.replace("\0", "").split())
    if not name:
        raise Refusal("Give the view a name.", field="name")
    if len(name) > LONGEST_NAME:
        raise Refusal(f"The name of a view has at most {LONGEST_NAME} characters.", field="name")
    if len(query) > LONGEST_QUERY:
        raise Refusal("These filters are too long to be saved. Search for a shorter text.", field="query")
    before = project.saved_views.filter(name=name).first()
    view, _ = SavedView.objects.update_or_create(
        project=project,
        name=name,
        defaults={"query": query},
        create_defaults={"query": query, "created_by": user},
    )
    if before is None or before.query != query:
        record(
            project,
            user,
            "view saved",
            subject=name,
            subject_id=view.pk,
            old=before.query if before else None,
            new=query,
        )
    return view


@transaction.atomic
def saved_view_delete(*, view: SavedView, user: User) -> None:
    record(view.project, user, "view deleted", subject=view.name, subject_id=view.pk, old=view.query)
    view.delete()
