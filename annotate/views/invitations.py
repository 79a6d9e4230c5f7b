"""What an invitation's link opens: joining a project with an account, or with one that is made here."""

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from annotate.access import role_in
from annotate.errors import Refusal
from annotate.forms import AccountForm, sent
from annotate.models import Invitation, User
from annotate.services.invitations import invitation_accept, invitation_of, require_open
from annotate.services.members import covers

MOST_TRIES = 20
FORGET_AFTER_SECONDS = 5 * 60


@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    try:
        invitation = invitation_of(token)
        if isinstance(request.user, User):
            return _join_signed_in(request, request.user, invitation)
        require_open(invitation)
        return _join_with_new_account(request, invitation)
    except Refusal as refusal:
        return render(request, "accounts/join_refused.html", {"why": refusal.sentence}, status=410)


def _join_signed_in(request: HttpRequest, user: User, invitation: Invitation) -> HttpResponse:
    project = invitation.project
    if request.method == "POST":
        membership = invitation_accept(invitation=invitation, user=user)
        messages.success(
            request, f"You are a {membership.role} of “{project.name}”.".replace("a owner", "an owner")
        )
        return redirect("project", project.pk)
    role = role_in(user, project)
    if role is None:
        require_open(invitation)
    may_rise = role is None or (role != invitation.role and covers(invitation.role, role))
    context = {"invitation": invitation, "role": role, "may_rise": may_rise}
    return render(request, "accounts/join.html", context)


def _join_with_new_account(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    form = AccountForm(sent(request))
    if request.method == "POST":
        # Names that are taken are told here, so that nobody may try a list of them.
        if _is_slowed_down(request):
            form.add_error(None, "Too many tries from your address. Try again in five minutes.")
        elif form.is_valid():
            with transaction.atomic():
                user = form.save()
                invitation_accept(invitation=invitation, user=user)
            login(request, user)
            messages.success(request, "Your account is made. Next time, sign in with its name and password.")
            return redirect("project", invitation.project_id)
    status = 422 if form.is_bound else 200
    return render(request, "accounts/join.html", {"invitation": invitation, "form": form}, status=status)


def _is_slowed_down(request: HttpRequest) -> bool:
    key = f"join:{request.META.get('REMOTE_ADDR', '')}"
    cache.add(key, 0, FORGET_AFTER_SECONDS)
    return int(cache.incr(key)) > MOST_TRIES
