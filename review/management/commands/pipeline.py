"""The whole job from the command line; see `review.pipeline`."""

import json
import logging
import time
from argparse import ArgumentParser
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, call_command

from annotate.errors import Refusal
from annotate.models import User
from annotate.services.local_admin import local_admin
from annotate.task_types import TASK_TYPES
from criticize.strategies import STRATEGIES
from jobs.models import Job
from jobs.running import run_to_end
from review import pipeline
from review.sampling import RULES


class Command(BaseCommand):
    help = (
        "Annotates, criticizes, samples and (with --gold) reviews a data file, and prints how well it went."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        model = "CONNECTION/MODEL[:strategy], PROVIDER@URL/MODEL[:strategy], or trained"
        parser.add_argument(
            "--data", type=Path, required=True, help="CSV, TSV, JSON, JSON Lines, Parquet or zip"
        )
        parser.add_argument("--task", required=True, choices=list(TASK_TYPES))
        parser.add_argument(
            "--labels",
            default="",
            help="Separated by commas; default: the values of --gold; none for written answers",
        )
        parser.add_argument("--annotator", default="trained", help=model)
        parser.add_argument(
            "--criticizer", default="trained", help=f"{model}; strategies: {', '.join(STRATEGIES)}"
        )
        parser.add_argument("--calibration", type=int, default=100, help="Items of the calibration sample")
        parser.add_argument("--budget", default="0.1", help="A share of the items (0.1) or a count (500)")
        parser.add_argument("--rule", default="threshold", choices=list(RULES))
        parser.add_argument("--seed", type=int, default=42)
        parser.add_argument(
            "--gold", help="Column whose labels answer the reviews (`folder`: a zip's folders)"
        )
        parser.add_argument("--out", type=Path, help="Folder for the exports and metrics.json")
        parser.add_argument("--json", action="store_true", help="Print the result as JSON on the last line")
        parser.add_argument("--user", help="Owner of the new project; default: the first administrator")
        parser.add_argument("--name", help="Name of the new project; default: the file's name")
        parser.add_argument("--in-flight", type=int, default=8, help="Calls at once")
        parser.add_argument("--spend-limit", type=Decimal, help="US$ for each of the two runs")

    def handle(self, *args: Any, **options: Any) -> None:
        # No worker is needed here, so that there is no broker to wake is no news.
        logging.getLogger("jobs.services").setLevel(logging.ERROR)
        if not options["data"].is_file():
            raise CommandError(f"There is no file {options['data']}.")
        if settings.LOCAL:
            call_command("migrate", verbosity=0)
        started = time.monotonic()
        try:
            work = pipeline.Pipeline(user=self._user(options["user"]), wait=wait, say=self._say)
            round = pipeline.run(self._options(options), work)
            if options["gold"] is None:
                self.stdout.write(
                    f"{round.tasks.count()} reviews wait in the browser, in project {round.project_id}."
                )
                return
            result = pipeline.measure(round, seconds=time.monotonic() - started)
            if options["out"]:
                work.export(round, options["out"])
                (options["out"] / "metrics.json").write_text(json.dumps(asdict(result), indent=1) + "\n")
        except (Refusal, ValueError) as error:
            raise CommandError(str(error)) from error
        self._print(result, as_json=options["json"])

    def _options(self, options: dict[str, Any]) -> pipeline.Options:
        return pipeline.Options(
            data=options["data"],
            task=options["task"],
            labels=tuple(label.strip() for label in options["labels"].split(",") if label.strip()),
            annotator=options["annotator"],
            criticizer=options["criticizer"],
            calibration=options["calibration"],
            budget=options["budget"],
            rule=options["rule"],
            seed=options["seed"],
            gold=options["gold"],
            name=options["name"] or options["data"].stem,
            in_flight=options["in_flight"],
            spend_limit=options["spend_limit"],
        )

    def _user(self, username: str | None) -> User:
        if username is None and settings.LOCAL:
            return local_admin()[0]
        wanted = {"username": username} if username else {"is_superuser": True}
        user = User.objects.filter(is_active=True, **wanted).order_by("pk").first()
        if user is None:
            raise CommandError(
                f"There is no account “{username}”." if username else "Make an administrator first."
            )
        return user

    def _say(self, sentence: str) -> None:
        self.stderr.write(sentence)

    def _print(self, result: pipeline.Result, *, as_json: bool) -> None:
        for name, value in asdict(result).items():
            shown = "–" if value is None else f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
            self.stdout.write(f"{name.replace('_', ' '):<18}{shown:>14}")
        if as_json:
            self.stdout.write(json.dumps(asdict(result)))


def wait(job: Job) -> None:
    """Run the job in this process; where a worker shares the database it may help."""
    run_to_end(job.pk)
    while True:
        job.refresh_from_db()
        if not job.is_active:
            return
        time.sleep(0.2)
        run_to_end(job.pk)
