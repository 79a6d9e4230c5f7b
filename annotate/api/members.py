"""A project's members and the invitations to it."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from annotate.access import May, found_for, project_for
from annotate.api.endpoint import Endpoint, Input
from annotate.models import Invitation, Membership
from annotate.services.invitations import (
    MOST_DAYS,
    MOST_USES,
    Standing,
    invitation_create,
    invitation_revoke,
    invitation_token,
    invitations_of,
    may_handle,
    standing_of,
)
from annotate.services.members import member_add, member_change_role, member_remove


class MemberSerializer(serializers.ModelSerializer[Membership]):
    username = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = Membership
        fields = ["id", "username", "role", "created_at"]
        read_only_fields = fields


class MemberCreateSerializer(Input):
    username = serializers.CharField(max_length=150)
    role = serializers.ChoiceField(Membership.Role.choices)


class MemberUpdateSerializer(Input):
    role = serializers.ChoiceField(Membership.Role.choices)


class InvitationSerializer(serializers.ModelSerializer[Invitation]):
    """A link that makes whoever opens it a member."""

    state = serializers.SerializerMethodField(help_text="`open` while the link lets people in.")
    link = serializers.SerializerMethodField(
        help_text="Null for those who may not give its role: whoever has the link has the role."
    )
    created_by = serializers.CharField(source="created_by.username", read_only=True)

    class Meta:
        model = Invitation
        fields = [
            "id",
            "role",
            "note",
            "uses",
            "most_uses",
            "expires_at",
            "revoked_at",
            "state",
            "link",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields

    def get_state(self, invitation: Invitation) -> Standing:
        return standing_of(invitation)

    def get_link(self, invitation: Invitation) -> str | None:
        request = self.context["request"]
        if not may_handle(request.user, invitation):
            return None
        return str(request.build_absolute_uri(reverse("join", args=[invitation_token(invitation)])))


class InvitationCreateSerializer(Input):
    role = serializers.ChoiceField(Membership.Role.choices, default=Membership.Role.REVIEWER)
    note = serializers.CharField(
        max_length=120, required=False, allow_blank=True, help_text="Whom it is for."
    )
    most_uses = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST_USES,
        help_text="How many people may come by it; 1 by default.",
    )
    days = serializers.IntegerField(
        required=False, min_value=1, max_value=MOST_DAYS, help_text="How long it is valid; 14 by default."
    )


class Members(Endpoint):
    tag = "members"

    @extend_schema(summary="A project's members", responses=MemberSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.SEE)
        return self.page(project.memberships.select_related("user"), MemberSerializer, order="pk")

    @extend_schema(
        summary="Make an account a member, or change its role",
        request=MemberCreateSerializer,
        responses={201: MemberSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.MANAGE)
        member = member_add(project=project, user=self.user, **self.given(MemberCreateSerializer))
        return self.reply(MemberSerializer, member, status=201)


class OneMember(Endpoint):
    tag = "members"

    def _membership(self, member_id: int, *, may: May) -> Membership:
        rows = Membership.objects.select_related("project", "user")
        return found_for(self.user, rows, member_id, project="project", may=may)

    @extend_schema(
        summary="Change a member's role",
        description="Managers change reviewers and viewers into each other; owners change everybody.",
        request=MemberUpdateSerializer,
        responses=MemberSerializer,
    )
    def patch(self, request: Request, member_id: int) -> Response:
        member = self._membership(member_id, may=May.MANAGE)
        changed = member_change_role(membership=member, user=self.user, **self.given(MemberUpdateSerializer))
        return self.reply(MemberSerializer, changed)

    @extend_schema(
        summary="Remove a member, or leave a project",
        description="What they answered stays; items that they hold go back to the queue.",
        responses={204: None},
    )
    def delete(self, request: Request, member_id: int) -> Response:
        membership = self._membership(member_id, may=May.ENTER)
        if membership.user_id != self.user.pk:
            membership = self._membership(member_id, may=May.MANAGE)
        member_remove(membership=membership, user=self.user)
        return Response(status=204)


class Invitations(Endpoint):
    tag = "members"

    @extend_schema(summary="A project's invitations, newest first", responses=InvitationSerializer(many=True))
    def get(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.MANAGE)
        return self.page(invitations_of(project), InvitationSerializer)

    @extend_schema(
        summary="Make an invitation",
        description="The answer holds the link to send. Managers invite reviewers and viewers, owners everybody.",
        request=InvitationCreateSerializer,
        responses={201: InvitationSerializer},
    )
    def post(self, request: Request, project_id: int) -> Response:
        project = project_for(self.user, project_id, may=May.MANAGE)
        given: dict[str, Any] = self.given(InvitationCreateSerializer)
        invitation = invitation_create(project=project, user=self.user, **given)
        return self.reply(InvitationSerializer, invitation, status=201)


class OneInvitation(Endpoint):
    tag = "members"

    @extend_schema(
        summary="Revoke an invitation",
        description="Its link lets nobody in from then on. Whoever came by it stays a member.",
        responses={204: None},
    )
    def delete(self, request: Request, invitation_id: int) -> Response:
        rows = Invitation.objects.select_related("project", "created_by")
        invitation = found_for(self.user, rows, invitation_id, project="project", may=May.MANAGE)
        invitation_revoke(invitation=invitation, user=self.user)
        return Response(status=204)
