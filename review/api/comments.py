"""Comments on items, for those who may read them now."""

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, found_for
from annotate.api.endpoint import Endpoint, Input
from annotate.models import Comment, Item
from annotate.services.comments import MOST_CHARACTERS, comment_add, comment_reopen, comment_resolve
from review.commenting import comments_shown, require_may_comment, require_may_resolve


class CommentSerializer(serializers.ModelSerializer[Comment]):
    author = serializers.CharField(source="author.username", read_only=True)
    resolved_by = serializers.CharField(
        source="resolved_by.username", read_only=True, default=None, allow_null=True
    )

    class Meta:
        model = Comment
        fields = ["id", "item", "author", "text", "created_at", "resolved_by", "resolved_at"]
        read_only_fields = fields


class CommentCreateSerializer(Input):
    text = serializers.CharField(max_length=MOST_CHARACTERS)
    key = serializers.UUIDField(
        required=False, help_text="Your name for the comment: sent twice, it is kept once."
    )


class CommentResolveSerializer(Input):
    resolved = serializers.BooleanField(help_text="False opens it again.")


class Comments(Endpoint):
    tag = "comments"

    def item(self, item_id: int) -> Item:
        rows = Item.objects.select_related("project")
        return found_for(self.user, rows, item_id, project="project", may=May.ENTER)

    @extend_schema(
        summary="What people say about an item",
        description="First said first. Reviewers are sent their own comments until they have answered the item.",
        responses=CommentSerializer(many=True),
    )
    def get(self, request: Request, item_id: int) -> Response:
        return self.page(comments_shown(self.user, self.item(item_id)), CommentSerializer, order="pk")

    @extend_schema(
        summary="Say something about an item",
        description="Reviewers can on items that they are looking at or have answered.",
        request=CommentCreateSerializer,
        responses={201: CommentSerializer},
    )
    def post(self, request: Request, item_id: int) -> Response:
        item = self.item(item_id)
        require_may_comment(self.user, item)
        comment = comment_add(item=item, user=self.user, **self.given(CommentCreateSerializer))
        return self.reply(CommentSerializer, comment, status=201)


class CommentResolve(Endpoint):
    tag = "comments"

    @extend_schema(
        summary="Resolve a comment, or open it again",
        description="For its author and for managers.",
        request=CommentResolveSerializer,
        responses={200: CommentSerializer},
    )
    def post(self, request: Request, comment_id: int) -> Response:
        rows = Comment.objects.select_related("item__project", "author", "resolved_by")
        comment = found_for(self.user, rows, comment_id, project="item__project", may=May.ENTER)
        if not comments_shown(self.user, comment.item).filter(pk=comment.pk).exists():
            raise Http404("There is no such comment, or you may not read it yet.")
        require_may_resolve(self.user, comment)
        change = comment_resolve if self.given(CommentResolveSerializer)["resolved"] else comment_reopen
        change(comment=comment, user=self.user)
        return self.reply(CommentSerializer, comment)
