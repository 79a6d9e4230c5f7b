"""Runs everything that Overread needs on one machine: broker, web, worker and beat."""

import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, call_command, get_commands
from django.db import OperationalError, connections
from environs import Env

from jobs import processes
from jobs.supervisor import AlreadyRunning, ChildFailed, StopRequested, Supervisor, exclusive


class Command(BaseCommand):
    help = "Runs everything that Overread needs on one machine (broker, web, worker, beat) until Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        env = Env()
        parser.add_argument(
            "--host",
            default="127.0.0.1",
            help="Address to listen on. To be reached from elsewhere, name it in OVERREAD_ALLOWED_HOSTS.",
        )
        parser.add_argument(
            "--port",
            type=int,
            default=env.int("OVERREAD_PORT", 8000),
            help="Port to listen on (OVERREAD_PORT).",
        )
        parser.add_argument("--no-samples", action="store_true", help="Do not make the sample projects.")

    def handle(self, *args: Any, **options: Any) -> None:
        self._check_machine()
        # Children inherit this: the console is for what the user should act on.
        os.environ.setdefault("OVERREAD_LOG_LEVEL", "WARNING")
        try:
            with exclusive(settings.DATA_DIR / "up.lock") as lock:
                processes.check_port(options["host"], options["port"])
                with Supervisor(self.stdout, lock=lock, folder=settings.BASE_DIR) as supervisor:
                    try:
                        self._run(supervisor, **options)
                    except StopRequested:
                        supervisor.say("\nStopping ... (Ctrl-C again kills everything at once)")
                        raise
        except StopRequested:
            self.stdout.write("Overread has stopped.")
        except (AlreadyRunning, processes.CannotStart, ChildFailed) as error:
            raise CommandError(str(error)) from None

    def _check_machine(self) -> None:
        if os.name != "posix":
            raise CommandError(
                "`manage.py up` runs on Linux and macOS. On Windows use WSL, or docker-compose.yml."
            )
        if not settings.ALLOWED_HOSTS and not settings.DEBUG:
            raise CommandError("Set OVERREAD_ALLOWED_HOSTS to the names that this site is reached by.")

    def _run(self, supervisor: Supervisor, *, host: str, port: int, no_samples: bool, **_: Any) -> None:
        services = [processes.web(host, port), processes.worker(), processes.beat()]
        if settings.EMBEDDED_BROKER:
            services.insert(0, processes.broker())
        supervisor.say("Preparing the database and the static files ...")
        _prepare()
        supervisor.say("Starting ...")
        for service in services:
            supervisor.start(service)
        if settings.LOCAL and "first_run" in get_commands():
            supervisor.run(
                processes.management_command("first_run", *(["--no-samples"] if no_samples else []))
            )
        supervisor.say(f"\nOverread is at http://{processes.address(host, port)}\nPress Ctrl-C to stop it.\n")
        supervisor.watch()


def _prepare() -> None:
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except OperationalError as error:
        raise processes.CannotStart(
            f"The database can't be used: {str(error).strip()} (see DATABASE_URL)"
        ) from None
    # The supervisor lives as long as the site and has no more questions.
    connections.close_all()
    call_command("collectstatic", interactive=False, verbosity=0)
