"""Is anyone working? Workers leave a sign of life; pages show a banner when it is too old."""

import time
from datetime import timedelta

from django.http import HttpRequest
from django.utils import timezone

from jobs.models import Heartbeat, Job

SILENCE = timedelta(seconds=45)
_EVERY_SECONDS = 5.0
# A worker that starts with the pages takes longer than they do: until then its absence says nothing.
_STARTING_SECONDS = 20.0
_started = time.monotonic()
_last_beat = 0.0


def beat() -> None:
    """Leave a sign of life, at most every few seconds."""
    global _last_beat
    if time.monotonic() - _last_beat < _EVERY_SECONDS and _last_beat:
        return
    _last_beat = time.monotonic()
    Heartbeat.objects.update_or_create(pk=1, defaults={"seen_at": timezone.now()})


def worker_is_alive() -> bool:
    now = timezone.now()
    # One from the future was left before the clock was set back, and says nothing.
    return Heartbeat.objects.filter(seen_at__gt=now - SILENCE, seen_at__lt=now + SILENCE).exists()


def worker_banner(request: HttpRequest) -> dict[str, object]:
    """Template context: whether to warn that no worker is alive, and how many jobs wait for one."""
    if not getattr(request, "user", None) or not request.user.is_authenticated or worker_is_alive():
        return {"worker_missing": False}
    if time.monotonic() - _started < _STARTING_SECONDS:
        return {"worker_missing": False}
    waiting = Job.objects.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING]).count()
    return {"worker_missing": True, "jobs_waiting": waiting}
