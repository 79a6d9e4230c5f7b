"""What a machine needs once: somebody who can sign in, and something to review."""

import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from annotate.errors import Refusal
from annotate.services.local_admin import local_admin
from jobs.liveness import worker_is_alive
from jobs.models import Job
from jobs.running import run_to_end
from review.samples import SAMPLES, SampleMissing, advance, sample_project

_LONGEST_WAIT_SECONDS = 300


class Command(BaseCommand):
    help = "Makes the local admin (its sign-in is printed) and the sample projects. Safe to run again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-samples", action="store_true", help="Do not make the sample projects.")

    def handle(self, *args: Any, **options: Any) -> None:
        user, password = local_admin()
        known = f"with the password {password}" if password else "with your own password"
        self.stdout.write(f"Sign in as {user} {known}")
        if options["no_samples"] or (settings.DATA_DIR / "samples-made").exists():
            return
        wait = wait_for_worker if worker_is_alive() else run_here
        with tempfile.TemporaryDirectory() as folder:
            for sample in SAMPLES:
                try:
                    advance(sample_project(sample, user, Path(folder)), user, wait)
                except (SampleMissing, Refusal, OSError) as error:
                    self.stderr.write(f"{sample.name} is left out. {error}")
        # Projects that their user deletes do not come back.
        (settings.DATA_DIR / "samples-made").touch()


def run_here(job: Job) -> None:
    run_to_end(job.pk)
    wait_for_worker(job)  # one that came up in the meantime may hold the last chunk


def wait_for_worker(job: Job) -> None:
    """Return when the job is finished."""
    deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
    while True:
        job.refresh_from_db()
        if job.is_finished:
            return
        if time.monotonic() > deadline:
            raise CommandError(f"{job} did not finish within {_LONGEST_WAIT_SECONDS} seconds.")
        time.sleep(0.1)
