import base64

import pytest
from knox.models import AuthToken

from tests.api.caller import Caller
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def with_token(token: str) -> dict[str, str]:
    return {"Authorization": f"Token {token}"}


def test_a_password_makes_a_token_that_signs_in() -> None:
    make_user("olga", password="correct horse")

    made = Caller().post("tokens/", headers=basic("olga", "correct horse"))

    assert made.status_code == 201
    assert Caller().get("projects/", headers=with_token(made.json()["token"])).status_code == 200


def test_a_wrong_password_makes_none() -> None:
    make_user("olga", password="correct horse")

    response = Caller().post("tokens/", headers=basic("olga", "wrong horse"))

    assert response.status_code == 401
    assert not AuthToken.objects.exists()


def test_a_token_makes_and_lists_no_tokens() -> None:
    _, token = AuthToken.objects.create(user=make_user())

    assert Caller().post("tokens/", headers=with_token(token)).status_code == 401
    assert Caller().get("tokens/", headers=with_token(token)).status_code == 401


def test_the_list_shows_beginnings_only() -> None:
    user = make_user()
    row, token = AuthToken.objects.create(user=user)
    AuthToken.objects.create(user=make_user())

    response = Caller(user).get("tokens/")

    assert [each["key"] for each in response.json()["results"]] == [row.token_key]
    assert token not in response.content.decode()
    assert row.digest not in response.content.decode()


def test_a_revoked_token_signs_nobody_in() -> None:
    user = make_user()
    row, token = AuthToken.objects.create(user=user)

    assert Caller(user).delete(f"tokens/{row.token_key}/").status_code == 204
    assert Caller().get("projects/", headers=with_token(token)).status_code == 401


def test_a_token_of_somebody_who_left_signs_nobody_in() -> None:
    user = make_user()
    _, token = AuthToken.objects.create(user=user)
    user.is_active = False
    user.save()

    assert Caller().get("projects/", headers=with_token(token)).status_code == 401


def test_a_session_changes_nothing_without_its_csrf_token() -> None:
    user = make_user()
    client = Caller(user, enforce_csrf_checks=True)

    response = client.post("projects/", {"name": "Forged", "task_type": "closed_vqa"})

    assert response.status_code == 403
    assert "CSRF" in response.json()["detail"]
    assert not user.projects.exists()
