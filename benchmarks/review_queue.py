"""The review queue under many reviewers: how long the server takes to keep an answer and to hand out the next item.

    python -m benchmarks.review_queue --items 100000 --reviewers 16 --seconds 20 --pause-ms 1000

The web server runs as `manage.py up` starts it, in a folder of its own. Each reviewer has a session that keeps its
connection, holds four items as the review screen does, and posts an answer and then asks for the next item; with
`--combined` one request does both. Between two items a reviewer waits `--pause-ms` (0: as fast as the server answers,
which is what the server can do at most, not what people do). Times are those that a client sees.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from benchmarks.browsing import ROWS_AT_ONCE, insert
from benchmarks.bulk_calls import free_port, wait_for

HELD = 4  # items, as the review screen holds them
MADE = "review_queue.json"  # in the folder that is kept


@dataclass
class Seen:
    """Milliseconds of each request, and who was handed which task."""

    submit: list[float] = field(default_factory=list)
    claim: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    holders: dict[int, set[int]] = field(default_factory=dict)
    answered: Counter[int] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--reviewers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pause-ms", type=int, default=1000)
    parser.add_argument(
        "--combined", action="store_true", help="Answer and take the next item in one request."
    )
    parser.add_argument(
        "--database", default="", help="Address of an empty PostgreSQL database; default SQLite."
    )
    parser.add_argument(
        "--keep",
        type=Path,
        help="A folder that keeps the round: made there, or found there from an earlier time.",
    )
    options = parser.parse_args()
    if options.keep and options.database:
        parser.error("--keep is for SQLite: another database keeps its rows anyway.")
    folder = options.keep.resolve() if options.keep else Path(tempfile.mkdtemp(prefix="ovb-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "OVERREAD_LOCAL": "true",
        "OVERREAD_DATA_DIR": str(folder),
        "OVERREAD_LOG_LEVEL": "WARNING",
        "DATABASE_URL": options.database or f"sqlite:///{folder / 'overread.sqlite3'}",
    }
    try:
        measure(options, folder / MADE)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def measure(options: argparse.Namespace, made: Path) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from jobs import processes

    call_command("migrate", verbosity=0)
    round_id, label_id, sessions = made_before(made, options) or prepare(options.items, options.reviewers)
    made.write_text(json.dumps([options.items, round_id, label_id, sessions]))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    connection.close()
    port = free_port()
    child = processes.web("127.0.0.1", port)
    server = subprocess.Popen(child.command, env=os.environ | child.environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz")
        print(f"{options.items:,} items, {connection.vendor}, load {os.getloadavg()[0]:.1f}")
        for count in sorted({1, options.reviewers}):
            seen = asyncio.run(review(options, port, round_id, label_id, sessions[:count]))
            report(seen, count, options)
    finally:
        server.terminate()
        server.wait(timeout=60)


def made_before(made: Path, options: argparse.Namespace) -> tuple[int, int, list[str]] | None:
    """What `prepare` gave when it made the kept round; None where there is none."""
    if not made.exists():
        return None
    items, round_id, label_id, sessions = json.loads(made.read_text())
    if items != options.items or len(sessions) < options.reviewers:
        raise SystemExit(
            f"The kept round has {items:,} items and {len(sessions)} reviewers: keep another elsewhere."
        )
    return round_id, label_id, sessions


def prepare(items: int, reviewers: int) -> tuple[int, int, list[str]]:
    """A round of all items, a label, and a session key for each reviewer."""
    from importlib import import_module

    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    from annotate.models import Annotation, AnnotationRun, Item, Membership, User
    from annotate.services.projects import project_create
    from criticize.models import Criticism, CriticismRun
    from jobs.models import Job
    from review.models import ReviewRound, ReviewTask

    owner = User.objects.create_user("owner")
    project = project_create(
        user=owner, name="queue", task_type="text_classification", labels=["bad", "middling", "good"]
    )
    label = project.labels.order_by("position")[0]
    texts = (f"Item {i}: the room was {i % 7} of 7, the breakfast late." for i in range(items))
    insert(Item, ("external_id", "text"), ((str(i), text) for i, text in enumerate(texts)), project=project)
    model: dict[str, Any] = {"kind": "prompted", "provider": "openai", "model": "mock", "strategy": "cot"}
    done = {"state": Job.State.DONE, "total": items, "done": items}
    run = AnnotationRun.objects.create(
        project=project, job=Job.objects.create(kind="annotation", **done), created_by=owner, **model
    )
    ids = list(project.items.order_by("pk").values_list("pk", flat=True))
    insert(
        Annotation,
        ("item_id",),
        ((pk,) for pk in ids),
        run=run,
        label=label,
        reasoning="It reads like one.",
    )
    criticism = CriticismRun.objects.create(
        annotation_run=run, job=Job.objects.create(kind="criticism", **done), created_by=owner, **model
    )
    annotated = run.annotations.order_by("pk").values_list("pk", flat=True)
    probs = ((pk, (place * 7919 % 9973) / 9973) for place, pk in enumerate(annotated))
    insert(
        Criticism,
        ("annotation_id", "error_prob", "priority"),
        ((pk, prob, prob) for pk, prob in probs),
        run=criticism,
        reasoning="Perhaps not.",
    )
    round = ReviewRound.objects.create(
        project=project,
        criticism_run=criticism,
        rule="threshold",
        budget=items,
        population=items,
        created_by=owner,
    )
    judged = criticism.criticisms.order_by("-priority", "annotation_id")
    rows = judged.values_list("pk", "annotation_id", "annotation__item_id").iterator(chunk_size=ROWS_AT_ONCE)
    insert(
        ReviewTask,
        ("rank", "criticism_id", "annotation_id", "item_id"),
        ((rank, *row) for rank, row in enumerate(rows)),
        round=round,
    )
    store = import_module(settings.SESSION_ENGINE).SessionStore
    sessions = []
    for number in range(reviewers):
        user = User.objects.create_user(f"reviewer-{number}")
        Membership.objects.create(project=project, user=user, role=Membership.Role.REVIEWER)
        session = store()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        sessions.append(session.session_key)
    return round.pk, label.pk, sessions


async def review(
    options: argparse.Namespace, port: int, round_id: int, label_id: int, sessions: list[str]
) -> Seen:
    seen = Seen()
    until = time.monotonic() + options.seconds
    await asyncio.gather(
        *(
            one_reviewer(
                options, f"http://127.0.0.1:{port}/api/v1", round_id, label_id, number, key, until, seen
            )
            for number, key in enumerate(sessions)
        )
    )
    return seen


async def one_reviewer(
    options: argparse.Namespace,
    base: str,
    round_id: int,
    label_id: int,
    number: int,
    session_key: str,
    until: float,
    seen: Seen,
) -> None:
    from django.middleware.csrf import _get_new_csrf_string

    token = _get_new_csrf_string()
    headers = {"X-CSRFToken": token}
    async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        session.cookie_jar.update_cookies({"sessionid": session_key, "csrftoken": token}, URL(base))

        async def post(path: str, body: dict[str, Any], times: list[float]) -> Any:
            started = time.perf_counter()
            async with session.post(f"{base}{path}", json=body) as response:
                reply = await response.json()
            times.append(1000 * (time.perf_counter() - started))
            if response.status != 200:
                raise SystemExit(f"{path}: {response.status} {reply}")
            return reply

        async def claim(times: list[float]) -> list[dict[str, Any]]:
            reply = await post(f"/review-rounds/{round_id}/next/", {"count": HELD}, times)
            return list(reply["tasks"])

        # Not all at the same moment.
        await asyncio.sleep(number * options.pause_ms / 1000 / max(1, options.reviewers))
        tasks = await claim([])
        while tasks and time.monotonic() < until:
            for task in tasks:
                seen.holders.setdefault(task["id"], set()).add(number)
            task = tasks[0]
            body = {
                "action": "label",
                "label": label_id,
                "version": task["version"],
                "seconds": 1.0,
                "key": str(uuid.uuid4()),
            }
            started = time.perf_counter()
            if options.combined:
                reply = await post(f"/review-tasks/{task['id']}/submit/", body | {"next": HELD}, seen.submit)
                tasks = list(reply["tasks"])
            else:
                await post(f"/review-tasks/{task['id']}/submit/", body, seen.submit)
                tasks = await claim(seen.claim)
            seen.both.append(1000 * (time.perf_counter() - started))
            seen.answered[task["id"]] += 1
            await asyncio.sleep(options.pause_ms / 1000)
        await post(f"/review-rounds/{round_id}/release/", {}, [])


def report(seen: Seen, reviewers: int, options: argparse.Namespace) -> None:
    twice = sum(count > 1 for count in seen.answered.values())
    shared = sum(len(people) > 1 for people in seen.holders.values())
    print(
        f"{reviewers} reviewers, {options.pause_ms} ms between items: {len(seen.both):,} items, "
        f"{len(seen.both) / options.seconds:.1f} a second; given to two people: {shared}; answered twice: {twice}"
    )
    for name, times in (("submit", seen.submit), ("next", seen.claim), ("submit + next", seen.both)):
        if times:
            ordered = sorted(times)
            p50, p95 = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.95))
            print(f"  {name:14} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   max {ordered[-1]:6.1f} ms")


if __name__ == "__main__":
    main()
