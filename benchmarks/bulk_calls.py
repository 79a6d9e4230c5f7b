"""Bulk model calls against a mock server: items a second and CPU an item, results in the database included.

    python -m benchmarks.bulk_calls --in-flight 256 --workers 2 --items 4000

Three clients keep as many calls in flight against one server on this machine, in turns, `--runs` times each:
a bare HTTP client (aiohttp) and the provider's SDK as it comes (openai.AsyncOpenAI), each in one asyncio loop that
throws the answers away, and the product: a real worker with its broker that writes every result into a database of its
own. The same prompts are sent by all of them. The ideal is items · latency / in flight.

CPU is user and system time of the client's processes; the server's own is not in it, but it runs on the same cores, so
it gives everyone the same prepared bytes. The clients are warm when the time starts: a loop has made some calls, the
worker has done one job of the same size, which has a row of its own. The product's time runs from the moment the job is
created to the moment it is marked done. Figures are medians.
"""

import argparse
import asyncio
import multiprocessing
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABELS = ("bad", "middling", "good")
WARM_UP_CALLS = 64
Call = Callable[[str, str], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Load:
    """What each client does: `prompts` are pairs of a system text and a user text."""

    prompts: Sequence[tuple[str, str]]
    in_flight: int
    base_url: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds, and seconds of CPU of all of the client's processes."""

    seconds: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="processes of the worker")
    parser.add_argument("--latency-ms", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--database", default="", help="Address of an empty PostgreSQL database; default SQLite."
    )
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ovb-"))
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "OVERREAD_LOCAL": "true",
        "OVERREAD_DATA_DIR": str(folder),
        "OVERREAD_LOG_LEVEL": "WARNING",
        "OVERREAD_WORKER_PROCESSES": str(options.workers),
        "DATABASE_URL": options.database or f"sqlite:///{folder / 'overread.sqlite3'}",
    }
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.mock_provider", "--fixed", "--port", str(port)]
    provider = subprocess.Popen([*command, "--latency-ms", str(options.latency_ms)])
    try:
        wait_for(f"http://127.0.0.1:{port}/calls")
        measure(options, f"http://127.0.0.1:{port}/v1")
    finally:
        provider.terminate()
        shutil.rmtree(folder, ignore_errors=True)


def measure(options: argparse.Namespace, base_url: str) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    load = Load(prompts(options.items), options.in_flight, base_url)
    ideal = options.items * options.latency_ms / 1000 / options.in_flight
    print(
        f"{options.items:,} items, {options.latency_ms} ms, {options.in_flight} in flight, "
        f"{options.workers} worker processes: ideal {ideal:.2f} s. Load {os.getloadavg()[0]:.1f}"
    )
    taken: dict[str, list[Taken]] = {"aiohttp": [], "openai, as it comes": [], "product": []}
    with worker() as worker_id:
        first = annotate(load, worker_id, 0)
        for number in range(1, options.runs + 1):
            taken["aiohttp"].append(in_own_process(aiohttp_loop, load))
            taken["openai, as it comes"].append(in_own_process(openai_loop, load))
            taken["product"].append(annotate(load, worker_id, number))
    report({**taken, "product, fresh worker": [first]}, options.items, ideal)


def report(taken: dict[str, list[Taken]], items: int, ideal: float) -> None:
    rate = {name: items / statistics.median(each.seconds for each in runs) for name, runs in taken.items()}
    cpu = {name: statistics.median(each.cpu for each in runs) / items * 1000 for name, runs in taken.items()}
    sdk = "openai, as it comes"
    print(
        "| client | items/s | share of the ideal | CPU s per 1,000 items | items/s to the SDK's | CPU to the SDK's |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name in taken:
        print(
            f"| {name} | {rate[name]:.0f} | {rate[name] * ideal / items:.2f} | {cpu[name]:.2f} | "
            f"{rate[name] / rate[sdk]:.2f} | {cpu[name] / cpu[sdk]:.2f} |"
        )
    for name, runs in taken.items():
        print(f"{name}: " + ", ".join(f"{each.seconds:.2f} s, {each.cpu:.2f} s of CPU" for each in runs))


def prompts(items: int) -> list[tuple[str, str]]:
    """What the product asks about each of the items."""
    from annotate.prompts import ItemContent, LabelSpec, annotation_request

    specs = [LabelSpec(name) for name in LABELS]
    asked = []
    for number in range(items):
        request = annotation_request(
            task_type="text_classification",
            strategy="naive",
            answer_format="bracket",
            model="mock",
            labels=specs,
            item=ItemContent(text=item_text(0, number)),
        )
        asked.append((request.system, str(request.parts[0])))
    return asked


def item_text(run: int, number: int) -> str:
    return f"Item {number} of run {run}: the room was {number % 7} of 7."


def annotate(load: Load, worker_id: int, number: int) -> Taken:
    """A job of as many items, from its creation to its end."""
    from annotate.models import Annotation, Connection, Item
    from annotate.services.connections import connection_save
    from annotate.services.local_admin import local_admin
    from annotate.services.projects import project_create
    from annotate.services.runs import ModelChoice, annotation_run_create

    user, _ = local_admin()
    project = project_create(
        user=user, name=f"bulk {number}", task_type="text_classification", labels=list(LABELS)
    )
    Item.objects.bulk_create(
        [
            Item(project=project, external_id=str(i), text=item_text(number, i))
            for i in range(len(load.prompts))
        ],
        batch_size=500,
    )
    connection = Connection.objects.filter(owner=user).first() or connection_save(
        connection=Connection(owner=user),
        name="mock",
        provider="openai",
        base_url=load.base_url,
        in_flight=load.in_flight,
    )
    choice = ModelChoice(kind="prompted", connection=connection, model="mock", strategy="naive")
    cpu_before = cpu_seconds(worker_id)
    run = annotation_run_create(project=project, user=user, choice=choice)
    while not run.job.is_finished:
        time.sleep(0.1)  # the times are in the row
        run.job.refresh_from_db()
        if run.job.state == "paused":
            raise SystemExit(f"The job paused: {run.job.reason}")
    cpu = cpu_seconds(worker_id) - cpu_before
    written = Annotation.objects.filter(run=run, failure="").count()
    if written != len(load.prompts):
        raise SystemExit(f"{written} results in the database, not {len(load.prompts)}")
    assert run.job.finished_at is not None
    return Taken((run.job.finished_at - run.job.created_at).total_seconds(), cpu)


def in_own_process(loop: Callable[[Load], Taken], load: Load) -> Taken:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(loop, load).result()


def aiohttp_loop(load: Load) -> Taken:
    import aiohttp

    async def run() -> Taken:
        connector = aiohttp.TCPConnector(limit=load.in_flight)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def call(system: str, user: str) -> None:
                asked = session.post(f"{load.base_url}/chat/completions", json=body(system, user))
                async with asked as response:
                    await response.json()

            return await timed(call, load)

    return asyncio.run(run())


def openai_loop(load: Load) -> Taken:
    import openai

    async def run() -> Taken:
        async with openai.AsyncOpenAI(api_key="none", base_url=load.base_url) as client:

            async def call(system: str, user: str) -> None:
                await client.chat.completions.create(**body(system, user))

            return await timed(call, load)

    return asyncio.run(run())


def body(system: str, user: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return {"model": "mock", "messages": messages, "max_tokens": 256, "temperature": 0.0}


async def timed(call: Call, load: Load) -> Taken:
    """All calls of the load, always as many in flight."""
    await keep_full(call, load.prompts[:WARM_UP_CALLS], load.in_flight)
    started, cpu_before = time.monotonic(), own_cpu_seconds()
    await keep_full(call, load.prompts, load.in_flight)
    return Taken(time.monotonic() - started, own_cpu_seconds() - cpu_before)


async def keep_full(call: Call, asked: Sequence[tuple[str, str]], in_flight: int) -> None:
    waiting = iter(asked)

    async def one_after_the_other() -> None:
        for system, user in waiting:
            await call(system, user)

    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))


def own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cpu_seconds(process_id: int) -> float:
    """Of a process and its children, as Linux counts it: in hundredths of a second."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for child in children)


@contextmanager
def worker() -> Iterator[int]:
    """The broker and a worker, as `manage.py up` starts them; the worker's process id."""
    from jobs import processes

    children = [
        subprocess.Popen(child.command, env=os.environ | child.environment)
        for child in (processes.broker(), processes.worker())
    ]
    try:
        time.sleep(5)  # for the worker's processes to come up
        yield children[-1].pid
    finally:
        for child in reversed(children):
            child.terminate()
            child.wait(timeout=60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(url: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


if __name__ == "__main__":
    main()
