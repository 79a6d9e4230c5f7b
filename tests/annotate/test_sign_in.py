import pytest
from django.test import Client
from django.urls import reverse

from annotate.sign_in import MOST_FAILURES
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def sign_in(client: Client, username: str, password: str, address: str = "10.0.0.1"):
    return client.post(reverse("sign_in"), {"username": username, "password": password}, REMOTE_ADDR=address)


def test_ten_wrong_passwords_shut_the_name_out_from_that_address(client):
    make_user("alice", password="right-and-long")
    for _ in range(MOST_FAILURES):
        sign_in(client, "alice", "wrong")
    response = sign_in(client, "Alice", "right-and-long")
    assert response.status_code == 200
    assert "Too many wrong passwords" in response.content.decode()
    assert sign_in(Client(), "alice", "right-and-long", address="10.0.0.2").status_code == 302


def test_a_right_password_forgets_the_wrong_ones(client):
    make_user("alice", password="right-and-long")
    for _ in range(2):
        for _ in range(MOST_FAILURES - 1):
            sign_in(client, "alice", "wrong")
        assert sign_in(client, "alice", "right-and-long").status_code == 302


def test_other_names_are_not_slowed_down(client):
    make_user("bob", password="right-and-long")
    for _ in range(MOST_FAILURES):
        sign_in(client, "alice", "wrong")
    assert sign_in(client, "bob", "right-and-long").status_code == 302


def test_the_api_counts_too(client):
    make_user("alice", password="right-and-long")
    for _ in range(MOST_FAILURES):
        assert (
            client.post("/api/v1/tokens/", headers={"Authorization": "Basic YWxpY2U6d3Jvbmc="}).status_code
            == 401
        )
    right = "Basic YWxpY2U6cmlnaHQtYW5kLWxvbmc="
    assert client.post("/api/v1/tokens/", headers={"Authorization": right}).status_code == 401
