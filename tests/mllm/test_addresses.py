import socket

import pytest

from mllm.addresses import AddressError, check_base_url

PRIVATE = [
    "http://127.0.0.1:8000/v1",
    "http://127.8.9.1",
    "http://localhost:11434/v1",
    "http://10.0.0.5",
    "http://172.16.3.4",
    "http://192.168.1.1",
    "http://100.64.0.1",  # carrier-grade NAT
    "http://0.0.0.0:8000",
    "http://[::]:8000",
    "http://[::1]/v1",
    "http://[fc00::1]",
    "http://[fec0::1]",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:10.0.0.1]",
    "http://[::127.0.0.1]",
    "http://[64:ff9b::7f00:1]",  # NAT64 of 127.0.0.1
    "http://[2002:7f00:1::]",  # 6to4 of 127.0.0.1
    "http://127.1",
    "http://2130706433",
    "http://0x7f000001",
    "http://240.0.0.1",
    "http://192.0.2.1",
]
NEVER = [
    "http://169.254.169.254/latest",
    "http://[fe80::1]",
    "http://224.0.0.1",
    "http://[ff02::1]",
    "http://[::ffff:169.254.169.254]",
]


@pytest.mark.parametrize("url", PRIVATE + NEVER)
def test_private_addresses_are_refused_in_a_sentence(url):
    with pytest.raises(AddressError) as caught:
        check_base_url(url, allow_private=False)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("url", PRIVATE)
def test_an_administrator_can_allow_private_addresses(url):
    check_base_url(url, allow_private=True)


@pytest.mark.parametrize("url", NEVER)
def test_link_local_and_multicast_are_never_allowed(url):
    with pytest.raises(AddressError, match="link-local or multicast"):
        check_base_url(url, allow_private=True)


@pytest.mark.parametrize("url", ["https://1.1.1.1/v1", "http://8.8.8.8:8080", "https://[2606:4700::1111]/v1"])
def test_public_addresses_are_allowed(url):
    check_base_url(url, allow_private=False)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "http://"),
        ("api.example.com/v1", "http://"),
        ("ftp://1.1.1.1", "http://"),
        ("file:///etc/passwd", "http://"),
        ("javascript:alert(1)", "http://"),
        ("https://", "no host"),
        ("https://user:secret@1.1.1.1", "password"),
        ("https://user@1.1.1.1", "password"),
        ("https://1.1.1.1/v1?key=x", "“\\?”"),
        ("https://1.1.1.1/v1#x", "“\\?”"),
        ("https://1.1.1.1/a b", "spaces"),
        ("https://1.1.1.1:99999", "not a valid URL"),
        ("https://[::1", "not a valid URL"),
    ],
)
def test_what_is_no_base_url(url, said):
    with pytest.raises(AddressError, match=said):
        check_base_url(url, allow_private=True)


def test_a_password_is_not_repeated():
    with pytest.raises(AddressError) as caught:
        check_base_url("https://user:secret@1.1.1.1", allow_private=True)
    assert "secret" not in str(caught.value)


def answers(*addresses):
    def getaddrinfo(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


def test_a_name_is_refused_when_any_of_its_addresses_is_private(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answers("1.1.1.1", "10.0.0.1"))
    with pytest.raises(
        AddressError, match=r"models\.example\.com is on this machine or in a private network"
    ):
        check_base_url("https://models.example.com/v1", allow_private=False)
    check_base_url("https://models.example.com/v1", allow_private=True)
    check_base_url("https://models.example.com/v1", allow_private=False, resolve=False)


def test_a_name_that_cannot_be_found(monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(-2, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(AddressError, match="cannot be found"):
        check_base_url("https://modles.example.com/v1", allow_private=False)
