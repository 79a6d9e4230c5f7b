"""A project's people: members with what they did, invitations, and everybody's answers as a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from annotate.access import May, permissions, project_for
from annotate.csv_response import csv_response
from annotate.errors import Refusal
from annotate.forms import InvitationForm, MemberForm, RefusableForm, RoleForm
from annotate.models import Membership, Project, User
from annotate.requests import PageRequest
from annotate.services.invitations import (
    Standing,
    invitation_create,
    invitation_revoke,
    invitation_token,
    invitations_of,
    may_handle,
    standing_of,
)
from annotate.services.members import (
    member_add,
    member_change_role,
    member_remove,
    roles_given_by,
)
from review.figures import Figures, KnownShare, figures_by_person, known_by_person
from review.histories import ANSWER_COLUMNS, answer_row, answers_of

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


@require_GET
def people(request: PageRequest, project_id: int) -> HttpResponse:
    return _people_page(request, project_for(request.user, project_id, may=May.SEE))


@require_POST
def member_new(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = MemberForm(request.POST, roles=roles_given_by(request.user, project), auto_id="member-%s")
    if form.is_valid():
        try:
            member = member_add(project=project, user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, f"{member.user} is {_a(member.role)} now.")
            return redirect("people", project.pk)
    return _people_page(request, project, member_form=form)


@require_POST
def member_role(request: PageRequest, project_id: int, membership_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    membership = _membership(project, membership_id)
    form = RoleForm(request.POST, roles=Membership.Role.values)
    try:
        if not form.is_valid():
            raise Refusal("Choose one of the roles.")
        member_change_role(membership=membership, user=request.user, role=form.cleaned_data["role"])
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    else:
        messages.success(request, f"{membership.user} is {_a(form.cleaned_data['role'])} now.")
    return redirect("people", project.pk)


@require_POST
def member_delete(request: PageRequest, project_id: int, membership_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    membership = _membership(project, membership_id)
    try:
        member_remove(membership=membership, user=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    else:
        if membership.user_id == request.user.pk:
            return redirect("projects")
        messages.success(request, f"{membership.user} is removed. What they answered stays.")
    return redirect("people", project.pk)


@require_POST
def invitation_new(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    form = InvitationForm(request.POST, roles=roles_given_by(request.user, project), auto_id="invitation-%s")
    if form.is_valid():
        try:
            invitation_create(project=project, user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.refuse(refusal)
        else:
            messages.success(request, "The invitation is made. Copy its link and send it.")
            return redirect(f"{reverse('people', args=[project.pk])}#invitations")
    return _people_page(request, project, invitation_form=form)


@require_POST
def invitation_end(request: PageRequest, project_id: int, invitation_id: int) -> HttpResponse:
    project = project_for(request.user, project_id, may=May.MANAGE)
    invitation = get_object_or_404(project.invitations.select_related("project"), pk=invitation_id)
    try:
        invitation_revoke(invitation=invitation, user=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    else:
        messages.success(request, "The invitation is revoked: its link lets nobody in any more.")
    return redirect("people", project.pk)


@require_GET
def answers_csv(request: PageRequest, project_id: int) -> StreamingHttpResponse:
    """Every answer, skip and undo of the project, first to last."""
    project = project_for(request.user, project_id, may=May.SEE)

    def rows() -> Iterator[list[Any]]:
        for answer in answers_of(project).order_by("pk").iterator(chunk_size=1000):
            values = answer_row(answer)
            yield [values[column] for column in ANSWER_COLUMNS]

    return csv_response(f"answers-{project.pk}.csv", ANSWER_COLUMNS, rows())


def _membership(project: Project, membership_id: int) -> Membership:
    return get_object_or_404(project.memberships.select_related("project", "user"), pk=membership_id)


def _people_page(request: PageRequest, project: Project, **bound: RefusableForm) -> HttpResponse:
    """The page with its forms; `bound` holds one that was sent and refused."""
    given = roles_given_by(request.user, project)
    context: dict[str, Any] = {
        "project": project,
        "can": permissions(request.user, project),
        "everybody": _everybody(project, given),
        "roles": [choice for choice in Membership.Role.choices if choice[0] in given],
        "has_labels": not project.task.is_written,
    }
    if context["can"].manage:
        context |= {
            "member_form": MemberForm(roles=given, auto_id="member-%s"),
            "invitation_form": InvitationForm(roles=given, auto_id="invitation-%s"),
            "invitations": _invitations(request, project),
            "is_local_host": request.get_host().rsplit(":", 1)[0] in _LOCAL_HOSTS,
        }
    context |= bound
    return render(request, "review/people.html", context, status=422 if bound else 200)


@dataclass(frozen=True, slots=True)
class Person:
    """One row of the page: a member, or somebody who answered something and left."""

    user: User
    membership: Membership | None
    figures: Figures
    known: KnownShare
    may_change: bool


def _everybody(project: Project, given: list[str]) -> list[Person]:
    """The members by when they came, then those who left, by name."""
    figures, known = figures_by_person(project), known_by_person(project)

    def person(user: User, membership: Membership | None = None) -> Person:
        may_change = membership is not None and membership.role in given
        return Person(
            user,
            membership,
            figures.get(user.pk, Figures()),
            known.get(user.pk, KnownShare(0, 0)),
            may_change,
        )

    members = list(project.memberships.select_related("user"))
    left = User.objects.filter(pk__in=set(figures) - {member.user_id for member in members})
    return [person(member.user, member) for member in members] + [
        person(user) for user in left.order_by("username")
    ]


def _invitations(request: PageRequest, project: Project) -> list[dict[str, Any]]:
    return [
        {
            "invitation": invitation,
            "is_open": standing == Standing.OPEN,
            "standing": standing,
            "link": _link(request, invitation_token(invitation))
            if may_handle(request.user, invitation)
            else "",
        }
        for invitation in invitations_of(project)
        for standing in [standing_of(invitation)]
    ]


def _link(request: PageRequest, token: str) -> str:
    return request.build_absolute_uri(reverse("join", args=[token]))


def _a(role: str) -> str:
    return f"an {role}" if role == Membership.Role.OWNER else f"a {role}"
