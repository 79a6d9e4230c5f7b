"""For load balancers, supervisors and whoever looks after an installation: what works, and how much goes on."""

import hmac
import shutil
from collections.abc import Callable

from celery import current_app
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse
from django.views.decorators.http import require_safe

from jobs import liveness, metrics

LEAST_FREE_BYTES = 256 * 1024 * 1024
_KNOWN_SECONDS = 10


@require_safe
@login_not_required
def healthz(request: HttpRequest) -> HttpResponse:
    """Whether this web process answers. For load balancers: pages work without a worker."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@login_not_required
def readyz(request: HttpRequest) -> HttpResponse:
    """Whether everything that work needs is there: 200, or 503 with a sentence for each part that is not."""
    problems = {name: sentence for name, check in CHECKS.items() if (sentence := check())}
    parts = {name: problems.get(name, "ok") for name in CHECKS}
    return JsonResponse({"ready": not problems, **parts}, status=503 if problems else 200)


@require_safe
@login_not_required
def prometheus(request: HttpRequest) -> HttpResponse:
    """Figures in Prometheus' text format, for administrators and for bearers of the metrics token."""
    if not _may_see_metrics(request):
        return HttpResponseForbidden("Metrics need an administrator or the metrics token.\n")
    return HttpResponse(metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _may_see_metrics(request: HttpRequest) -> bool:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    token = settings.METRICS_TOKEN
    if token and hmac.compare_digest(given.encode(), token.encode()):
        return True
    return request.user.is_authenticated and request.user.is_staff


def database_problem() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return "The database does not answer."
    return ""


def broker_problem() -> str:
    """Remembered for a few seconds, since pages ask too."""
    known = cache.get("broker_problem")
    if known is None:
        known = _look_for_broker()
        cache.set("broker_problem", known, _KNOWN_SECONDS)
    return str(known)


def _look_for_broker() -> str:
    try:
        with current_app.connection(connect_timeout=1) as broker:
            broker.ensure_connection(max_retries=0, timeout=1)
    except Exception:
        # Each transport has errors of its own, and they all mean the same here.
        return "The broker does not answer: new work waits for the next sweep."
    return ""


def worker_problem() -> str:
    return (
        ""
        if liveness.worker_is_alive()
        else "No worker is alive: nothing is annotated, imported or exported."
    )


def disk_problem() -> str:
    free = shutil.disk_usage(settings.DATA_DIR).free
    if free >= LEAST_FREE_BYTES:
        return ""
    return f"The disk is nearly full ({free // 2**20} MB left): uploads and exports will fail."


CHECKS: dict[str, Callable[[], str]] = {
    "database": database_problem,
    "broker": broker_problem,
    "worker": worker_problem,
    "disk": disk_problem,
}


def banners(request: HttpRequest) -> dict[str, object]:
    """Template context: sentences that everybody who is signed in should see."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {"banners": [problem for problem in (broker_problem(), disk_problem()) if problem]}
