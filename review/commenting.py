"""Who may read and write which comments, so that nobody's answer is swayed by another's words.

Those who see the project read everything. A reviewer reads their own comments; those of others once they answered the
item and no turn of it waits that they might be handed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, Q, QuerySet

from annotate.access import permissions
from annotate.models import Comment, Item, Project, User
from review.blindness import open_tasks
from review.models import ReviewTask


def has_answered(user: User, item: Item) -> bool:
    """Whether an answer of theirs stands on a turn of the item."""
    return item.review_tasks.filter(holder=user, state=ReviewTask.State.ANSWERED).exists()


def waits_for(user: User, item: Item) -> bool:
    """Whether a turn of the item may still be handed to this reviewer.

    Not in rounds where they held another turn of it: nobody answers an item twice there. Adjudications are for
    managers.
    """
    held = ReviewTask.objects.filter(round=OuterRef("round"), item=OuterRef("item"), holder=user)
    return (
        open_tasks()
        .filter(Q(holder=user) | ~Exists(held), Q(assigned_to=None) | Q(assigned_to=user), item=item)
        .exclude(purpose=ReviewTask.Purpose.ADJUDICATION)
        .exists()
    )


def may_read_all(user: User, item: Item) -> bool:
    """Whether they may read what others say of the item, and its page."""
    if permissions(user, item.project).see:
        return True
    return has_answered(user, item) and not waits_for(user, item)


def may_comment(user: User, item: Item) -> bool:
    """Managers on every item; reviewers on what they hold, answered or skipped; viewers look."""
    can = permissions(user, item.project)
    return can.manage or (can.review and item.review_tasks.filter(holder=user).exists())


def require_may_comment(user: User, item: Item) -> None:
    if not may_comment(user, item):
        raise PermissionDenied("You can comment on items that you are looking at or have answered.")


def comments_shown(user: User, item: Item) -> QuerySet[Comment]:
    """The comments on the item that this person may read, first said first."""
    rows = item.comments.select_related("author", "resolved_by").order_by("pk")
    return rows if may_read_all(user, item) else rows.filter(author=user)


def comment_counts(user: User, tasks: Sequence[ReviewTask]) -> Counter[int]:
    """By item id: how many comments `comments_shown` has for this person. The tasks are of one project.

    How many others wrote would tell that they had a turn of the item too.
    """
    items = {task.item_id: task.item for task in tasks}
    said = Comment.objects.filter(item__in=items).order_by().values_list("item_id", "author_id")
    counts: Counter[int] = Counter()
    for item_id, authors in _by_item(said).items():
        item = items[item_id]
        item.project = tasks[0].round.project
        counts[item_id] = len(authors) if may_read_all(user, item) else authors.count(user.pk)
    return counts


def _by_item(said: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    by_item: dict[int, list[int]] = defaultdict(list)
    for item_id, author_id in said:
        by_item[item_id].append(author_id)
    return by_item


def may_resolve(user: User, comment: Comment) -> bool:
    """Its author, and whoever manages the project."""
    return comment.author_id == user.pk or permissions(user, comment.item.project).manage


def require_may_resolve(user: User, comment: Comment) -> None:
    if not may_resolve(user, comment):
        raise PermissionDenied("A comment is resolved by its author or a manager of the project.")


def open_comments(project: Project) -> QuerySet[Comment]:
    """Comments on the project's items that nobody resolved, newest first."""
    # A join SQLite begins with all items of the project, of which hardly any has a comment.
    of_project = Item.objects.filter(pk=OuterRef("item"), project=project)
    return (
        Comment.objects.filter(Exists(of_project), resolved_at=None)
        .select_related("author", "item__image", "item__project")
        .order_by("-pk")
    )
