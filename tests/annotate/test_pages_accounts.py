"""Signing in and out, the password, API tokens, and what every page has."""

import re

import pytest
from django.test import Client
from knox.models import AuthToken

from annotate.services.tokens import token_create
from tests.factories import make_user

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


def test_sign_in_leads_to_the_projects_and_sign_out_back(client: Client) -> None:
    make_user("ada", password=PASSWORD)
    assert client.get("/").headers["Location"] == "/accounts/sign-in/?next=/"
    sent = client.post("/accounts/sign-in/", {"username": "ada", "password": PASSWORD})
    assert sent.headers["Location"] == "/"
    assert client.get("/").status_code == 200
    assert client.post("/accounts/sign-out/").headers["Location"] == "/accounts/sign-in/"
    assert client.get("/").status_code == 302


def test_sign_in_goes_on_to_the_page_that_was_asked_for_but_to_no_other_site(client: Client) -> None:
    make_user("ada", password=PASSWORD)
    fields = {"username": "ada", "password": PASSWORD}
    there = client.post("/accounts/sign-in/", fields | {"next": "/connections/"})
    assert there.headers["Location"] == "/connections/"
    client.logout()
    elsewhere = client.post("/accounts/sign-in/", fields | {"next": "https://elsewhere.invalid/"})
    assert elsewhere.headers["Location"] == "/"


def test_a_wrong_password_keeps_the_name_and_says_so(client: Client) -> None:
    make_user("ada", password=PASSWORD)
    page = client.post("/accounts/sign-in/", {"username": "ada", "password": "wrong"}).content.decode()
    assert 'value="ada"' in page
    assert "Please enter a correct username and password" in page
    assert "wrong" not in re.sub(r"field-wrong", "", page)


def test_sign_out_needs_post(client: Client) -> None:
    client.force_login(make_user())
    assert client.get("/accounts/sign-out/").status_code == 405


def test_the_password_is_changed_with_the_old_one(client: Client) -> None:
    user = make_user("ada", password=PASSWORD)
    client.force_login(user)
    new = {"new_password1": "a better battery", "new_password2": "a better battery"}
    assert (
        "entered incorrectly"
        in client.post("/accounts/password/", {"old_password": "no", **new}).content.decode()
    )
    changed = client.post("/accounts/password/", {"old_password": PASSWORD, **new})
    assert changed.headers["Location"] == "/account/"
    user.refresh_from_db()
    assert user.check_password("a better battery")


def test_a_token_is_shown_once_and_works(client: Client) -> None:
    client.force_login(make_user())
    made = client.post("/account/", {"days": "30"})
    text = re.search(r'id="new-token">([^<]+)<', made.content.decode())
    assert text is not None
    assert made.headers["Cache-Control"] == "no-store"
    again = client.get("/account/").content.decode()
    assert text[1] not in again
    assert text[1][:15] in again
    answer = Client().get("/api/v1/projects/", headers={"Authorization": f"Token {text[1]}"})
    assert answer.status_code == 200


def test_a_token_without_end_has_no_expiry(client: Client) -> None:
    client.force_login(make_user())
    client.post("/account/", {"days": "0"})
    assert AuthToken.objects.get().expiry is None


def test_a_span_that_is_not_offered_makes_no_token(client: Client) -> None:
    client.force_login(make_user())
    client.post("/account/", {"days": "100000"})
    assert not AuthToken.objects.exists()


def test_only_the_owner_revokes_a_token(client: Client) -> None:
    token, _ = token_create(user=make_user("ada"), days=30)
    client.force_login(make_user("bob"))
    client.post(f"/account/tokens/{token.token_key}/delete/")
    assert AuthToken.objects.count() == 1
    client.force_login(token.user)
    assert client.get(f"/account/tokens/{token.token_key}/delete/").status_code == 405
    client.post(f"/account/tokens/{token.token_key}/delete/")
    assert not AuthToken.objects.exists()


def test_pages_have_no_inline_script_or_style(client: Client) -> None:
    client.force_login(make_user())
    for path in ("/", "/account/", "/connections/", "/connections/new/", "/prices/", "/projects/new/"):
        answer = client.get(path)
        page = answer.content.decode()
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", page), path
        assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
        assert 'hx-headers=\'{"X-CSRFToken":' in page


def test_pages_that_are_missing_or_forbidden_look_like_ours(client: Client) -> None:
    client.force_login(make_user())
    missing = client.get("/projects/123456/")
    assert missing.status_code == 404
    assert "There is nothing here" in missing.content.decode()


def test_a_form_without_its_token_is_refused_with_what_to_do() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user())
    answer = client.post("/account/", {"days": "30"})
    assert answer.status_code == 403
    assert "Please send it again" in answer.content.decode()
    assert not AuthToken.objects.exists()
