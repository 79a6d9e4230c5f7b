"""Bulk model calls against a mock server: how much of the ideal time is reached, results in the database included.

    python -m benchmarks.bulk_calls --items 2000 --in-flight 64 --latency-ms 300

A real worker with its broker annotates the items in a folder of its own. The ideal is items · latency / in
flight; the time runs from the moment the job is created to the moment it is marked done. In the same run a bare
HTTP client keeps as many calls in flight against the same server and throws the answers away: what this machine
could do at best.
"""

import argparse
import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency-ms", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ovb-"))
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "OVERREAD_LOCAL": "true",
        "OVERREAD_DATA_DIR": str(folder),
        "OVERREAD_LOG_LEVEL": "WARNING",
    }
    port = free_port()
    provider = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.mock_provider",
            "--port",
            str(port),
            "--latency-ms",
            str(options.latency_ms),
        ]
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/calls")
        measure(options, port)
    finally:
        provider.terminate()
        shutil.rmtree(folder, ignore_errors=True)


def measure(options: argparse.Namespace, port: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    ideal = options.items * options.latency_ms / 1000 / options.in_flight
    print(
        f"{options.items} items, {options.latency_ms} ms, {options.in_flight} in flight: ideal {ideal:.2f} s"
    )
    shares = []
    with worker():
        for number in range(options.runs):
            bare = asyncio.run(bare_client(options, f"http://127.0.0.1:{port}/v1/chat/completions"))
            ours = annotate(options, port, number)
            shares.append(ideal / ours)
            print(
                f"run {number + 1}: {ours:.2f} s, {ideal / ours:.2f} of the ideal "
                f"(bare client {bare:.2f} s, {ideal / bare:.2f}); ratio to the bare client {ours / bare:.2f}"
            )
    print(f"median share of the ideal: {sorted(shares)[len(shares) // 2]:.2f}")


def annotate(options: argparse.Namespace, port: int, number: int) -> float:
    """Seconds from creating the job to its end."""
    from annotate.models import Annotation, Connection, Item
    from annotate.services.connections import connection_save
    from annotate.services.local_admin import local_admin
    from annotate.services.projects import project_create
    from annotate.services.runs import ModelChoice, annotation_run_create

    user, _ = local_admin()
    project = project_create(
        user=user, name=f"bulk {number}", task_type="text_classification", labels=["bad", "middling", "good"]
    )
    Item.objects.bulk_create(
        [
            Item(
                project=project,
                external_id=str(i),
                text=f"Item {i} of run {number}: the room was {i % 7} of 7.",
            )
            for i in range(options.items)
        ],
        batch_size=500,
    )
    connection = Connection.objects.filter(owner=user).first() or connection_save(
        connection=Connection(owner=user),
        name="mock",
        provider="openai",
        base_url=f"http://127.0.0.1:{port}/v1",
        in_flight=options.in_flight,
    )
    choice = ModelChoice(kind="prompted", connection=connection, model="mock", strategy="naive")
    started = time.monotonic()
    run = annotation_run_create(project=project, user=user, choice=choice)
    while not run.job.is_finished:
        time.sleep(0.02)
        run.job.refresh_from_db()
        if run.job.state == "paused":
            raise SystemExit(f"The job paused: {run.job.reason}")
    seconds = time.monotonic() - started
    written = Annotation.objects.filter(run=run, failure="").count()
    if written != options.items:
        raise SystemExit(f"{written} results in the database, not {options.items}")
    return seconds


async def bare_client(options: argparse.Namespace, url: str) -> float:
    """Seconds for as many calls with a bare HTTP client that keeps nothing."""
    import aiohttp

    body = {"model": "mock", "messages": [{"role": "user", "content": "Answer with [k]"}]}
    room = asyncio.Semaphore(options.in_flight)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=options.in_flight)) as session:

        async def call() -> None:
            async with room, session.post(url, json=body) as response:
                await response.json()

        started = time.monotonic()
        await asyncio.gather(*(call() for _ in range(options.items)))
        return time.monotonic() - started


class worker:  # noqa: N801 (reads as a context)
    """The broker and a worker, as `manage.py up` starts them."""

    def __enter__(self) -> None:
        from jobs import processes

        self.processes = [
            subprocess.Popen(child.command, env=os.environ | child.environment)
            for child in (processes.broker(), processes.worker())
        ]
        time.sleep(5)  # for the worker's processes to come up

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=60)


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
