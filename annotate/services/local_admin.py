"""The administrator of a machine that only its owner uses."""

import secrets

from django.conf import settings

from annotate.models import User


def local_admin() -> tuple[User, str | None]:
    """The local admin, made at the first call with a password kept in the data folder, for this machine's user alone.

    Returns the password too, or None once it was changed.
    """
    path = settings.DATA_DIR / "admin-password"
    user = User.objects.filter(username="admin").first()
    if user is None:
        password = secrets.token_urlsafe(9)
        path.touch(mode=0o600)
        path.write_text(password + "\n")
        return User.objects.create_superuser("admin", password=password), password
    kept = path.read_text().strip() if path.exists() else ""
    return user, kept if kept and user.check_password(kept) else None
