"""Signing in and out, the password, one's own projects, and API tokens."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import project_for
from annotate.errors import Refusal
from annotate.forms import TokenForm, sent
from annotate.requests import PageRequest
from annotate.services.members import member_remove
from annotate.services.tokens import token_create, token_revoke, tokens_of
from annotate.sign_in import is_slowed_down


class SignIn(LoginView):
    http_method_names = ["get", "post", "head", "options"]
    template_name = "accounts/sign_in.html"
    redirect_authenticated_user = True
    extra_context = {"is_local": settings.LOCAL}

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        if is_slowed_down(self.request, str(form.data.get("username", ""))):
            form.add_error(None, "Too many wrong passwords for this name. Try again in five minutes.")
        return super().form_invalid(form)


class SignOut(LogoutView):
    http_method_names = ["post", "options"]


class PasswordChange(PasswordChangeView):
    http_method_names = ["get", "post", "head", "options"]
    template_name = "accounts/password_change.html"
    success_url = reverse_lazy("account")

    def form_valid(self, form):  # type: ignore[no-untyped-def]
        messages.success(self.request, "Your password is changed.")
        return super().form_valid(form)


@require_http_methods(["GET", "POST"])
def account(request: PageRequest) -> HttpResponse:
    """The projects, the tokens, and a new one. Its text is in this one response and nowhere else."""
    form = TokenForm(sent(request))
    text = ""
    if request.method == "POST" and form.is_valid():
        _, text = token_create(user=request.user, days=form.cleaned_data["days"])
        form = TokenForm()
    memberships = request.user.memberships.select_related("project").order_by("project__name", "pk")
    context = {"form": form, "text": text, "tokens": tokens_of(request.user), "memberships": memberships}
    response = render(request, "accounts/account.html", context)
    if text:
        response.headers["Cache-Control"] = "no-store"
    return response


@require_POST
def project_leave(request: PageRequest, project_id: int) -> HttpResponse:
    project = project_for(request.user, project_id)
    try:
        member_remove(membership=project.memberships.get(user=request.user), user=request.user)
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    else:
        messages.success(request, f"You left “{project.name}”. What you answered stays there.")
    return redirect("account")


@require_POST
def token_delete(request: PageRequest, beginning: str) -> HttpResponse:
    if token_revoke(user=request.user, beginning=beginning):
        messages.success(request, "The token is revoked.")
    return redirect("account")
