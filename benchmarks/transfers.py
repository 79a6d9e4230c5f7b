"""Seconds and memory that importing and exporting short texts takes, and how both grow with the items.

    python -m benchmarks.transfers --items 10000,100000,1000000

For each size a CSV file is sent to a real web server, imported by a worker process, annotated and criticized by plain
inserts, drawn into a round, exported as a wide CSV by a worker process, and downloaded. Times are those of the worker's
job, without starting Python; CPU is that of the worker process, which a busy machine does not lengthen as it does the
clock. The web server is asked for the pages that people watch meanwhile. It fails where the largest size takes longer
than it may, or the web server grows by more than 200 MB.

With `--reviewers 4`, so many people answer items of another project beside the import, each half a second after the
last; it then fails, too, where the longest answer took 0.3 s more than the longest one without the import.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import numpy as np
from yarl import URL

from benchmarks.browsing import WORDS, insert
from benchmarks.bulk_calls import free_port, wait_for
from benchmarks.review_queue import Seen, one_reviewer, prepare

MOST_IMPORT_SECONDS, MOST_EXPORT_SECONDS, MOST_WEB_GROWTH_MB = 120, 60, 200
MOST_GROWTH_AN_ITEM = 0.15
MOST_WAIT_MS = 300
REVIEWED_ITEMS, REVIEW_PAUSE_MS, ALONE_SECONDS = 20_000, 500, 15
LABELS = ("negative", "neutral", "positive")
_SECONDS_BETWEEN_LOOKS = 1.0


Took = TypeVar("Took")


@dataclass
class Measured:
    """Of one size. Seconds; memory in MB, at most."""

    items: int
    import_seconds: float
    import_cpu: float
    import_memory: float
    export_seconds: float
    export_cpu: float
    export_memory: float
    export_bytes: int
    web_before: float
    web_after: float
    load: float
    submits_alone: list[float] = field(default_factory=list)  # milliseconds
    submits_beside: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", default="10000,100000", help="Sizes, with commas between them")
    parser.add_argument("--database", default="", help="An empty PostgreSQL database instead of SQLite files")
    parser.add_argument("--all-or-nothing", action="store_true")
    parser.add_argument("--reviewers", type=int, default=0, help="People who answer items beside the import")
    parser.add_argument("--profile", type=Path, help="A folder for the profiles of the workers")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.profile)
        return
    measured = [measure(int(size), options) for size in options.items.split(",")]
    missed = report(measured)
    if missed:
        sys.exit(f"Missed: {'; '.join(missed)}.")


def work(job_id: int, profile: Path | None) -> None:
    """What a worker does for one job, with what it took on the last line."""
    import django

    django.setup()
    from jobs.models import Job
    from jobs.running import run_to_end

    if profile:
        import cProfile

        profiler = cProfile.Profile()
        profiler.enable()
    began, cpu = time.perf_counter(), time.process_time()
    run_to_end(job_id)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if profile:
        profiler.disable()
        profiler.dump_stats(profile / f"job-{job_id}.prof")
    job = Job.objects.get(pk=job_id)
    if job.state != Job.State.DONE:
        raise SystemExit(f"The job is {job.state}: {job.reason}")
    # Not getrusage's, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    memory = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "memory": memory}))


def measure(items: int, options: argparse.Namespace) -> Measured:
    """In a process of its own for each size, so that none begins with what another one left in memory."""
    folder = Path(tempfile.mkdtemp(prefix="ovb-"))
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "OVERREAD_LOCAL": "true",
        "OVERREAD_DATA_DIR": str(folder),
        "OVERREAD_LOG_LEVEL": "ERROR",
        "DATABASE_URL": options.database or f"sqlite:///{folder / 'overread.sqlite3'}",
    }
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps(asdict(_measure(items, folder, options))).encode())
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    os.close(write)
    try:
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"Measuring {items:,} items failed.")
        return Measured(**json.loads(said))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(items: int, folder: Path, options: argparse.Namespace) -> Measured:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from annotate.models import Project, Upload, User
    from annotate.services.projects import project_create
    from annotate.services.uploads import upload_import, upload_preview
    from jobs import processes
    from review.services.exports import export_create

    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    reviewed = prepare(REVIEWED_ITEMS, options.reviewers) if options.reviewers else None
    owner = User.objects.create_user(f"owner-{time.time_ns()}")
    project = project_create(user=owner, name="Transfers", task_type="text_classification", labels=LABELS)
    session = session_of(owner)
    table = folder / "texts.csv"
    write_table(table, items)
    connection.close()
    port = free_port()
    web = processes.web("127.0.0.1", port)
    server = subprocess.Popen(web.command, env=os.environ | web.environment)
    site = Site(f"http://127.0.0.1:{port}", session, server.pid)
    try:
        wait_for(f"{site.address}/healthz")
        project_page = f"/projects/{project.pk}"
        asyncio.run(site.get(f"{project_page}/uploads/"))
        asyncio.run(site.get(f"{project_page}/exports/"))
        before = site.memory()
        asyncio.run(site.send(f"/api/v1{project_page}/uploads/", table))
        upload = Upload.objects.get(project=project)
        mapping = upload_preview(upload).mapping
        upload = upload_import(upload=upload, mapping=mapping, all_or_nothing=options.all_or_nothing)
        assert upload.job_id is not None
        connection.close()
        page = f"{project_page}/uploads/{upload.pk}/"
        alone, beside = Seen(), Seen()
        reviewers = Reviewers(port, *reviewed) if reviewed else None
        if reviewers:
            asyncio.run(reviewers.beside(asyncio.sleep(ALONE_SECONDS), alone))
        importing = site.watch_worker(upload.job_id, page, options.profile)
        came_in = asyncio.run(reviewers.beside(importing, beside) if reviewers else importing)
        upload.refresh_from_db()
        assert (upload.imported, upload.rejected) == (items, 0), upload
        print(f"{items:,} items imported; making their annotations", file=sys.stderr, flush=True)
        round = make_round(Project.objects.get(pk=project.pk), owner)
        export = export_create(round=round, user=owner)
        connection.close()
        page = f"{project_page}/exports/?part=list"
        went_out = asyncio.run(site.watch_worker(export.job_id, page, options.profile))
        export.refresh_from_db()
        assert export.rows == items, export.rows
        received = asyncio.run(site.download(f"{project_page}/exports/{export.pk}/download/"))
        assert received == export.size, received
        return Measured(
            items=items,
            import_seconds=came_in["seconds"],
            import_cpu=came_in["cpu"],
            import_memory=came_in["memory"],
            export_seconds=went_out["seconds"],
            export_cpu=went_out["cpu"],
            export_memory=went_out["memory"],
            export_bytes=export.size,
            web_before=before,
            web_after=max(site.most, site.memory()),
            load=os.getloadavg()[0],
            submits_alone=sorted(alone.submit),
            submits_beside=sorted(beside.submit),
        )
    finally:
        server.terminate()
        server.wait(timeout=60)


class Reviewers:
    """People who answer the items of a round, one after the other."""

    def __init__(self, port: int, round_id: int, label_id: int, sessions: list[str]) -> None:
        self._options = argparse.Namespace(pause_ms=REVIEW_PAUSE_MS, reviewers=len(sessions), combined=False)
        self._base = f"http://127.0.0.1:{port}/api/v1"
        self._round = round_id
        self._label = label_id
        self._sessions = sessions

    async def beside(self, other: Awaitable[Took], seen: Seen) -> Took:
        """What the other comes to, with reviewers at work until then, whose times are added to `seen`."""
        people = [
            asyncio.create_task(
                one_reviewer(
                    self._options, self._base, self._round, self._label, number, key, float("inf"), seen
                )
            )
            for number, key in enumerate(self._sessions)
        ]
        try:
            return await other
        finally:
            for person in people:
                person.cancel()
            ended = await asyncio.gather(*people, return_exceptions=True)
            for end in ended:
                if not isinstance(end, asyncio.CancelledError):
                    raise SystemExit(f"A reviewer stopped: {end!r}")


def session_of(user: Any) -> str:
    """A session key of somebody who is signed in."""
    from importlib import import_module

    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


class Site:
    """The web server as a signed-in browser sees it, and what it takes of memory with all its processes."""

    def __init__(self, address: str, session: str, process: int) -> None:
        self.address = address
        self.most = 0.0
        self._session = session
        self._process = process

    def _client(self) -> aiohttp.ClientSession:
        from django.middleware.csrf import _get_new_csrf_string

        token = _get_new_csrf_string()
        client = aiohttp.ClientSession(
            headers={"X-CSRFToken": token, "HX-Request": "true"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            timeout=aiohttp.ClientTimeout(total=600),
        )
        client.cookie_jar.update_cookies({"sessionid": self._session, "csrftoken": token}, URL(self.address))
        return client

    def memory(self) -> float:
        """MB of the server's processes together."""
        total = 0.0
        waiting = [self._process]
        while waiting:
            process = waiting.pop()
            task = Path(f"/proc/{process}")
            try:
                status = (task / "status").read_text()
                waiting += [int(child) for child in (task / f"task/{process}/children").read_text().split()]
            except FileNotFoundError:
                continue
            total += int(status.partition("VmRSS:")[2].split()[0]) / 1024
        return total

    async def get(self, path: str) -> None:
        async with self._client() as client, client.get(self.address + path) as response:
            assert response.status == 200, response.status
            await response.read()

    async def send(self, path: str, file: Path) -> None:
        async with self._client() as client:
            with file.open("rb") as opened:
                sending = asyncio.create_task(client.post(self.address + path, data={"file": opened}))
                while not sending.done():
                    self.most = max(self.most, self.memory())
                    await asyncio.wait([sending], timeout=0.1)
                response = await sending
            assert response.status == 201, await response.text()

    async def download(self, path: str) -> int:
        """Bytes received."""
        received = 0
        async with self._client() as client, client.get(self.address + path) as response:
            assert response.status == 200, response.status
            async for piece in response.content.iter_chunked(1 << 20):
                received += len(piece)
                self.most = max(self.most, self.memory())
        return received

    async def watch_worker(self, job_id: int, page: str, profile: Path | None) -> dict[str, float]:
        """What a worker process took for the job, while somebody watches the page."""
        command = [sys.executable, "-m", "benchmarks.transfers", "--work", str(job_id)]
        command += ["--profile", str(profile)] if profile else []
        worker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        said = asyncio.create_task(worker.communicate())
        while not said.done():
            await self.get(page)
            self.most = max(self.most, self.memory())
            await asyncio.wait([said], timeout=_SECONDS_BETWEEN_LOOKS)
        output, _ = await said
        if worker.returncode:
            raise SystemExit(f"The worker of job {job_id} failed.")
        took: dict[str, float] = json.loads(output.splitlines()[-1])
        return took


def write_table(path: Path, items: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text,gold,channel\n")
        for start in range(0, items, 10_000):
            count = min(10_000, items - start)
            words = rng.integers(len(WORDS), size=(count, 12))
            labels = rng.integers(len(LABELS), size=count)
            file.writelines(
                f"t{start + place},{' '.join(WORDS[word] for word in words[place])},{LABELS[labels[place]]},"
                f"channel {place % 50}\n"
                for place in range(count)
            )


def make_round(project: Any, owner: Any) -> Any:
    """A drawn round over all items, a hundredth of them answered."""
    from annotate.models import Annotation, AnnotationRun
    from criticize.models import Criticism, CriticismRun
    from jobs.models import Job
    from review.services.queue import Answer, task_submit, tasks_claim
    from review.services.rounds import round_create

    labels = list(project.labels.order_by("position"))
    ids = np.fromiter(project.items.order_by("pk").values_list("pk", flat=True).iterator(), dtype=np.int64)
    rng = np.random.default_rng(1)

    def job() -> Any:
        return Job.objects.create(kind="annotation", state="done", total=len(ids), done=len(ids))

    run = AnnotationRun.objects.create(
        project=project, job=job(), created_by=owner, kind="prompted", model="small", strategy="cot"
    )
    label_ids = np.array([label.pk for label in labels])[rng.integers(len(labels), size=len(ids))]
    insert(
        Annotation,
        ("item_id", "label_id"),
        zip(ids.tolist(), label_ids.tolist(), strict=True),
        run=run,
        reasoning="It reads like one.",
    )
    criticism = CriticismRun.objects.create(
        annotation_run=run, job=job(), created_by=owner, kind="prompted", model="other", strategy="cot"
    )
    annotations = run.annotations.order_by("pk").values_list("pk", flat=True).iterator()
    probs = np.round(rng.beta(0.6, 2.0, size=len(ids)), 3).tolist()
    insert(
        Criticism,
        ("annotation_id", "error_prob", "priority"),
        ((pk, prob, prob) for pk, prob in zip(annotations, probs, strict=True)),
        run=criticism,
        reasoning="Perhaps not.",
    )
    round = round_create(run=criticism, user=owner, count=len(ids) // 10, rule="exponential")
    for _ in range(20):
        for task in tasks_claim(round=round, user=owner, count=8):
            task_submit(task=task, user=owner, answer=Answer("label", labels[0]))
    return round


def report(measured: list[Measured]) -> list[str]:
    """Print the tables; returns what is missed at the largest size."""
    names = ("import", "CPU", "rows/s", "MB", "export", "CPU", "MB", "web MB", "load")
    widths = (9, 8, 9, 6, 9, 8, 6, 12, 6)
    print(" " * 10 + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True)))
    for size in measured:
        print(
            f"{size.items:>10,}{size.import_seconds:>8.1f}s{size.import_cpu:>7.1f}s"
            f"{size.items / size.import_seconds:>9,.0f}{size.import_memory:>6.0f}"
            f"{size.export_seconds:>8.1f}s{size.export_cpu:>7.1f}s{size.export_memory:>6.0f}"
            f"{size.web_before:>6.0f}→{size.web_after:<5.0f}{size.load:>6.1f}"
        )
    missed = []
    largest = measured[-1]
    if len(measured) > 1:
        print(f"\n{'':<20}{'exponent':>10}{'cost per item, largest to smallest':>36}")
        for name in ("import_seconds", "import_cpu", "export_seconds", "export_cpu"):
            costs = [getattr(size, name) for size in measured]
            exponent, _ = np.polyfit(np.log([size.items for size in measured]), np.log(costs), 1)
            ratio = (costs[-1] / largest.items) / (costs[0] / measured[0].items)
            print(f"{name.replace('_', ' '):<20}{exponent:>10.2f}{ratio:>36.2f}")
            if name.endswith("cpu") and ratio > 1 + MOST_GROWTH_AN_ITEM:
                missed.append(f"{name.replace('_', ' ')} an item grows to {ratio:.2f} of the smallest size's")
    # What a worker takes to begin counts little at a million items, and much at a few.
    share = max(0.1, largest.items / 1_000_000)
    for name, seconds, most in (
        ("the import", largest.import_seconds, MOST_IMPORT_SECONDS * share),
        ("the export", largest.export_seconds, MOST_EXPORT_SECONDS * share),
    ):
        if seconds > most:
            missed.append(f"{name} of {largest.items:,} took {seconds:.0f} s, not {most:.0f}")
    for size in measured:
        if size.submits_beside:
            print(f"\nAnswers of reviewers at {size.items:,} items:")
            for name, times in (("alone", size.submits_alone), ("beside the import", size.submits_beside)):
                p50, p95 = (times[int(share * (len(times) - 1))] for share in (0.5, 0.95))
                print(
                    f"  {name:18} {len(times):6,}   p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   max {times[-1]:6.1f} ms"
                )
            if size.submits_beside[-1] > size.submits_alone[-1] + MOST_WAIT_MS:
                missed.append(
                    f"an answer beside the import of {size.items:,} waited {size.submits_beside[-1]:.0f} ms"
                )
    growth = max(size.web_after - size.web_before for size in measured)
    print(f"\nThe web server grew by {growth:.0f} MB at most.")
    if growth > MOST_WEB_GROWTH_MB:
        missed.append(f"the web server grew by {growth:.0f} MB")
    return missed


if __name__ == "__main__":
    main()
