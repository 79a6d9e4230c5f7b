"""What people say about items. Comments are never edited or deleted; they are resolved, and opened again."""

from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from annotate.errors import Refusal
from annotate.history import record
from annotate.models import Comment, Item, User

MOST_CHARACTERS = 5_000


def comment_add(*, item: Item, user: User, text: str, key: UUID | None = None) -> Comment:
    """Keep what somebody says of an item. Sent twice with one `key`, by whatever mishap, it is kept once."""
    text = text.replace("\r\n", "\n").replace("\0", "").strip()  # PostgreSQL keeps no NUL
    if not text:
        raise Refusal("Write what you want to say.", field="text")
    if len(text) > MOST_CHARACTERS:
        raise Refusal(
            f"A comment has at most {MOST_CHARACTERS:,} characters; this one has {len(text):,}.", field="text"
        )
    if key is None:
        return Comment.objects.create(item=item, author=user, text=text)
    try:
        with transaction.atomic():
            comment, _ = Comment.objects.get_or_create(
                key=key, defaults={"item": item, "author": user, "text": text}
            )
    except IntegrityError:  # it was sent twice at once
        comment = Comment.objects.get(key=key)
    if (comment.item_id, comment.author_id) != (item.pk, user.pk):
        raise Refusal("This key belongs to another comment. Make a new one.", field="key")
    return comment


@transaction.atomic
def comment_resolve(*, comment: Comment, user: User) -> None:
    """Say that nothing is left to do about it. Whoever said so first stays named."""
    row = Comment.objects.select_for_update().get(pk=comment.pk)
    if row.resolved_at is None:
        row.resolved_by, row.resolved_at = user, timezone.now()
        row.save(update_fields=["resolved_by", "resolved_at"])
        _record(comment, user, "comment resolved")
    comment.resolved_by, comment.resolved_at = row.resolved_by, row.resolved_at


@transaction.atomic
def comment_reopen(*, comment: Comment, user: User) -> None:
    row = Comment.objects.select_for_update().get(pk=comment.pk)
    if row.resolved_at is not None:
        row.resolved_by, row.resolved_at = None, None
        row.save(update_fields=["resolved_by", "resolved_at"])
        _record(comment, user, "comment reopened")
    comment.resolved_by, comment.resolved_at = None, None


def _record(comment: Comment, user: User, action: str) -> None:
    item = comment.item
    record(
        item.project, user, action, subject=item.external_id, subject_id=item.pk, new={"comment": comment.pk}
    )
