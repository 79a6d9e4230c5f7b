"""How long the list of items takes, by filter and order, in a made-up project of any size.

    python -m benchmarks.browsing --items 1000000

makes a project in a SQLite file of its own (with --database in another database, which must be empty), asks for the
projects, the overview and the dashboard, and for what these count once they are there; then the list of items itself
for its first page, a deep one, each filter alone and some together. It prints the median and the longest of each in
milliseconds, and of the former what they took of the processor. It fails where a page takes longer than it may:
300 ms, or 1.5 s for a search through all texts.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_MS, MOST_SEARCH_MS = 300, 1500
WORDS = (
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "while",
    "clouds",
    "drift",
    "across",
    "northern",
    "sky",
)
LABELS = ("billing", "delivery", "praise", "question", "rare")
ROWS_AT_ONCE = 20_000
MADE = "browsing.json"  # in the folder that is kept


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--round", type=float, default=0.1, help="The share of the items that is in the round."
    )
    parser.add_argument("--database", default="", help="Its URL; by default a SQLite file that is deleted")
    parser.add_argument(
        "--keep",
        type=Path,
        help="A folder that keeps the project: made there, or found from an earlier time.",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overread-browsing-") as passing:
        folder = options.keep.resolve() if options.keep else Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        set_up(str(folder), options.database)
        project_id = the_project(folder / MADE, options.items, options.round)
        slow = time_overviews(project_id, options.repeats)
        slow += time_pages(project_id, options.items, options.repeats)
    if slow:
        sys.exit(f"Too slow: {', '.join(slow)}.")


def the_project(made: Path, items: int, share: float) -> int:
    """Its id; made anew unless the folder keeps it already."""
    if made.exists():
        *kept, project_id = json.loads(made.read_text())
        if kept != [items, share]:
            sys.exit(f"The kept project is another one, {kept}: keep this one elsewhere.")
        return int(project_id)
    started = time.perf_counter()
    project_id = make_project(items, share)
    made.write_text(json.dumps([items, share, project_id]))
    print(f"{items:,} items, made in {time.perf_counter() - started:.0f} s")
    return project_id


def set_up(folder: str, database: str) -> None:
    os.environ["OVERREAD_LOCAL"] = "true"
    os.environ["OVERREAD_DATA_DIR"] = folder
    os.environ["OVERREAD_LOG_LEVEL"] = "ERROR"
    os.environ["DATABASE_URL"] = database or f"sqlite:///{Path(folder) / 'browsing.sqlite3'}"
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django
    from django.conf import settings

    django.setup()
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.ALLOWED_HOSTS = ["testserver"]
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def insert(model: Any, varying: Sequence[str], rows: Iterable[Sequence[Any]], **fixed: Any) -> None:
    """Rows by plain SQL: `varying` columns from each row, the others fixed or at their defaults."""
    from django.db import connection, transaction

    blank = model(**fixed)
    fields = [field for field in model._meta.concrete_fields if not field.primary_key or "id" in varying]
    constant = {
        field.attname: field.get_db_prep_save(field.pre_save(blank, True), connection) for field in fields
    }
    names = [field.attname for field in fields]
    quoted = ", ".join(f'"{field.column}"' for field in fields)
    sql = f'INSERT INTO "{model._meta.db_table}" ({quoted}) VALUES ({", ".join(["%s"] * len(names))})'
    places = [names.index(name) for name in varying]
    template = [constant[name] for name in names]
    batch: list[list[Any]] = []
    with transaction.atomic(), connection.cursor() as cursor:
        for row in rows:
            values = template.copy()
            for place, value in zip(places, row, strict=True):
                values[place] = value
            batch.append(values)
            if len(batch) == ROWS_AT_ONCE:
                cursor.executemany(sql, batch)
                batch = []
        if batch:
            cursor.executemany(sql, batch)


def make_project(count: int, share: float) -> int:
    """A project whose every hundredth item is a calibration item, a share is in a round, and most of that answered."""
    from annotate.models import (
        Annotation,
        AnnotationRun,
        CalibrationLabel,
        Comment,
        Item,
        Membership,
        Upload,
        User,
    )
    from annotate.services.projects import project_create
    from criticize.models import Criticism, CriticismRun
    from jobs.models import Job
    from review.models import Correction, ReviewRound, ReviewTask

    rng = np.random.default_rng(0)
    owner = User.objects.create_user("owner")
    people = [User.objects.create_user(f"reviewer-{number}") for number in range(4)]
    project = project_create(user=owner, name="Large", task_type="text_classification", labels=LABELS)
    for person in people:
        Membership.objects.create(project=project, user=person, role="reviewer")
    labels = list(project.labels.order_by("position").values_list("pk", flat=True))
    upload = Upload.objects.create(
        project=project, filename="large.csv", size=1, columns=["source"], created_by=owner
    )

    def job() -> Any:
        return Job.objects.create(kind="annotation", state="done", total=count, done=count)

    run = AnnotationRun.objects.create(
        project=project, job=job(), created_by=owner, kind="prompted", model="small", strategy="cot"
    )
    criticism = CriticismRun.objects.create(
        annotation_run=run, job=job(), created_by=owner, kind="prompted", model="other", strategy="cot"
    )
    in_round = int(count * share)
    round = ReviewRound.objects.create(
        project=project,
        criticism_run=criticism,
        rule="threshold",
        budget=in_round,
        population=count - len(range(0, count, 100)),
        created_by=owner,
    )
    words = rng.integers(len(WORDS), size=(count, 14))
    shares = [0.4, 0.3, 0.2, 0.099, 0.001]
    gold = rng.choice(labels, size=count, p=shares)
    machine = np.where(rng.random(count) < 0.85, gold, rng.choice(labels, size=count, p=shares))
    error_probs = np.round(rng.beta(0.6, 2.0, size=count), 2)
    confidence = np.round(rng.beta(5.0, 1.0, size=count), 2)
    failed = rng.random(count) < 0.002

    def text(place: int) -> str:
        rare = " xylophone" if place in (count // 3, count - 7) else ""
        return " ".join(WORDS[word] for word in words[place]) + rare

    print("items", flush=True)
    insert(
        Item,
        ("id", "external_id", "text", "columns", "gold_id"),
        (
            (
                place + 1,
                f"ticket-{place}",
                text(place),
                f'{{"source": "channel {place % 50}"}}',
                int(gold[place]),
            )
            for place in range(count)
        ),
        project=project,
        upload=upload,
    )
    calibrated = np.arange(0, count, 100)
    insert(
        CalibrationLabel,
        ("item_id", "label_id"),
        ((int(place) + 1, int(gold[place])) for place in calibrated),
        project=project,
    )
    annotated = np.setdiff1d(np.arange(count), calibrated)
    print("annotations", flush=True)
    insert(
        Annotation,
        ("id", "item_id", "label_id", "failure", "confidence"),
        (
            (
                int(place) + 1,
                int(place) + 1,
                None if failed[place] else int(machine[place]),
                "refused" if failed[place] else "",
                float(confidence[place]),
            )
            for place in annotated
        ),
        run=run,
    )
    usable = annotated[~failed[annotated]]
    print("criticisms", flush=True)
    insert(
        Criticism,
        ("id", "annotation_id", "error_prob", "priority"),
        ((int(p) + 1, int(p) + 1, float(error_probs[p]), float(error_probs[p])) for p in usable),
        run=criticism,
    )
    order = usable[np.argsort(-error_probs[usable], kind="stable")][:in_round]
    draw(round, annotated, np.where(failed, np.nan, error_probs)[annotated], np.isin(annotated, order))
    kind = rng.choice(["answered", "skipped", "waiting"], size=len(order), p=[0.7, 0.1, 0.2])
    reader = rng.integers(4, size=len(order))
    print("reviews", flush=True)
    insert(
        ReviewTask,
        ("id", "item_id", "annotation_id", "criticism_id", "rank", "state", "holder_id"),
        (
            (
                rank + 1,
                int(place) + 1,
                int(place) + 1,
                int(place) + 1,
                rank,
                str(kind[rank]),
                None if kind[rank] == "waiting" else people[reader[rank]].pk,
            )
            for rank, place in enumerate(order)
        ),
        round=round,
    )
    import uuid

    done = np.flatnonzero(kind != "waiting")
    insert(
        Correction,
        ("id", "task_id", "action", "label_id", "author_id", "seconds", "key"),
        (
            (
                number + 1,
                int(rank) + 1,
                "label" if kind[rank] == "answered" else "skip",
                int(gold[order[rank]]) if kind[rank] == "answered" else None,
                people[reader[rank]].pk,
                2.0 + number % 60,
                uuid.UUID(int=number + 1).hex,
            )
            for number, rank in enumerate(rng.permutation(done))
        ),
    )
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE review_reviewtask SET correction_id = "
            "(SELECT id FROM review_correction WHERE task_id = review_reviewtask.id)"
        )
    Comment.objects.bulk_create(
        Comment(item_id=int(place) + 1, author=owner, text="Look.") for place in range(0, count, count // 300)
    )
    return int(project.pk)


def draw(round: Any, places: np.ndarray, error_probs: np.ndarray, selected: np.ndarray) -> None:
    """The round's draw, which the dashboard reads: these items, ε̂ (NaN where there is none), and which it took."""
    from review.models import DrawBlock

    for number, start in enumerate(range(0, len(places), DrawBlock.SIZE)):
        block = slice(start, start + DrawBlock.SIZE)
        DrawBlock.objects.create(
            round=round,
            number=number,
            item_ids=(places[block] + 1).astype("<i8").tobytes(),
            error_probs=error_probs[block].astype("<f8").tobytes(),
            priorities=error_probs[block].astype("<f8").tobytes(),
            inclusion_probs=selected[block].astype("<f8").tobytes(),
            selected=selected[block].tobytes(),
        )


def time_pages(project_id: int, count: int, repeats: int) -> list[str]:
    """Print the time of each page; returns the names of those that are too slow."""
    from django.test import Client

    from annotate.models import Label, User
    from review.models import ReviewTask

    client = Client()
    client.force_login(User.objects.get(username="owner"))
    label = dict(Label.objects.filter(project=project_id).values_list("name", "pk"))
    address = f"/projects/{project_id}/items/"
    corrected_rank = ReviewTask.objects.count() // 2
    deep_error = ReviewTask.objects.get(rank=corrected_rank)
    assert deep_error.criticism is not None
    deep = f"0~{deep_error.criticism.priority!r}~{deep_error.annotation_id}"
    pages = {
        "first page": "",
        "deep page": f"after=0~{count // 2}",
        "page before a deep one": f"before=0~{count // 2}",
        "machine's label": f"label={label['delivery']}",
        "machine's label, rare": f"label={label['rare']}",
        "person's label": f"human={label['delivery']}",
        "person's label, rare": f"human={label['rare']}",
        "final label": f"final={label['delivery']}",
        "final label, rare": f"final={label['rare']}",
        **{
            f"status {status}": f"status={status}"
            for status in (
                *("machine", "failed", "waiting", "reviewed", "accepted", "corrected", "skipped"),
                *("conflict", "adjudicated", "picked", "calibration", "audited", "commented", "unlabeled"),
            )
        },
        "error probability 0.2 to 0.3": "eps_min=0.2&eps_max=0.3",
        "error probability from 0.98": "eps_min=0.98",
        "reviewer": "reviewer=reviewer-1",
        "people differ": "disagreement=people",
        "person and machine differ": "disagreement=machine",
        "machine and gold differ": "disagreement=gold",
        "failure refused": "failure=refused",
        "failure timed_out": "failure=timed_out",
        "with gold": "gold=yes",
        "without gold": "gold=no",
        "upload": "upload=1",
        "column": "column.source=channel+7",
        "search, frequent": "q=fox",
        "search, rare": "q=xylophone",
        "search, nothing": "q=zzzz",
        "label and error probability": f"label={label['rare']}&eps_min=0.3&eps_max=0.6",
        "frequent label and error probability": f"label={label['delivery']}&eps_min=0.9",
        "corrected by a reviewer": "status=corrected&reviewer=reviewer-2",
        "corrected, of a label": f"status=corrected&label={label['delivery']}&sort=error_high",
        "reviewed, least suspicious first": "status=reviewed&sort=error_low",
        "most suspicious first": "sort=error_high",
        "most suspicious first, deep": f"sort=error_high&after={deep}",
        "least suspicious first": "sort=error_low",
        "last reviewed first": "sort=reviewed",
        "least confident first": "sort=confidence_low",
        "most confident first": "sort=confidence_high",
    }
    slow: list[str] = []
    print(f"{'':<40}{'median':>8}{'most':>8}{'count':>8}   ms")
    for name, query in pages.items():
        times = [timed(client, f"{address}?{query}") for _ in range(repeats)]
        counting = timed(client, f"{address}?{query}&part=count", is_part=True)
        print(f"{name:<40}{statistics.median(times):>8.0f}{max(times):>8.0f}{counting:>8.0f}", flush=True)
        if statistics.median(times) > (MOST_SEARCH_MS if query.startswith("q=") else MOST_MS):
            slow.append(name)
    return slow


def time_overviews(project_id: int, repeats: int) -> list[str]:
    """Print the times of the pages that count a whole project, each with nothing kept from before."""
    from django.core.cache import cache
    from django.test import Client

    from annotate.models import User

    client = Client()
    client.force_login(User.objects.get(username="owner"))
    overview = f"/projects/{project_id}/"
    dashboard = f"{overview}dashboard/"
    pages = {
        "projects": ("/", False),
        "overview": (overview, False),
        "overview, rest of it": (f"{overview}?part=rest", True),
        "dashboard": (dashboard, False),
        "dashboard, counted": (f"{dashboard}?seen=", True),
    }
    slow: list[str] = []
    timed(client, "/")  # what the first request of a process loads
    print(f"{'':<40}{'median':>8}{'most':>8}{'CPU':>8}   ms")
    for name, (address, is_part) in pages.items():
        times, processor = [], []
        for _ in range(repeats):
            cache.clear()
            before = time.process_time()
            times.append(timed(client, address, is_part=is_part))
            processor.append(1000 * (time.process_time() - before))
        median, cpu = statistics.median(times), statistics.median(processor)
        print(f"{name:<40}{median:>8.0f}{max(times):>8.0f}{cpu:>8.0f}", flush=True)
        if not is_part and median > MOST_MS:
            slow.append(name)
    again = [timed(client, dashboard) for _ in range(repeats)]
    print(f"{'dashboard, once it was counted':<40}{statistics.median(again):>8.0f}{max(again):>8.0f}")
    return slow


def timed(client: Any, address: str, *, is_part: bool = False) -> float:
    """Milliseconds until the page, or its part, is there."""
    headers = {"HX-Request": "true"} if is_part else {}
    started = time.perf_counter()
    response = client.get(address, headers=headers)
    elapsed = 1000 * (time.perf_counter() - started)
    assert response.status_code == 200, response.status_code
    return elapsed


if __name__ == "__main__":
    main()
