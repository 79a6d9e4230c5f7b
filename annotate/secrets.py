"""Provider keys at rest: encrypted with a key derived from the settings, never shown again."""

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class SecretUnreadable(Exception):
    """The secret was encrypted with a key that the settings no longer hold."""


def _fernet() -> MultiFernet:
    return MultiFernet(
        [
            Fernet(
                base64.urlsafe_b64encode(hashlib.sha256(b"overread provider keys:" + key.encode()).digest())
            )
            for key in settings.ENCRYPTION_KEYS
        ]
    )


def encrypt(secret: str) -> str:
    return _fernet().encrypt(secret.encode()).decode()


def decrypt(token: str) -> str:
    """Raises SecretUnreadable."""
    try:
        return _fernet().decrypt(token.encode()).decode()
    except InvalidToken as error:
        raise SecretUnreadable(
            "The stored key cannot be read: the encryption key of this installation has changed. Enter the key again."
        ) from error
