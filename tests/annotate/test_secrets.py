import pytest

from annotate.secrets import SecretUnreadable, decrypt, encrypt


def test_a_secret_comes_back_and_is_never_written_the_same_twice():
    first, second = encrypt("sk-12345"), encrypt("sk-12345")

    assert first != second
    assert "12345" not in first
    assert decrypt(first) == decrypt(second) == "sk-12345"


def test_keys_rotate(settings):
    settings.ENCRYPTION_KEYS = ["old"]
    token = encrypt("sk-12345")

    settings.ENCRYPTION_KEYS = ["new", "old"]
    assert decrypt(token) == "sk-12345"
    renewed = encrypt("sk-12345")
    settings.ENCRYPTION_KEYS = ["new"]
    assert decrypt(renewed) == "sk-12345"
    with pytest.raises(SecretUnreadable, match="Enter the key again"):
        decrypt(token)


@pytest.mark.parametrize("token", ["", "nonsense", "gAAAAA"])
def test_what_is_no_token_is_unreadable(token):
    with pytest.raises(SecretUnreadable):
        decrypt(token)


def test_a_secret_of_any_characters_comes_back():
    assert decrypt(encrypt("schlüssel 🔑")) == "schlüssel 🔑"
